//! Learning how much a site's relevance counts: the lists with relevance that were shown, and the
//! clicks on them.

use crate::domain::{Impression, ItemIx, Timestamp};
use crate::ranking::{JudgedListItem, RelevanceModel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Number of lists after which the older half of the lists is forgotten.
const LISTS_PER_GENERATION: usize = 2_000;
/// Number of items that are kept of a list. Clicks on later items teach nothing.
const MAX_LIST_ITEMS: usize = 100;

/// The score of an item that the model did not score. [`RelevanceModel`] learns nothing from it.
const NO_SCORE: f32 = f32::MIN;

/// A list that was shown with relevance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ShownRanking {
    at: Timestamp,
    items: Vec<RelevantListItem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct RelevantListItem {
    item: ItemIx,
    score: f32,
    relevance: Option<f32>,
    is_clicked: bool,
}

/// The lists of each user, the oldest first. The order of the users is fixed, so that equal states
/// have equal bytes.
type ListsByUser = BTreeMap<String, Vec<ShownRanking>>;

/// The weights of scores and relevance, and the latest lists with relevance.
///
/// Memory: at most 4,000 lists of 100 items with 16 bytes each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RelevanceLists {
    pub(super) model: RelevanceModel,
    /// Number of lists that were recorded in `latest`.
    latest_count: usize,
    latest: ListsByUser,
    earlier: ListsByUser,
}

impl RelevanceLists {
    /// Records an impression. Has no effect if its items have no relevance. `number_of` returns the
    /// number of an item. A site may report a list without the model's scores. Such a list teaches
    /// the weight of the relevance only.
    pub(super) fn record_impression(&mut self, impression: &Impression, number_of: impl Fn(&str) -> Option<ItemIx>) {
        if impression.items.iter().all(|shown| shown.relevance.is_none()) {
            return;
        }
        let default_score = impression.items.iter().all(|shown| shown.model_score.is_none()).then_some(NO_SCORE);
        let scored = impression.items.iter().filter_map(|shown| {
            let (item, score) = (number_of(&shown.item_id)?, shown.model_score.or(default_score)?);
            Some(RelevantListItem { item, score, relevance: shown.relevance, is_clicked: false })
        });
        let list = ShownRanking { at: impression.timestamp, items: scored.take(MAX_LIST_ITEMS).collect() };
        if self.latest_count >= LISTS_PER_GENERATION {
            (self.earlier, self.latest_count) = (std::mem::take(&mut self.latest), 0);
        }
        self.latest.entry(impression.user_id.clone()).or_default().push(list);
        self.latest_count += 1;
    }

    /// Learns from an event of a user on an item. The event is a click on the latest list that was
    /// shown with the item in the `window_ms` milliseconds before. Each item of a list counts one
    /// click.
    pub(super) fn learn_click(&mut self, user: &str, item: ItemIx, at: Timestamp, window_ms: i64) {
        let Self { model, latest, earlier, .. } = self;
        let lists = [latest, earlier].into_iter().filter_map(|lists| lists.get_mut(user));
        let shown = lists.flat_map(|lists| lists.iter_mut().rev()).find_map(|list| {
            let is_recent = (0..=window_ms).contains(&at.saturating_sub(list.at));
            let place = list.items.iter().position(|shown| shown.item == item).filter(|_| is_recent)?;
            Some((list, place))
        });
        let Some((list, place)) = shown else { return };
        let judged = |(other, shown): (usize, &RelevantListItem)| JudgedListItem {
            score: shown.score,
            relevance: shown.relevance,
            is_clicked: other == place,
        };
        let items: Vec<_> = list.items.iter().enumerate().map(judged).collect();
        if let Some(clicked) = list.items.get_mut(place).filter(|shown| !shown.is_clicked) {
            clicked.is_clicked = true;
            model.learn_list(&items);
        }
    }

    /// Moves the lists of a merged user to the other user.
    pub(super) fn merge_users(&mut self, from: &str, into: &str) {
        for lists in [&mut self.latest, &mut self.earlier] {
            let Some(moved) = lists.remove(from).filter(|_| from != into) else { continue };
            let kept = lists.entry(into.to_owned()).or_default();
            kept.extend(moved);
            kept.sort_by_key(|list| list.at);
        }
    }

    /// Removes the lists of a user.
    pub(super) fn remove_user(&mut self, user: &str) {
        self.latest.remove(user);
        self.earlier.remove(user);
    }

