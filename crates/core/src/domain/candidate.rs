//! Candidates, recommendations, and the parts of a recommendation response.

use super::{ItemDescription, ItemIx, Objective};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The candidate source that generated an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceName {
    /// The top items of the network over the whole catalog.
    Network,
    /// The newest items of the cluster of item embeddings that contains the user's last item.
    Clusters,
    /// Item-to-item transition counts.
    Transitions,
    /// Items of the most similar past sessions (session kNN).
    Neighbours,
    /// Trending items, by exponentially decayed counts.
    Trending,
    /// The most recently added items.
    New,
    /// Items of the user's current session.
    Session,
    /// Items of the user's earlier sessions, and items that often followed them.
    Profile,
}

impl SourceName {
    /// All sources. If several sources generated an item, responses name the first of them in this
    /// order.
    pub const ALL: [Self; 8] = [
        Self::Network,
        Self::Clusters,
        Self::Transitions,
        Self::Neighbours,
        Self::Trending,
        Self::New,
        Self::Session,
        Self::Profile,
    ];

    /// The name of the source in responses, settings and metric labels.
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
            Self::Profile => "profile",
        }
    }
}

/// A ranked item with its score and source, before the rules of the request are applied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The item.
    pub item: ItemIx,
    /// The ranking score. Scores of different responses are not comparable.
    pub score: f32,
    /// The source that generated the item. If several sources generated it, this is the first of
    /// them in [`SourceName::ALL`].
    pub source: SourceName,
}

/// Numbers of ranked candidates that are missing in the response, by reason. A candidate that
/// violates several rules counts once, under the first of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RemovalCounts {
    /// Candidates that the request excludes by id. On a later page, also candidates that the user
    /// dismissed or purchased since the first page.
    pub excluded: usize,
    /// Candidates that are hidden because the user dismissed or purchased them. If the request
    /// excludes seen items or kinds of events, also candidates that the user has seen or that have
    /// such events.
    pub seen: usize,
    /// Candidates that were shown to the user too often, see the parameter `max_impressions`.
    pub fatigued: usize,
    /// Candidates that the filter of the request rejects.
    pub filtered: usize,
    /// Candidates that are not recommendable: unavailable, not yet published, expired or deleted;
    /// or not in the catalog and chosen by too few users.
    pub unavailable: usize,
    /// Candidates that a rule hides.
    pub hidden: usize,
    /// Candidates whose category already has the maximum number of items in the list.
    pub diversity: usize,
}

impl RemovalCounts {
    /// The sum of all counts.
    #[must_use]
    pub fn total(&self) -> usize {
        self.removed_by_request() + self.unavailable
    }

    /// The number of candidates that the rules of the request removed.
    #[must_use]
    pub fn removed_by_request(&self) -> usize {
        self.excluded + self.seen + self.fatigued + self.filtered + self.hidden + self.diversity
    }
}

/// The reason why a response is less personal than requested or has too few ranked items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// The response is as requested: personalised, and filled with ranked items.
    #[default]
    None,
    /// The user is unknown. The response is the same for all unknown users.
    UnknownUser,
    /// No item in the request is known.
    UnknownItems,
    /// The model knows no items.
    EmptyCatalog,
    /// The rules of the request removed so many candidates that too few remained. The most popular
    /// items that satisfy the rules fill the rest of the list, if there are any.
    FilteredOut,
    /// Too few items can be recommended, and no rule of the request is the reason: the other items
    /// are unavailable, or the user dismissed them.
    Unavailable,
}

impl Fallback {
    /// The name of the reason in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::UnknownUser => "unknown_user",
            Self::UnknownItems => "unknown_items",
            Self::EmptyCatalog => "empty_catalog",
            Self::FilteredOut => "filtered_out",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The predicted value of an event of a user with an item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PredictedInterest {
    /// The predicted value. On a logarithmic scale, it is the median of the predicted distribution.
    pub value: f32,
    /// One standard deviation below the predicted value, on the scale of the kind. About two thirds
    /// of the actual values are between `low` and `high`.
    pub low: f32,
    /// One standard deviation above the predicted value, on the scale of the kind.
    pub high: f32,
}

/// One recommended item of a response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecommendedItem {
    /// The item's id.
    pub item_id: String,
    /// The ranking score. A higher score is better. Scores of different responses are not
    /// comparable.
    pub score: f32,
    /// The source that generated the item.
    pub source: SourceName,
    /// The predicted value (rating, seconds played, …) of an event of the user with the item. Absent
    /// before the first event with a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interest: Option<PredictedInterest>,
    /// The explanation, if the request asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ItemExplanation>,
    /// The description from the catalog, if the request asks for it and the catalog has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<ItemDescription>>,
    /// The rules that moved the item or put it into the list, for the impression.
    #[serde(skip)]
    pub rules: Vec<Arc<str>>,
}

/// The explanation of a recommended item.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ItemExplanation {
    /// The evidence for the item from each source: the item's largest share of a total weight
    /// within the source, in (0, 1].
    pub sources: BTreeMap<&'static str, f32>,
    /// The event of the session that improved the rank of the item the most.
    pub moved_by: Option<InfluentialEvent>,
    /// The rules that moved the item or put it into the list, in the order of their application. A
    /// boost of a placement has the name `placement:NAME`. Absent if no rule did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// What the objective of the placement added to the score. Absent without an objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveEffect>,
}

/// The effect of an objective on the score of a recommended item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ObjectiveEffect {
    /// The objective.
    pub name: Objective,
    /// The difference of the scores with and without the objective.
    pub contribution: f32,
}

/// An event that improved the rank of a recommended item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InfluentialEvent {
    /// The item of the event.
    pub item_id: Option<String>,
    /// The kind of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// Number of events in the session after this event.
    pub events_back: usize,
    /// The recommended item's rank among all candidates, 1 for the best.
    pub rank: usize,
    /// The rank that the recommended item would have without this event; `None` if it would not be
    /// a candidate.
    pub rank_without: Option<usize>,
}

/// A rule that removed candidates from a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleRemovals {
    /// The id of the rule.
    pub rule: String,
    /// Number of removed candidates.
    pub count: usize,
}

/// A response with ranked recommendations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// The id of the response in the journal.
    pub recommendation_id: String,
    /// The version of the weights that ranked the items.
    pub weights_version: u64,
    /// The recommended items, best first.
    pub items: Vec<RecommendedItem>,
    /// The reason why the response is less personal than requested or has too few ranked items.
    pub fallback: Fallback,
    /// Numbers of ranked candidates that are missing in the list, by reason.
    pub removed: RemovalCounts,
    /// The kind of the events whose values `interest` predicts: the kind with the most learned values.
    /// Absent before the first event with a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interest_kind: Option<String>,
    /// The placement that the request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// The rules that removed candidates, if the request asks for an explanation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed_by_rules: Vec<RuleRemovals>,
}
