//! Admission control: one limit for all entries in the queues between the API and the sessions.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limits the number of entries in flight. An entry is in flight from its admission until its
/// session has applied it, and holds a permit for that time. So no queue between the API and the
/// sessions holds more entries than the limit, and none needs a limit of its own that could reject
/// an admitted entry.
#[derive(Debug, Clone)]
pub struct AdmissionControl {
    permits: Arc<Semaphore>,
    limit: usize,
}

/// The capacity that admitted entries occupy. Dropping the permit frees the capacity.
#[derive(Debug)]
pub struct AdmissionPermit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// The error of an admission that would exceed the limit of entries in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit is {limit}")]
pub struct AdmissionFull {
    /// The limit.
    pub limit: usize,
}

impl AdmissionControl {
    /// Creates an admission control that allows up to `limit` entries in flight.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Admits `entries` entries together, without waiting: either all of them or none.
    ///
    /// # Errors
    /// [`AdmissionFull`] if the entries would exceed the limit.
    pub fn try_admit(&self, entries: usize) -> Result<AdmissionPermit, AdmissionFull> {
        let count = u32::try_from(entries).map_err(|_| AdmissionFull { limit: self.limit })?;
        Arc::clone(&self.permits)
            .try_acquire_many_owned(count)
            .map(AdmissionPermit)
            .map_err(|_| AdmissionFull { limit: self.limit })
    }

    /// Waits until `entries` entries can be admitted. Sources that can wait, such as a file, use
    /// this method. A batch larger than the limit waits until no other entry is in flight.
    ///
    /// # Errors
    /// [`AdmissionFull`] only if the semaphore is closed, which never happens.
    pub async fn admit(&self, entries: usize) -> Result<AdmissionPermit, AdmissionFull> {
        let count = u32::try_from(entries.min(self.limit)).map_err(|_| AdmissionFull { limit: self.limit })?;
        Arc::clone(&self.permits)
            .acquire_many_owned(count)
            .await
            .map(AdmissionPermit)
            .map_err(|_| AdmissionFull { limit: self.limit })
    }

    /// The number of entries in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limit.saturating_sub(self.permits.available_permits())
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admission_permits_are_limited_and_released_on_drop() {
        let admission = AdmissionControl::new(3);
        let two = admission.try_admit(2).unwrap();
        assert!(admission.try_admit(2).is_err());
        let one = admission.try_admit(1).unwrap();
        assert_eq!(admission.in_flight(), 3);
        drop(two);
        assert!(admission.try_admit(2).is_ok());
        drop(one);
        assert_eq!(admission.in_flight(), 0);
    }

    /// Regression test: while too many entries were in flight, load control could not journal its
    /// operations. It now waits for a permit, so its turn must come.
    #[test]
    fn a_waiting_admission_precedes_later_attempts() {
        actix::System::new().block_on(async {
            let admission = AdmissionControl::new(1);
            let held = admission.try_admit(1).unwrap();
            let other = admission.clone();
            let waiting = actix::spawn(async move { other.admit(1).await });
            tokio::task::yield_now().await;
            drop(held);
            assert!(admission.try_admit(1).is_err());
            drop(waiting.await.unwrap().unwrap());
            assert!(admission.try_admit(1).is_ok());
        });
    }
}
