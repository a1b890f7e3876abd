//! The syntax tree of a filter expression, and its evaluation.

use crate::domain::{CatalogItem, Timestamp};
use std::cmp::Ordering;
use std::sync::Arc;

/// A node of the syntax tree: a condition on an item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FilterExpression {
    Any(Vec<FilterExpression>),
    All(Vec<FilterExpression>),
    Not(Box<FilterExpression>),
    /// The text attribute has one of these values.
    Text(TextField, Vec<String>),
    /// The comparison of the price with the number is true.
    Number(Comparison, f64),
    /// The comparison of the time attribute with the timestamp is true.
    Time(TimeField, Comparison, Timestamp),
    Available(bool),
    /// The item has the attribute.
    Has(FilterField),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilterField {
    Text(TextField),
    Price,
    Time(TimeField),
    Available,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextField {
    Category,
    Brand,
    Tags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeField {
    Published,
    Expires,
}

/// A comparison operator. The parser represents `!=` as a negated `Equal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Comparison {
    fn is_true_for<T: PartialOrd>(self, left: T, right: T) -> bool {
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
    fn values_of(self, item: &CatalogItem) -> &[Arc<str>] {
        match self {
            Self::Category => item.categories(),
            Self::Brand => item.brand().map_or(&[], std::slice::from_ref),
            Self::Tags => item.tags(),
        }
    }
}

impl TimeField {
    fn value_of(self, item: &CatalogItem) -> Option<Timestamp> {
        match self {
            Self::Published => item.published(),
            Self::Expires => item.expires(),
        }
    }
}

impl FilterExpression {
    pub(super) fn matches_item(&self, item: &CatalogItem) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.matches_item(item)),
            Self::All(parts) => parts.iter().all(|part| part.matches_item(item)),
            Self::Not(part) => !part.matches_item(item),
            Self::Text(field, wanted) => {
                field.values_of(item).iter().any(|value| wanted.iter().any(|wanted| **wanted == **value))
            }
            Self::Number(comparison, number) => {
                item.price().is_some_and(|price| comparison.is_true_for(price, *number))
            }
            Self::Time(field, comparison, at) => {
                field.value_of(item).is_some_and(|time| comparison.is_true_for(time, *at))
            }
            Self::Available(available) => item.is_available() == *available,
            Self::Has(FilterField::Text(field)) => !field.values_of(item).is_empty(),
            Self::Has(FilterField::Price) => item.price().is_some(),
            Self::Has(FilterField::Time(field)) => field.value_of(item).is_some(),
            Self::Has(FilterField::Available) => true,
        }
    }
}
