//! Liveness checks: whether the actors still handle messages.

use actix::{Actor, Handler, Message};

use super::committer::CommitterActor;
use super::learner::LearnerActor;
use super::shard::ShardActor;

/// An empty message. A stuck actor never answers the ping.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LivenessPing;

macro_rules! answers_ping {
    ($($actor:ty),*) => {$(
        impl Handler<LivenessPing> for $actor {
            type Result = ();

            fn handle(&mut self, _: LivenessPing, _: &mut <Self as Actor>::Context) -> Self::Result {}
        }
    )*};
}

answers_ping!(CommitterActor, LearnerActor, ShardActor);
