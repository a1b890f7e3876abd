//! What recommendations earn: impressions, clicks, conversions and revenue, by group.

use crate::domain::{Entry, Event, Timestamp};
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::intervals::{Interval, compound_interval, wilson_interval};
use super::touches::{AttributionSettings, ShownListItem, TouchTable};

/// The group of a shown item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// The day (UTC) of the impression.
    #[default]
    Day,
    /// The placement.
    Placement,
    /// The variant of an experiment.
    Variant,
    /// The source that generated the item.
    Source,
    /// The rules that moved the item. An item that several rules moved counts in each of them.
    Rule,
}

impl GroupBy {
    /// All groups with their names.
    pub const ALL: [(&str, Self); 5] = [
        ("day", Self::Day),
        ("placement", Self::Placement),
        ("variant", Self::Variant),
        ("source", Self::Source),
        ("rule", Self::Rule),
    ];
    /// The group of items without placement, variant, known source or rule.
    pub const NONE: &str = "(none)";

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, group)| *group == self).map_or("", |(name, _)| name)
    }

    /// The group with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, group)| group)
    }

    fn groups_of(self, shown: &ShownListItem) -> Vec<String> {
        let or_none = |value: &Option<String>| vec![value.clone().unwrap_or_else(|| Self::NONE.to_owned())];
        match self {
            Self::Day => vec![day_of(shown.list.at)],
            Self::Placement => or_none(&shown.list.placement),
            Self::Variant => or_none(&shown.list.variant),
            Self::Source if shown.list.is_reported => vec![Self::NONE.to_owned()],
            Self::Source => vec![shown.source.as_str().to_owned()],
            Self::Rule => shown.rules.as_ref().map_or_else(|| vec![Self::NONE.to_owned()], |rules| rules.to_vec()),
        }
    }
}

/// The day (UTC) of a time, such as `2024-05-31`.
fn day_of(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at).map(|time| time.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}

/// Which impressions a report covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportWindow {
    /// Impressions from this time on; `None` for the start of the journal.
    pub from: Option<Timestamp>,
    /// Impressions before this time; `None` for the end of the journal.
    pub to: Option<Timestamp>,
    /// Impressions of this placement only.
    pub placement: Option<String>,
}

impl ReportWindow {
    fn contains(&self, shown: &ShownListItem) -> bool {
        let at = shown.list.at;
        self.from.is_none_or(|from| from <= at)
            && self.to.is_none_or(|to| at < to)
            && self.placement.as_ref().is_none_or(|name| shown.list.placement.as_ref() == Some(name))
    }
}

/// The revenue in one currency.
#[derive(Debug, Clone, PartialEq)]
pub struct Revenue {
    /// The currency of the events; empty if they name none.
    pub currency: String,
    /// The sum of value times quantity over the conversions. An event without quantity counts as
    /// one piece.
    pub sum: f64,
    /// The 95 % interval of the sum, see [`compound_interval`].
    pub interval: Interval,
}

/// One group of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributionRow {
    /// The name of the group.
    pub group: String,
    /// Number of shown items.
    pub impressions: u64,
    /// Number of shown items that were clicked.
    pub clicks: u64,
    /// Clicks per impression; absent without impressions.
    pub ctr: Option<f64>,
    /// The 95 % interval of `ctr`.
    pub ctr_interval: Option<Interval>,
    /// Number of attributed conversions.
    pub conversions: u64,
    /// Conversions per click; absent without clicks. It can exceed 1, because one click can lead to
    /// several conversions.
    pub cvr: Option<f64>,
    /// The 95 % interval of the share of clicks with a conversion.
    pub cvr_interval: Option<Interval>,
    /// Revenue by currency, in the order of the currencies.
    pub revenue: Vec<Revenue>,
}

/// An attribution report.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributionReport {
    /// One table for each requested grouping: its rows in the order of the names of the groups.
    pub tables: Vec<Vec<AttributionRow>>,
    /// The sum over all shown items. An item with several rules counts once.
    pub total: AttributionRow,
    /// Milliseconds after an impression within which events were attributed to it: the longer of
    /// the two windows, or less if more than [`AttributionFold::MAX_SHOWN_ITEMS`] items were shown
    /// in it.
    pub attributed_within_ms: i64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Amounts {
    sum: f64,
    sum_of_squares: f64,
}

#[derive(Debug, Clone, Default)]
struct GroupCounts {
    impressions: u64,
    clicks: u64,
    conversions: u64,
    revenue: BTreeMap<String, Amounts>,
}

impl GroupCounts {
    fn add_conversion(&mut self, event: &Event) {
        self.conversions += 1;
        let Some(value) = event.value else { return };
        let details = event.details.as_ref();
        let currency = details.and_then(|details| details.currency.clone()).unwrap_or_default();
        let amount = value_as_f64(value) * f64::from(details.and_then(|details| details.quantity).unwrap_or(1));
        let amounts = self.revenue.entry(currency).or_default();
        amounts.sum += amount;
        amounts.sum_of_squares += amount * amount;
    }

