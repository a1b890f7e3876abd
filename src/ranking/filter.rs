//! Filter expressions on item attributes.
//!
//! ```text
//! expression  = conjunction { "or" conjunction }
//! conjunction = negation { "and" negation }
//! negation    = "not" negation | "(" expression ")" | test
//! test        = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
//!             | field "in" "(" value { "," value } ")"
//!             | field "has" value | "has" field | "available"
//! field       = category | brand | price | tags | available | published | expires
//! value       = "text" | 'text' | word | number | true | false
//! ```
//!
//! - `expression`: the syntax tree and its evaluation
//! - `parser`: recursive descent parser
//! - `error`: parse error with its column

mod error;
mod expression;
mod parser;

pub use error::ItemFilterError;

use crate::domain::CatalogItem;
use expression::{FilterExpression, TextField};

/// A parsed filter expression.
///
/// `category` and `tags` hold several values: `=` and `in` match if any of the values matches; `!=`
/// matches if none does. `has` is the same as `=`. If the item does not have the attribute, a
/// comparison is false. The exception is `!=`, which is always the negation of `=`.
///
/// ```
/// use sequor::domain::{CatalogItem, Item};
/// use sequor::ranking::ItemFilter;
///
/// let filter = ItemFilter::parse("category in (tea, coffee) and not price > 10")?;
/// let tea = Item { categories: vec!["tea".to_owned()], price: Some(4.5), ..Item::default() };
/// assert!(filter.matches(&CatalogItem::from(&tea)));
/// assert_eq!(ItemFilter::parse("prise < 10").unwrap_err().column, 1);
/// # Ok::<(), sequor::ranking::ItemFilterError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ItemFilter(FilterExpression);

impl ItemFilter {
    /// Maximum length of an expression in bytes.
    pub const MAX_EXPRESSION_BYTES: usize = parser::MAX_EXPRESSION_BYTES;
    /// Maximum nesting depth of parentheses and `not`.
    pub const MAX_NESTING_DEPTH: usize = parser::MAX_NESTING_DEPTH;

    /// Parses an expression.
    ///
    /// # Errors
    /// The first syntax error with its column.
    pub fn parse(text: &str) -> Result<Self, ItemFilterError> {
        parser::parse_filter(text).map(Self)
    }

    /// Creates a filter that accepts the items of a category.
    #[must_use]
    pub fn for_category(name: &str) -> Self {
        Self(FilterExpression::Text(TextField::Category, vec![name.to_owned()]))
    }

    /// Whether the item satisfies the filter.
    #[must_use]
    pub fn matches(&self, item: &CatalogItem) -> bool {
        self.0.matches_item(item)
    }
}

#[cfg(test)]
mod tests;
