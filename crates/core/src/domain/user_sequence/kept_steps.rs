//! Keeps dismissals and purchases after they leave the limited list of a user's latest steps.
//!
//! A dismissed or purchased item is hidden for a configured time. An active user's later events can
//! push the dismissal or purchase out of that list before the time ends.

use super::UserSequence;
use crate::domain::{EventKinds, Step};

impl UserSequence {
    /// Keeps a dismissal or purchase that leaves the list of steps, or that arrived too late to
    /// enter it. Other steps are not kept. If the user later selects the item, its dismissal is
    /// removed.
    pub(super) fn keep_step(&mut self, step: Step) {
        if step.item.is_none() {
            return;
        }
        let is_purchase = step.kind == EventKinds::PURCHASE && !step.is_dismissal();
        let of_item = |kept: &Step| kept.item == step.item;
        let is_outdated =
            |kept: &Step| kept.at > step.at && (step.is_dismissal() || kept.is_dismissal() != is_purchase);
        if !step.is_dismissal() {
            self.kept_steps.retain(|kept| !(of_item(kept) && kept.is_dismissal() && kept.at <= step.at));
        }
        if !(is_purchase || step.is_dismissal())
            || self.kept_steps.iter().any(|kept| of_item(kept) && is_outdated(kept))
        {
            return;
        }
        self.kept_steps.retain(|kept| !(of_item(kept) && kept.is_dismissal() == step.is_dismissal()));
        let index = self.kept_steps.partition_point(|kept| kept.at <= step.at);
        self.kept_steps.insert(index, Step { starts_session: false, ..step });
        if self.kept_steps.len() > Self::MAX_KEPT_STEPS {
            self.kept_steps.remove(0);
        }
    }

    /// Adds the kept steps of a user who is merged into this one.
    pub(super) fn merge_kept_steps(&mut self, others: &[Step]) {
        others.iter().for_each(|step| self.keep_step(*step));
    }

    /// The kept steps and the remembered steps together, regardless of sessions.
    pub fn steps_with_kept(&self) -> impl DoubleEndedIterator<Item = &Step> + Clone {
        self.kept_steps.iter().chain(&self.steps)
    }
}
