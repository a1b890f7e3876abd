//! Objectives: what the lists of a placement are ranked for.

use serde::{Deserialize, Serialize};

/// What a list is ranked for. Without an objective, a list is ranked for the next event of any kind.
/// New objectives must be added at the end, because the encoding numbers them by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Events on items that a recommendation has shown (click-through rate).
    Ctr,
    /// Conversions (conversion rate).
    Cvr,
    /// Conversions by their values.
    Revenue,
}

impl Objective {
    /// All objectives. Their positions are their stored numbers.
    pub const ALL: [Self; 3] = [Self::Ctr, Self::Cvr, Self::Revenue];

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ctr => "ctr",
            Self::Cvr => "cvr",
            Self::Revenue => "revenue",
        }
    }

    /// The objective with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|objective| objective.name() == name)
    }
}
