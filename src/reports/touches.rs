//! Attribution of events to the impressions before them.

use crate::domain::{Event, EventKind, Impression, SourceName, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a conversion is attributed to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConversionTouch {
    /// The latest clicked impression of the item.
    #[default]
    Click,
    /// The latest impression of the item, whether or not it was clicked.
    Impression,
}

impl ConversionTouch {
    /// All touches with their names.
    pub const ALL: [(&str, Self); 2] = [("click", Self::Click), ("impression", Self::Impression)];

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, touch)| *touch == self).map_or("", |(name, _)| name)
    }

    /// The touch with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, touch)| touch)
    }
}

/// Settings of attribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributionSettings {
    /// Kinds of events that are conversions. Every other event on an item can be a click.
    pub conversions: Vec<EventKind>,
    /// Milliseconds after an impression within which an event is its click.
    pub click_window_ms: i64,
    /// Milliseconds after an impression within which a conversion is attributed to it.
    pub conversion_window_ms: i64,
    /// What a conversion is attributed to.
    pub touch: ConversionTouch,
}

impl Default for AttributionSettings {
    fn default() -> Self {
        const HOUR_MS: i64 = 3_600_000;
        Self {
            conversions: EventKind::CONVERSIONS.to_vec(),
            click_window_ms: HOUR_MS,
            conversion_window_ms: 7 * 24 * HOUR_MS,
            touch: ConversionTouch::Click,
        }
    }
}

impl AttributionSettings {
    /// Whether events of a kind are conversions.
    #[must_use]
    pub fn is_conversion(&self, kind: &EventKind) -> bool {
        self.conversions.contains(kind)
    }

    fn longest_window_ms(&self) -> i64 {
        self.click_window_ms.max(self.conversion_window_ms)
    }
}

/// What all items of an impression share.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ShownList {
    pub(super) recommendation_id: String,
    pub(super) at: Timestamp,
    pub(super) placement: Option<String>,
    pub(super) variant: Option<String>,
    /// Whether the site reported the list, so that the sources of its items are not known.
    pub(super) is_reported: bool,
}

/// One item of an impression.
#[derive(Debug, Clone)]
pub(super) struct ShownListItem {
    pub(super) list: Arc<ShownList>,
    pub(super) item_id: Arc<str>,
    pub(super) source: SourceName,
    pub(super) rules: Arc<[String]>,
    is_clicked: bool,
}

/// The shown items of one user, oldest first.
type UserTouches = VecDeque<ShownListItem>;

/// The shown items of all users within the attribution windows.
#[derive(Debug)]
pub(super) struct TouchTable {
    users: FxHashMap<String, UserTouches>,
    /// Item ids that several impressions share.
    items: FxHashMap<Arc<str>, ()>,
    no_rules: Arc<[String]>,
    recorded_since_pruning: usize,
    /// Number of shown items that were added since the latest pruning.
    added_since_pruning: usize,
    /// Number of shown items after the latest pruning.
    kept_at_pruning: usize,
    /// Milliseconds for which an impression is kept.
    kept_for_ms: i64,
    max_items: usize,
}

impl TouchTable {
    /// Number of shown items that are kept per user.
    const KEPT_PER_USER: usize = 1_000;
    /// After this number of impressions, those outside the windows are removed.
    const IMPRESSIONS_BETWEEN_PRUNINGS: usize = 50_000;

    /// An empty table. It keeps impressions for the longer window of `settings`. If there are more
    /// than `max_items` shown items, it halves this time until they fit.
    pub(super) fn new(settings: &AttributionSettings, max_items: usize) -> Self {
        Self {
            users: FxHashMap::default(),
            items: FxHashMap::default(),
            no_rules: Arc::default(),
            recorded_since_pruning: 0,
            added_since_pruning: 0,
            kept_at_pruning: 0,
            kept_for_ms: settings.longest_window_ms(),
            max_items,
        }
    }