    /// Removes the lists that were shown before time `before`.
    pub(super) fn expire(&mut self, before: Timestamp) {
        for lists in [&mut self.latest, &mut self.earlier] {
            lists.retain(|_, shown| {
                shown.retain(|list| list.at >= before);
                !shown.is_empty()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ImpressionItem, SourceName};

    /// A list of items 0 to 3 with growing relevance and equal scores.
    fn impression(user: &str, at: Timestamp) -> Impression {
        let item = |number: u8| ImpressionItem {
            relevance: Some(f32::from(number)),
            model_score: Some(1.0),
            ..ImpressionItem::new(number.to_string(), SourceName::New)
        };
        Impression {
            user_id: user.to_owned(),
            timestamp: at,
            items: (0..4).map(item).collect(),
            ..Impression::default()
        }
    }

    fn learn_clicks(clicked: ItemIx) -> RelevanceLists {
        let mut lists = RelevanceLists::default();
        for round in 0..200 {
            lists.record_impression(&impression("ann", round * 100), |id| id.parse().ok());
            lists.learn_click("ann", clicked, round * 100 + 1, 50);
        }
        lists
    }

    #[test]
    fn the_weight_of_the_relevance_follows_the_clicks() {
        let (follows, contrary) = (learn_clicks(3), learn_clicks(0));
        assert!(follows.model.relevance_weight() > 1.5, "{:?}", follows.model);
        assert!(contrary.model.relevance_weight() < 0.0, "{:?}", contrary.model);
        assert_eq!(follows, learn_clicks(3), "deterministic");
        let bytes = bincode::serde::encode_to_vec(&follows, bincode::config::standard()).unwrap();
        let (decoded, _): (RelevanceLists, _) =
            bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
        assert_eq!(decoded, follows);
    }

    #[test]
    fn a_list_without_scores_teaches_the_weight_of_the_relevance_only() {
        let mut lists = RelevanceLists::default();
        for round in 0..200 {
            let mut shown = impression("ann", round * 100);
            shown.items.iter_mut().for_each(|item| item.model_score = None);
            lists.record_impression(&shown, |id| id.parse().ok());
            lists.learn_click("ann", 3, round * 100 + 1, 50);
        }
        assert_eq!(lists.model.learned_lists(), 200);
        assert!(lists.model.relevance_weight() > 1.5, "{:?}", lists.model);
        assert_eq!(lists.model.score_weight(), 1.0);
    }

    #[test]
    fn a_click_counts_once_for_a_recent_list_of_the_same_user() {
        let mut lists = RelevanceLists::default();
        lists.record_impression(&impression("ann", 100), |id| id.parse().ok());
        let count = |lists: &RelevanceLists| lists.model.learned_lists();
        lists.learn_click("bob", 2, 110, 50);
        lists.learn_click("ann", 9, 110, 50);
        lists.learn_click("ann", 2, 90, 50);
        lists.learn_click("ann", 2, 151, 50);
        assert_eq!(count(&lists), 0);
        lists.learn_click("ann", 2, 150, 50);
        lists.learn_click("ann", 2, 150, 50);
        assert_eq!(count(&lists), 1);
        lists.merge_users("ann", "eve");
        lists.learn_click("eve", 1, 150, 50);
        assert_eq!(count(&lists), 2);
        lists.expire(101);
        lists.learn_click("eve", 3, 150, 50);
        assert_eq!(count(&lists), 2);
    }

    #[test]
    fn the_number_of_lists_is_bounded_and_lists_without_relevance_are_not_kept() {
        let mut lists = RelevanceLists::default();
        let kept =
            |lists: &RelevanceLists| lists.latest.values().chain(lists.earlier.values()).map(Vec::len).sum::<usize>();
        let mut plain = impression("ann", 1);
        plain.items.iter_mut().for_each(|item| item.relevance = None);
        lists.record_impression(&plain, |id| id.parse().ok());
        assert_eq!(kept(&lists), 0);
        for at in 0..5_000 {
            lists.record_impression(&impression(&format!("u{}", at % 7), at), |id| id.parse().ok());
            assert!(kept(&lists) <= 2 * LISTS_PER_GENERATION);
        }
        lists.remove_user("u1");
        assert!(kept(&lists) > LISTS_PER_GENERATION / 2 && !lists.latest.contains_key("u1"));
    }
}
