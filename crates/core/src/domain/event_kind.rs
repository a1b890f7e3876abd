//! Event kinds and their rules. The rule of a kind says whether the model learns to predict events
//! of the kind, and which value an event of the kind has if the client sends none.

use super::KindId;
use serde::{Deserialize, Serialize};

/// The kind of an interaction. The journal stores the name of the kind, so that a change of
/// settings never changes the meaning of old events.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// An item's page was viewed.
    View,
    /// An item was clicked.
    Click,
    /// A search, with or without an item.
    Search,
    /// An item was put into the cart.
    Cart,
    /// An item was bought.
    Purchase,
    /// An item was liked.
    Like,
    /// An item was shared.
    Share,
    /// An item was commented on.
    Comment,
    /// An item (an author, a channel, …) was followed.
    Follow,
    /// An item was rated; the event's value is the rating.
    Rate,
    /// An item was played; the event's value is commonly the seconds played.
    Play,
    /// An item was dismissed.
    Dismiss,
    /// A custom kind from the settings.
    Custom(String),
}

/// The built-in kinds in the order of their [`KindId`]s.
const BUILT_IN_KINDS: [(EventKind, &str, bool, f32); 12] = [
    (EventKind::View, "view", true, 1.0),
    (EventKind::Click, "click", true, 1.0),
    (EventKind::Search, "search", false, 0.0),
    (EventKind::Cart, "cart", true, 3.0),
    (EventKind::Purchase, "purchase", true, 5.0),
    (EventKind::Like, "like", true, 3.0),
    (EventKind::Share, "share", true, 4.0),
    (EventKind::Comment, "comment", true, 3.0),
    (EventKind::Follow, "follow", true, 4.0),
    (EventKind::Rate, "rate", true, 3.0),
    (EventKind::Play, "play", true, 2.0),
    (EventKind::Dismiss, "dismiss", false, -1.0),
];

impl EventKind {
    /// The kinds of events that are conversions, unless a report asks for other kinds.
    pub const CONVERSIONS: [Self; 1] = [Self::Purchase];

    /// The kind's name in requests and files.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Custom(name) => name,
            built_in => BUILT_IN_KINDS.iter().find(|(kind, ..)| kind == built_in).map_or("", |(_, name, ..)| name),
        }
    }

    /// The kind with this name. A name that is not built in becomes [`EventKind::Custom`].
    /// [`EventKinds::id_of`] tells whether that kind is configured.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        BUILT_IN_KINDS
            .iter()
            .find(|(_, built_in, ..)| *built_in == name)
            .map_or_else(|| Self::Custom(name.to_owned()), |(kind, ..)| kind.clone())
    }
}

/// The scale on which the interest model predicts the values of a kind of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterestScale {
    /// The values are not predicted.
    #[default]
    Off,
    /// The values themselves, for example ratings from 1 to 5.
    Linear,
    /// The logarithm of 1 + value, for values of very different sizes, for example seconds. A
    /// negative value has the negative of the result for its absolute value.
    Logarithmic,
}

impl InterestScale {
    /// All scales. Their positions are their stored numbers.
    const ALL: [Self; 3] = [Self::Off, Self::Linear, Self::Logarithmic];

    /// The scale of a kind of events unless the settings say otherwise. Prices and quantities say
    /// little about interest, so kinds that commonly carry them have the scale `off`.
    #[must_use]
    pub fn default_of(kind: &EventKind) -> Self {
        match kind {
            EventKind::Search | EventKind::Cart | EventKind::Purchase | EventKind::Dismiss => Self::Off,
            EventKind::Play => Self::Logarithmic,
            _ => Self::Linear,
        }
    }

    /// Converts a value to this scale.
    #[must_use]
    pub fn scaled(self, value: f32) -> f32 {
        match self {
            Self::Off | Self::Linear => value,
            Self::Logarithmic => value.abs().ln_1p().copysign(value),
        }
    }

    /// Converts a number on this scale to a value: the inverse of [`InterestScale::scaled`].
    ///
    /// ```
    /// use sequor_core::domain::InterestScale;
    /// let seconds = InterestScale::Logarithmic.value(InterestScale::Logarithmic.scaled(200.0));
    /// assert!((seconds - 200.0).abs() < 0.01);
    /// ```
    #[must_use]
    pub fn value(self, scaled: f32) -> f32 {
        match self {
            Self::Off | Self::Linear => scaled,
            Self::Logarithmic => scaled.abs().exp_m1().copysign(scaled),
        }
    }
}

/// How the model learns from events of a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindRule {
    /// Whether the model learns to predict events of this kind (target events). Events of other
    /// kinds are only inputs of the model.
    pub target: bool,
    /// The event value that applies if a client sends an event of this kind without a value.
    pub value: f32,
    /// An event with a value below this number is a dismissal; 0: only events with negative values
    /// are dismissals. [`EventKinds`] stores it.
    #[serde(skip)]
    pub midpoint: f32,
    /// The scale on which the values of events are predicted. [`EventKinds`] stores it.
    #[serde(skip)]
    pub interest: InterestScale,
    /// The weight of a target event in the losses of the ranker and of the network. [`EventKinds`]
    /// stores it.
    #[serde(skip)]
    pub weight: f32,
}

