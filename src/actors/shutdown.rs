//! Stops all writes before the store closes.

use actix::{Actor, Handler, Message};

use super::committer::CommitterActor;
use super::learner::LearnerActor;
use super::shard::ShardActor;

/// Tells an actor to stop its own writes. The learner learns no further entry, a shard stores
/// sessions only on request, and the committer no longer reopens the store. The actors still answer
/// messages.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopWriting;

macro_rules! stops {
    ($($actor:ty),*) => {$(
        impl Handler<StopWriting> for $actor {
            type Result = ();

            fn handle(&mut self, _: StopWriting, _: &mut <Self as Actor>::Context) -> Self::Result {
                self.stop_writing();
            }
        }
    )*};
}

stops!(CommitterActor, LearnerActor, ShardActor);
