//! From candidates to a recommendation.

use super::ItemIx;
use serde::{Deserialize, Serialize};

/// Where a candidate came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// One recommended item, as it is answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommended {
    /// The item.
    pub item_id: String,
    /// Higher is better; comparable only within one answer.
    pub score: f32,
    /// The source that brought it.
    pub source: SourceName,
}

/// A ranked answer to "what next?".
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// Names this answer in the journal.
    pub recommendation_id: String,
    /// The version of the weights that ranked it.
    pub weights_version: u64,
    /// Best first.
    pub items: Vec<Recommended>,
}
