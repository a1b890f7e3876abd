//! Experience replay: earlier sessions on which the network trains again.

use crate::domain::{EventKinds, ExpiryCutoffs, SharedQueue, Step};
use crate::nn::TrainingWindow;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use serde::{Deserialize, Serialize};

use super::training_window::training_window;

/// Sessions per chunk of the queue.
const SESSIONS_PER_CHUNK: usize = 64;

/// The steps of the latest sessions. Sessions are numbered in the order in which they began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayHistory {
    sessions: SharedQueue<Vec<Step>, SESSIONS_PER_CHUNK>,
    /// Number of the oldest session that is kept.
    first: u64,
    max_sessions: usize,
}

impl ReplayHistory {
    /// Creates an empty history that keeps the latest `max_sessions` sessions.
    #[must_use]
    pub fn new(max_sessions: usize) -> Self {
        Self { sessions: SharedQueue::default(), first: 0, max_sessions }
    }

    /// Adds an empty session with number `session`, which must be the next number. Drops the oldest
    /// session if the history is full.
    pub fn begin_session(&mut self, session: u64) {
        if self.sessions.len() >= self.max_sessions {
            self.sessions.pop_front();
        }
        self.sessions.push_back(Vec::new());
        self.first = (session + 1).saturating_sub(self.sessions.len() as u64);
    }

    /// Replaces the steps of a session. Has no effect if the session was dropped.
    pub fn replace_session_steps(&mut self, session: u64, steps: &[Step]) {
        if let Some(stored) = self.index_of(session).and_then(|index| self.sessions.get_mut(index)) {
            stored.clear();
            stored.extend_from_slice(steps);
        }
    }

    /// Removes expired steps from every session.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) {
        let remove = |steps: &mut Vec<Step>| {
            expired.remove_expired(steps);
        };
        self.sessions.change_selected(|steps| expired.has_expired(steps), remove);
    }

    /// The training window of a session; `None` if the session was dropped or has no step to
    /// predict.
    #[must_use]
    pub fn training_window_of(&self, session: u64, kinds: &EventKinds, max_positions: usize) -> Option<TrainingWindow> {
        training_window(session, self.sessions.get(self.index_of(session)?)?, kinds, max_positions)
    }

    /// Whether the history contains steps of this session.
    #[cfg(test)]
    pub(super) fn contains_session(&self, session: u64) -> bool {
        self.index_of(session).and_then(|index| self.sessions.get(index)).is_some_and(|steps| !steps.is_empty())
    }

    fn index_of(&self, session: u64) -> Option<usize> {
        session.checked_sub(self.first).and_then(|index| usize::try_from(index).ok())
    }

    /// Samples an earlier session and returns its training window. The age of the sampled session,
    /// counted in sessions, is exponentially distributed with half-life `half_life`. `None` if the
    /// sampled session has no step to predict.
    pub fn sample_window(
        &self,
        rng: &mut Xoshiro256PlusPlus,
        half_life: f64,
        kinds: &EventKinds,
        max_positions: usize,
    ) -> Option<TrainingWindow> {
        let session_count = self.sessions.len();
        if session_count == 0 {
            return None;
        }
        // Draw the age by inverse transform sampling from an exponential distribution. The
        // distribution is truncated at the oldest session, so that every draw selects a session.
        let oldest = 1.0 - 0.5_f64.powf(session_count as f64 / half_life);
        let uniform = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let age = -(1.0 - uniform * oldest).log2() * half_life;
        let index = session_count - 1 - (age as usize).min(session_count - 1);
        training_window(self.first + index as u64, self.sessions.get(index)?, kinds, max_positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::rand_core::SeedableRng;

    fn history_of_sessions(sessions: u64, max_sessions: usize) -> ReplayHistory {
        let mut history = ReplayHistory::new(max_sessions);
        for number in 0..sessions {
            history.begin_session(number);
            let step = |item| Step { item: Some(item), kind: 0, starts_session: false, at: 0, value: 1.0 };
            history.replace_session_steps(number, &[step(number as u32), step(number as u32 + 1)]);
        }
        history
    }

    #[test]
    fn half_of_the_samples_are_younger_than_the_half_life() {
        let history = history_of_sessions(10_000, 5_000);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let young = (0..10_000)
            .filter_map(|_| history.sample_window(&mut rng, 100.0, &EventKinds::default(), 20))
            .filter(|window| window.session >= 10_000 - 100)
            .count();
        assert!((4_800..5_200).contains(&young), "{young} of 10,000 draws within one half-life");
    }

    #[test]
    fn the_history_never_exceeds_its_limit_and_keeps_the_latest_sessions() {
        let mut history = ReplayHistory::new(10);
        let step = Step { item: Some(1), kind: 0, starts_session: true, at: 0, value: 1.0 };
        for number in 0..100 {
            history.begin_session(number);
            history.replace_session_steps(number, &[step]);
            assert!(history.sessions.len() <= 10, "{} sessions", history.sessions.len());
            let kept: Vec<_> = (0..=number).filter(|session| history.contains_session(*session)).collect();
            assert_eq!(kept, (number.saturating_sub(9)..=number).collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_kept_sessions_are_sampled() {
        let history = history_of_sessions(1_000, 10);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for _ in 0..1_000 {
            let window = history.sample_window(&mut rng, 1e9, &EventKinds::default(), 20).unwrap();
            assert!((990..1_000).contains(&window.session));
        }
        assert!(ReplayHistory::new(3).sample_window(&mut rng, 1.0, &EventKinds::default(), 20).is_none());
    }
}
