//! Attribution of events to the impressions before them.

use crate::domain::{Event, EventKind, Impression, ImpressionItem, SourceName, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;
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

/// One item of an impression. `K` identifies the item.
#[derive(Debug, Clone)]
struct TouchedItem<K> {
    item: K,
    source: SourceName,
    rules: Option<Arc<[String]>>,
    /// The position in the list, counted from 1.
    position: u32,
    is_clicked: bool,
}

/// An item of an impression, with the impression.
#[derive(Debug, Clone)]
pub(super) struct ShownListItem {
    pub(super) list: Arc<ShownList>,
    pub(super) source: SourceName,
    /// The rules that moved the item; `None` without rules.
    pub(super) rules: Option<Arc<[String]>>,
}

/// The items of one impression.
#[derive(Debug)]
struct TouchedList<K> {
    list: Arc<ShownList>,
    items: VecDeque<TouchedItem<K>>,
}

/// The impressions of one user, oldest first.
#[derive(Debug)]
struct UserTouches<K> {
    lists: VecDeque<TouchedList<K>>,
    /// Number of shown items in the lists.
    len: usize,
}

impl<K> Default for UserTouches<K> {
    fn default() -> Self {
        Self { lists: VecDeque::new(), len: 0 }
    }
}

impl<K> UserTouches<K> {
    /// Number of shown items that are kept per user.
    const KEPT_PER_USER: usize = 1_000;

    fn push(&mut self, shown: TouchedList<K>) {
        self.len += shown.items.len();
        self.lists.push_back(shown);
        self.remove_excess();
    }

    fn remove_excess(&mut self) {
        while self.len > Self::KEPT_PER_USER {
            let Some(oldest) = self.lists.front_mut() else { return };
            let removed = (self.len - Self::KEPT_PER_USER).min(oldest.items.len());
            oldest.items.drain(..removed);
            self.len -= removed;
            if oldest.items.is_empty() {
                self.lists.pop_front();
            }
        }
    }

    fn remove_before(&mut self, before: Timestamp) {
        self.lists.retain(|shown| shown.list.at >= before);
        self.len = self.lists.iter().map(|shown| shown.items.len()).sum();
    }

    fn merge(&mut self, other: Self) {
        self.len += other.len;
        self.lists.extend(other.lists);
        self.lists.make_contiguous().sort_by_key(|shown| shown.list.at);
        self.remove_excess();
    }
}

/// The shown items of all users within the attribution windows. `K` identifies an item.
#[derive(Debug)]
pub(super) struct TouchTable<K> {
    users: FxHashMap<String, UserTouches<K>>,
    recorded_since_pruning: usize,
    /// Number of shown items that were added since the latest pruning.
    added_since_pruning: usize,
    /// Number of shown items after the latest pruning.
    kept_at_pruning: usize,
    /// Milliseconds for which an impression is kept.
    kept_for_ms: i64,
    max_items: usize,
}

impl<K: Clone + Eq + Hash> TouchTable<K> {
    /// After this number of impressions, those outside the windows are removed.
    const IMPRESSIONS_BETWEEN_PRUNINGS: usize = 50_000;

    /// An empty table. It keeps impressions for the longer window of `settings`. If there are more
    /// than `max_items` shown items, it halves this time until they fit.
    pub(super) fn new(settings: &AttributionSettings, max_items: usize) -> Self {
        Self {
            users: FxHashMap::default(),
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

    /// Records an impression, whose items `identify` identifies. Calls `on_new` with each item, except
    /// those that an earlier impression with the same recommendation id has already shown to the user.
    pub(super) fn record_impression(
        &mut self,
        impression: &Impression,
        mut identify: impl FnMut(&str) -> K,
        mut on_new: impl FnMut(ShownListItem),
    ) {
        let list = Arc::new(ShownList {
            recommendation_id: impression.recommendation_id.clone(),
            at: impression.timestamp,
            placement: impression.placement.clone(),
            variant: impression.variant.clone(),
            is_reported: impression.is_reported(),
        });
        let mut known = self.items_of_recommendation(&impression.user_id, &impression.recommendation_id);
        let mut items = VecDeque::with_capacity(impression.items.len());
        for (place, ImpressionItem { item_id, source, rules, position, .. }) in (1..).zip(&impression.items) {
            let item = identify(item_id);
            if !known.insert(item.clone()) {
                continue;
            }
            let rules = (!rules.is_empty()).then(|| Arc::from(rules.as_slice()));
            on_new(ShownListItem { list: Arc::clone(&list), source: *source, rules: rules.clone() });
            // Impressions of older formats have no positions.
            let position = if *position > 0 { *position } else { place };
            items.push_back(TouchedItem { item, source: *source, rules, position, is_clicked: false });
        }
        self.recorded_since_pruning += 1;
        self.added_since_pruning += items.len();
        if !items.is_empty() {
            let shown = TouchedList { list, items };
            match self.users.get_mut(&impression.user_id) {
                Some(touches) => touches.push(shown),
                None => self.users.entry(impression.user_id.clone()).or_default().push(shown),
            }
        }
        self.prune_if_due(impression.timestamp);
    }

    /// The items of a recommendation that were already shown to a user.
    fn items_of_recommendation(&self, user: &str, recommendation_id: &str) -> FxHashSet<K> {
        let lists = self.users.get(user).into_iter().flat_map(|touches| &touches.lists);
        let of_recommendation = lists.filter(|shown| shown.list.recommendation_id == recommendation_id);
        of_recommendation.flat_map(|shown| &shown.items).map(|shown| shown.item.clone()).collect()
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
            touches.remove_before(before);
            touches.len > 0
        });
        (self.recorded_since_pruning, self.added_since_pruning) = (0, 0);
        self.kept_at_pruning = self.users.values().map(|touches| touches.len).sum();
    }

    fn clear(&mut self) {
        self.users.clear();
        self.kept_at_pruning = 0;
    }

    /// Attributes an event on an item to an impression. Returns the shown item, and whether the event
    /// is a conversion.
    pub(super) fn attribute_event(
        &mut self,
        event: &Event,
        item: &K,
        settings: &AttributionSettings,
    ) -> Option<(ShownListItem, bool)> {
        // A dismissal is neither a click nor a conversion.
        if event.value.is_some_and(|value| value < 0.0) {
            return None;
        }
        let is_conversion = settings.is_conversion(&event.kind);
        let shown = if is_conversion {
            self.attribute_conversion(event, item, settings)
        } else {
            self.attribute_click(event, item, settings)
        };
        Some((shown?, is_conversion))
    }

    /// Attributes a click. Each impression of an item counts at most one click. An event with a
    /// recommendation id belongs to that recommendation alone.
    fn attribute_click(&mut self, event: &Event, item: &K, settings: &AttributionSettings) -> Option<ShownListItem> {
        let (list, shown) = self.latest(event, item, settings.click_window_ms, |shown| !shown.is_clicked)?;
        shown.is_clicked = true;
        Some(ShownListItem { list, source: shown.source, rules: shown.rules.clone() })
    }

    /// Attributes a conversion to the latest impression of its item.
    fn attribute_conversion(
        &mut self,
        event: &Event,
        item: &K,
        settings: &AttributionSettings,
    ) -> Option<ShownListItem> {
        let needs_click = settings.touch == ConversionTouch::Click;
        // A conversion that names its recommendation is a click on it, too.
        let is_named = recommendation_id(event).is_some();
        let touched = |shown: &TouchedItem<K>| !needs_click || is_named || shown.is_clicked;
        let (list, shown) = self.latest(event, item, settings.conversion_window_ms, touched)?;
        Some(ShownListItem { list, source: shown.source, rules: shown.rules.clone() })
    }

    fn latest(
        &mut self,
        event: &Event,
        item: &K,
        window_ms: i64,
        is_candidate: impl Fn(&TouchedItem<K>) -> bool,
    ) -> Option<(Arc<ShownList>, &mut TouchedItem<K>)> {
        let named = recommendation_id(event);
        let lists = self.users.get_mut(&event.user_id)?.lists.iter_mut().rev().filter(|shown| {
            let age = event.timestamp.saturating_sub(shown.list.at);
            (0..=window_ms).contains(&age) && named.is_none_or(|id| id == shown.list.recommendation_id)
        });
        lists
            .flat_map(|TouchedList { list, items }| items.iter_mut().rev().map(|shown| (&*list, shown)))
            .find(|(_, shown)| shown.item == *item && is_candidate(shown))
            .map(|(list, shown)| (Arc::clone(list), shown))
    }

    /// For each placement of which a list was shown to the user in the `window_ms` milliseconds before
    /// an event on an item: the position of the item in the latest such list, `None` if the list does
    /// not contain it. A dismissal has no positions.
    pub(super) fn positions_in_latest_lists(
        &self,
        event: &Event,
        item: &K,
        window_ms: i64,
    ) -> Vec<(Option<String>, Option<u32>)> {
        let is_dismissal = event.value.is_some_and(|value| value < 0.0);
        let Some(touches) = self.users.get(&event.user_id).filter(|_| !is_dismissal) else { return Vec::new() };
        let mut latest: BTreeMap<Option<&str>, Option<u32>> = BTreeMap::new();
        for TouchedList { list, items } in touches.lists.iter().rev() {
            if (0..=window_ms).contains(&event.timestamp.saturating_sub(list.at)) {
                latest
                    .entry(list.placement.as_deref())
                    .or_insert_with(|| items.iter().find(|shown| shown.item == *item).map(|shown| shown.position));
            }
        }
        latest.into_iter().map(|(placement, position)| (placement.map(str::to_owned), position)).collect()
    }

    /// Moves the impressions of a merged user to the other user.
    pub(super) fn merge_users(&mut self, from: &str, into: &str) {
        let Some(moved) = self.users.remove(from).filter(|_| from != into) else { return };
        self.users.entry(into.to_owned()).or_default().merge(moved);
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

    #[test]
    fn a_full_table_keeps_the_latest_impressions() {
        let settings =
            AttributionSettings { click_window_ms: 1_000, conversion_window_ms: 1_000, ..Default::default() };
        let mut table = TouchTable::new(&settings, 100);
        let kept = |table: &TouchTable<String>| table.users.values().map(|touches| touches.len).sum::<usize>();
        for at in 0..500 {
            let impression = Impression {
                recommendation_id: format!("r{at}"),
                user_id: format!("u{}", at % 7),
                timestamp: at,
                items: vec![ImpressionItem::new(format!("i{}", at % 11), SourceName::New)],
                ..Impression::default()
            };
            let mut new = 0;
            table.record_impression(&impression, str::to_owned, |_| new += 1);
            assert_eq!(new, 1);
            assert!(kept(&table) <= 100);
        }
        assert!(kept(&table) >= 30 && (30..100).contains(&table.kept_for_ms()), "{}", table.kept_for_ms());
        let oldest = table.users.values().flat_map(|touches| &touches.lists).map(|shown| shown.list.at).min();
        assert!(oldest >= Some(400), "{oldest:?}");
    }

    #[test]
    fn a_user_keeps_the_latest_items() {
        let settings = AttributionSettings::default();
        let mut table = TouchTable::new(&settings, 1_000_000);
        for (at, items) in [(1, 0..600), (2, 600..1_200), (3, 1_200..1_300)] {
            let impression = Impression {
                recommendation_id: format!("r{at}"),
                user_id: "ann".to_owned(),
                timestamp: at,
                items: items.map(|item| ImpressionItem::new(item.to_string(), SourceName::New)).collect(),
                ..Impression::default()
            };
            table.record_impression(&impression, |item| item.parse::<u32>().unwrap(), |_| ());
        }
        let touches = &table.users["ann"];
        let items: Vec<_> = touches.lists.iter().flat_map(|shown| &shown.items).map(|shown| shown.item).collect();
        assert_eq!((touches.len, items), (1_000, (300..1_300).collect::<Vec<_>>()));
    }

    #[test]
    fn positions_are_those_of_the_latest_list_of_each_placement() {
        let mut table = TouchTable::new(&AttributionSettings::default(), 100);
        let mut show = |id: &str, placement: Option<&str>, at, items: &[&str]| {
            let impression = Impression {
                recommendation_id: id.to_owned(),
                user_id: "ann".to_owned(),
                timestamp: at,
                items: items.iter().map(|item| ImpressionItem::new((*item).to_owned(), SourceName::New)).collect(),
                placement: placement.map(str::to_owned),
                ..Impression::default()
            };
            let mut new = 0;
            table.record_impression(&impression, str::to_owned, |_| new += 1);
            assert_eq!(new, items.len());
        };
        show("r1", Some("home"), 1_000, &["cup", "tea"]);
        show("r2", Some("cart"), 2_000, &["pot", "cup", "tea"]);
        show("r3", Some("home"), 3_000, &["tea", "pot"]);
        show("r4", None, 4_000, &["tea"]);
        let event = |item: &str, at| Event {
            event_id: None,
            user_id: "ann".to_owned(),
            session_id: None,
            kind: EventKind::View,
            item_id: Some(item.to_owned()),
            value: None,
            timestamp: at,
            properties: None,
            details: None,
        };
        let positions = |event: &Event| -> Vec<(String, Option<u32>)> {
            let item = event.item_id.clone().unwrap_or_default();
            let found = table.positions_in_latest_lists(event, &item, 2_500);
            found.into_iter().map(|(name, position)| (name.unwrap_or_default(), position)).collect()
        };
        let named = |name: &str, position| (name.to_owned(), position);
        let cup = event("cup", 4_500);
        assert_eq!(positions(&cup), [named("", None), named("cart", Some(2)), named("home", None)]);
        let pot = event("pot", 5_000);
        assert_eq!(positions(&pot), [named("", None), named("home", Some(2))], "the list of the cart is too old");
        assert_eq!(positions(&event("tea", 2_500)), [named("cart", Some(3)), named("home", Some(2))]);
        assert_eq!(positions(&Event { value: Some(-1.0), ..cup }), [], "a dismissal");
    }
}
