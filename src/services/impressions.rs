//! Journals impressions. An item of a recommendation counts once, even if the site also reports it.

use rustc_hash::FxHashSet;
use siphasher::sip::SipHasher24;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use crate::actors::error::RequestError;
use crate::actors::handles::IngestHandle;
use crate::clock::Clock;
use crate::domain::{Consent, Entry, Impression, ImpressionItem, Offset, SourceName};
use crate::services::id_generator::IdGenerator;
use crate::services::ingest::{FullQueuePolicy, ingest};

/// Largest number of shown items that the service remembers.
const MAX_REMEMBERED_ITEMS: usize = 200_000;

/// Journals impressions: of lists that the daemon ranked, and of lists that the site reports.
#[derive(Clone)]
pub struct ImpressionService {
    ingest: IngestHandle,
    clock: Clock,
    ids: Arc<IdGenerator>,
    shown: Arc<ShownItems>,
}

/// A list that the site reports as shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportedList {
    /// The user.
    pub user: String,
    /// The consent that the sender of the report states.
    pub consent: Option<Consent>,
    /// The recommendation that the list belongs to; `None` for a list of the site.
    pub recommendation_id: Option<String>,
    /// The placement of the list.
    pub placement: Option<String>,
    /// The items, in the order of the list.
    pub items: Vec<ReportedItem>,
}

/// An item of a [`ReportedList`].
#[derive(Debug, Clone, PartialEq)]
pub struct ReportedItem {
    /// The item's id.
    pub item_id: String,
    /// The relevance that the site gives to the item.
    pub relevance: Option<f32>,
    /// The model's score of the item, of a response to a request to rank the list.
    pub model_score: Option<f32>,
}

/// What became of the items of a reported list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportedListOutcome {
    /// The id of the list, which events can name.
    pub recommendation_id: String,
    /// Items that are now in the journal.
    pub accepted: usize,
    /// Items that were already recorded for this recommendation.
    pub duplicates: usize,
    /// Items that consent does not allow to be stored.
    pub withheld: usize,
    /// The journal offset after the impression; `None` if nothing was stored.
    pub offset: Option<Offset>,
}

impl ImpressionService {
    /// A service that assigns the ids of `ids` to lists without an id.
    #[must_use]
    pub fn new(ingest: IngestHandle, clock: Clock, ids: Arc<IdGenerator>) -> Self {
        Self { ingest, clock, ids, shown: Arc::default() }
    }

    /// Appends the impression of a list that the daemon ranked, unless the list is empty. The
    /// append takes place in the background, so that the response does not wait for it. If the
    /// queue is full, the learner lags too far behind or the append fails, the impression counts as
    /// lost. In these cases, clicks on its items are not attributed to it.
    pub fn record_ranked(&self, impression: Impression) {
        if impression.items.is_empty() {
            return;
        }
        let Ok(permit) = self.ingest.check_lag(None).and_then(|()| self.ingest.try_admit(1)) else {
            self.ingest.metrics().impressions_lost.increment(1);
            return;
        };
        let Impression { user_id, recommendation_id, items, .. } = &impression;
        self.shown.remember(user_id, recommendation_id, items.iter().map(|item| item.item_id.as_str()));
        self.ingest.append_later(Entry::Impression(impression), permit);
    }

