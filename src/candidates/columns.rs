//! Columns of a candidate: evidence and features.

use crate::domain::SourceName;

/// Number of evidence columns of a candidate.
pub const EVIDENCE_COLUMNS: usize = 16;
/// Number of feature columns of a candidate.
pub const FEATURE_COLUMNS: usize = 16;

/// An evidence column: a non-negative weight per item, used as a share of the column's total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceColumn {
    /// Transitions from the last item, within a window of steps.
    WindowTransitions,
    /// Window transitions from the last items of the session, summed with decay.
    SessionTransitions,
    /// Transitions from the last item to the immediate next.
    NextTransitions,
    /// Followers of the last two items, in this order.
    PairContext,
    /// Followers of the last three items, in this order.
    TripleContext,
    /// Sum of the votes of neighbouring sessions that hold the item.
    Neighbours,
    /// Votes for items that follow the anchor item in a neighbouring session, divided by the
    /// distance.
    NeighbourSuccessors,
    /// Number of occurrences of the item in neighbouring sessions.
    NeighbourCount,
    /// Window transitions from the item before the last.
    PreviousItemTransitions,
    /// Transitions to the last item, within a window: items that usually precede it.
    ReverseTransitions,
    /// Popularity with the short half-life (300 entries).
    HourlyPopularity,
    /// Popularity with the long half-life (5,000 entries).
    DailyPopularity,
    /// Items of the context's steps, decayed by recency.
    SessionItems,
    /// Most recently added items.
    NewItems,
    /// Top-k of the network, as probabilities.
    Network,
    /// Items of probed embedding clusters, as network probabilities.
    Clusters,
}

impl EvidenceColumn {
    /// All columns in index order.
    pub const ALL: [Self; EVIDENCE_COLUMNS] = [
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
        Self::HourlyPopularity,
        Self::DailyPopularity,
        Self::SessionItems,
        Self::NewItems,
        Self::Network,
        Self::Clusters,
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
            Self::HourlyPopularity => "rising",
            Self::DailyPopularity => "popular",
            Self::SessionItems => "own",
            Self::NewItems => "new",
            Self::Network => "network",
            Self::Clusters => "clusters",
        }
    }

    /// Source that writes the column.
    #[must_use]
    pub fn source(self) -> SourceName {
        match self {
            Self::WindowTransitions
            | Self::SessionTransitions
            | Self::NextTransitions
            | Self::PairContext
            | Self::TripleContext
            | Self::PreviousItemTransitions
            | Self::ReverseTransitions => SourceName::Transitions,
            Self::Neighbours | Self::NeighbourSuccessors | Self::NeighbourCount => SourceName::Neighbours,
            Self::HourlyPopularity | Self::DailyPopularity => SourceName::Trending,
            Self::SessionItems => SourceName::Session,
            Self::NewItems => SourceName::New,
            Self::Network => SourceName::Network,
            Self::Clusters => SourceName::Clusters,
        }
    }

    /// Column by which a source alone ranks.
    #[must_use]
    pub fn primary_of(source: SourceName) -> Self {
        match source {
            SourceName::Network => Self::Network,
            SourceName::Clusters => Self::Clusters,
            SourceName::Transitions => Self::SessionTransitions,
            SourceName::Neighbours => Self::Neighbours,
            SourceName::Trending => Self::DailyPopularity,
            SourceName::New => Self::NewItems,
            SourceName::Session => Self::SessionItems,
        }
    }

    /// Weight of the column's share in [`CandidateSet::keep_top`](super::CandidateSet::keep_top).
    ///
    /// Session items are practically always kept, network items are favoured, popularity counts
    /// least.
    #[must_use]
    pub fn selection_weight(self) -> f32 {
        match self {
            Self::SessionItems => 100.0,
            Self::Network | Self::Clusters => 2.0,
            Self::NeighbourCount => 0.0,
            Self::PreviousItemTransitions => 0.3,
            Self::ReverseTransitions | Self::HourlyPopularity | Self::DailyPopularity | Self::NewItems => 0.5,
            _ => 1.0,
        }
    }
}

/// A feature column: a non-negative property of a candidate besides its evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureColumn {
    /// Number of target events whose item was not yet in the user's steps; about the number of
    /// sessions.
    SessionCount,
    /// Journal entries since its popularity was last updated by a target event or a dismissal.
    EventsSinceLastSeen,
    /// Journal entries since the item was first counted.
    EventsSinceFirstSeen,
    /// Short-term popularity divided by long-term popularity, each plus 0.1.
    PopularityTrend,
    /// 1 if it is the item of the last step, else 0.
    IsLastItem,
    /// 1 if it is the item before the last and not the last, else 0.
    IsPreviousItem,
    /// 1 if the context's steps hold it, else 0.
    IsInSession,
    /// 1 / position from the end of the context's steps (1 for the last); 0 if they do not hold it.
    SessionRecency,
    /// Number of occurrences in the context's steps.
    CountInSession,
    /// Smoothed share of its target events that were repeats, (repeats + 0.5) / (count + 2).
    RepeatRate,
    /// Repeat rate if the context's steps hold it, else 0.
    RepeatRateInSession,
    /// Network log-probability plus 12, clamped to 0 and above.
    NetworkLogProbability,
    /// 1 if it is in the network's top-k, else 0.
    IsInNetworkTop,
    /// Number of columns with evidence.
    ColumnCount,
    /// Log-probability of the network's best item minus that of this item.
    NetworkMargin,
    /// Number of occurrences in neighbouring sessions.
    NeighbourCount,
}

impl FeatureColumn {
    /// All columns in index order.
    pub const ALL: [Self; FEATURE_COLUMNS] = [
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
        }
    }

    /// Factors `(a, b)` that turn a raw value x into the feature `a·x + b·ln(1 + x)`. Unbounded
    /// counts are logarithmic, everything else is linear.
    #[must_use]
    pub fn scaling(self) -> (f32, f32) {
        match self {
            Self::SessionCount | Self::EventsSinceLastSeen | Self::EventsSinceFirstSeen => (0.0, 0.1),
            Self::PopularityTrend | Self::CountInSession => (0.0, 0.5),
            Self::NetworkLogProbability | Self::ColumnCount | Self::NetworkMargin | Self::NeighbourCount => (0.1, 0.0),
            _ => (1.0, 0.0),
        }
    }
}
