//! The receipt of a change of a placement or rule.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::Offset;
use crate::http::schema::problem::Problem;
use crate::services::placements::{PlacementChangeError, PlacementReceipt};

/// The receipt of a change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangeReceipt)]
pub(in crate::http) struct ChangeReceipt {
    /// The journal offset after the change.
    #[schema(value_type = Option<u64>)]
    offset: Option<Offset>,
    /// Probable mistakes, such as conflicts with other rules, in words.
    warnings: Vec<String>,
}

impl From<PlacementReceipt> for ChangeReceipt {
    fn from(receipt: PlacementReceipt) -> Self {
        Self { offset: receipt.offset, warnings: receipt.warnings }
    }
}

/// Converts the error of a change. `unknown` is the problem of an unknown placement or rule.
pub(in crate::http) fn change_problem(error: PlacementChangeError, unknown: Problem) -> Problem {
    match error {
        PlacementChangeError::Unknown => unknown,
        PlacementChangeError::TooMany { .. } => Problem::conflict(format!("{error}.")),
        PlacementChangeError::Request(error) => error.into(),
    }
}
