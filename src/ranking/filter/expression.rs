//! The syntax tree of a filter and its evaluation.

use crate::domain::{Item, Timestamp};
use std::cmp::Ordering;

/// A node of the syntax tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FilterExpression {
    Any(Vec<FilterExpression>),
    All(Vec<FilterExpression>),
    Not(Box<FilterExpression>),
    /// The attribute holds one of these values.
    Text(TextField, Vec<String>),
    /// The price compares so with the number.
    Number(Comparison, f64),
    /// The time attribute compares so with the timestamp.
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

/// A comparison operator; `!=` is a negated `Equal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
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
    fn value(self, item: &Item) -> Option<Timestamp> {
        match self {
            Self::Published => item.published,
            Self::Expires => item.expires,
        }
    }
}

impl FilterExpression {
    pub(super) fn holds(&self, item: &Item) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(item)),
            Self::All(parts) => parts.iter().all(|part| part.holds(item)),
            Self::Not(part) => !part.holds(item),
            Self::Text(field, wanted) => field.values(item).iter().any(|value| wanted.contains(value)),
            Self::Number(comparison, number) => item.price.is_some_and(|price| comparison.holds(price, *number)),
            Self::Time(field, comparison, at) => field.value(item).is_some_and(|time| comparison.holds(time, *at)),
            Self::Available(available) => item.available == *available,
            Self::Has(FilterField::Text(field)) => !field.values(item).is_empty(),
            Self::Has(FilterField::Price) => item.price.is_some(),
            Self::Has(FilterField::Time(field)) => field.value(item).is_some(),
            Self::Has(FilterField::Available) => true,
        }
    }
}
