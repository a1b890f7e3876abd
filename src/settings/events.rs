//! Kinds of event, their retention, and the mapping of Segment events.

use super::sections::check_at_least_one_minute;
use super::{InvalidSetting, Period};
use crate::domain::{Consent, EventKind, EventKinds, InterestScale, KindRule, PlaceholderIds};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Kinds of event and retention of impressions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsSettings {
    /// Custom kinds, and built-in kinds whose properties are changed, by name. Custom kinds are
    /// numbered in the order of their names.
    pub kinds: BTreeMap<String, KindSettings>,
    /// How long impressions are kept, at least 1 min; `off`: as long as events.
    pub retain_impressions: Period,
    /// User ids that many visitors share, such as `undefined`. These ids are never merged with
    /// another id. The comparison ignores case.
    pub placeholder_ids: Vec<String>,
}

impl Default for EventsSettings {
    fn default() -> Self {
        Self {
            kinds: BTreeMap::new(),
            retain_impressions: Period::OFF,
            placeholder_ids: PlaceholderIds::default_list(),
        }
    }
}

/// Configured properties of a kind of event. If a property is omitted, a built-in kind keeps its
/// own value, and a custom kind has the default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KindSettings {
    /// Whether the model learns to predict events of this kind (target events). Default of custom
    /// kinds: `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<bool>,
    /// Value of an event that is sent without a value, -1000..=1000. Default of custom kinds: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
    /// An event with a value below this number is a dismissal, 0..=1000. With 0, only events with
    /// negative values are dismissals. For ratings from 1 to 5, set 3 for `rate`. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub midpoint: Option<f32>,
    /// The scale on which the interest model predicts the values of these events: `linear`,
    /// `logarithmic` or `off`. Default: `logarithmic` for `play`; `off` for `search`, `cart`,
    /// `purchase` and `dismiss`; `linear` for other kinds. Events without a value teach nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interest: Option<InterestScale>,
    /// The weight of an event of this kind in the losses of the ranker and of the network, 0..=100,
    /// if it is a target event. With a higher weight, the model ranks the items of these events
    /// higher, at the expense of other kinds. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f32>,
    /// How long events of this kind are kept, at least 1 min. `off` or omitted: they are kept as
    /// long as other events. Expired events are removed from the journal, from sessions and from
    /// the learner's history. Counts and weights that were learned from them stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_for: Option<Period>,
}

impl EventsSettings {
    /// The built-in kinds with their configured changes, followed by the custom kinds.
    #[must_use]
    pub fn resolved_kinds(&self) -> EventKinds {
        let mut kinds = EventKinds::default();
        for (name, settings) in &self.kinds {
            let kind = EventKind::from_name(name);
            let rule = kinds.id_of(&kind).map_or_else(|| KindRule::new(&kind, true, 1.0), |id| kinds.rule_of(id));
            let rule = KindRule {
                target: settings.target.unwrap_or(rule.target),
                value: settings.value.unwrap_or(rule.value),
                midpoint: settings.midpoint.unwrap_or(rule.midpoint),
                interest: settings.interest.unwrap_or(rule.interest),
                weight: settings.weight.unwrap_or(rule.weight),
            };
            // If the table of kinds is full, `set_rule` has no effect, and `check` reports the kind
            // that does not fit.
            kinds.set_rule(kind, rule);
        }
        kinds
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        for (name, settings) in &self.kinds {
            let key = || format!("events.kinds.{name}");
            if name.is_empty()
                || name.len() > 64
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
            {
                return Err(InvalidSetting::new(key(), name, "a name of 1 to 64 letters, digits, _, - or ."));
            }
            if let Some(value) = settings.value {
                InvalidSetting::check_range(&format!("{}.value", key()), value, -1000.0..=1000.0)?;
            }
            if let Some(midpoint) = settings.midpoint {
                InvalidSetting::check_range(&format!("{}.midpoint", key()), midpoint, 0.0..=1000.0)?;
            }
            if let Some(weight) = settings.weight {
                InvalidSetting::check_range(&format!("{}.weight", key()), weight, 0.0..=100.0)?;
            }
            check_at_least_one_minute(&format!("{}.retain_for", key()), settings.retain_for.unwrap_or(Period::OFF))?;
        }
        check_at_least_one_minute("events.retain_impressions", self.retain_impressions)?;
        let kinds = self.resolved_kinds();
        match self.kinds.keys().find(|name| kinds.id_of(&EventKind::from_name(name)).is_none()) {
            Some(name) => Err(InvalidSetting::new(
                format!("events.kinds.{name}"),
                name,
                format!("one of at most {} kinds", EventKinds::MAX_KINDS),
            )),
            None => Ok(()),
        }
    }
}

