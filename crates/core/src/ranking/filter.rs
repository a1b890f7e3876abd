//! Filter expressions on attributes of items, users and requests.
//!
//! ```text
//! expression  = conjunction { "or" conjunction }
//! conjunction = negation { "and" negation }
//! negation    = "not" negation | "(" expression ")" | test
//! test        = left ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) right
//!             | left "in" "(" right { "," right } ")" | left "in" operand
//!             | left "has" right | "has" left | "available"
//! left        = field | operand
//! right       = value | operand
//! field       = category | brand | price | tags | available | published | expires
//! operand     = item.NAME | user.NAME | context.NAME
//! value       = "text" | 'text' | word | number | true | false
//! ```
//!
//! - `operand`: fields, attributes and constants
//! - `expression`: the syntax tree and its evaluation
//! - `parser`, `operand_parser`: recursive descent parser
//! - `value_terms`: operands as the terms of declared features
//! - `error`: parse error with its column

mod error;
mod expression;
mod operand;
mod operand_parser;
mod parser;
mod value_terms;

pub use error::ItemFilterError;
pub use value_terms::FeatureContext;
pub(super) use value_terms::{ValueOperand, ValueTerm, parse_value_terms, values_match};

use crate::domain::{Attributes, CatalogItem};
use expression::FilterExpression;
use operand::{OperandScope, TextField};

/// A parsed filter expression.
///
/// `category` and `tags` hold several values: `=` and `in` match if any of the values matches; `!=`
/// matches if none does. `has` is the same as `=`. If the item does not have the attribute, a
/// comparison is false. The exception is `!=` of a field, which is always the negation of `=`.
///
/// `item.NAME` is a field, `title`, `url`, `image` or a free attribute of the item. `user.NAME` is
/// an attribute of the user and `context.NAME` a value of the request; both are missing until
/// [`ItemFilter::with_context`] and [`ItemFilter::with_user`] bind them. A comparison with a
/// missing operand is false.
///
/// ```
/// use sequor_core::domain::{CatalogItem, Item};
/// use sequor_core::ranking::ItemFilter;
///
/// let filter = ItemFilter::parse("category in (tea, coffee) and not price > 10")?;
/// let tea = Item { categories: vec!["tea".to_owned()], price: Some(4.5), ..Item::default() };
/// assert!(filter.matches(&CatalogItem::from(&tea)));
/// assert_eq!(ItemFilter::parse("prise < 10").unwrap_err().column, 1);
/// # Ok::<(), sequor_core::ranking::ItemFilterError>(())
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

    /// The filter with the values of the request's context.
    #[must_use]
    pub fn with_context(&self, context: &Attributes) -> Self {
        Self(self.0.bound(OperandScope::Context, context))
    }

    /// The filter with the attributes of a user.
    #[must_use]
    pub fn with_user(&self, user: &Attributes) -> Self {
        Self(self.0.bound(OperandScope::User, user))
    }

    /// Whether the filter reads values of the request's context.
    #[must_use]
    pub fn reads_context(&self) -> bool {
        self.0.reads(OperandScope::Context)
    }

    /// Whether the filter reads attributes of the user.
    #[must_use]
    pub fn reads_user(&self) -> bool {
        self.0.reads(OperandScope::User)
    }

    /// Whether the item satisfies the filter.
    #[must_use]
    pub fn matches(&self, item: &CatalogItem) -> bool {
        self.0.matches_item(item)
    }
}

#[cfg(test)]
mod tests;
