//! How long what was committed waits until it is learned.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::Offset;

/// Commits that wait for something, oldest first. Bounded: of too many that wait, the oldest stays
/// and those after it go uncounted.
#[derive(Debug, Default)]
pub(super) struct CommitLatencyTracker {
    commits: Mutex<VecDeque<(Offset, Instant)>>,
}

impl CommitLatencyTracker {
    /// Commits that are remembered.
    const MAX_COMMITS: usize = 4096;

    fn commits(&self) -> MutexGuard<'_, VecDeque<(Offset, Instant)>> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit that ended before `through`.
    pub(super) fn record_commit(&self, through: Offset, now: Instant) {
        let mut commits = self.commits();
        if commits.len() >= Self::MAX_COMMITS {
            commits.remove(1);
        }
        commits.push_back((through, now));
    }

    /// Those that lie wholly before `offset` wait no more; `waited` is told how long each did.
    pub(super) fn complete_until(&self, offset: Offset, now: Instant, waited: impl Fn(Duration)) {
        let mut commits = self.commits();
        while let Some((_, began)) = commits.pop_front_if(|(through, _)| *through <= offset) {
            waited(now.saturating_duration_since(began));
        }
    }

    /// How long the oldest has waited; no time if none waits.
    pub(super) fn oldest_wait(&self, now: Instant) -> Duration {
        self.commits().front().map_or(Duration::ZERO, |(_, began)| now.saturating_duration_since(*began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn each_commit_waits_until_what_it_added_is_learned() {
        let (waiting, start) = (CommitLatencyTracker::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        waiting.record_commit(10, at(0));
        waiting.record_commit(25, at(2));
        waiting.record_commit(30, at(3));
        assert_eq!(waiting.oldest_wait(at(4)), Duration::from_secs(4));
        let waited = RefCell::new(Vec::new());
        let note = |time: Duration| waited.borrow_mut().push(time.as_secs());
        waiting.complete_until(9, at(5), note);
        assert_eq!(*waited.borrow(), Vec::<u64>::new(), "a part of it is not all of it");
        waiting.complete_until(29, at(5), note);
        assert_eq!(*waited.borrow(), [5, 3]);
        assert_eq!(waiting.oldest_wait(at(6)), Duration::from_secs(3));
        waiting.complete_until(30, at(6), note);
        assert_eq!(waiting.oldest_wait(at(9)), Duration::ZERO);
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_stays() {
        let (waiting, start) = (CommitLatencyTracker::default(), Instant::now());
        for offset in 0..2 * CommitLatencyTracker::MAX_COMMITS as Offset {
            waiting.record_commit(offset, start + Duration::from_secs(offset));
        }
        assert_eq!(waiting.commits().len(), CommitLatencyTracker::MAX_COMMITS);
        assert_eq!(waiting.oldest_wait(start + Duration::from_secs(9_000)), Duration::from_secs(9_000));
    }
}
