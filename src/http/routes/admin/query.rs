//! What requests to the admin endpoint bring.

use serde::Deserialize;

use crate::http::schema::problem::Problem;

/// The entries of a list if nothing else is asked.
const USUAL: usize = 50;
/// The most entries of a list.
const MOST: usize = 1000;

/// A body without members. It must be sent all the same, as JSON: a form of another site cannot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct EmptyBody {}

/// How many of a list are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(in crate::http) struct ListLimit(Option<usize>);

impl ListLimit {
    /// The number of entries.
    ///
    /// # Errors
    /// A problem that names the range, for one that is out of it.
    pub(in crate::http) fn validate(self) -> Result<usize, Problem> {
        match self.0.unwrap_or(USUAL) {
            limit if (1..=MOST).contains(&limit) => Ok(limit),
            limit => Err(Problem::out_of_range("limit", limit, format!("1 to {MOST}"))),
        }
    }
}
