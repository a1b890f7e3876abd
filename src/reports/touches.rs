//! Attribution of events to the impressions before them.

use crate::domain::{Event, EventKind, Impression, SourceName, Timestamp};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a conversion is attributed to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConversionTouch {
    /// The latest clicked impression of the item.
    #[default]
    Click,
    /// The latest impression of the item, whether or not it was clicked.
    Impression,
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
            conversions: vec![EventKind::Purchase],
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
#[derive(Debug, Default)]
pub(super) struct TouchTable {
    users: FxHashMap<String, UserTouches>,
    /// Item ids that several impressions share.
    items: FxHashMap<Arc<str>, ()>,
    no_rules: Arc<[String]>,
    recorded_since_pruning: usize,
}

impl TouchTable {
    /// Number of shown items that are kept per user.
    const KEPT_PER_USER: usize = 1_000;
    /// After this number of impressions, those outside the windows are removed.
    const IMPRESSIONS_BETWEEN_PRUNINGS: usize = 50_000;

    fn shared_item(&mut self, item: &str) -> Arc<str> {
        if let Some((known, ())) = self.items.get_key_value(item) {
            return Arc::clone(known);
        }
        let new = Arc::<str>::from(item);
        self.items.insert(Arc::clone(&new), ());
        new
    }

    /// Records an impression. Returns its items.
    pub(super) fn record_impression(
        &mut self,
        impression: &Impression,
        settings: &AttributionSettings,
    ) -> Vec<ShownListItem> {
        let list = Arc::new(ShownList {
            recommendation_id: impression.recommendation_id.clone(),
            at: impression.timestamp,
            placement: impression.placement.clone(),
            variant: impression.variant.clone(),
        });
        let mut shown = Vec::with_capacity(impression.items.len());
        for item in &impression.items {
            let rules =
                if item.rules.is_empty() { Arc::clone(&self.no_rules) } else { Arc::from(item.rules.as_slice()) };
            let item_id = self.shared_item(&item.item_id);
            let list = Arc::clone(&list);
            shown.push(ShownListItem { list, item_id, source: item.source, rules, is_clicked: false });
        }
        let touches = self.users.entry(impression.user_id.clone()).or_default();
        touches.extend(shown.iter().cloned());
        touches.drain(..touches.len().saturating_sub(Self::KEPT_PER_USER));
        self.recorded_since_pruning += 1;
        if self.recorded_since_pruning >= Self::IMPRESSIONS_BETWEEN_PRUNINGS {
            self.prune(impression.timestamp.saturating_sub(settings.longest_window_ms()));
        }
        shown
    }

    /// Removes impressions before a time.
    fn prune(&mut self, before: Timestamp) {
        self.recorded_since_pruning = 0;
        self.users.retain(|_, touches| {
            touches.retain(|shown| shown.list.at >= before);
            !touches.is_empty()
        });
        self.items.retain(|item, ()| Arc::strong_count(item) > 1);
    }

    /// Attributes a click. Each impression of an item counts at most one click. An event with a
    /// recommendation id belongs to that recommendation alone.
    pub(super) fn attribute_click(&mut self, event: &Event, settings: &AttributionSettings) -> Option<ShownListItem> {
        let shown = self.latest(event, settings.click_window_ms, |shown| !shown.is_clicked)?;
        shown.is_clicked = true;
        Some(shown.clone())
    }

    /// Attributes a conversion to the latest impression of its item.
    pub(super) fn attribute_conversion(
        &mut self,
        event: &Event,
        settings: &AttributionSettings,
    ) -> Option<ShownListItem> {
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
