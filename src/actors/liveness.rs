//! Whether the actors still take their turns.

use actix::{Actor, Handler, Message};

use super::committer::CommitterActor;
use super::learner::LearnerActor;
use super::shard::ShardActor;

/// Answered by an actor as soon as its turn comes: by one that is stuck, never.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LivenessPing;

macro_rules! answers {
    ($($actor:ty),*) => {$(
        impl Handler<LivenessPing> for $actor {
            type Result = ();

            fn handle(&mut self, _: LivenessPing, _: &mut <Self as Actor>::Context) -> Self::Result {}
        }
    )*};
}

answers!(CommitterActor, LearnerActor, ShardActor);
