//! Admission: the one bound behind every queue.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for so many entries between the door and the sessions. Each entry holds its room until its
/// session has taken it, so that no queue on the way can hold more than the bound, and nothing
/// already taken is ever dropped for lack of room.
#[derive(Debug, Clone)]
pub struct AdmissionControl {
    room: Arc<Semaphore>,
    limit: usize,
}

/// Room held by entries on their way; given back when dropped.
#[derive(Debug)]
pub struct AdmissionPermit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// There is no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} entries are already on their way")]
pub struct AdmissionFull {
    /// The bound.
    pub limit: usize,
}

impl AdmissionControl {
    /// A gate with room for `bound` entries.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(bound)), limit: bound }
    }

    /// Room for `entries`, at once or not at all.
    ///
    /// # Errors
    /// [`AdmissionFull`] if there is none.
    pub fn try_admit(&self, entries: usize) -> Result<AdmissionPermit, AdmissionFull> {
        let wanted = u32::try_from(entries).map_err(|_| AdmissionFull { limit: self.limit })?;
        Arc::clone(&self.room).try_acquire_many_owned(wanted).map(AdmissionPermit).map_err(|_| AdmissionFull { limit: self.limit })
    }

    /// Room for `entries` as soon as there is some: for a source that can wait, such as a file.
    /// More than the bound waits for all of it.
    ///
    /// # Errors
    /// [`AdmissionFull`] only if the gate is being torn down.
    pub async fn admit(&self, entries: usize) -> Result<AdmissionPermit, AdmissionFull> {
        let wanted = u32::try_from(entries.min(self.limit)).map_err(|_| AdmissionFull { limit: self.limit })?;
        Arc::clone(&self.room).acquire_many_owned(wanted).await.map(AdmissionPermit).map_err(|_| AdmissionFull { limit: self.limit })
    }

    /// How many entries are on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limit.saturating_sub(self.room.available_permits())
    }

    /// The bound.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_and_comes_back() {
        let gate = AdmissionControl::new(3);
        let two = gate.try_admit(2).unwrap();
        assert!(gate.try_admit(2).is_err());
        let one = gate.try_admit(1).unwrap();
        assert_eq!(gate.in_flight(), 3);
        drop(two);
        assert!(gate.try_admit(2).is_ok());
        drop(one);
        assert_eq!(gate.in_flight(), 0);
    }
}
