//! The kinds of evidence and of facts that sources give of a candidate.

use crate::domain::SourceName;

/// One kind of evidence: a weight per item, of which a share is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceColumn {
    /// Transitions from the last item, over a window of steps.
    WindowTransitions,
    /// The same, summed over the session's last items.
    SessionTransitions,
    /// Transitions from the last item to the very next.
    NextTransitions,
    /// What followed the last two items, in this order.
    PairContext,
    /// What followed the last three items, in this order.
    TripleContext,
    /// Similarity of the neighbouring sessions that hold the item.
    Neighbours,
    /// The same, for items that came in them after what this session holds.
    NeighbourSuccessors,
    /// How many neighbouring sessions hold the item.
    NeighbourCount,
    /// Transitions from the item before the last, over a window.
    PreviousItemTransitions,
    /// Transitions to the last item, over a window: what usually comes before it.
    ReverseTransitions,
    /// Popularity of the hour.
    HourlyPopularity,
    /// Popularity of the day.
    DailyPopularity,
    /// The session's own items.
    SessionItems,
    /// The items that were first seen last.
    NewItems,
    /// The network's best.
    Network,
    /// Clusters of item embeddings.
    Clusters,
}

impl EvidenceColumn {
    /// Every channel, in the order of its lane.
    pub const ALL: [Self; super::EVIDENCE_COLUMNS] = [
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

    /// The name, in words.
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

    /// The source that speaks on it.
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

    /// The channel by which a source alone ranks.
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

    /// What a share on this channel counts when the gathered are cut to the best few: the session's own items and the network's are always kept, popularity comes last.
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

/// What is told of a candidate beside its evidence. No fact is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureColumn {
    /// In how many sessions it came.
    SessionCount,
    /// How many events ago it was last seen anywhere.
    EventsSinceLastSeen,
    /// How many events ago it was first seen anywhere.
    EventsSinceFirstSeen,
    /// Its popularity of the hour over that of the day.
    PopularityTrend,
    /// 1 if it is the item of the last step.
    IsLastItem,
    /// 1 if it is the item of the step before the last, and not of the last.
    IsPreviousItem,
    /// 1 if this session holds it.
    IsInSession,
    /// 1 / its place from the session's end, 0 if the session does not hold it.
    SessionRecency,
    /// How often this session holds it.
    CountInSession,
    /// How often, 0 to 1, the item is a repetition when it comes.
    RepeatRate,
    /// The same, if the session holds it; else 0.
    RepeatRateInSession,
    /// The network's log-probability, counted from that of e⁻¹².
    NetworkLogProbability,
    /// 1 if the network lists it among its best.
    IsInNetworkTop,
    /// How many channels name it.
    ColumnCount,
    /// How far the network's log-probability is below that of its best.
    NetworkMargin,
    /// How many neighbours hold it.
    NeighbourCount,
}

impl FeatureColumn {
    /// Every fact, in the order of its lane.
    pub const ALL: [Self; super::FEATURE_COLUMNS] = [
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

    /// The name, in words.
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

    /// Factors `(a, b)` by which a fact x becomes the feature `a·x + b·ln(1 + x)`: counts by their logarithm, all else as it is.
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