impl KindRule {
    /// The weight of a kind unless the settings say otherwise.
    pub const DEFAULT_WEIGHT: f32 = 1.0;

    /// The rule of a kind with this target flag and default value, without midpoint, with the default
    /// scale of the kind and the default weight.
    #[must_use]
    pub fn new(kind: &EventKind, target: bool, value: f32) -> Self {
        let interest = InterestScale::default_of(kind);
        Self { target, value, midpoint: 0.0, interest, weight: Self::DEFAULT_WEIGHT }
    }
}

/// Marks the stored entry that holds a kind's midpoint. No name of a kind contains it.
const MIDPOINT_MARK: &str = "<";
/// Marks the stored entry that holds the position of a kind's scale in [`InterestScale::ALL`].
const SCALE_MARK: &str = "~";
/// Marks the stored entry that holds a kind's weight.
const WEIGHT_MARK: &str = "*";

/// The table of active kinds: the built-in kinds, then the custom kinds in the order of the
/// settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredKinds", into = "StoredKinds")]
pub struct EventKinds {
    rules: Vec<(EventKind, KindRule)>,
}

/// The stored form of [`EventKinds`]. Each midpoint, and each scale and weight that is not the
/// default of its kind, follows as an entry of its own, so that tables without them keep their bytes.
#[derive(Serialize, Deserialize)]
struct StoredKinds {
    rules: Vec<(EventKind, KindRule)>,
}

/// An entry of [`StoredKinds`] that holds a number of a kind.
fn stored_number(kind: &EventKind, mark: &str, value: f32) -> (EventKind, KindRule) {
    let entry = EventKind::Custom(format!("{}{mark}", kind.name()));
    let rule = KindRule::new(&entry, false, value);
    (entry, rule)
}

impl From<EventKinds> for StoredKinds {
    fn from(EventKinds { mut rules }: EventKinds) -> Self {
        let midpoints = rules.iter().filter(|(_, rule)| rule.midpoint != 0.0);
        let midpoints = midpoints.map(|(kind, rule)| stored_number(kind, MIDPOINT_MARK, rule.midpoint));
        let scales = rules.iter().filter(|(kind, rule)| rule.interest != InterestScale::default_of(kind));
        let number = |scale| InterestScale::ALL.iter().position(|other| *other == scale).unwrap_or_default() as f32;
        let scales = scales.map(|(kind, rule)| stored_number(kind, SCALE_MARK, number(rule.interest)));
        let weights = rules.iter().filter(|(_, rule)| rule.weight != KindRule::DEFAULT_WEIGHT);
        let weights = weights.map(|(kind, rule)| stored_number(kind, WEIGHT_MARK, rule.weight));
        let entries: Vec<_> = midpoints.chain(scales).chain(weights).collect();
        rules.extend(entries);
        Self { rules }
    }
}

impl From<StoredKinds> for EventKinds {
    fn from(StoredKinds { rules }: StoredKinds) -> Self {
        let marks = [MIDPOINT_MARK, SCALE_MARK, WEIGHT_MARK];
        let (entries, mut rules): (Vec<_>, Vec<_>) =
            rules.into_iter().partition(|(kind, _)| marks.iter().any(|mark| kind.name().ends_with(mark)));
        for (kind, rule) in &mut rules {
            let stored = |mark| {
                let of_kind =
                    |(entry, _): &&(EventKind, KindRule)| entry.name().strip_suffix(mark) == Some(kind.name());
                entries.iter().find(of_kind).map(|(_, entry)| entry.value)
            };
            rule.midpoint = stored(MIDPOINT_MARK).unwrap_or_default();
            let scale = stored(SCALE_MARK).and_then(|number| InterestScale::ALL.get(number as usize));
            rule.interest = scale.copied().unwrap_or_else(|| InterestScale::default_of(kind));
            rule.weight = stored(WEIGHT_MARK).unwrap_or(KindRule::DEFAULT_WEIGHT);
        }
        Self { rules }
    }
}

impl EventKinds {
    /// The id of [`EventKind::Purchase`]: the built-in kinds come first.
    pub const PURCHASE: KindId = 4;
}

impl Default for EventKinds {
    fn default() -> Self {
        let rules =
            BUILT_IN_KINDS.iter().map(|(kind, _, target, value)| (kind.clone(), KindRule::new(kind, *target, *value)));
        Self { rules: rules.collect() }
    }
}

impl EventKinds {
    /// Maximum number of built-in and custom kinds together.
    pub const MAX_KINDS: usize = 64;

    /// Sets the rule of a kind, and adds the kind if it is new. Returns `false` and changes nothing
    /// if the kind is new and the table is full.
    pub fn set_rule(&mut self, kind: EventKind, rule: KindRule) -> bool {
        if let Some((_, old)) = self.rules.iter_mut().find(|(known, _)| *known == kind) {
            *old = rule;
            return true;
        }
        let has_room = self.rules.len() < Self::MAX_KINDS;
        if has_room {
            self.rules.push((kind, rule));
        }
        has_room
    }

