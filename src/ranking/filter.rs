//! Which items an answer may hold: an expression on their attributes.
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

mod parser;

use crate::domain::{Item, Timestamp};
use std::cmp::Ordering;

/// An expression on the attributes of items, ready to be asked.
///
/// `category` and `tags` hold several values: `=` and `in` ask whether one of them fits, `!=` whether none does, `has` is `=`. A comparison with an attribute that
/// the item does not have does not hold, save `!=`, which is always the opposite of `=`.
///
/// ```
/// use sequor::domain::Item;
/// use sequor::ranking::Filter;
///
/// let filter = Filter::parse("category in (tea, coffee) and not price > 10")?;
/// let tea = Item { categories: vec!["tea".to_owned()], price: Some(4.5), ..Item::default() };
/// assert!(filter.admits(&tea));
/// assert_eq!(Filter::parse("prise < 10").unwrap_err().column, 1);
/// # Ok::<(), sequor::ranking::FilterError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ItemFilter(FilterExpression);

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct ItemFilterError {
    /// The place of the first character that does not fit, from 1.
    pub column: usize,
    /// What would.
    pub reason: String,
}

/// A node of the expression.
#[derive(Debug, Clone, PartialEq)]
enum FilterExpression {
    Any(Vec<FilterExpression>),
    All(Vec<FilterExpression>),
    Not(Box<FilterExpression>),
    /// The attribute holds one of these.
    Text(TextField, Vec<String>),
    /// The attribute compares so with the number.
    Number(Comparison, f64),
    /// The point in time compares so with this one.
    Time(TimeField, Comparison, Timestamp),
    Available(bool),
    /// The item has the attribute at all.
    Has(FilterField),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilterField {
    Text(TextField),
    Price,
    Time(TimeField),
    Available,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextField {
    Category,
    Brand,
    Tags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeField {
    Published,
    Expires,
}

/// How two values must stand to one another; `!=` is a negation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Comparison {
    fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        left.partial_cmp(&right).is_some_and(|order| match self {
            Self::Equal => order == Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::AtMost => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::AtLeast => order != Ordering::Less,
        })
    }
}

impl TextField {
    fn values(self, item: &Item) -> &[String] {
        match self {
            Self::Category => &item.categories,
            Self::Brand => item.brand.as_slice(),
            Self::Tags => &item.tags,
        }
    }
}

impl TimeField {
    fn of(self, item: &Item) -> Option<Timestamp> {
        match self {
            Self::Published => item.published,
            Self::Expires => item.expires,
        }
    }
}

impl ItemFilter {
    /// The longest expression, in bytes.
    pub const MAX_BYTES: usize = 1024;
    /// How deeply parentheses and `not` may be nested.
    pub const MAX_DEPTH: usize = 32;

    /// Reads an expression.
    ///
    /// # Errors
    /// The first place at which it is none.
    pub fn parse(text: &str) -> Result<Self, ItemFilterError> {
        parser::parse(text).map(Self)
    }

    /// The items of a category.
    #[must_use]
    pub fn category(name: &str) -> Self {
        Self(FilterExpression::Text(TextField::Category, vec![name.to_owned()]))
    }

    /// Whether an item satisfies it.
    #[must_use]
    pub fn matches(&self, item: &Item) -> bool {
        self.0.holds(item)
    }
}

impl FilterExpression {
    fn holds(&self, item: &Item) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(item)),
            Self::All(parts) => parts.iter().all(|part| part.holds(item)),
            Self::Not(part) => !part.holds(item),
            Self::Text(field, wanted) => field.values(item).iter().any(|value| wanted.contains(value)),
            Self::Number(comparison, number) => item.price.is_some_and(|price| comparison.holds(price, *number)),
            Self::Time(field, comparison, at) => field.of(item).is_some_and(|time| comparison.holds(time, *at)),
            Self::Available(available) => item.available == *available,
            Self::Has(FilterField::Text(field)) => !field.values(item).is_empty(),
            Self::Has(FilterField::Price) => item.price.is_some(),
            Self::Has(FilterField::Time(field)) => field.of(item).is_some(),
            Self::Has(FilterField::Available) => true,
        }
    }
}

#[cfg(test)]
mod tests;
