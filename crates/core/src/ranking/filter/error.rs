//! The syntax error of a filter expression.

/// A syntax error in a filter expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct ItemFilterError {
    /// Column of the first unexpected character; columns count characters from 1.
    pub column: usize,
    /// What the parser expected at that column, and what it found.
    pub reason: String,
}
