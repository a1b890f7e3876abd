//! How the rows of a CSV file are written.

/// How the rows of a CSV file are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFormat {
    /// The separator of the columns; `None` detects a comma, tab, semicolon or bar.
    pub delimiter: Option<u8>,
    /// The names of the columns of a file without a header.
    pub columns: Option<Vec<String>>,
}
