//! The split protocol: the last sessions are held out, and every step of theirs is a test.

use crate::domain::{ItemIx, Step};

/// Sessions that are learned from, and the later ones that are not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainTestSplit {
    /// The earlier sessions.
    pub train: Vec<Vec<Step>>,
    /// The later ones.
    pub test: Vec<Vec<Step>>,
}

impl TrainTestSplit {
    /// Holds out the last `fraction` (0..=1) of sessions that are ordered by their first event; the
    /// number of the earlier ones is rounded down.
    ///
    /// ```
    /// use sequor::evaluation::TrainTestSplit;
    ///
    /// let split = TrainTestSplit::by_time(vec![vec![]; 21], 0.1);
    /// assert_eq!((split.train.len(), split.test.len()), (18, 3));
    /// ```
    #[must_use]
    pub fn by_time(mut sessions: Vec<Vec<Step>>, fraction: f64) -> Self {
        // Rounded down, but not because 1 − 0.9 falls short of 0.1.
        let earlier = (sessions.len() as f64 * (1.0 - fraction) + 1e-6) as usize;
        let later = sessions.split_off(earlier.min(sessions.len()));
        Self { train: sessions, test: later }
    }

    /// Drops from the later sessions every event of an item that is not known, then the sessions
    /// that are left with fewer than two events.
    pub fn retain_known_items(&mut self, known: impl Fn(ItemIx) -> bool) {
        for session in &mut self.test {
            session.retain(|step| step.item.is_none_or(&known));
        }
        self.test.retain(|session| session.len() > 1);
    }
}

/// The rank of an item among all, by score: 1 is best, of equals the one with the smaller number is
/// better. `None` if the item has no score, or none that is a number.
///
/// ```
/// let scores = [0.5, 2.0, 0.5, f32::NAN];
/// let ranks = [0, 1, 2, 3, 4].map(|item| sequor::evaluation::rank_of(&scores, item));
/// assert_eq!(ranks, [Some(2), Some(1), Some(3), None, None]);
/// ```
#[must_use]
pub fn rank_of(scores: &[f32], item: ItemIx) -> Option<usize> {
    let place = item as usize;
    let score = scores.get(place).copied().filter(|score| !score.is_nan())?;
    let (before, after) = scores.split_at(place);
    let ahead = |scores: &[f32], ahead: fn(f32, f32) -> bool| scores.iter().map(|other| usize::from(ahead(*other, score))).sum::<usize>();
    Some(1 + ahead(before, |other, score| other >= score) + ahead(after, |other, score| other > score))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(items: &[ItemIx]) -> Vec<Step> {
        items.iter().map(|item| Step { item: Some(*item), kind: 0, starts_session: false, at: 0, value: 1.0 }).collect()
    }

    #[test]
    fn the_last_sessions_are_held_out_and_lose_what_was_never_learned() {
        let mut sessions: Vec<_> = (0..8).map(|_| session(&[0, 1])).collect();
        sessions.extend([session(&[1, 7, 0]), session(&[7, 1])]);
        let mut split = TrainTestSplit::by_time(sessions, 0.2);
        assert_eq!((split.train.len(), split.test.len()), (8, 2));
        split.retain_known_items(|item| item < 2);
        assert_eq!(split.test, [session(&[1, 0])]);
    }

    #[test]
    fn an_event_without_an_item_stays() {
        let mut split = TrainTestSplit::by_time(vec![session(&[3, 3])], 1.0);
        let search = Step { item: None, ..split.test[0][0] };
        split.test[0].insert(1, search);
        split.retain_known_items(|item| item == 3);
        assert_eq!(split.test[0].len(), 3);
    }

    #[test]
    fn nothing_and_everything_can_be_held_out() {
        assert_eq!(TrainTestSplit::by_time(vec![vec![]; 3], 0.0).test.len(), 0);
        assert_eq!(TrainTestSplit::by_time(vec![vec![]; 3], 1.0).test.len(), 3);
    }
}