/// Mapping of Segment's event names and consent categories.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentSettings {
    /// For each Segment event name, the kind of event that it becomes, or `ignore`. Names are
    /// case-insensitive. The calls `page` and `screen` have the names `Page` and `Screen`. Names
    /// that are not listed keep the default mapping, which follows Segment's specifications.
    pub events: BTreeMap<String, String>,
    /// Maximum consent level of a message whose user refused a consent category. The key is the
    /// name of the category in `context.consent.categoryPreferences`. Categories that are not
    /// listed have no effect.
    pub consent: BTreeMap<String, Consent>,
}

impl SegmentSettings {
    /// The mapping value that drops all events with a name.
    pub const IGNORE_EVENT: &'static str = "ignore";

    /// The configured kind of each event name; `None` if events with this name are ignored.
    pub fn event_overrides(&self) -> impl Iterator<Item = (&str, Option<EventKind>)> {
        self.events
            .iter()
            .map(|(name, kind)| (name.as_str(), (kind != Self::IGNORE_EVENT).then(|| EventKind::from_name(kind))))
    }

    pub(super) fn check(&self, kinds: &EventKinds) -> Result<(), InvalidSetting> {
        match self
            .events
            .iter()
            .find(|(_, kind)| *kind != Self::IGNORE_EVENT && kinds.id_of(&EventKind::from_name(kind)).is_none())
        {
            Some((name, kind)) => Err(InvalidSetting::new(
                format!("segment.events.{name}"),
                kind,
                format!("{}, or {}", kinds.names().collect::<Vec<_>>().join(", "), Self::IGNORE_EVENT),
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, Validate};

    #[test]
    fn names_the_invalid_kind() {
        let kind = |value| KindSettings { value: Some(value), ..KindSettings::default() };
        let mut settings = Settings::default();
        settings.events.kinds.insert("wish list".to_owned(), kind(1.0));
        assert_eq!(settings.validate().unwrap_err().key, "events.kinds.wish list");
        settings.events.kinds = [("wishlist".to_owned(), kind(f32::NAN))].into();
        assert_eq!(settings.validate().unwrap_err().key, "events.kinds.wishlist.value");
        settings.events.kinds =
            [("rate".to_owned(), KindSettings { midpoint: Some(-1.0), ..KindSettings::default() })].into();
        assert_eq!(settings.validate().unwrap_err().key, "events.kinds.rate.midpoint");
        settings.events.kinds =
            [("cart".to_owned(), KindSettings { weight: Some(101.0), ..KindSettings::default() })].into();
        assert_eq!(settings.validate().unwrap_err().key, "events.kinds.cart.weight");
        settings.events.kinds = (0..60).map(|number| (format!("kind{number}"), kind(1.0))).collect();
        assert!(settings.validate().unwrap_err().allowed.contains("at most 64 kinds"));
        settings.events.kinds = [(
            "search".to_owned(),
            KindSettings { retain_for: Some(Period::from_seconds(3)), ..KindSettings::default() },
        )]
        .into();
        assert_eq!(
            settings.validate().unwrap_err().to_string(),
            "events.kinds.search.retain_for = 3s: must be at least 1m, or off"
        );
    }

    #[test]
    fn changes_built_in_kinds_and_adds_custom_kinds() {
        let settings = EventsSettings {
            kinds: [
                ("view".to_owned(), KindSettings { value: Some(0.5), ..KindSettings::default() }),
                ("dismiss".to_owned(), KindSettings { target: Some(true), ..KindSettings::default() }),
                (
                    "play".to_owned(),
                    KindSettings {
                        midpoint: Some(20.0),
                        interest: Some(InterestScale::Off),
                        weight: Some(2.5),
                        ..KindSettings::default()
                    },
                ),
                ("wishlist".to_owned(), KindSettings::default()),
            ]
            .into(),
            ..EventsSettings::default()
        };
        let kinds = settings.resolved_kinds();
        let rule = |name: &str| kinds.rule_of(kinds.id_of(&EventKind::from_name(name)).unwrap());
        let expected = |target, value, midpoint, interest| {
            let weight = if midpoint == 20.0 { 2.5 } else { 1.0 };
            KindRule { target, value, midpoint, interest, weight }
        };
        assert_eq!(rule("view"), expected(true, 0.5, 0.0, InterestScale::Linear));
        assert_eq!(rule("dismiss"), expected(true, -1.0, 0.0, InterestScale::Off));
        assert_eq!(rule("wishlist"), expected(true, 1.0, 0.0, InterestScale::Linear));
        assert_eq!(rule("cart"), expected(true, 3.0, 0.0, InterestScale::Off));
        assert_eq!(
            (rule("rate"), rule("play")),
            (expected(true, 3.0, 0.0, InterestScale::Linear), expected(true, 2.0, 20.0, InterestScale::Off))
        );
    }
}
