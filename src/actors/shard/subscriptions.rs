//! Subscriptions to changes of a user's session.

use actix::{Handler, Message};
use tokio::sync::watch;

use super::ShardActor;
use crate::domain::Offset;

impl ShardActor {
    /// Notifies a user's subscribers that the session contains every entry before `through`.
    pub(super) fn notify_subscribers(&self, user: &str, through: Offset) {
        if let Some(sender) = self.subscribers.get(user) {
            sender.send_replace(through);
        }
    }

    /// Drops the subscriptions whose receivers are all closed.
    pub(super) fn drop_closed_subscribers(&mut self) {
        self.subscribers.retain(|_, sender| sender.receiver_count() > 0);
    }
}

/// Subscribes to changes of a user's session. The channel holds an offset: the session contains
/// every entry before it. A slow subscriber sees only the latest value.
#[derive(Debug, Message)]
#[rtype(result = "watch::Receiver<Offset>")]
pub struct Subscribe {
    /// The user.
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
pub struct CloseSubscriptions;

impl Handler<CloseSubscriptions> for ShardActor {
    type Result = ();

    fn handle(&mut self, _: CloseSubscriptions, _: &mut Self::Context) {
        self.subscribers.clear();
    }
}