    /// The id of a kind; `None` if it is neither built in nor configured.
    #[must_use]
    pub fn id_of(&self, kind: &EventKind) -> Option<KindId> {
        self.rules.iter().position(|(known, _)| known == kind).and_then(|index| KindId::try_from(index).ok())
    }

    /// The rule of a kind. The rule of an unknown kind says that it is not a target kind.
    #[must_use]
    pub fn rule_of(&self, id: KindId) -> KindRule {
        let unknown = KindRule {
            target: false,
            value: 0.0,
            midpoint: 0.0,
            interest: InterestScale::Off,
            weight: KindRule::DEFAULT_WEIGHT,
        };
        self.rules.get(usize::from(id)).map_or(unknown, |(_, rule)| rule.clone())
    }

    /// The value of a step: the event's value, or the default value of its kind. A value below the
    /// kind's midpoint becomes its difference from the midpoint, which is negative: the step is a
    /// dismissal.
    #[must_use]
    pub fn step_value(&self, id: KindId, value: Option<f32>) -> f32 {
        let rule = self.rule_of(id);
        match value {
            Some(value) if value < rule.midpoint => value - rule.midpoint,
            Some(value) => value,
            None => rule.value,
        }
    }

    /// The weight of a target event of a kind in the losses of the ranker and of the network.
    #[must_use]
    pub fn weight_of(&self, id: KindId) -> f32 {
        self.rules.get(usize::from(id)).map_or(KindRule::DEFAULT_WEIGHT, |(_, rule)| rule.weight)
    }

    /// Number of kinds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Always `false`, because the table contains the built-in kinds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The name of a kind; `None` for an unknown kind.
    #[must_use]
    pub fn name_of(&self, id: KindId) -> Option<&str> {
        self.rules.get(usize::from(id)).map(|(kind, _)| kind.name())
    }

    /// The names of the kinds, in the order of their ids.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|(kind, _)| kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_below_the_midpoint_is_negative() {
        let mut kinds = EventKinds::default();
        let rule = KindRule { midpoint: 3.0, ..KindRule::new(&EventKind::Rate, true, 3.0) };
        kinds.set_rule(EventKind::Rate, rule);
        let value = |kind: EventKind, value| kinds.step_value(kinds.id_of(&kind).unwrap(), value);
        let ratings = [1.0, 2.0, 2.5, 3.0, 5.0].map(|rating| value(EventKind::Rate, Some(rating)));
        assert_eq!(ratings, [-2.0, -1.0, -0.5, 3.0, 5.0]);
        assert_eq!((value(EventKind::Rate, None), value(EventKind::Rate, Some(-1.0))), (3.0, -4.0));
        assert_eq!((value(EventKind::View, Some(0.5)), value(EventKind::View, Some(-0.5))), (0.5, -0.5));
    }

    #[test]
    fn stored_tables_have_an_entry_for_each_midpoint_and_each_changed_scale_and_weight() {
        let mut kinds = EventKinds::default();
        let stored = serde_json::to_string(&kinds).unwrap();
        let wish = EventKind::Custom("wish".to_owned());
        let changes = [
            (EventKind::Rate, 3.0, InterestScale::Linear, 1.0),
            (EventKind::Play, 30.0, InterestScale::Off, 1.0),
            (EventKind::Purchase, 0.0, InterestScale::Logarithmic, 5.0),
            (wish, 0.0, InterestScale::Linear, 0.0),
        ];
        for (kind, midpoint, interest, weight) in changes {
            let rule = KindRule { midpoint, interest, weight, ..KindRule::new(&kind, true, 3.0) };
            kinds.set_rule(kind, rule);
        }
        let changed = serde_json::to_string(&kinds).unwrap();
        let rules = |text: &str| serde_json::from_str::<StoredKinds>(text).unwrap().rules;
        // The kind `wish`, two midpoints, two scales and two weights.
        assert_eq!((rules(&stored).len(), rules(&changed).len()), (BUILT_IN_KINDS.len(), BUILT_IN_KINDS.len() + 7));
        assert_eq!(serde_json::from_str::<EventKinds>(&stored).unwrap(), EventKinds::default());
        assert_eq!(serde_json::from_str::<EventKinds>(&changed).unwrap(), kinds);
    }

    #[test]
    fn scaled_values_convert_back_with_their_sign() {
        for scale in InterestScale::ALL {
            for value in [-1e6_f32, -3.0, -0.5, 0.0, 0.5, 1.0, 5.0, 3_600.0, 1e6] {
                let back = scale.value(scale.scaled(value));
                assert!((back - value).abs() <= 1e-5 * value.abs(), "{scale:?} {value}: {back}");
            }
        }
        assert_eq!(InterestScale::Logarithmic.scaled(-1.0), -2.0_f32.ln());
    }
}