    /// Milliseconds for which impressions are kept: the longer window, or less if there are too
    /// many.
    pub(super) fn kept_for_ms(&self) -> i64 {
        self.kept_for_ms
    }

    fn shared_item(&mut self, item: &str) -> Arc<str> {
        if let Some((known, ())) = self.items.get_key_value(item) {
            return Arc::clone(known);
        }
        let new = Arc::<str>::from(item);
        self.items.insert(Arc::clone(&new), ());
        new
    }

    /// Records an impression. Returns its items, without those that an earlier impression with the
    /// same recommendation id has already shown to the user.
    pub(super) fn record_impression(&mut self, impression: &Impression) -> Vec<ShownListItem> {
        let list = Arc::new(ShownList {
            recommendation_id: impression.recommendation_id.clone(),
            at: impression.timestamp,
            placement: impression.placement.clone(),
            variant: impression.variant.clone(),
            is_reported: impression.is_reported(),
        });
        let mut shown: Vec<ShownListItem> = Vec::with_capacity(impression.items.len());
        let mut known = self.items_of_recommendation(&impression.user_id, &impression.recommendation_id);
        for item in &impression.items {
            let item_id = self.shared_item(&item.item_id);
            if !known.insert(Arc::clone(&item_id)) {
                continue;
            }
            let rules =
                if item.rules.is_empty() { Arc::clone(&self.no_rules) } else { Arc::from(item.rules.as_slice()) };
            let list = Arc::clone(&list);
            shown.push(ShownListItem { list, item_id, source: item.source, rules, is_clicked: false });
        }
        drop(known);
        let touches = self.users.entry(impression.user_id.clone()).or_default();
        touches.extend(shown.iter().cloned());
        touches.drain(..touches.len().saturating_sub(Self::KEPT_PER_USER));
        self.recorded_since_pruning += 1;
        self.added_since_pruning += shown.len();
        self.prune_if_due(impression.timestamp);
        shown
    }

    /// The items of a recommendation that were already shown to a user.
    fn items_of_recommendation(&self, user: &str, recommendation_id: &str) -> FxHashSet<Arc<str>> {
        let touches = self.users.get(user).into_iter().flatten();
        let mut latest: Option<(&Arc<ShownList>, bool)> = None;
        let of_recommendation = touches.filter(|shown| {
            let is_same = match latest {
                Some((list, is_same)) if Arc::ptr_eq(list, &shown.list) => is_same,
                _ => shown.list.recommendation_id == recommendation_id,
            };
            latest = Some((&shown.list, is_same));
            is_same
        });
        of_recommendation.map(|shown| Arc::clone(&shown.item_id)).collect()
    }

    /// Removes old impressions after a number of impressions, and if there are too many shown
    /// items.
    fn prune_if_due(&mut self, now: Timestamp) {
        let is_full = self.kept_at_pruning + self.added_since_pruning > self.max_items;
        if !is_full && self.recorded_since_pruning < Self::IMPRESSIONS_BETWEEN_PRUNINGS {
            return;
        }
        self.prune(now.saturating_sub(self.kept_for_ms));
        if !is_full {
            return;
        }
        // Half of the table is free afterwards, so that the next pruning is far away.
        while self.kept_at_pruning > self.max_items / 2 {
            if self.kept_for_ms == 0 {
                return self.clear();
            }
            self.kept_for_ms /= 2;
            self.prune(now.saturating_sub(self.kept_for_ms));
        }
    }

    /// Removes impressions before a time.
    fn prune(&mut self, before: Timestamp) {
        self.users.retain(|_, touches| {
            touches.retain(|shown| shown.list.at >= before);
            !touches.is_empty()
        });
        self.items.retain(|item, ()| Arc::strong_count(item) > 1);
        (self.recorded_since_pruning, self.added_since_pruning) = (0, 0);
        self.kept_at_pruning = self.users.values().map(VecDeque::len).sum();
    }

    fn clear(&mut self) {
        self.users.clear();
        self.items.clear();
        self.kept_at_pruning = 0;
    }

