//! Answers given lately, to be turned to their next page.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{Candidate, Consent};

/// How many answers are kept; of each at most [`crate::learner::Request::MAX_LIMIT`] places of 12
/// bytes.
const KEPT: usize = 1024;

/// The rankings of the answers given last, each under the id of its answer: the next page of an
/// answer is cut from the same ranking, so that no item comes twice and none is passed over,
/// whatever has been learned meanwhile. Bounded, and gone with the process; an answer too long ago
/// has to be asked for anew.
#[derive(Debug, Default)]
pub(super) struct PaginationCache {
    given: Mutex<VecDeque<(String, CachedRanking)>>,
}

/// An answer, and what would come after it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CachedRanking {
    /// Whose it is.
    pub(super) user: String,
    /// The whole ranking that it is cut from, best first.
    pub(super) ranking: Arc<[Candidate]>,
    /// Where in it the answer begins.
    pub(super) page_start: usize,
    /// How many of it the answer held.
    pub(super) page_len: usize,
    /// The version of the weights that ranked it.
    pub(super) weights_version: u64,
    /// How far the consent went that it was asked for under.
    pub(super) consent: Consent,
}

impl PaginationCache {
    /// Keeps an answer; the oldest is let go if there are too many.
    pub(super) fn insert(&self, recommendation_id: String, given: CachedRanking) {
        let mut all = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT {
            all.pop_front();
        }
        all.push_back((recommendation_id, given));
    }

    /// Lets go the answers given to a user, by all its ids.
    pub(super) fn remove_users(&self, ids: &[String]) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, given)| !ids.contains(&given.user));
    }

    /// The answer of that id, if it was given to that user and is kept.
    pub(super) fn get(&self, recommendation_id: &str, user: &str) -> Option<CachedRanking> {
        let all = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().find(|(id, given)| id == recommendation_id && given.user == user).map(|(_, given)| given.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answers_are_kept_each_for_its_user() {
        let pages = PaginationCache::default();
        let given = |begin| CachedRanking {
            user: "ann".to_owned(),
            ranking: Arc::new([]),
            page_start: begin,
            page_len: 0,
            weights_version: 0,
            consent: Consent::Full,
        };
        (0..=KEPT).for_each(|number| pages.insert(format!("r{number}"), given(number)));
        assert_eq!(pages.get("r0", "ann"), None, "the oldest has gone");
        assert_eq!((pages.get("r1", "ann"), pages.get("r1", "bob")), (Some(given(1)), None));
    }
}
