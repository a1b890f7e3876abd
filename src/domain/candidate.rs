//! From candidates to a recommendation.

use super::ItemIx;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Where a candidate came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceName {
    /// Scored by the network over the whole catalog.
    Network,
    /// Clusters of item embeddings, searched like an inverted file.
    Clusters,
    /// Item-to-item transitions.
    Transitions,
    /// Sessions like this one.
    Neighbours,
    /// What many choose now.
    Trending,
    /// Items that few know yet.
    New,
    /// The session's own items.
    Session,
}

impl SourceName {
    /// Every source, in the order in which ties between them are broken.
    pub const ALL: [Self; 7] =
        [Self::Network, Self::Clusters, Self::Transitions, Self::Neighbours, Self::Trending, Self::New, Self::Session];

    /// The name in answers, settings and metric labels.
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

/// An item that a source brought, not yet ranked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The item.
    pub item: ItemIx,
    /// The score by which it stands in the list; comparable only within one answer.
    pub score: f32,
    /// The source that brought it (the first by [`SourceName::ALL`] where several did).
    pub source: SourceName,
}

/// Ranked candidates that an answer left out, each by the first of these rules that it broke.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Removed)]
pub struct RemovalCounts {
    /// The request named them.
    pub excluded: usize,
    /// The user has seen them, and the request wants none of these.
    pub seen: usize,
    /// The filter did not admit them.
    pub filtered: usize,
    /// They cannot be had: not available, not yet published, expired or deleted.
    pub unavailable: usize,
    /// Enough of their category stood before them.
    pub diversity: usize,
}

impl RemovalCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.excluded + self.seen + self.filtered + self.unavailable + self.diversity
    }
}

/// What an answer falls short of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// Nothing: it is what was asked for.
    #[default]
    None,
    /// Nothing is known of the user: the answer is the same for all of these.
    UnknownUser,
    /// None of the items sent along is known.
    UnknownItems,
    /// There is no item at all.
    EmptyCatalog,
    /// What the request rules out left fewer than were wanted. The most popular of the rest fill
    /// the list, as far as there are any.
    FilteredOut,
}

/// One recommended item, as it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Recommended)]
pub struct RecommendedItem {
    /// The item.
    pub item_id: String,
    /// Higher is better; comparable only within one answer.
    pub score: f32,
    /// The source that brought it.
    pub source: SourceName,
    /// The value that is predicted of its being chosen, if any is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interest: Option<f32>,
    /// Why it is here, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ItemExplanation>,
}

/// Why an item is recommended, as it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Explained)]
pub struct ItemExplanation {
    /// What each source that knows the item gives it, in (0, 1].
    pub sources: BTreeMap<&'static str, f32>,
    /// The event of the session that moved it up the most.
    pub moved_by: Option<InfluentialEvent>,
}

/// The event that moved an item up, as it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = MovedBy)]
pub struct InfluentialEvent {
    /// The event's item.
    pub item_id: Option<String>,
    /// The event's kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many events of the session came after it.
    pub events_back: usize,
    /// The recommended item's rank among all candidates, 1 for the best.
    pub rank: usize,
    /// The rank that it would have without that event; `None` if it would be no candidate.
    pub rank_without: Option<usize>,
}

/// A ranked answer to "what next?".
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Recommendation {
    /// Names this answer in the journal.
    pub recommendation_id: String,
    /// The version of the weights that ranked it.
    pub weights_version: u64,
    /// Best first.
    pub items: Vec<RecommendedItem>,
    /// What the answer falls short of.
    pub fallback: Fallback,
    /// How many ranked candidates were left out.
    pub removed: RemovalCounts,
}
