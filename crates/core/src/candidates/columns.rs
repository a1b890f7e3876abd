//! The columns of a candidate. An evidence column holds how strongly one kind of evidence supports
//! the candidate. A feature column holds another property of the candidate. Both are inputs of the
//! ranker.

use crate::domain::SourceName;

/// Number of evidence columns.
pub const EVIDENCE_COLUMN_COUNT: usize = 19;
/// Number of feature columns.
pub const FEATURE_COLUMN_COUNT: usize = 21;

/// An evidence column: one kind of evidence, which gives every item a non-negative weight. Ranking
/// uses the share of the item in the total weight of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceColumn {
    /// Items that followed the user's last item within 10 steps.
    WindowTransitions,
    /// Items that followed one of the user's last 10 items within 10 steps. The weights are summed
    /// over these items; older items count less.
    SessionTransitions,
    /// Items that followed the user's last item immediately.
    NextTransitions,
    /// Items that followed the user's last two items, in the same order.
    PairContext,
    /// Items that followed the user's last three items, in the same order.
    TripleContext,
    /// Sum of the votes of the neighbouring sessions that contain the item.
    Neighbours,
    /// Votes of the neighbouring sessions in which the item follows the anchor item (the latest
    /// item shared with the user's session). A vote is divided by the distance of the item from the
    /// anchor.
    NeighbourSuccessors,
    /// Number of occurrences of the item in neighbouring sessions.
    NeighbourCount,
    /// Items that followed the item before the user's last item within 10 steps.
    PreviousItemTransitions,
    /// Items that preceded the user's last item within 10 steps.
    ReverseTransitions,
    /// Popularity with the short half-life (300 entries).
    ShortTermPopularity,
    /// Popularity with the long half-life (5,000 entries).
    LongTermPopularity,
    /// Items of the user's recent steps; the weight decays with the distance from the last step.
    SessionItems,
    /// Most recently added items.
    NewItems,
    /// Items with the largest logits of the network; the weight is the softmax probability.
    Network,
    /// Newest items of the embedding cluster of the user's last item; the weight is the softmax
    /// probability of the network.
    Clusters,
    /// Items of the user's earlier sessions, with decayed counts of their events.
    ProfileItems,
    /// Items that followed items of the user's earlier sessions within 10 steps, if the next event
    /// begins a session.
    ProfileTransitions,
    /// Popular items of the clusters of the user's earlier sessions, if the next event begins a
    /// session: the weight of the cluster, times the item's share in its long-term popularity.
    ProfileClusters,
}

impl EvidenceColumn {
    /// All columns in index order.
    pub const ALL: [Self; EVIDENCE_COLUMN_COUNT] = [
        Self::WindowTransitions,
        Self::SessionTransitions,
        Self::NextTransitions,
        Self::PairContext,
        Self::TripleContext,
        Self::Neighbours,
        Self::NeighbourSuccessors,
        Self::NeighbourCount,
        Self::PreviousItemTransitions,
        Self::ReverseTransitions,
        Self::ShortTermPopularity,
        Self::LongTermPopularity,
        Self::SessionItems,
        Self::NewItems,
        Self::Network,
        Self::Clusters,
        Self::ProfileItems,
        Self::ProfileTransitions,
        Self::ProfileClusters,
    ];

    /// Name in the inspection API. The strings are part of the wire format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WindowTransitions => "window",
            Self::SessionTransitions => "windows",
            Self::NextTransitions => "next",
            Self::PairContext => "pair",
            Self::TripleContext => "triple",
            Self::Neighbours => "neighbours",
            Self::NeighbourSuccessors => "following",
            Self::NeighbourCount => "holders",
            Self::PreviousItemTransitions => "previous",
            Self::ReverseTransitions => "reverse",
            Self::ShortTermPopularity => "rising",
            Self::LongTermPopularity => "popular",
            Self::SessionItems => "own",
            Self::NewItems => "new",
            Self::Network => "network",
            Self::Clusters => "clusters",
            Self::ProfileItems => "profile",
            Self::ProfileTransitions => "profile window",
            Self::ProfileClusters => "profile clusters",
        }
    }

    /// Source that writes the column.
    #[must_use]
    pub const fn source(self) -> SourceName {
        match self {
            Self::WindowTransitions
            | Self::SessionTransitions
            | Self::NextTransitions
            | Self::PairContext
            | Self::TripleContext
            | Self::PreviousItemTransitions
            | Self::ReverseTransitions => SourceName::Transitions,
            Self::Neighbours | Self::NeighbourSuccessors | Self::NeighbourCount => SourceName::Neighbours,
            Self::ShortTermPopularity | Self::LongTermPopularity => SourceName::Trending,
            Self::SessionItems => SourceName::Session,
            Self::NewItems => SourceName::New,
            Self::Network => SourceName::Network,
            Self::Clusters => SourceName::Clusters,
            Self::ProfileItems | Self::ProfileTransitions | Self::ProfileClusters => SourceName::Profile,
        }
    }

    /// The primary column of a source: the column by which the source alone ranks its items.
    #[must_use]
    pub fn primary_column_of(source: SourceName) -> Self {
        match source {
            SourceName::Network => Self::Network,
            SourceName::Clusters => Self::Clusters,
            SourceName::Transitions => Self::SessionTransitions,
            SourceName::Neighbours => Self::Neighbours,
            SourceName::Trending => Self::LongTermPopularity,
            SourceName::New => Self::NewItems,
            SourceName::Session => Self::SessionItems,
            SourceName::Profile => Self::ProfileItems,
        }
    }

    /// Weight of the column's share in
    /// [`CandidateSet::keep_top_candidates`](super::CandidateSet::keep_top_candidates).
    ///
    /// With these weights, practically all items of the session are kept, and items of the network
    /// have priority over popular items.
    #[must_use]
    pub fn selection_weight(self) -> f32 {
        match self {
            Self::SessionItems => 100.0,
            Self::Network | Self::Clusters | Self::ProfileItems => 2.0,
            Self::NeighbourCount => 0.0,
            Self::PreviousItemTransitions => 0.3,
            Self::ReverseTransitions | Self::ShortTermPopularity | Self::LongTermPopularity | Self::NewItems => 0.5,
            _ => 1.0,
        }
    }
}

