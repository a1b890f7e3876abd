//! The syntax tree of a filter expression, and its evaluation.

use super::operand::{FilterField, Operand, OperandScope, TextField, TimeField};
use crate::domain::{AttributeValue, AttributeView, Attributes, CatalogItem, Timestamp};
use std::cmp::Ordering;

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
    /// The operand is not missing.
    Present(Operand),
    /// The comparison of two operands is true.
    Compare(Box<OperandComparison>),
}

/// A comparison of two operands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OperandComparison {
    pub(super) left: Operand,
    pub(super) comparison: Comparison,
    /// Whether the operator is `!=`. The comparison is then `Equal`.
    pub(super) negated: bool,
    pub(super) right: Operand,
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

    /// The operator for exchanged operands.
    fn mirrored(self) -> Self {
        match self {
            Self::Equal => Self::Equal,
            Self::Less => Self::Greater,
            Self::AtMost => Self::AtLeast,
            Self::Greater => Self::Less,
            Self::AtLeast => Self::AtMost,
        }
    }

    /// Compares two values. Only numbers have an order. If a value is a list, `Equal` is true if
    /// any element equals an element of the other value. Values of different types are not equal.
    pub(super) fn is_true_for_values(self, left: AttributeView<'_>, right: AttributeView<'_>) -> bool {
        use AttributeView::{Boolean, Number, Numbers, Text, Texts};
        if self != Self::Equal {
            return matches!((left, right), (Number(left), Number(right)) if self.is_true_for(left, right));
        }
        match (left, right) {
            (Text(left), Text(right)) => left == right,
            (Text(text), Texts(list)) | (Texts(list), Text(text)) => list.iter().any(|element| **element == *text),
            (Texts(left), Texts(right)) => left.iter().any(|element| right.contains(element)),
            (Number(left), Number(right)) => self.is_true_for(left, right),
            (Number(number), Numbers(list)) | (Numbers(list), Number(number)) => {
                list.iter().any(|element| self.is_true_for(*element, number))
            }
            (Numbers(left), Numbers(right)) => {
                left.iter().any(|left| right.iter().any(|right| self.is_true_for(left, right)))
            }
            (Boolean(left), Boolean(right)) => left == right,
            _ => false,
        }
    }
}

impl OperandComparison {
    fn is_true_for_item(&self, item: &CatalogItem) -> bool {
        match (self.left.value_of(item), self.right.value_of(item)) {
            (Some(left), Some(right)) => self.comparison.is_true_for_values(left, right) != self.negated,
            // `!=` of a field is the negation of `=`, so it is true without the field.
            (None, Some(_)) => self.negated && self.left.is_field(),
            (Some(_), None) => self.negated && self.right.is_field(),
            (None, None) => false,
        }
    }

    /// The comparison with the values of a scope.
    fn bound(&self, scope: OperandScope, values: &Attributes) -> FilterExpression {
        match (self.left.bound(scope, values), self.right.bound(scope, values)) {
            (Some(left), Some(right)) => Self { left, right, ..*self }.simplified(),
            _ => FilterExpression::NEVER,
        }
    }

    /// An equivalent expression, without operands if one side is a field and the other is constant.
    fn simplified(self) -> FilterExpression {
        let (field, comparison, value) = match (&self.left, &self.right) {
            (Operand::Field(field), Operand::Constant(value)) => (*field, self.comparison, value),
            (Operand::Constant(value), Operand::Field(field)) => (*field, self.comparison.mirrored(), value),
            (Operand::Constant(left), Operand::Constant(right)) => {
                let is_true = self.comparison.is_true_for_values(left.view(), right.view()) != self.negated;
                return FilterExpression::constant(is_true);
            }
            _ => return FilterExpression::Compare(Box::new(self)),
        };
        match field_test(field, comparison, value) {
            Some(test) if self.negated => FilterExpression::Not(Box::new(test)),
            Some(test) => test,
            None => FilterExpression::Compare(Box::new(self)),
        }
    }
}

/// The test of a field that is equivalent to its comparison with a value; `None` if there is none.
fn field_test(field: FilterField, comparison: Comparison, value: &AttributeValue) -> Option<FilterExpression> {
    let is_equality = comparison == Comparison::Equal;
    match (field, value) {
        (FilterField::Text(field), AttributeValue::Text(text)) if is_equality => {
            Some(FilterExpression::Text(field, vec![text.to_string()]))
        }
        (FilterField::Text(field), AttributeValue::Texts(texts)) if is_equality => {
            Some(FilterExpression::Text(field, texts.iter().map(|text| text.to_string()).collect()))
        }
        (FilterField::Price, AttributeValue::Number(number)) => Some(FilterExpression::Number(comparison, *number)),
        (FilterField::Time(field), AttributeValue::Text(text)) => {
            // A text that is no time compares like a value of another type.
            let time = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
            Some(FilterExpression::Time(field, comparison, time))
        }
        (FilterField::Available, AttributeValue::Boolean(available)) if is_equality => {
            Some(FilterExpression::Available(*available))
        }
        _ => None,
    }
}

impl FilterExpression {
    /// No item satisfies this expression.
    const NEVER: Self = Self::Any(Vec::new());

    fn constant(is_true: bool) -> Self {
        if is_true { Self::All(Vec::new()) } else { Self::NEVER }
    }

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
            Self::Has(field) => field.value_of(item).is_some(),
            Self::Present(operand) => operand.value_of(item).is_some(),
            Self::Compare(test) => test.is_true_for_item(item),
        }
    }

    /// The expression with the values of a scope. Comparisons with missing values become constant.
    pub(super) fn bound(&self, scope: OperandScope, values: &Attributes) -> Self {
        let bind_all = |parts: &[Self]| parts.iter().map(|part| part.bound(scope, values)).collect();
        match self {
            Self::Any(parts) => Self::Any(bind_all(parts)),
            Self::All(parts) => Self::All(bind_all(parts)),
            Self::Not(part) => Self::Not(Box::new(part.bound(scope, values))),
            Self::Compare(test) => test.bound(scope, values),
            Self::Present(operand) => match operand.bound(scope, values) {
                None => Self::NEVER,
                Some(Operand::Constant(_)) => Self::constant(true),
                Some(operand) => Self::Present(operand),
            },
            Self::Text(..) | Self::Number(..) | Self::Time(..) | Self::Available(_) | Self::Has(_) => self.clone(),
        }
    }

    /// Whether the expression reads values of a scope.
    pub(super) fn reads(&self, scope: OperandScope) -> bool {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().any(|part| part.reads(scope)),
            Self::Not(part) => part.reads(scope),
            Self::Compare(test) => test.left.reads(scope) || test.right.reads(scope),
            Self::Present(operand) => operand.reads(scope),
            Self::Text(..) | Self::Number(..) | Self::Time(..) | Self::Available(_) | Self::Has(_) => false,
        }
    }
}
