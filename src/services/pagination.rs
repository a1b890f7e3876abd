//! The cache of recent rankings, which later pages are read from.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{Candidate, Consent};
use crate::learner::RecommendationRequest;

/// The largest number of rankings in the cache.
const CAPACITY: usize = 1024;
/// The largest number of candidates in all cached rankings together, each of 12 bytes.
const MAX_CANDIDATES: usize = 1 << 20;

/// The rankings of the latest recommendations, by recommendation id.
///
/// A later page continues the ranking of the first. No item repeats or is skipped, even if the
/// model has learned in between. The cache is bounded and not durable: after an eviction or a
/// restart, the client must request a new recommendation.
#[derive(Debug, Default)]
pub struct PaginationCache {
    rankings: Mutex<VecDeque<(String, CachedRanking)>>,
}

/// Evicts the oldest rankings until another of `len` candidates fits.
fn make_room(rankings: &mut VecDeque<(String, CachedRanking)>, len: usize) {
    let mut total: usize = rankings.iter().map(|(_, ranking)| ranking.ranking.len()).sum();
    while rankings.len() >= CAPACITY || total + len > MAX_CANDIDATES {
        let Some((_, evicted)) = rankings.pop_front() else { return };
        total -= evicted.ranking.len();
    }
}

/// A recommendation and the rest of its ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedRanking {
    /// The user.
    pub user: String,
    /// The request, to rank deeper for later pages.
    pub request: Arc<RecommendationRequest>,
    /// The ranking so far, best first.
    pub ranking: Arc<[Candidate]>,
    /// Whether the ranking holds every item that qualifies.
    pub is_complete: bool,
    /// The position in the ranking where the page starts.
    pub page_start: usize,
    /// The number of candidates that the page covers.
    pub page_len: usize,
    /// The version of the weights that produced the ranking.
    pub weights_version: u64,
    /// The consent of the request.
    pub consent: Consent,
}

impl PaginationCache {
    /// Stores a ranking. A full cache evicts its oldest one.
    pub fn insert(&self, recommendation_id: String, ranking: CachedRanking) {
        let mut rankings = self.rankings.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut rankings, ranking.ranking.len());
        rankings.push_back((recommendation_id, ranking));
    }

    /// Removes the rankings of users.
    pub fn remove_users(&self, ids: &[String]) {
        self.rankings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(_, ranking)| !ids.contains(&ranking.user));
    }

    /// The ranking of a recommendation, if it was for this user and is still cached.
    #[must_use]
    pub fn get(&self, recommendation_id: &str, user: &str) -> Option<CachedRanking> {
        let rankings = self.rankings.lock().unwrap_or_else(PoisonError::into_inner);
        rankings
            .iter()
            .rev()
            .find(|(id, ranking)| id == recommendation_id && ranking.user == user)
            .map(|(_, ranking)| ranking.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_latest_rankings_by_user() {
        let cache = PaginationCache::default();
        let ranking = |page_start| CachedRanking {
            user: "ann".to_owned(),
            request: Arc::new(RecommendationRequest::new(1, 0)),
            is_complete: false,
            ranking: Arc::new([]),
            page_start,
            page_len: 0,
            weights_version: 0,
            consent: Consent::Full,
        };
        (0..=CAPACITY).for_each(|number| cache.insert(format!("r{number}"), ranking(number)));
        assert_eq!(cache.get("r0", "ann"), None, "the oldest was evicted");
        assert_eq!((cache.get("r1", "ann"), cache.get("r1", "bob")), (Some(ranking(1)), None));
    }
}
