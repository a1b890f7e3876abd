//! Event kinds, and their rules: whether a kind is a prediction target, and its default value.

use super::KindId;
use serde::{Deserialize, Serialize};

/// The kind of an interaction. The journal stores it by name, so that a change of settings never
/// changes the meaning of old events.
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
const BUILT_IN: [(EventKind, &str, bool, f32); 12] = [
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
    /// The kind's name in requests and files.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Custom(name) => name,
            built_in => BUILT_IN.iter().find(|(kind, ..)| kind == built_in).map_or("", |(_, name, ..)| name),
        }
    }

    /// The kind of this name. An unknown name becomes [`EventKind::Custom`]; [`EventKinds::id`]
    /// then accepts or rejects it.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        BUILT_IN
            .iter()
            .find(|(_, built_in, ..)| *built_in == name)
            .map_or_else(|| Self::Custom(name.to_owned()), |(kind, ..)| kind.clone())
    }
}

/// The rule of an event kind for learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindRule {
    /// Whether events of this kind are prediction targets. Other kinds only serve as input.
    pub target: bool,
    /// The value for the interest head if the event has no value of its own.
    pub value: f32,
}

/// The table of active kinds: the built-in ones, then those of the settings in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventKinds {
    rules: Vec<(EventKind, KindRule)>,
}

impl Default for EventKinds {
    fn default() -> Self {
        let rules =
            BUILT_IN.iter().map(|(kind, _, target, value)| (kind.clone(), KindRule { target: *target, value: *value }));
        Self { rules: rules.collect() }
    }
}

impl EventKinds {
    /// Maximum number of kinds, built-in and custom together.
    pub const MAX: usize = 64;

    /// Sets the rule of a kind, or adds the kind. Returns `false`, changing nothing, if the table
    /// is full.
    pub fn set(&mut self, kind: EventKind, rule: KindRule) -> bool {
        if let Some((_, old)) = self.rules.iter_mut().find(|(known, _)| *known == kind) {
            *old = rule;
            return true;
        }
        let has_room = self.rules.len() < Self::MAX;
        if has_room {
            self.rules.push((kind, rule));
        }
        has_room
    }

    /// The id of a kind; `None` if it is neither built in nor configured.
    #[must_use]
    pub fn id(&self, kind: &EventKind) -> Option<KindId> {
        self.rules.iter().position(|(known, _)| known == kind).and_then(|index| KindId::try_from(index).ok())
    }

    /// The rule of a kind. An unknown kind is no target.
    #[must_use]
    pub fn rule(&self, id: KindId) -> KindRule {
        self.rules.get(usize::from(id)).map_or(KindRule { target: false, value: 0.0 }, |(_, rule)| rule.clone())
    }

    /// Number of kinds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether the table is empty; never, because it contains the built-in kinds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The names of the kinds, in the order of their ids.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|(kind, _)| kind.name())
    }
}
