//! Recommendations: consent check, ranking, impression and later pages.

use rustc_hash::FxHashSet;
use std::sync::Arc;

use crate::actors::error::RequestError;
use crate::actors::handles::{IngestHandle, RecommenderHandle};
use crate::clock::Clock;
use crate::domain::{
    Candidate, Consent, Event, Fallback, Impression, ImpressionItem, InfluentialEvent, ItemExplanation, ItemIx, KindId,
    ObjectiveEffect, PredictedInterest, Recommendation, RecommendedItem, RemovalCounts, RuleRemovals, SourceName,
    WithConsent,
};
use crate::learner::{
    Explanation, ListRules, ListScores, ListScoringRequest, ObjectiveContribution, RankedAnswer, RankedItem,
    RecommendationRequest,
};
use crate::metrics::RecommendationOutcome;
use crate::services::id_generator::IdGenerator;
use crate::services::impressions::{ImpressionService, ReportedList, ReportedListOutcome};
use crate::services::pagination::{CachedRanking, PaginationCache};

/// Smallest number of items by which a ranking with rules is continued.
const MIN_CONTINUATION: usize = 100;

/// Recommends to users and caches rankings for later pages.
#[derive(Clone)]
pub struct RecommendationService {
    ingest: IngestHandle,
    recommender: RecommenderHandle,
    clock: Clock,
    ids: Arc<IdGenerator>,
    impressions: ImpressionService,
    cache: Arc<PaginationCache>,
}

/// A later page of an earlier recommendation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// The id of the earlier recommendation.
    pub recommendation_id: String,
    /// The position at which the page starts, counted from the start of the earlier page. `None`:
    /// the page starts directly after the earlier page.
    pub offset: Option<usize>,
    /// The largest number of items on the page. `None`: as on the first page.
    pub limit: Option<usize>,
}

/// For whom to score a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListOwner {
    /// A user.
    User {
        /// The id of the user.
        user: String,
        /// The consent that the sender of the request states.
        consent: Option<Consent>,
    },
    /// A session that consists of views of these items, oldest first.
    Session(Vec<String>),
}

impl RecommendationService {
    /// The largest number of items that all pages of one recommendation contain together.
    pub const MAX_RANKING_LEN: usize = 10_000;

    /// A service with an empty cache.
    #[must_use]
    pub fn new(ingest: IngestHandle, recommender: RecommenderHandle, clock: Clock) -> Self {
        let ids = Arc::new(IdGenerator::new('r', clock.now() | ingest.id_salt()));
        let impressions = ImpressionService::new(ingest.clone(), clock.clone(), Arc::clone(&ids));
        Self { ingest, recommender, clock, ids, impressions, cache: Arc::default() }
    }

    /// Recommends to a user, journals the impression and caches the ranking for later pages.
    ///
    /// If the user does not consent to storage, recommends as for an empty session, and journals
    /// and caches nothing.
    ///
    /// # Errors
    /// [`RequestError`] if the user's shard does not answer.
    pub async fn recommend(
        &self,
        user: String,
        sender: Option<Consent>,
        mut request: RecommendationRequest,
    ) -> Result<Recommendation, RequestError> {
        let consent = self.ingest.effective_consent(&user, sender);
        if consent == Consent::None {
            return Ok(self.recommend_without_consent(&[], &request));
        }
        self.bind_user(&user, &mut request);
        let cached_request = Arc::new(request.clone());
        let answer = self.recommender.recommend(user.clone(), request).await?;
        let ranking = answer.items.iter().map(|item| item.candidate).chain(answer.remainder.iter().copied()).collect();
        let (page_len, weights_version, snapshot_offset) =
            (answer.items.len(), answer.weights_version, answer.snapshot_offset);
        let first = CachedRanking {
            user,
            request: cached_request,
            ranking,
            is_complete: false,
            page_start: 0,
            page_len,
            weights_version,
            snapshot_offset,
            consent,
        };
        Ok(self.cache_and_journal(first, answer))
    }

