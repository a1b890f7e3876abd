//! Subscriptions to changes of users' sessions. They follow the users through merges and erasures.

use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

use crate::domain::Offset;
use crate::registries::UserAliases;

/// The subscribers of one requested id.
#[derive(Debug)]
struct Subscription {
    requested: String,
    sender: watch::Sender<Offset>,
}

impl Subscription {
    /// Sends an offset. The offsets of a subscription only grow.
    fn notify(&self, through: Offset) {
        self.sender.send_if_modified(|offset| {
            let is_later = through > *offset;
            *offset = (*offset).max(through);
            is_later
        });
    }
}

/// All subscriptions, by the user that the requested id resolves to. The committer changes the
/// aliases before it delivers the entry that changed them, so a delivery finds the new ones.
#[derive(Debug, Default)]
pub struct SessionSubscribers {
    aliases: Arc<UserAliases>,
    by_user: Mutex<FxHashMap<String, Vec<Subscription>>>,
}

impl SessionSubscribers {
    /// A registry without subscriptions.
    #[must_use]
    pub fn new(aliases: Arc<UserAliases>) -> Self {
        Self { aliases, by_user: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<String, Vec<Subscription>>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve(&self, requested: &str) -> String {
        self.aliases.resolve(requested).map_or_else(|| requested.to_owned(), |user| (*user).to_owned())
    }

    /// Subscribes to the session of the user that `requested` resolves to, now and later. The
    /// channel's value is an offset; the session contains every entry before it. The initial value
    /// is `delivered`. A slow subscriber sees only the latest value.
    pub fn subscribe(&self, requested: String, delivered: Offset) -> watch::Receiver<Offset> {
        let mut by_user = self.lock();
        let subscriptions = by_user.entry(self.resolve(&requested)).or_default();
        match subscriptions.iter().find(|subscription| subscription.requested == requested) {
            Some(subscription) => subscription.sender.subscribe(),
            None => {
                let (sender, receiver) = watch::channel(delivered);
                subscriptions.push(Subscription { requested, sender });
                receiver
            }
        }
    }

    /// Tells a user's subscribers that the session holds every entry before `through`.
    pub fn notify(&self, user: &str, through: Offset) {
        self.lock().get(user).into_iter().flatten().for_each(|subscription| subscription.notify(through));
    }

    /// Moves and notifies the subscribers of a user whose aliases changed with the entry before
    /// `through`: the user was merged into another one, or erased.
    pub fn reroute(&self, user: &str, through: Offset) {
        let mut by_user = self.lock();
        for subscription in by_user.remove(user).into_iter().flatten() {
            subscription.notify(through);
            by_user.entry(self.resolve(&subscription.requested)).or_default().push(subscription);
        }
    }

    /// Drops the subscriptions whose receivers are all closed.
    pub fn drop_closed(&self) {
        self.lock().retain(|_, subscriptions| {
            subscriptions.retain(|subscription| subscription.sender.receiver_count() > 0);
            !subscriptions.is_empty()
        });
    }

    /// Ends all subscriptions.
    pub fn close(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registries::{AliasChange, AliasWriter, UserAlias};

    fn merged(offset: Offset, from: &str, into: &str) -> AliasChange {
        AliasChange::Merged(UserAlias { offset, from: Arc::from(from), into: Arc::from(into) })
    }

    #[test]
    fn subscribers_follow_merges_in_any_order_of_delivery() {
        for order in [["anon", "ann"], ["ann", "anon"]] {
            let mut writer = AliasWriter::default();
            let subscribers = SessionSubscribers::new(writer.aliases());
            let receiver = subscribers.subscribe("anon".to_owned(), 0);
            writer.apply([merged(1, "anon", "ann"), merged(2, "ann", "anna")]);
            // The shards of `ann` and `anna` deliver the two merges.
            for user in order {
                subscribers.reroute(user, if user == "anon" { 2 } else { 3 });
            }
            subscribers.notify("ann", 7);
            assert!(*receiver.borrow() <= 3);
            subscribers.notify("anna", 9);
            assert_eq!(*receiver.borrow(), 9, "{order:?}");
            subscribers.notify("anna", 8);
            assert_eq!(*receiver.borrow(), 9, "offsets only grow");
            // An erased user's ids are users of their own again.
            writer.apply(["anna", "ann", "anon"].map(|user| AliasChange::Erased(Arc::from(user))));
            subscribers.reroute("anna", 12);
            assert_eq!(*receiver.borrow(), 12);
            subscribers.notify("anna", 20);
            subscribers.notify("anon", 15);
            assert_eq!(*receiver.borrow(), 15);
            drop(receiver);
            subscribers.drop_closed();
            assert!(subscribers.lock().is_empty());
        }
    }

    #[test]
    fn subscribers_of_one_id_share_a_channel_and_are_closed_together() {
        let subscribers = SessionSubscribers::new(Arc::default());
        let receivers = ["ann", "ann", "bob"].map(|user| subscribers.subscribe(user.to_owned(), 4));
        assert_eq!(subscribers.lock().values().map(Vec::len).sum::<usize>(), 2);
        subscribers.close();
        assert!(receivers.iter().all(|receiver| receiver.has_changed().is_err()));
    }
}
