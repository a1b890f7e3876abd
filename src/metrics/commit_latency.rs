//! Measures the time from a commit until the learner has processed the commit's entries.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::Offset;

/// Commits that the learner has not processed yet, oldest first. At most
/// [`Self::MAX_WAITING_COMMITS`] are kept. If there are more, the second-oldest commit is dropped,
/// and its latency is never recorded. The oldest commit always stays, because a metric reports its
/// age.
#[derive(Debug, Default)]
pub(super) struct CommitLatencyTracker {
    commits: Mutex<VecDeque<(Offset, Instant)>>,
}

impl CommitLatencyTracker {
    /// Largest number of commits to keep.
    const MAX_WAITING_COMMITS: usize = 4096;

    fn lock_commits(&self) -> MutexGuard<'_, VecDeque<(Offset, Instant)>> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a commit whose entries all have offsets below `through`.
    pub(super) fn record_commit(&self, through: Offset, now: Instant) {
        let mut commits = self.lock_commits();
        if commits.len() >= Self::MAX_WAITING_COMMITS {
            commits.remove(1);
        }
        commits.push_back((through, now));
    }

    /// Removes the commits whose entries all have offsets below `offset`, and calls `record` with
    /// the latency of each.
    pub(super) fn complete_until(&self, offset: Offset, now: Instant, record: impl Fn(Duration)) {
        let mut commits = self.lock_commits();
        while let Some((_, committed_at)) = commits.pop_front_if(|(through, _)| *through <= offset) {
            record(now.saturating_duration_since(committed_at));
        }
    }

    /// The time since the oldest commit that the learner has not processed; zero if the learner has
    /// processed all commits.
    pub(super) fn oldest_waiting_time(&self, now: Instant) -> Duration {
        self.lock_commits()
            .front()
            .map_or(Duration::ZERO, |(_, committed_at)| now.saturating_duration_since(*committed_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn commit_completes_when_all_its_entries_are_learned() {
        let (tracker, start) = (CommitLatencyTracker::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        tracker.record_commit(10, at(0));
        tracker.record_commit(25, at(2));
        tracker.record_commit(30, at(3));
        assert_eq!(tracker.oldest_waiting_time(at(4)), Duration::from_secs(4));
        let latencies = RefCell::new(Vec::new());
        let record = |time: Duration| latencies.borrow_mut().push(time.as_secs());
        tracker.complete_until(9, at(5), record);
        assert_eq!(*latencies.borrow(), Vec::<u64>::new(), "a commit that is partly learned still waits");
        tracker.complete_until(29, at(5), record);
        assert_eq!(*latencies.borrow(), [5, 3]);
        assert_eq!(tracker.oldest_waiting_time(at(6)), Duration::from_secs(3));
        tracker.complete_until(30, at(6), record);
        assert_eq!(tracker.oldest_waiting_time(at(9)), Duration::ZERO);
    }

    #[test]
    fn tracker_is_bounded_and_keeps_the_oldest_commit() {
        let (tracker, start) = (CommitLatencyTracker::default(), Instant::now());
        for offset in 0..2 * CommitLatencyTracker::MAX_WAITING_COMMITS as Offset {
            tracker.record_commit(offset, start + Duration::from_secs(offset));
        }
        assert_eq!(tracker.lock_commits().len(), CommitLatencyTracker::MAX_WAITING_COMMITS);
        assert_eq!(tracker.oldest_waiting_time(start + Duration::from_secs(9_000)), Duration::from_secs(9_000));
    }
}