    /// Recommends to a user as [`Self::recommend`] does, but journals nothing, and caches no ranking for
    /// later pages.
    ///
    /// # Errors
    /// [`RequestError`] if the user's shard does not answer.
    pub async fn recommend_single_page(
        &self,
        user: String,
        sender: Option<Consent>,
        request: &RecommendationRequest,
    ) -> Result<Recommendation, RequestError> {
        if self.ingest.effective_consent(&user, sender) == Consent::None {
            return Ok(self.recommend_without_consent(&[], request));
        }
        let mut own = RecommendationRequest { has_later_pages: false, ..request.clone() };
        self.bind_user(&user, &mut own);
        let answer = self.recommender.recommend(user, own).await?;
        Ok(self.assign_id_and_count(answer, request))
    }

    /// Ranks a list as [`Self::recommend`] does, but journals, caches and counts nothing. Without user,
    /// ranks for a visitor without events.
    ///
    /// # Errors
    /// [`RequestError`] if the user's shard does not answer.
    pub async fn preview(
        &self,
        user: Option<&str>,
        mut request: RecommendationRequest,
    ) -> Result<RankedAnswer, RequestError> {
        let Some(user) = user.filter(|user| self.ingest.effective_consent(user, None) != Consent::None) else {
            return Ok(self.recommender.recommend_for_events(&[], &request));
        };
        self.bind_user(user, &mut request);
        self.recommender.recommend(user.to_owned(), request).await
    }

    /// Rules with the values of a user's attributes in their filters.
    #[must_use]
    pub fn with_user(&self, rules: Arc<ListRules>, user: &str) -> Arc<ListRules> {
        if !rules.read_user() {
            return rules;
        }
        let attributes = self.ingest.user_attributes(user).unwrap_or_default();
        Arc::new(ListRules::clone(&rules).with_user(&attributes))
    }

    /// Replaces the attributes of the user in the filters of a request and its rules by their values.
    fn bind_user(&self, user: &str, request: &mut RecommendationRequest) {
        if let Some(filter) = request.filter.take_if(|filter| filter.reads_user()) {
            let attributes = self.ingest.user_attributes(user).unwrap_or_default();
            request.filter = Some(filter.with_user(&attributes));
        }
        request.rules = self.with_user(Arc::clone(&request.rules), user);
    }

    /// Recommends from `events` alone, without the user's stored session. The service stores
    /// nothing, so there are no later pages.
    #[must_use]
    pub fn recommend_without_consent(&self, events: &[Event], request: &RecommendationRequest) -> Recommendation {
        self.assign_id_and_count(self.recommender.recommend_for_events(events, request), request)
    }

    /// Recommends as if the session consisted of views of `items`. The service stores nothing.
    #[must_use]
    pub fn recommend_for_item_session(&self, items: &[String], request: &RecommendationRequest) -> Recommendation {
        self.assign_id_and_count(self.recommender.recommend_for_items(items, request), request)
    }

    /// Returns a list that depends on no user, such as trending items. The service stores nothing.
    #[must_use]
    pub fn non_personalised_list(&self, request: &RecommendationRequest) -> RankedAnswer {
        self.ingest.metrics().count_list(request.placement.as_deref());
        self.recommender.non_personalised_list(request)
    }

    /// Scores the items of a list. The service stores nothing.
    ///
    /// If the user does not consent to storage, scores as for an empty session.
    ///
    /// # Errors
    /// [`RequestError`] if the user's shard does not answer.
    pub async fn score_list(
        &self,
        owner: ListOwner,
        request: ListScoringRequest,
        placement: Option<&str>,
    ) -> Result<ListScores, RequestError> {
        self.ingest.metrics().count_list(placement);
        match owner {
            ListOwner::User { user, consent } if self.ingest.effective_consent(&user, consent) != Consent::None => {
                self.recommender.score_list(user, request).await
            }
            ListOwner::User { .. } => self.recommender.score_list_for_items(&[], &request),
            ListOwner::Session(items) => self.recommender.score_list_for_items(&items, &request),
        }
    }

    /// Predicts the values of events of a user with items, for a kind of events, or for the kind with
    /// the most values. `None` if no value of the kind was learned.
    ///
    /// Without user, or if the user does not consent to storage, predicts for an average user.
    #[must_use]
    pub fn predict_interest(
        &self,
        user: Option<&str>,
        sender: Option<Consent>,
        kind: Option<KindId>,
        items: &[ItemIx],
    ) -> Option<(KindId, Vec<PredictedInterest>)> {
        let user = user.filter(|user| self.ingest.effective_consent(user, sender) != Consent::None);
        self.recommender.predict_interest(user, kind, items.iter().copied(), self.clock.now())
    }

