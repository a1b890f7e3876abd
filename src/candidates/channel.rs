//! The kinds of evidence and of facts that sources give of a candidate.

use crate::domain::SourceName;

/// One kind of evidence: a weight per item, of which a share is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Transitions from the last item, over a window of steps.
    Window,
    /// The same, summed over the session's last items.
    Windows,
    /// Transitions from the last item to the very next.
    Next,
    /// What followed the last two items, in this order.
    Pair,
    /// What followed the last three items, in this order.
    Triple,
    /// Similarity of the neighbouring sessions that hold the item.
    Neighbours,
    /// The same, for items that came in them after what this session holds.
    Following,
    /// How many neighbouring sessions hold the item.
    Holders,
    /// Transitions from the item before the last, over a window.
    Previous,
    /// Transitions to the last item, over a window: what usually comes before it.
    Reverse,
    /// Popularity of the hour.
    Rising,
    /// Popularity of the day.
    Popular,
    /// The session's own items.
    Own,
    /// The items that were first seen last.
    New,
    /// The network's best.
    Network,
    /// Clusters of item embeddings.
    Clusters,
}

impl Channel {
    /// Every channel, in the order of its lane.
    pub const ALL: [Self; super::CHANNELS] = [
        Self::Window,
        Self::Windows,
        Self::Next,
        Self::Pair,
        Self::Triple,
        Self::Neighbours,
        Self::Following,
        Self::Holders,
        Self::Previous,
        Self::Reverse,
        Self::Rising,
        Self::Popular,
        Self::Own,
        Self::New,
        Self::Network,
        Self::Clusters,
    ];

    /// The name, in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Windows => "windows",
            Self::Next => "next",
            Self::Pair => "pair",
            Self::Triple => "triple",
            Self::Neighbours => "neighbours",
            Self::Following => "following",
            Self::Holders => "holders",
            Self::Previous => "previous",
            Self::Reverse => "reverse",
            Self::Rising => "rising",
            Self::Popular => "popular",
            Self::Own => "own",
            Self::New => "new",
            Self::Network => "network",
            Self::Clusters => "clusters",
        }
    }

    /// The source that speaks on it.
    #[must_use]
    pub fn source(self) -> SourceName {
        match self {
            Self::Window | Self::Windows | Self::Next | Self::Pair | Self::Triple | Self::Previous | Self::Reverse => {
                SourceName::Transitions
            }
            Self::Neighbours | Self::Following | Self::Holders => SourceName::Neighbours,
            Self::Rising | Self::Popular => SourceName::Trending,
            Self::Own => SourceName::Session,
            Self::New => SourceName::New,
            Self::Network => SourceName::Network,
            Self::Clusters => SourceName::Clusters,
        }
    }

    /// The channel by which a source alone ranks.
    #[must_use]
    pub fn of(source: SourceName) -> Self {
        match source {
            SourceName::Network => Self::Network,
            SourceName::Clusters => Self::Clusters,
            SourceName::Transitions => Self::Windows,
            SourceName::Neighbours => Self::Neighbours,
            SourceName::Trending => Self::Popular,
            SourceName::New => Self::New,
            SourceName::Session => Self::Own,
        }
    }

    /// What a share on this channel counts when the gathered are cut to the best few: the session's own items and the network's are always kept, popularity comes last.
    #[must_use]
    pub fn weight(self) -> f32 {
        match self {
            Self::Own => 100.0,
            Self::Network | Self::Clusters => 2.0,
            Self::Holders => 0.0,
            Self::Previous => 0.3,
            Self::Reverse | Self::Rising | Self::Popular | Self::New => 0.5,
            _ => 1.0,
        }
    }
}

/// What is told of a candidate beside its evidence. No fact is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// In how many sessions it came.
    Sessions,
    /// How many events ago it was last seen anywhere.
    Idle,
    /// How many events ago it was first seen anywhere.
    Age,
    /// Its popularity of the hour over that of the day.
    Trend,
    /// 1 if it is the item of the last step.
    Last,
    /// 1 if it is the item of the step before the last, and not of the last.
    BeforeLast,
    /// 1 if this session holds it.
    Seen,
    /// 1 / its place from the session's end, 0 if the session does not hold it.
    Place,
    /// How often this session holds it.
    Times,
    /// How often, 0 to 1, the item is a repetition when it comes.
    Repeated,
    /// The same, if the session holds it; else 0.
    SeenRepeated,
    /// The network's log-probability, counted from that of e⁻¹².
    Network,
    /// 1 if the network lists it among its best.
    Listed,
    /// How many channels name it.
    Named,
    /// How far the network's log-probability is below that of its best.
    Below,
    /// How many neighbours hold it.
    Holders,
}

impl Fact {
    /// Every fact, in the order of its lane.
    pub const ALL: [Self; super::FACTS] = [
        Self::Sessions,
        Self::Idle,
        Self::Age,
        Self::Trend,
        Self::Last,
        Self::BeforeLast,
        Self::Seen,
        Self::Place,
        Self::Times,
        Self::Repeated,
        Self::SeenRepeated,
        Self::Network,
        Self::Listed,
        Self::Named,
        Self::Below,
        Self::Holders,
    ];

    /// The name, in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Trend => "trend",
            Self::Last => "last",
            Self::BeforeLast => "before last",
            Self::Seen => "seen",
            Self::Place => "place",
            Self::Times => "times",
            Self::Repeated => "repeated",
            Self::SeenRepeated => "seen repeated",
            Self::Network => "network",
            Self::Listed => "listed",
            Self::Named => "named",
            Self::Below => "below",
            Self::Holders => "holders",
        }
    }

    /// Factors `(a, b)` by which a fact x becomes the feature `a·x + b·ln(1 + x)`: counts by their logarithm, all else as it is.
    #[must_use]
    pub fn scale(self) -> (f32, f32) {
        match self {
            Self::Sessions | Self::Idle | Self::Age => (0.0, 0.1),
            Self::Trend | Self::Times => (0.0, 0.5),
            Self::Network | Self::Named | Self::Below | Self::Holders => (0.1, 0.0),
            _ => (1.0, 0.0),
        }
    }
}