    fn into_row(self, group: String) -> AttributionRow {
        let Self { impressions, clicks, conversions, revenue } = self;
        let rate = |count: u64, of: u64| (of > 0).then(|| count as f64 / of as f64);
        let to_revenue = |(currency, Amounts { sum, sum_of_squares })| Revenue {
            currency,
            sum,
            interval: compound_interval(sum, sum_of_squares),
        };
        AttributionRow {
            group,
            impressions,
            clicks,
            ctr: rate(clicks, impressions),
            ctr_interval: wilson_interval(clicks, impressions),
            conversions,
            cvr: rate(conversions, clicks),
            cvr_interval: wilson_interval(conversions, clicks),
            revenue: revenue.into_iter().map(to_revenue).collect(),
        }
    }
}

fn value_as_f64(value: f32) -> f64 {
    // The shortest decimal text of the value is what the sender meant: 19.99, not 19.9899997711.
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

/// The groups of one grouping.
#[derive(Debug)]
struct GroupTable {
    group_by: GroupBy,
    groups: BTreeMap<String, GroupCounts>,
}

impl GroupTable {
    fn count(&mut self, shown: &ShownListItem, add: impl Fn(&mut GroupCounts)) {
        for mut group in self.group_by.groups_of(shown) {
            if self.groups.len() >= AttributionFold::MAX_GROUPS && !self.groups.contains_key(&group) {
                AttributionFold::OTHER.clone_into(&mut group);
            }
            add(self.groups.entry(group).or_default());
        }
    }
}

/// The shared copy of an item id.
fn shared_id(items: &mut FxHashSet<Arc<str>>, id: &str) -> Arc<str> {
    if let Some(known) = items.get(id) {
        return Arc::clone(known);
    }
    let new = Arc::<str>::from(id);
    items.insert(Arc::clone(&new));
    new
}

/// Computes an attribution report from the journal.
#[derive(Debug)]
pub struct AttributionFold {
    settings: AttributionSettings,
    window: ReportWindow,
    touches: TouchTable<Arc<str>>,
    /// Item ids that several impressions share.
    items: FxHashSet<Arc<str>>,
    tables: Vec<GroupTable>,
    total: GroupCounts,
}

impl AttributionFold {
    /// Largest number of groups; further groups count in the group `(other)`.
    pub const MAX_GROUPS: usize = 10_000;
    /// Largest number of shown items that can get clicks and conversions at one time. A shown item
    /// takes about 60 bytes.
    pub const MAX_SHOWN_ITEMS: usize = 2_000_000;
    /// The name of the row of all groups.
    pub const TOTAL: &str = "(total)";
    const OTHER: &str = "(other)";

    /// A report without entries, with one table for each of `groupings`.
    #[must_use]
    pub fn new(settings: AttributionSettings, window: ReportWindow, groupings: &[GroupBy]) -> Self {
        let table = |group_by: &GroupBy| GroupTable { group_by: *group_by, groups: BTreeMap::new() };
        Self {
            touches: TouchTable::new(&settings, Self::MAX_SHOWN_ITEMS),
            items: FxHashSet::default(),
            settings,
            window,
            tables: groupings.iter().map(table).collect(),
            total: GroupCounts::default(),
        }
    }

    /// Adds the next journal entry.
    pub fn add_entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Impression(impression) => {
                let Self { touches, items, .. } = self;
                let mut new = Vec::new();
                touches.record_impression(impression, |id| shared_id(items, id), |shown| new.push(shown));
                new.iter().for_each(|shown| self.count(shown, |counts| counts.impressions += 1));
            }
            Entry::Event(event) => self.add_event(event),
            Entry::Merge(merge) => self.touches.merge_users(&merge.from, &merge.into),
            Entry::Erase(erasure) => self.touches.remove_user(&erasure.user_id),
            _ => {}
        }
    }

    fn add_event(&mut self, event: &Event) {
        let Some(item) = event.item_id.as_deref().and_then(|id| self.items.get(id)) else { return };
        match self.touches.attribute_event(event, item, &self.settings) {
            Some((shown, true)) => self.count(&shown, |counts| counts.add_conversion(event)),
            Some((shown, false)) => self.count(&shown, |counts| counts.clicks += 1),
            None => {}
        }
    }

    fn count(&mut self, shown: &ShownListItem, add: impl Fn(&mut GroupCounts)) {
        if self.window.contains(shown) {
            add(&mut self.total);
            self.tables.iter_mut().for_each(|table| table.count(shown, &add));
        }
    }

    /// The report of all entries so far.
    #[must_use]
    pub fn into_report(self) -> AttributionReport {
        let to_rows = |table: GroupTable| table.groups.into_iter().map(|(group, counts)| counts.into_row(group));
        AttributionReport {
            tables: self.tables.into_iter().map(|table| to_rows(table).collect()).collect(),
            total: self.total.into_row(Self::TOTAL.to_owned()),
            attributed_within_ms: self.touches.kept_for_ms(),
        }
    }
}

#[cfg(test)]
mod tests;