    /// Decides whether a recommendation may use the user's stored session. If it may, returns
    /// `None`. Otherwise returns the user's events among `events`, which are the only data that it
    /// may use.
    ///
    /// A recommendation may not use the stored session if the user, or the sender of one of these
    /// events, does not consent to storage.
    #[must_use]
    pub fn events_without_consent(&self, user: &str, events: &[WithConsent]) -> Option<Vec<Event>> {
        let of_user = || events.iter().filter(|event| event.value.user_id == user);
        let is_none = |sender| self.ingest.effective_consent(user, sender) == Consent::None;
        (is_none(None) || of_user().any(|event| is_none(event.consent)))
            .then(|| of_user().map(|event| event.value.clone()).collect())
    }

    /// Returns a later page of a recommendation; `None` if the recommendation is unknown or
    /// evicted, or if the user has since withdrawn consent.
    ///
    /// All pages of a recommendation are parts of one list. If the cached ranking is too short for
    /// the page, the service ranks again and appends the additional items. So
    /// successive pages neither repeat nor skip a position of the list. The list ends after
    /// [`Self::MAX_RANKING_LEN`] items. The page omits items that have since become unavailable, or
    /// that the user has since dismissed.
    ///
    /// # Errors
    /// [`RequestError`] if the user's shard does not answer.
    pub async fn next_page(&self, user: &str, page: &PageRequest) -> Result<Option<Recommendation>, RequestError> {
        let Some(mut first) = self.cache.get(&page.recommendation_id, user) else { return Ok(None) };
        if self.ingest.effective_consent(user, Some(first.consent)) == Consent::None {
            return Ok(None);
        }
        let page_start = first.page_start.saturating_add(page.offset.unwrap_or(first.page_len));
        let limit = page.limit.unwrap_or(first.request.limit);
        let now = self.clock.now();
        let hidden = self.recommender.hidden_items(user.to_owned(), first.request.hidden, now).await?;
        let available = |ranking: &[Candidate]| {
            self.take_recommendable(ranking.get(page_start..).unwrap_or_default(), limit, &hidden)
        };
        let (mut items, mut removed) = available(&first.ranking);
        if items.len() < limit && !first.is_complete {
            first = self.extend_ranking(first, page_start.saturating_add(limit)).await?;
            // All pages that are counted from the earlier one come from the same ranking.
            self.cache.replace(&page.recommendation_id, &first);
            (items, removed) = available(&first.ranking);
        }
        let page_len = items.len() + removed.unavailable + removed.excluded;
        let page = CachedRanking { page_start: page_start.min(first.ranking.len()), page_len, ..first };
        let mut answer =
            RankedAnswer { weights_version: page.weights_version, items, removed, ..RankedAnswer::default() };
        self.recommender.add_interest(&mut answer, user, now);
        Ok(Some(self.cache_and_journal(page, answer)))
    }

    /// Extends a ranking to `end` items or more, unless there are fewer items.
    async fn extend_ranking(&self, first: CachedRanking, end: usize) -> Result<CachedRanking, RequestError> {
        let rules = &first.request.rules;
        if rules.require.is_empty() && rules.promote.is_empty() {
            return self.rank_again(first, end).await;
        }
        let mut extended = first;
        while extended.ranking.len() < end && !extended.is_complete {
            extended = self.continue_ranking(extended, end).await?;
        }
        Ok(extended)
    }

    /// Ranks again with a higher limit and appends the items that the ranking does not contain yet.
    async fn rank_again(&self, first: CachedRanking, end: usize) -> Result<CachedRanking, RequestError> {
        let depth = end.saturating_mul(2).clamp(RecommendationRequest::MAX_LIMIT, Self::MAX_RANKING_LEN);
        let request = RecommendationRequest { limit: depth, ..(*first.request).clone() };
        let answer = self.rank_more(&first, request).await?;
        let known: FxHashSet<_> = first.ranking.iter().map(|candidate| candidate.item).collect();
        let is_complete = answer.len() < depth || depth == Self::MAX_RANKING_LEN;
        let added = answer.into_iter().filter(|candidate| !known.contains(&candidate.item));
        let ranking = first.ranking.iter().copied().chain(added).take(Self::MAX_RANKING_LEN).collect();
        Ok(CachedRanking { ranking, is_complete, ..first })
    }

