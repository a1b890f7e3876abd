//! Texts of requests in messages.

/// Largest number of characters of a quoted text.
const MAX_QUOTED_LENGTH: usize = 64;

/// A text of a request in quotes for a message, without control characters and shortened.
pub(in crate::http) fn quoted(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control()).take(MAX_QUOTED_LENGTH).collect();
    format!("`{text}`")
}
