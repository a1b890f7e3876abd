//! Users who are to be forgotten.

use std::sync::Arc;
use std::time::Duration;

use super::{ErasedEntryCounts, System};
use crate::actors::committer::ForgetEventIds;
use crate::actors::erasure_progress::ErasureProgress;
use crate::actors::error::SystemError;
use crate::actors::jobs::maintenance::StoreMaintenance;
use crate::domain::{Entry, ItemIx, Offset, Timestamp, UserErasure};

impl System {
    /// Every id of the user whom an id leads to: that under which it is kept first, then those that
    /// were merged into it.
    #[must_use]
    pub fn ids_of_user(&self, id: &str) -> Vec<String> {
        let user = self.aliases.resolve(id).unwrap_or_else(|| Arc::from(id));
        let merged = self.aliases.aliases_of(&user);
        std::iter::once(&user).chain(&merged).map(|id| (**id).to_owned()).collect()
    }

    /// Has a user forgotten, and every id that leads to it: once this returns it is in the journal,
    /// and will be done whatever dies. Returns the offset after it.
    ///
    /// # Errors
    /// What the journal says: then nothing is forgotten.
    pub async fn erase(&self, user_id: String, unlearn: bool, timestamp: Timestamp) -> Result<Offset, SystemError> {
        let permit = self.try_admit(1)?;
        let receipt = self.append(vec![Entry::Erase(UserErasure { user_id, unlearn, timestamp })], permit).await?;
        self.erasure_progress.request();
        Ok(receipt.offset)
    }

    /// Waits until users are forgotten, by all their ids; says what went with them. `None` if that
    /// takes longer than `patience`.
    pub async fn wait_for_erasure(&self, ids: &[String], patience: Duration) -> Option<ErasedEntryCounts> {
        self.erasure_progress.wait_for_outcomes(ids, patience).await
    }

    /// The name of an item.
    #[must_use]
    pub fn item_name(&self, item: ItemIx) -> Option<Arc<str>> {
        self.dictionary.name(item)
    }

    pub(in crate::actors) fn erasure_progress(&self) -> &ErasureProgress {
        &self.erasure_progress
    }

    pub(in crate::actors) fn maintenance(&self) -> &StoreMaintenance {
        &self.maintenance
    }

    /// Has the ids of events forgotten that were erased.
    pub(in crate::actors) async fn forget_event_ids(&self, ids: Vec<String>) -> Result<(), SystemError> {
        self.committer.send(ForgetEventIds { ids }).await.map_err(|_| SystemError::ActorStopped("committer"))
    }
}
