//! Train/test split by time: the latest sessions are the test set, the earlier sessions the
//! training set.

use crate::domain::{ItemIx, Step};

/// Sessions split into earlier ones for training and later ones for testing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainTestSplit {
    /// The earlier sessions, for training.
    pub train: Vec<Vec<Step>>,
    /// The later sessions, for testing.
    pub test: Vec<Vec<Step>>,
}

impl TrainTestSplit {
    /// Splits sessions that are sorted by the times of their first events. The last `fraction`
    /// (0..=1) of the sessions is the test set. The number of training sessions is rounded down.
    ///
    /// ```
    /// use sequor_core::evaluation::TrainTestSplit;
    ///
    /// let split = TrainTestSplit::split_by_time(vec![vec![]; 21], 0.1);
    /// assert_eq!((split.train.len(), split.test.len()), (18, 3));
    /// ```
    #[must_use]
    pub fn split_by_time(mut sessions: Vec<Vec<Step>>, fraction: f64) -> Self {
        let later = sessions.split_off(Self::training_count(sessions.len(), fraction));
        Self { train: sessions, test: later }
    }

    /// The number of training sessions if the last `fraction` (0..=1) of the sessions is the test
    /// set.
    #[must_use]
    pub fn training_count(sessions: usize, fraction: f64) -> usize {
        // Round down. Without the constant 1e-6, float errors (as in 1 − 0.9) could round an exact
        // result down by one.
        let earlier = (sessions as f64 * (1.0 - fraction) + 1e-6) as usize;
        earlier.min(sessions)
    }

    /// Removes events on unknown items from the test sessions. Then removes test sessions with
    /// fewer than two events.
    pub fn retain_known_items(&mut self, known: impl Fn(ItemIx) -> bool) {
        for session in &mut self.test {
            session.retain(|step| step.item.is_none_or(&known));
        }
        self.test.retain(|session| session.len() > 1);
    }
}

/// The rank of an item when all items are sorted by score: 1 is best. Among equal scores, the
/// smaller item number ranks first. `None` if the item has no score or its score is NaN.
///
/// ```
/// let scores = [0.5, 2.0, 0.5, f32::NAN];
/// let ranks = [0, 1, 2, 3, 4].map(|item| sequor_core::evaluation::rank_by_score(&scores, item));
/// assert_eq!(ranks, [Some(2), Some(1), Some(3), None, None]);
/// ```
#[must_use]
pub fn rank_by_score(scores: &[f32], item: ItemIx) -> Option<usize> {
    let index = item as usize;
    let score = scores.get(index).copied().filter(|score| !score.is_nan())?;
    let (before, after) = scores.split_at(index);
    let count = |scores: &[f32], outranks: fn(f32, f32) -> bool| {
        scores.iter().map(|other| usize::from(outranks(*other, score))).sum::<usize>()
    };
    Some(1 + count(before, |other, score| other >= score) + count(after, |other, score| other > score))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_of_items(items: &[ItemIx]) -> Vec<Step> {
        items.iter().map(|item| Step { item: Some(*item), kind: 0, starts_session: false, at: 0, value: 1.0 }).collect()
    }

    #[test]
    fn the_last_sessions_are_held_out_without_unknown_items() {
        let mut sessions: Vec<_> = (0..8).map(|_| session_of_items(&[0, 1])).collect();
        sessions.extend([session_of_items(&[1, 7, 0]), session_of_items(&[7, 1])]);
        let mut split = TrainTestSplit::split_by_time(sessions, 0.2);
        assert_eq!((split.train.len(), split.test.len()), (8, 2));
        split.retain_known_items(|item| item < 2);
        assert_eq!(split.test, [session_of_items(&[1, 0])]);
    }

    #[test]
    fn events_without_an_item_stay_in_the_test_sessions() {
        let mut split = TrainTestSplit::split_by_time(vec![session_of_items(&[3, 3])], 1.0);
        let search = Step { item: None, ..split.test[0][0] };
        split.test[0].insert(1, search);
        split.retain_known_items(|item| item == 3);
        assert_eq!(split.test[0].len(), 3);
    }

    #[test]
    fn the_fractions_0_and_1_hold_out_no_session_and_all_sessions() {
        assert_eq!(TrainTestSplit::split_by_time(vec![vec![]; 3], 0.0).test.len(), 0);
        assert_eq!(TrainTestSplit::split_by_time(vec![vec![]; 3], 1.0).test.len(), 3);
    }
}
