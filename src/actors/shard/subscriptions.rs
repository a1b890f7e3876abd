//! Who wants to hear when a user's session moves.

use actix::{Handler, Message};
use tokio::sync::watch;

use super::ShardActor;
use crate::domain::Offset;

impl ShardActor {
    /// Notifies a user's subscribers that the session holds every entry before an offset.
    pub(super) fn notify_subscribers(&self, user: &str, through: Offset) {
        if let Some(listened) = self.subscribers.get(user) {
            listened.send_replace(through);
        }
    }

    /// Forgets the users whom nobody listens to any more.
    pub(super) fn drop_closed_subscribers(&mut self) {
        self.subscribers.retain(|_, listened| listened.receiver_count() > 0);
    }
}

/// Asks to hear of each move of a user's session: the offset before which it holds every entry. Who
/// is slow hears of the last one only.
#[derive(Debug, Message)]
#[rtype(result = "watch::Receiver<Offset>")]
pub struct Subscribe {
    /// Whose.
    pub user: String,
}

impl Handler<Subscribe> for ShardActor {
    type Result = actix::MessageResult<Subscribe>;

    fn handle(&mut self, Subscribe { user }: Subscribe, _: &mut Self::Context) -> Self::Result {
        let delivered = self.delivered;
        actix::MessageResult(self.subscribers.entry(user).or_insert_with(|| watch::Sender::new(delivered)).subscribe())
    }
}

/// Closes all subscriptions.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CloseSubscribers;

impl Handler<CloseSubscribers> for ShardActor {
    type Result = ();

    fn handle(&mut self, _: CloseSubscribers, _: &mut Self::Context) {
        self.subscribers.clear();
    }
}
