//! What recommendations earn: impressions, clicks, conversions and revenue, by group.

use crate::domain::{Entry, Event, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

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
    /// The group of items without placement, variant or rule.
    pub const NONE: &str = "(none)";

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
            Self::Source => vec![shown.source.as_str().to_owned()],
            Self::Rule if shown.rules.is_empty() => vec![Self::NONE.to_owned()],
            Self::Rule => shown.rules.to_vec(),
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Revenue {
    /// The currency of the events; empty if they name none.
    pub currency: String,
    /// The sum of value times quantity over the conversions.
    pub sum: f64,
    /// The 95 % interval of the sum, see [`compound_interval`].
    pub interval: Interval,
}

/// One group of a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttributionRow {
    /// The name of the group.
    pub group: String,
    /// Number of shown items.
    pub impressions: u64,
    /// Number of shown items that were clicked.
    pub clicks: u64,
    /// Clicks per impression; absent without impressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctr: Option<f64>,
    /// The 95 % interval of `ctr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctr_interval: Option<Interval>,
    /// Number of attributed conversions.
    pub conversions: u64,
    /// Conversions per click; absent without clicks. It can exceed 1, because one click can lead to
    /// several conversions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cvr: Option<f64>,
    /// The 95 % interval of the share of clicks with a conversion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cvr_interval: Option<Interval>,
    /// Revenue by currency, in the order of the currencies.
    pub revenue: Vec<Revenue>,
}

/// An attribution report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttributionReport {
    /// The groups in the order of their names.
    pub rows: Vec<AttributionRow>,
    /// The sum over all shown items. An item with several rules counts once.
    pub total: AttributionRow,
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

/// Computes an attribution report from the journal.
#[derive(Debug)]
pub struct AttributionFold {
    settings: AttributionSettings,
    window: ReportWindow,
    group_by: GroupBy,
    touches: TouchTable,
    groups: BTreeMap<String, GroupCounts>,
    total: GroupCounts,
}

impl AttributionFold {
    /// Largest number of groups; further groups count in the group `(other)`.
    pub const MAX_GROUPS: usize = 10_000;
    const OTHER: &str = "(other)";

    /// A report without entries.
    #[must_use]
    pub fn new(settings: AttributionSettings, window: ReportWindow, group_by: GroupBy) -> Self {
        Self {
            settings,
            window,
            group_by,
            touches: TouchTable::default(),
            groups: BTreeMap::new(),
            total: GroupCounts::default(),
        }
    }

    /// Adds the next journal entry.
    pub fn add_entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Impression(impression) => {
                for shown in self.touches.record_impression(impression, &self.settings) {
                    self.count(&shown, |counts| counts.impressions += 1);
                }
            }
            Entry::Event(event) => self.add_event(event),
            Entry::Merge(merge) => self.touches.merge_users(&merge.from, &merge.into),
            Entry::Erase(erasure) => self.touches.remove_user(&erasure.user_id),
            _ => {}
        }
    }

    fn add_event(&mut self, event: &Event) {
        // A dismissal is not a click.
        if event.value.is_some_and(|value| value < 0.0) {
            return;
        }
        if self.settings.is_conversion(&event.kind) {
            if let Some(shown) = self.touches.attribute_conversion(event, &self.settings) {
                self.count(&shown, |counts| counts.add_conversion(event));
            }
        } else if let Some(shown) = self.touches.attribute_click(event, &self.settings) {
            self.count(&shown, |counts| counts.clicks += 1);
        }
    }

    fn count(&mut self, shown: &ShownListItem, add: impl Fn(&mut GroupCounts)) {
        if !self.window.contains(shown) {
            return;
        }
        add(&mut self.total);
        for mut group in self.group_by.groups_of(shown) {
            if self.groups.len() >= Self::MAX_GROUPS && !self.groups.contains_key(&group) {
                Self::OTHER.clone_into(&mut group);
            }
            add(self.groups.entry(group).or_default());
        }
    }

    /// The report of all entries so far.
    #[must_use]
    pub fn into_report(self) -> AttributionReport {
        let rows = self.groups.into_iter().map(|(group, counts)| counts.into_row(group)).collect();
        AttributionReport { rows, total: self.total.into_row("total".to_owned()) }
    }
}

#[cfg(test)]
mod tests;
