//! Candidates, recommendations, and the parts of a recommendation response.

use super::ItemIx;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The source of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceName {
    /// Scored by the network over the whole catalog.
    Network,
    /// Clusters of item embeddings, searched like an inverted file index.
    Clusters,
    /// Item-to-item transition counts.
    Transitions,
    /// Nearest-neighbour sessions.
    Neighbours,
    /// Trending items by exponentially decayed counts.
    Trending,
    /// New items with few interactions.
    New,
    /// Items of the user's current session.
    Session,
}

impl SourceName {
    /// All sources, in the order that breaks ties.
    pub const ALL: [Self; 7] =
        [Self::Network, Self::Clusters, Self::Transitions, Self::Neighbours, Self::Trending, Self::New, Self::Session];

    /// The name in responses, settings and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Clusters => "clusters",
            Self::Transitions => "transitions",
            Self::Neighbours => "neighbours",
            Self::Trending => "trending",
            Self::New => "new",
            Self::Session => "session",
        }
    }
}

/// An item with its score and source, before result selection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The item.
    pub item: ItemIx,
    /// The ranking score; comparable only within one response.
    pub score: f32,
    /// The source of the item; the first by [`SourceName::ALL`] if several sources contain it.
    pub source: SourceName,
}

/// Numbers of ranked candidates that the response omits, each counted under the first rule that it
/// breaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RemovalCounts {
    /// Excluded by the request.
    pub excluded: usize,
    /// Already seen by the user, if the request omits seen items.
    pub seen: usize,
    /// Rejected by the filter.
    pub filtered: usize,
    /// Not recommendable: unavailable, not yet published, expired or deleted.
    pub unavailable: usize,
    /// Omitted because enough items of the same category rank higher.
    pub diversity: usize,
}

impl RemovalCounts {
    /// The sum of all counts.
    #[must_use]
    pub fn total(&self) -> usize {
        self.by_request() + self.unavailable
    }

    /// The number of candidates that the rules of the request removed.
    #[must_use]
    pub fn by_request(&self) -> usize {
        self.excluded + self.seen + self.filtered + self.diversity
    }
}

/// The reason why a response is less specific than requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// No fallback: the response is as requested.
    #[default]
    None,
    /// The user is unknown. The response is the same for all unknown users.
    UnknownUser,
    /// None of the items in the request is known.
    UnknownItems,
    /// There are no items.
    EmptyCatalog,
    /// The rules of the request left too few candidates. The most popular of the remaining items
    /// fill the list, as far as there are any.
    FilteredOut,
    /// Without any rule in the request, fewer items can be recommended than it asks for: others are
    /// unavailable, or were dismissed.
    Unavailable,
}

/// One recommended item of a response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecommendedItem {
    /// The item's id.
    pub item_id: String,
    /// The ranking score: higher is better; comparable only within one response.
    pub score: f32,
    /// The source of the item.
    pub source: SourceName,
    /// The predicted value of an interaction with the item, if the model predicts one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interest: Option<f32>,
    /// The explanation, if the request asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ItemExplanation>,
}

/// The explanation of a recommended item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemExplanation {
    /// The score of each source that contains the item, in (0, 1].
    pub sources: BTreeMap<&'static str, f32>,
    /// The event of the session that raised the item's rank the most.
    pub moved_by: Option<InfluentialEvent>,
}

/// The event that raised an item's rank.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InfluentialEvent {
    /// The event's item.
    pub item_id: Option<String>,
    /// The event's kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Number of later events in the session.
    pub events_back: usize,
    /// The recommended item's rank among all candidates, 1 for the best.
    pub rank: usize,
    /// The rank without that event; `None` if the item would not be a candidate.
    pub rank_without: Option<usize>,
}

/// A response with ranked recommendations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// The id of the response in the journal.
    pub recommendation_id: String,
    /// The version of the model weights that ranked it.
    pub weights_version: u64,
    /// The items, best first.
    pub items: Vec<RecommendedItem>,
    /// Why the response is less specific than requested.
    pub fallback: Fallback,
    /// Numbers of omitted candidates.
    pub removed: RemovalCounts,
}
