//! Cache of recent rankings, from which the service reads later pages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{Candidate, Consent, Offset};
use crate::learner::RecommendationRequest;

/// The largest number of rankings in the cache.
const MAX_CACHED_RANKINGS: usize = 1024;
/// The largest number of candidates in all cached rankings together. A candidate takes 12 bytes.
const MAX_CACHED_CANDIDATES: usize = 1 << 20;

/// Cache of the rankings of the latest recommendations, by recommendation id.
///
/// A later page continues the ranking of the first page. So successive pages neither repeat nor
/// skip a position of the list, even if the model has changed between the two requests. The cache
/// is bounded and not durable: after an eviction or a restart, the client must request a new
/// recommendation.
#[derive(Debug, Default)]
pub struct PaginationCache {
    rankings: Mutex<CachedRankings>,
}

#[derive(Debug, Default)]
struct CachedRankings {
    /// The rankings with their recommendation ids, the oldest first.
    queue: VecDeque<(String, CachedRanking)>,
    /// Number of candidates in all rankings together.
    candidate_count: usize,
}

impl CachedRankings {
    /// Evicts the oldest rankings until a ranking of `len` candidates fits.
    fn evict_until_fits(&mut self, len: usize) {
        while self.queue.len() >= MAX_CACHED_RANKINGS || self.candidate_count + len > MAX_CACHED_CANDIDATES {
            let Some((_, evicted)) = self.queue.pop_front() else { return };
            self.candidate_count -= evicted.ranking.len();
        }
    }
}

/// The ranking of a recommendation. Each page of the recommendation is a part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedRanking {
    /// The user.
    pub user: String,
    /// The request of the first page. If later pages need more candidates, the service repeats this
    /// request with a higher limit, or for the items after those of the ranking.
    pub request: Arc<RecommendationRequest>,
    /// The candidates that the ranking contains so far, best first.
    pub ranking: Arc<[Candidate]>,
    /// Whether the ranking is complete: a higher limit would give no further items.
    pub is_complete: bool,
    /// The position in the ranking at which this page starts.
    pub page_start: usize,
    /// The number of candidates in the page's part of the ranking, including candidates that the
    /// page omits.
    pub page_len: usize,
    /// The version of the weights that produced the ranking.
    pub weights_version: u64,
    /// The offset of the snapshot that produced the ranking.
    pub snapshot_offset: Offset,
    /// The consent that applied to the request of the first page.
    pub consent: Consent,
}

impl PaginationCache {
    /// Stores a ranking. A full cache evicts its oldest ranking.
    pub fn insert(&self, recommendation_id: String, ranking: CachedRanking) {
        let mut rankings = self.rankings.lock().unwrap_or_else(PoisonError::into_inner);
        rankings.evict_until_fits(ranking.ranking.len());
        rankings.candidate_count += ranking.ranking.len();
        rankings.queue.push_back((recommendation_id, ranking));
    }

    /// Replaces the ranking of a recommendation by an extended one. Has no effect if it was evicted.
    pub fn replace(&self, recommendation_id: &str, extended: &CachedRanking) {
        let mut rankings = self.rankings.lock().unwrap_or_else(PoisonError::into_inner);
        rankings.evict_until_fits(extended.ranking.len());
        let Some((_, ranking)) = rankings.queue.iter_mut().rev().find(|(id, _)| id == recommendation_id) else {
            return;
        };
        let before = std::mem::replace(ranking, extended.clone());
        rankings.candidate_count = rankings.candidate_count + extended.ranking.len() - before.ranking.len();
    }

    /// Removes the rankings of users.
    pub fn remove_users(&self, ids: &[String]) {
        let mut rankings = self.rankings.lock().unwrap_or_else(PoisonError::into_inner);
        rankings.queue.retain(|(_, ranking)| !ids.contains(&ranking.user));
        rankings.candidate_count = rankings.queue.iter().map(|(_, ranking)| ranking.ranking.len()).sum();
    }

    /// Returns the ranking of a recommendation, if the recommendation was for this user and is
    /// still cached.
    #[must_use]
    pub fn get(&self, recommendation_id: &str, user: &str) -> Option<CachedRanking> {
        let rankings = self.rankings.lock().unwrap_or_else(PoisonError::into_inner);
        rankings
            .queue
            .iter()
            .rev()
            .find(|(id, ranking)| id == recommendation_id && ranking.user == user)
            .map(|(_, ranking)| ranking.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SourceName;

    fn empty_ranking(page_start: usize) -> CachedRanking {
        CachedRanking {
            user: "ann".to_owned(),
            request: Arc::new(RecommendationRequest::new(1, 0)),
            is_complete: false,
            ranking: Arc::new([]),
            page_start,
            page_len: 0,
            weights_version: 0,
            snapshot_offset: 0,
            consent: Consent::Full,
        }
    }

    #[test]
    fn the_number_of_cached_candidates_is_bounded() {
        let cache = PaginationCache::default();
        let candidate = Candidate { item: 1, score: 0.5, source: SourceName::Network };
        let ranking: Arc<[_]> = vec![candidate; 10_000].into();
        for number in 0..300 {
            cache.insert(number.to_string(), CachedRanking { ranking: Arc::clone(&ranking), ..empty_ranking(number) });
            let rankings = cache.rankings.lock().unwrap_or_else(PoisonError::into_inner);
            let candidates: usize = rankings.queue.iter().map(|(_, ranking)| ranking.ranking.len()).sum();
            assert!(candidates <= MAX_CACHED_CANDIDATES && rankings.queue.back().unwrap().1.page_start == number);
            assert_eq!(candidates, rankings.candidate_count);
        }
    }

    #[test]
    fn an_extended_ranking_replaces_the_earlier_one() {
        let cache = PaginationCache::default();
        cache.insert("r".to_owned(), empty_ranking(3));
        let candidate = Candidate { item: 1, score: 0.5, source: SourceName::Network };
        let extended = CachedRanking { ranking: vec![candidate; 700].into(), ..empty_ranking(3) };
        cache.replace("r", &extended);
        cache.replace("evicted", &extended);
        assert_eq!(cache.get("r", "ann"), Some(extended));
        let rankings = cache.rankings.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!((rankings.candidate_count, rankings.queue.len()), (700, 1));
    }

    #[test]
    fn a_full_cache_evicts_the_oldest_ranking() {
        let (cache, ranking) = (PaginationCache::default(), empty_ranking);
        (0..=MAX_CACHED_RANKINGS).for_each(|number| cache.insert(format!("r{number}"), ranking(number)));
        assert_eq!(cache.get("r0", "ann"), None, "the oldest was evicted");
        assert_eq!((cache.get("r1", "ann"), cache.get("r1", "bob")), (Some(ranking(1)), None));
    }
}