    /// Ranks the items that follow those of the ranking, so that required shares and promotions hold
    /// in the whole list.
    async fn continue_ranking(&self, first: CachedRanking, end: usize) -> Result<CachedRanking, RequestError> {
        let room = Self::MAX_RANKING_LEN.saturating_sub(first.ranking.len());
        let missing = end.saturating_sub(first.ranking.len());
        let limit = missing.clamp(MIN_CONTINUATION, RecommendationRequest::MAX_LIMIT).min(room);
        let shown = first.ranking.iter().map(|candidate| candidate.item).collect();
        let request = RecommendationRequest { limit, shown, has_later_pages: false, ..(*first.request).clone() };
        let added = self.rank_more(&first, request).await?;
        let is_complete = added.len() < limit || limit == room;
        let ranking = first.ranking.iter().copied().chain(added).collect();
        Ok(CachedRanking { ranking, is_complete, ..first })
    }

    async fn rank_more(
        &self,
        first: &CachedRanking,
        request: RecommendationRequest,
    ) -> Result<Vec<Candidate>, RequestError> {
        let request = RecommendationRequest { now: self.clock.now(), explain: false, ..request };
        let answer = self.recommender.recommend(first.user.clone(), request).await?;
        Ok(answer.items.into_iter().map(|item| item.candidate).collect())
    }

    /// Removes the cached rankings of users.
    pub fn remove_cached_rankings(&self, ids: &[String]) {
        self.cache.remove_users(ids);
    }

    /// Assigns an id to a ranked answer and caches its ranking. If the user consents to learning,
    /// also journals the impression.
    fn cache_and_journal(&self, ranking: CachedRanking, answer: RankedAnswer) -> Recommendation {
        let list = self.to_recommendation(answer, &ranking.request);
        if self.ingest.effective_consent(&ranking.user, Some(ranking.consent)) == Consent::Full {
            self.journal_impression(&ranking, &list);
        }
        self.count_recommendation(&list);
        self.cache.insert(list.recommendation_id.clone(), ranking);
        list
    }

    /// Assigns an id to a ranked answer and counts the recommendation in the metrics.
    fn assign_id_and_count(&self, answer: RankedAnswer, request: &RecommendationRequest) -> Recommendation {
        let list = self.to_recommendation(answer, request);
        self.count_recommendation(&list);
        list
    }

    /// Returns the first `limit` candidates that are available and not hidden, and the numbers of
    /// skipped candidates by reason.
    fn take_recommendable(
        &self,
        ranking: &[Candidate],
        limit: usize,
        hidden: &[ItemIx],
    ) -> (Vec<RankedItem>, RemovalCounts) {
        let (catalog, now) = (self.recommender.catalog(), self.clock.now());
        let (mut items, mut removed) = (Vec::new(), RemovalCounts::default());
        for candidate in ranking {
            if items.len() >= limit {
                break;
            }
            match catalog.get_recommendable(candidate.item, now) {
                Some(_) if hidden.contains(&candidate.item) => removed.excluded += 1,
                Some(_) => items.push(RankedItem::from(*candidate)),
                None => removed.unavailable += 1,
            }
        }
        (items, removed)
    }

    /// Converts a ranked answer to a recommendation: assigns an id, and replaces item numbers by
    /// item ids.
    fn to_recommendation(&self, answer: RankedAnswer, request: &RecommendationRequest) -> Recommendation {
        let recommendation_id = self.ids.next_id();
        for (source, count) in SourceName::ALL.into_iter().zip(answer.candidates_by_source) {
            self.ingest.metrics().candidates.with_label(source).increment(count as u64);
        }
        let items =
            answer.items.into_iter().filter_map(|item| to_recommended_item(&self.recommender, item, request.details));
        let (weights_version, fallback, removed) = (answer.weights_version, answer.fallback, answer.removed);
        let kinds = self.recommender.kinds();
        let interest_kind = answer.interest_kind.and_then(|kind| kinds.name_of(kind)).map(str::to_owned);
        let to_removals = |(rule, count): (Arc<str>, usize)| RuleRemovals { rule: rule.to_string(), count };
        Recommendation {
            recommendation_id,
            weights_version,
            items: items.collect(),
            fallback,
            removed,
            interest_kind,
            placement: request.placement.as_deref().map(str::to_owned),
            removed_by_rules: answer.removed_by_rules.into_iter().map(to_removals).collect(),
        }
    }

