//! Request parameters of the admin endpoint.

use serde::Deserialize;

use crate::http::schema::problem::Problem;

/// Default number of entries in a list.
const DEFAULT_LIST_LIMIT: usize = 50;
/// Largest number of entries in a list.
const MAX_LIST_LIMIT: usize = 1000;

/// The body of an operation without parameters: an empty JSON object. The operation requires JSON,
/// because an HTML form on another site cannot send JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct EmptyBody {}

/// The number of entries that a request for a list asks for, or the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(in crate::http) struct ListLimit(Option<usize>);

impl ListLimit {
    /// The number of entries.
    ///
    /// # Errors
    /// A problem with the allowed range if the number is out of range.
    pub(in crate::http) fn validate(self) -> Result<usize, Problem> {
        match self.0.unwrap_or(DEFAULT_LIST_LIMIT) {
            limit if (1..=MAX_LIST_LIMIT).contains(&limit) => Ok(limit),
            limit => Err(Problem::out_of_range("limit", limit, format!("1 to {MAX_LIST_LIMIT}"))),
        }
    }
}
