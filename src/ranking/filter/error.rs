//! The error of a filter expression.

/// A syntax error in a filter expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct ItemFilterError {
    /// Column of the first unexpected character, counted in characters from 1.
    pub column: usize,
    /// What was expected and what was found.
    pub reason: String,
}
