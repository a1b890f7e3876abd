//! Placements: named places of a site, with the defaults of the lists that they show.

use super::{Objective, Timestamp};
use serde::{Deserialize, Serialize};

/// The type of the lists of a placement. New types must be added at the end, because the encoding
/// numbers them by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementKind {
    /// The items that the user is likely to want, also at the start of a session.
    ForYou,
    /// The items that are likely to follow the events of the session.
    #[default]
    NextItems,
    /// Items that are similar to the context items.
    Similar,
    /// The items that the user has purchased.
    BuyAgain,
    /// Trending items.
    Trending,
    /// The newest items.
    New,
    /// The order of a list that the site sends.
    Rank,
    /// Items that are bought together with the context items.
    BoughtTogether,
}

impl PlacementKind {
    /// All types.
    pub const ALL: [Self; 8] = [
        Self::ForYou,
        Self::NextItems,
        Self::Similar,
        Self::BuyAgain,
        Self::Trending,
        Self::New,
        Self::Rank,
        Self::BoughtTogether,
    ];

    /// The name of the type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ForYou => "for-you",
            Self::NextItems => "next-items",
            Self::Similar => "similar",
            Self::BuyAgain => "buy-again",
            Self::Trending => "trending",
            Self::New => "new",
            Self::Rank => "rank",
            Self::BoughtTogether => "bought-together",
        }
    }

    /// Whether the ranker scores the items of the lists, so that an objective can change their order.
    #[must_use]
    pub fn is_ranked(self) -> bool {
        matches!(self, Self::ForYou | Self::NextItems | Self::Rank)
    }
}

/// A factor on the scores of the items that satisfy a filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemBoost {
    /// A filter expression on item attributes.
    pub filter: String,
    /// The factor, above 0. A factor below 1 moves items down.
    pub factor: f32,
}

/// What happens to an item that was shown to the user too often. New variants must be added at the
/// end, because the encoding numbers them by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImpressionLimitAction {
    /// The list does not contain the item.
    #[default]
    Drop,
    /// The item follows all items that were not shown too often.
    Demote,
}

impl ImpressionLimitAction {
    /// All actions.
    pub const ALL: [Self; 2] = [Self::Drop, Self::Demote];

    /// The name of the action.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Demote => "demote",
        }
    }
}

/// The configuration of a placement. Each value is the default of the request parameter of the same
/// name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlacementConfig {
    /// The type of the lists.
    #[serde(rename = "type")]
    pub kind: PlacementKind,
    /// Maximum number of items in a list.
    pub limit: Option<usize>,
    /// A filter expression on item attributes.
    pub filter: Option<String>,
    /// Whether to exclude the items of the user's sequence.
    pub exclude_seen: Option<bool>,
    /// Maximum number of items per category.
    pub diversity: Option<usize>,
    /// Milliseconds for which a purchased item is hidden.
    pub purchased_for_ms: Option<i64>,
    /// Milliseconds for which a dismissed item is hidden.
    pub dismissed_for_ms: Option<i64>,
    /// Factors on the scores of items. All factors whose filter an item satisfies apply to it.
    pub boosts: Vec<ItemBoost>,
    /// Kinds of events by name, each with milliseconds: an item with such an event is excluded for
    /// this time.
    pub exclude_events: Vec<(String, i64)>,
    /// An item that was shown this number of times within this number of milliseconds is excluded, or
    /// moves to the end of the list.
    pub max_impressions: Option<(usize, i64)>,
    /// What happens to such an item. The stored form is in `stored_entry`.
    #[serde(skip)]
    pub impression_limit_action: ImpressionLimitAction,
    /// What the lists are ranked for; `None`: the next event. The journal stores it behind the
    /// change, see `stored_entry`.
    #[serde(skip)]
    pub objective: Option<Objective>,
}

impl PlacementConfig {
    /// Maximum number of boosts of a placement.
    pub const MAX_BOOSTS: usize = 16;
}

/// An operation on a placement. New variants must be added at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlacementOperation {
    /// Creates the placement, or replaces its configuration.
    Put(PlacementConfig),
    /// Deletes the placement.
    Delete,
}

impl PlacementOperation {
    /// The objective of the configuration that the operation puts.
    #[must_use]
    pub fn objective(&self) -> Option<Objective> {
        if let Self::Put(config) = self { config.objective } else { None }
    }
}

/// A change of a placement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacementChange {
    /// The name of the placement.
    pub name: String,
    /// The time of the change.
    pub timestamp: Timestamp,
    /// The operation.
    pub operation: PlacementOperation,
}
