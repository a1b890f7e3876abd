//! The row format of a CSV file: separator and column names.

/// The row format of a CSV file: separator and column names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFormat {
    /// The separator of the columns; `None` detects a comma, tab, semicolon or bar.
    pub delimiter: Option<u8>,
    /// The names of the columns of a file without a header.
    pub columns: Option<Vec<String>>,
}