    /// Journals the impression of a page.
    fn journal_impression(&self, page: &CachedRanking, list: &Recommendation) {
        let positions = (1_u32..).skip(page.page_start);
        let items = list.items.iter().zip(positions).map(|(item, position)| ImpressionItem {
            score: item.score,
            position,
            rules: item.rules.iter().map(|rule| rule.to_string()).collect(),
            ..ImpressionItem::new(item.item_id.clone(), item.source)
        });
        self.impressions.record_ranked(Impression {
            recommendation_id: list.recommendation_id.clone(),
            user_id: page.user.clone(),
            timestamp: self.clock.now(),
            weights_version: list.weights_version,
            items: items.collect(),
            placement: list.placement.clone(),
            variant: None,
            snapshot_offset: page.snapshot_offset,
            request_digest: page.request.digest,
        });
    }

    /// Journals the impression of a scored list. The service sets its user, id and time. Returns
    /// the id; `None` if the list is empty or the user does not consent to learning.
    #[must_use]
    pub fn journal_scored_list(&self, user: &str, sender: Option<Consent>, impression: Impression) -> Option<String> {
        if impression.items.is_empty() || self.ingest.effective_consent(user, sender) < Consent::Full {
            return None;
        }
        let recommendation_id = self.ids.next_id();
        self.impressions.record_ranked(Impression {
            recommendation_id: recommendation_id.clone(),
            user_id: user.to_owned(),
            timestamp: self.clock.now(),
            ..impression
        });
        Some(recommendation_id)
    }

    /// Journals a list that the site reports as shown.
    ///
    /// # Errors
    /// [`RequestError`] if the journal does not accept writes.
    pub async fn record_reported(&self, list: ReportedList) -> Result<ReportedListOutcome, RequestError> {
        self.impressions.record_reported(list).await
    }

    /// Counts a recommendation and its items in the metrics.
    fn count_recommendation(&self, list: &Recommendation) {
        let metrics = self.ingest.metrics();
        let outcome = match list.fallback {
            Fallback::UnknownUser | Fallback::UnknownItems | Fallback::EmptyCatalog => RecommendationOutcome::ColdStart,
            Fallback::None | Fallback::FilteredOut | Fallback::Unavailable => RecommendationOutcome::Answered,
        };
        metrics.recommendations.with_label(outcome).increment(1);
        metrics.count_list(list.placement.as_deref());
        for item in &list.items {
            metrics.recommended_items.with_label(item.source).increment(1);
        }
    }
}

/// Converts a ranked item, with its description if `details` is true; `None` if the dictionary does
/// not contain the item's number.
#[must_use]
pub fn to_recommended_item(
    recommender: &RecommenderHandle,
    RankedItem { candidate, interest, explanation, rules }: RankedItem,
    details: bool,
) -> Option<RecommendedItem> {
    let item_id = recommender.dictionary().name(candidate.item)?.to_string();
    let explanation = explanation.map(|explanation| to_item_explanation(recommender, &explanation));
    let describe = || recommender.catalog().get(candidate.item).map(|item| Box::new(item.into()));
    let details = if details { describe() } else { None };
    let (score, source) = (candidate.score, candidate.source);
    Some(RecommendedItem { item_id, score, source, interest, explanation, details, rules })
}

/// Converts an explanation: replaces item and kind numbers by ids.
#[must_use]
pub fn to_item_explanation(recommender: &RecommenderHandle, explanation: &Explanation) -> ItemExplanation {
    let dictionary = recommender.dictionary();
    let moved_by = explanation.influence.map(|moved| InfluentialEvent {
        item_id: moved.step.item.and_then(|item| dictionary.name(item)).map(|name| name.to_string()),
        kind: recommender.kinds().names().nth(usize::from(moved.step.kind)).unwrap_or_default().to_owned(),
        events_back: moved.events_back,
        rank: moved.rank,
        rank_without: moved.rank_without,
    });
    ItemExplanation {
        sources: explanation.sources.iter().map(|(source, share)| (SourceName::as_str(*source), *share)).collect(),
        moved_by,
        rules: explanation.rules.iter().map(|rule| rule.to_string()).collect(),
        objective: explanation
            .objective
            .map(|ObjectiveContribution { objective, contribution }| ObjectiveEffect { name: objective, contribution }),
    }
}