    /// Appends the impression of a list that the site reports. Returns once it is durable. Items
    /// that were already recorded for the same user and recommendation are left out.
    ///
    /// # Errors
    /// [`RequestError`] if the journal does not accept writes.
    pub async fn record_reported(&self, list: ReportedList) -> Result<ReportedListOutcome, RequestError> {
        let ReportedList { user, consent, recommendation_id, placement, items } = list;
        let count = items.len();
        let recommendation_id = recommendation_id.unwrap_or_else(|| self.ids.next_id());
        let outcome = ReportedListOutcome { recommendation_id: recommendation_id.clone(), ..Default::default() };
        if self.ingest.effective_consent(&user, consent) < Consent::Full {
            return Ok(ReportedListOutcome { withheld: count, ..outcome });
        }
        let is_new = self.shown.find_new(&user, &recommendation_id, items.iter().map(|item| item.item_id.as_str()));
        // The site knows the positions in its list, but not the sources of the items.
        let to_item = |(position, item): (u32, ReportedItem)| ImpressionItem {
            position,
            relevance: item.relevance,
            model_score: item.model_score,
            ..ImpressionItem::new(item.item_id, SourceName::Trending)
        };
        let shown: Vec<_> =
            (1..).zip(items).zip(is_new).filter(|(_, is_new)| *is_new).map(|(item, _)| to_item(item)).collect();
        let (accepted, duplicates) = (shown.len(), count - shown.len());
        if shown.is_empty() {
            return Ok(ReportedListOutcome { duplicates, ..outcome });
        }
        let item_ids: Vec<_> = shown.iter().map(|item| item.item_id.clone()).collect();
        let impression = Impression {
            recommendation_id: recommendation_id.clone(),
            user_id: user.clone(),
            timestamp: self.clock.now(),
            items: shown,
            placement,
            ..Impression::default()
        };
        self.ingest.check_lag(None)?;
        let receipt = ingest(&self.ingest, [Entry::Impression(impression)], None, FullQueuePolicy::Fail).await?;
        if receipt.withheld > 0 {
            return Ok(ReportedListOutcome { withheld: count, ..outcome });
        }
        self.shown.remember(&user, &recommendation_id, item_ids.iter().map(String::as_str));
        Ok(ReportedListOutcome { accepted, duplicates, offset: receipt.offset, ..outcome })
    }
}

/// The items that were shown lately, each with its user and recommendation, as digests.
#[derive(Debug, Default)]
struct ShownItems(Mutex<ShownItemQueue>);

#[derive(Debug, Default)]
struct ShownItemQueue {
    known: FxHashSet<u64>,
    /// The same digests, the oldest first.
    queue: VecDeque<u64>,
}

impl ShownItems {
    fn digest(user: &str, recommendation_id: &str, item: &str) -> u64 {
        let mut hasher = SipHasher24::new();
        (user, recommendation_id, item).hash(&mut hasher);
        hasher.finish()
    }

    /// Remembers shown items. Forgets the oldest ones if there are too many.
    fn remember<'i>(&self, user: &str, recommendation_id: &str, items: impl Iterator<Item = &'i str>) {
        let digests: Vec<_> = items.map(|item| Self::digest(user, recommendation_id, item)).collect();
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ShownItemQueue { known, queue } = &mut *shown;
        queue.extend(digests.into_iter().filter(|digest| known.insert(*digest)));
        let surplus = queue.len().saturating_sub(MAX_REMEMBERED_ITEMS);
        for digest in queue.drain(..surplus) {
            known.remove(&digest);
        }
    }

    /// For each item of a list: whether it was not yet shown with the recommendation, and is its
    /// first occurrence in the list.
    fn find_new<'i>(&self, user: &str, recommendation_id: &str, items: impl Iterator<Item = &'i str>) -> Vec<bool> {
        let digests: Vec<_> = items.map(|item| Self::digest(user, recommendation_id, item)).collect();
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut in_list = FxHashSet::default();
        digests.into_iter().map(|digest| !shown.known.contains(&digest) && in_list.insert(digest)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_of_a_recommendation_is_new_once() {
        let (shown, items) = (ShownItems::default(), ["tea", "cup", "tea"].into_iter());
        assert_eq!(shown.find_new("ann", "r1", items.clone()), [true, true, false]);
        shown.remember("ann", "r1", ["tea"].into_iter());
        assert_eq!(shown.find_new("ann", "r1", items.clone()), [false, true, false]);
        assert_eq!(shown.find_new("bob", "r1", items.clone()), [true, true, false]);
        assert_eq!(shown.find_new("ann", "r2", items.clone()), [true, true, false]);
    }

    #[test]
    fn the_number_of_remembered_items_is_bounded() {
        let shown = ShownItems::default();
        let ids: Vec<_> = (0..MAX_REMEMBERED_ITEMS + 10).map(|number| number.to_string()).collect();
        shown.remember("ann", "r1", ids.iter().map(String::as_str));
        let is_new = shown.find_new("ann", "r1", ids.iter().map(String::as_str));
        assert_eq!(is_new.iter().filter(|is_new| **is_new).count(), 10);
        assert!(is_new[..10].iter().all(|is_new| *is_new));
        assert_eq!(shown.0.lock().unwrap().known.len(), MAX_REMEMBERED_ITEMS);
    }
}