/// A feature column: a property of a candidate other than its evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureColumn {
    /// Number of target events on the item, not counting events of users whose recent steps already
    /// contained the item. The count is close to the number of sessions with the item.
    SessionCount,
    /// Number of journal entries since the last target event or dismissal of the item.
    EventsSinceLastSeen,
    /// Number of journal entries since the item was first counted.
    EventsSinceFirstSeen,
    /// Short-term popularity divided by long-term popularity, each plus 0.1.
    PopularityTrend,
    /// 1 if the candidate is the user's last item, else 0.
    IsLastItem,
    /// 1 if the candidate is the item before the user's last item and not the last item, else 0.
    IsPreviousItem,
    /// 1 if the user's recent steps contain the candidate, else 0.
    IsInSession,
    /// 1 / (position of the candidate from the end of the user's recent steps), where the last
    /// position is 1; 0 if the steps do not contain it.
    SessionRecency,
    /// Number of occurrences of the candidate in the user's recent steps.
    CountInSession,
    /// Repeat rate: the smoothed share of repeats among the target events of the item, (repeats +
    /// 0.5) / (count + 2).
    RepeatRate,
    /// Repeat rate of the candidate if the user's recent steps contain it, else 0.
    RepeatRateInSession,
    /// Log-probability of the network plus 12, at least 0.
    NetworkLogProbability,
    /// 1 if the candidate is among the top items of the network, else 0.
    IsInNetworkTop,
    /// Number of evidence columns in which the candidate has evidence.
    ColumnCount,
    /// Log-probability of the network's best item minus the log-probability of the candidate.
    NetworkMargin,
    /// Number of occurrences of the candidate in neighbouring sessions.
    NeighbourCount,
    /// 1 / (number of the user's finished sessions since the latest one with the candidate,
    /// including that one); 0 if the user's profile does not contain the candidate.
    ProfileRecency,
    /// The part of the network's logit that depends on the last event only.
    NetworkInputLogit,
    /// The candidate's bias in the network's logit.
    NetworkBias,
    /// Cosine of the angle between the network's embeddings of the candidate and the user's last
    /// item.
    LastItemSimilarity,
    /// Share of the candidate's cluster in the user's earlier sessions.
    ProfileClusterShare,
}

impl FeatureColumn {
    /// All columns in index order.
    pub const ALL: [Self; FEATURE_COLUMN_COUNT] = [
        Self::SessionCount,
        Self::EventsSinceLastSeen,
        Self::EventsSinceFirstSeen,
        Self::PopularityTrend,
        Self::IsLastItem,
        Self::IsPreviousItem,
        Self::IsInSession,
        Self::SessionRecency,
        Self::CountInSession,
        Self::RepeatRate,
        Self::RepeatRateInSession,
        Self::NetworkLogProbability,
        Self::IsInNetworkTop,
        Self::ColumnCount,
        Self::NetworkMargin,
        Self::NeighbourCount,
        Self::ProfileRecency,
        Self::NetworkInputLogit,
        Self::NetworkBias,
        Self::LastItemSimilarity,
        Self::ProfileClusterShare,
    ];

    /// Name in the inspection API. The strings are part of the wire format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionCount => "sessions",
            Self::EventsSinceLastSeen => "idle",
            Self::EventsSinceFirstSeen => "age",
            Self::PopularityTrend => "trend",
            Self::IsLastItem => "last",
            Self::IsPreviousItem => "before last",
            Self::IsInSession => "seen",
            Self::SessionRecency => "place",
            Self::CountInSession => "times",
            Self::RepeatRate => "repeated",
            Self::RepeatRateInSession => "seen repeated",
            Self::NetworkLogProbability => "network",
            Self::IsInNetworkTop => "listed",
            Self::ColumnCount => "named",
            Self::NetworkMargin => "below",
            Self::NeighbourCount => "holders",
            Self::ProfileRecency => "profile recency",
            Self::NetworkInputLogit => "input logit",
            Self::NetworkBias => "bias",
            Self::LastItemSimilarity => "similarity",
            Self::ProfileClusterShare => "profile cluster",
        }
    }

    /// Factors `(a, b)` that turn a raw value x into the feature `a·x + b·ln(1 + max(x, 0))`. Unbounded
    /// counts use the logarithmic term, all other values the linear term.
    #[must_use]
    pub fn scaling_factors(self) -> (f32, f32) {
        match self {
            Self::SessionCount | Self::EventsSinceLastSeen | Self::EventsSinceFirstSeen => (0.0, 0.1),
            Self::PopularityTrend | Self::CountInSession => (0.0, 0.5),
            Self::NetworkLogProbability
            | Self::ColumnCount
            | Self::NetworkMargin
            | Self::NeighbourCount
            | Self::NetworkInputLogit => (0.1, 0.0),
            _ => (1.0, 0.0),
        }
    }
}