    /// Attributes an event to an impression. Returns the shown item, and whether the event is a
    /// conversion.
    pub(super) fn attribute_event(
        &mut self,
        event: &Event,
        settings: &AttributionSettings,
    ) -> Option<(ShownListItem, bool)> {
        // A dismissal is neither a click nor a conversion.
        if event.value.is_some_and(|value| value < 0.0) {
            return None;
        }
        let is_conversion = settings.is_conversion(&event.kind);
        let shown = if is_conversion {
            self.attribute_conversion(event, settings)
        } else {
            self.attribute_click(event, settings)
        };
        Some((shown?, is_conversion))
    }

    /// Attributes a click. Each impression of an item counts at most one click. An event with a
    /// recommendation id belongs to that recommendation alone.
    fn attribute_click(&mut self, event: &Event, settings: &AttributionSettings) -> Option<ShownListItem> {
        let shown = self.latest(event, settings.click_window_ms, |shown| !shown.is_clicked)?;
        shown.is_clicked = true;
        Some(shown.clone())
    }

    /// Attributes a conversion to the latest impression of its item.
    fn attribute_conversion(&mut self, event: &Event, settings: &AttributionSettings) -> Option<ShownListItem> {
        let needs_click = settings.touch == ConversionTouch::Click;
        // A conversion that names its recommendation is a click on it, too.
        let is_named = recommendation_id(event).is_some();
        let touched = |shown: &ShownListItem| !needs_click || is_named || shown.is_clicked;
        self.latest(event, settings.conversion_window_ms, touched).cloned()
    }

    fn latest(
        &mut self,
        event: &Event,
        window_ms: i64,
        is_candidate: impl Fn(&ShownListItem) -> bool,
    ) -> Option<&mut ShownListItem> {
        let (item, named) = (event.item_id.as_deref()?, recommendation_id(event));
        let touches = self.users.get_mut(&event.user_id)?;
        touches.iter_mut().rev().find(|shown| {
            let age = event.timestamp.saturating_sub(shown.list.at);
            *shown.item_id == *item
                && (0..=window_ms).contains(&age)
                && named.is_none_or(|id| id == shown.list.recommendation_id)
                && is_candidate(shown)
        })
    }

    /// Moves the impressions of a merged user to the other user.
    pub(super) fn merge_users(&mut self, from: &str, into: &str) {
        let Some(moved) = self.users.remove(from).filter(|_| from != into) else { return };
        let touches = self.users.entry(into.to_owned()).or_default();
        touches.extend(moved);
        touches.make_contiguous().sort_by_key(|shown| shown.list.at);
        touches.drain(..touches.len().saturating_sub(Self::KEPT_PER_USER));
    }

    /// Removes the impressions of a user.
    pub(super) fn remove_user(&mut self, user: &str) {
        self.users.remove(user);
    }
}

fn recommendation_id(event: &Event) -> Option<&str> {
    event.details.as_ref()?.recommendation_id.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ImpressionItem;

    #[test]
    fn a_full_table_keeps_the_latest_impressions() {
        let settings =
            AttributionSettings { click_window_ms: 1_000, conversion_window_ms: 1_000, ..Default::default() };
        let mut table = TouchTable::new(&settings, 100);
        let kept = |table: &TouchTable| table.users.values().map(VecDeque::len).sum::<usize>();
        for at in 0..500 {
            let impression = Impression {
                recommendation_id: format!("r{at}"),
                user_id: format!("u{}", at % 7),
                timestamp: at,
                items: vec![ImpressionItem::new(format!("i{}", at % 11), SourceName::New)],
                ..Impression::default()
            };
            assert_eq!(table.record_impression(&impression).len(), 1);
            assert!(kept(&table) <= 100 && table.items.len() <= 11);
        }
        assert!(kept(&table) >= 30 && (30..100).contains(&table.kept_for_ms()), "{}", table.kept_for_ms());
        let oldest = table.users.values().flatten().map(|shown| shown.list.at).min();
        assert!(oldest >= Some(400), "{oldest:?}");
    }
}
