//! What events mean, and for how long they are kept.

use super::sections::check_at_least_one_minute;
use super::{InvalidSetting, Period};
use crate::domain::{Consent, EventKind, EventKinds, KindRule};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsSettings {
    /// By name: a built-in kind whose meaning is changed, or a kind of the site's own. The kinds of the site's own are numbered in the order of their names.
    pub kinds: BTreeMap<String, KindSettings>,
    /// For how long it is kept what was recommended, at least 1 min; `off`: as long as events are.
    pub retain_impressions: Period,
}

impl Default for EventsSettings {
    fn default() -> Self {
        Self { kinds: BTreeMap::new(), retain_impressions: Period::OFF }
    }
}

/// What a kind of event means; what is left out stays as it is built in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KindSettings {
    /// Whether something was chosen: the event is a target to predict. A kind of the site's own is one unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<bool>,
    /// What such an event is worth when it carries no value of its own, -1000..=1000. A kind of the site's own is worth 1 unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
    /// For how long such events are kept, at least 1 min; `off`, and left out: as long as others are. Older ones go from the journal, from sessions and from what learning remembers one by one;
    /// what was counted and trained stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_for: Option<Period>,
}

impl EventsSettings {
    /// The table of kinds in force.
    #[must_use]
    pub fn resolved_kinds(&self) -> EventKinds {
        let mut kinds = EventKinds::default();
        for (name, settings) in &self.kinds {
            let kind = EventKind::from_name(name);
            let rule = kinds.id(&kind).map_or(KindRule { target: true, value: 1.0 }, |id| kinds.rule(id));
            let rule = KindRule { target: settings.target.unwrap_or(rule.target), value: settings.value.unwrap_or(rule.value) };
            // A full table is refused by `validate`.
            kinds.set(kind, rule);
        }
        kinds
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        for (name, settings) in &self.kinds {
            let key = || format!("events.kinds.{name}");
            if name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) {
                return Err(InvalidSetting::new(key(), name, "a name of 1 to 64 letters, digits, _, - or ."));
            }
            if let Some(value) = settings.value {
                InvalidSetting::check_range(&format!("{}.value", key()), value, -1000.0..=1000.0)?;
            }
            check_at_least_one_minute(&format!("{}.retain_for", key()), settings.retain_for.unwrap_or(Period::OFF))?;
        }
        check_at_least_one_minute("events.retain_impressions", self.retain_impressions)?;
        let kinds = self.resolved_kinds();
        match self.kinds.keys().find(|name| kinds.id(&EventKind::from_name(name)).is_none()) {
            Some(name) => {
                Err(InvalidSetting::new(format!("events.kinds.{name}"), name, format!("one of at most {} kinds", EventKinds::MAX)))
            }
            None => Ok(()),
        }
    }
}

/// What is taken of messages in the shape of Segment's API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentSettings {
    /// By the name of an event, upper and lower case being the same: the kind of event that it is, or `ignore`. The calls `page` and `screen` go by `Page` and `Screen`. Names that are not
    /// here mean what they do in Segment's specifications.
    pub events: BTreeMap<String, String>,
    /// By the name of a category in `context.consent.categoryPreferences`: how far consent goes at most where the category is refused. Other categories say nothing here.
    pub consent: BTreeMap<String, Consent>,
}

impl SegmentSettings {
    /// What stands for a kind where nothing is to be taken of an event.
    pub const IGNORE: &'static str = "ignore";

    /// What each name of an event is said to mean; `None`: nothing is taken of it.
    pub fn event_overrides(&self) -> impl Iterator<Item = (&str, Option<EventKind>)> {
        self.events.iter().map(|(name, kind)| (name.as_str(), (kind != Self::IGNORE).then(|| EventKind::from_name(kind))))
    }

    pub(super) fn check(&self, kinds: &EventKinds) -> Result<(), InvalidSetting> {
        match self.events.iter().find(|(_, kind)| *kind != Self::IGNORE && kinds.id(&EventKind::from_name(kind)).is_none()) {
            Some((name, kind)) => Err(InvalidSetting::new(
                format!("segment.events.{name}"),
                kind,
                format!("{}, or {}", kinds.names().collect::<Vec<_>>().join(", "), Self::IGNORE),
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
    fn what_no_kind_can_be_is_named() {
        let kind = |value| KindSettings { value: Some(value), ..KindSettings::default() };
        let mut settings = Settings::default();
        settings.events.kinds.insert("wish list".to_owned(), kind(1.0));
        assert_eq!(settings.validate().unwrap_err().key, "events.kinds.wish list");
        settings.events.kinds = [("wishlist".to_owned(), kind(f32::NAN))].into();
        assert_eq!(settings.validate().unwrap_err().key, "events.kinds.wishlist.value");
        settings.events.kinds = (0..60).map(|number| (format!("kind{number}"), kind(1.0))).collect();
        assert!(settings.validate().unwrap_err().allowed.contains("at most 64 kinds"));
        settings.events.kinds =
            [("search".to_owned(), KindSettings { retain_for: Some(Period::seconds(3)), ..KindSettings::default() })].into();
        assert_eq!(settings.validate().unwrap_err().to_string(), "events.kinds.search.retain_for = 3s: must be at least 1m, or off");
    }

    #[test]
    fn kinds_are_changed_and_added() {
        let settings = EventsSettings {
            kinds: [
                ("view".to_owned(), KindSettings { value: Some(0.5), ..KindSettings::default() }),
                ("dismiss".to_owned(), KindSettings { target: Some(true), ..KindSettings::default() }),
                ("wishlist".to_owned(), KindSettings::default()),
            ]
            .into(),
            ..EventsSettings::default()
        };
        let kinds = settings.resolved_kinds();
        let rule = |name: &str| kinds.rule(kinds.id(&EventKind::from_name(name)).unwrap());
        assert_eq!(rule("view"), KindRule { target: true, value: 0.5 });
        assert_eq!(rule("dismiss"), KindRule { target: true, value: -1.0 });
        assert_eq!(rule("wishlist"), KindRule { target: true, value: 1.0 });
        assert_eq!(rule("cart"), KindRule { target: true, value: 3.0 });
    }
}
