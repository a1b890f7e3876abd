//! The terms of a declared feature: operands, and comparisons of two operands.

use super::error::ItemFilterError;
use super::expression::Comparison;
use super::operand::{FilterField, Operand, OperandScope};
use super::parser::FilterParser;
use crate::domain::{AttributeView, Attributes, CatalogItem};

/// The values of a query that are the same for all candidates. A missing value is as no attribute of
/// the name.
#[derive(Debug, Clone, Copy, Default)]
pub struct FeatureContext<'a> {
    /// The attributes of the user.
    pub user: Option<&'a Attributes>,
    /// The context of the request or of the event.
    pub context: Option<&'a Attributes>,
}

/// An operand of a declared feature.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::ranking) struct ValueOperand(Operand);

/// A part of a declared feature that gives it a value.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::ranking) enum ValueTerm {
    /// The value of an operand.
    Value(ValueOperand),
    /// Whether two operands have a value in common.
    Match(ValueOperand, ValueOperand),
}

impl ValueOperand {
    /// Whether the value depends on the item.
    fn reads_item(&self) -> bool {
        !matches!(self.0, Operand::Unbound(..))
    }

    /// The value; `None` if it is missing. An operand of the item is missing without item.
    pub(in crate::ranking) fn value_of<'v>(
        &'v self,
        item: Option<&'v CatalogItem>,
        context: &FeatureContext<'v>,
    ) -> Option<AttributeView<'v>> {
        match &self.0 {
            Operand::Unbound(OperandScope::User, name) => context.user?.get(name),
            Operand::Unbound(OperandScope::Context, name) => context.context?.get(name),
            operand => operand.value_of(item?),
        }
    }
}

impl ValueTerm {
    /// The operands of the term.
    pub(in crate::ranking) fn operands(&self) -> impl Iterator<Item = &ValueOperand> {
        let (first, second) = match self {
            Self::Value(operand) => (operand, None),
            Self::Match(left, right) => (left, Some(right)),
        };
        std::iter::once(first).chain(second)
    }

    /// Whether the value depends on the item.
    pub(in crate::ranking) fn reads_item(&self) -> bool {
        self.operands().any(ValueOperand::reads_item)
    }

    /// Whether the value depends on attributes of the user.
    pub(in crate::ranking) fn reads_user(&self) -> bool {
        self.operands().any(|operand| operand.0.reads(OperandScope::User))
    }
}

/// Whether two values are equal. If a value is a list, any element may be equal.
pub(in crate::ranking) fn values_match(left: AttributeView<'_>, right: AttributeView<'_>) -> bool {
    Comparison::Equal.is_true_for_values(left, right)
}

/// Parses the terms of a feature, separated by commas.
///
/// # Errors
/// The first syntax error with its column.
pub(in crate::ranking) fn parse_value_terms(text: &str) -> Result<Vec<ValueTerm>, ItemFilterError> {
    let mut parser = FilterParser::new(text)?;
    let mut terms = Vec::new();
    loop {
        let left = parse_value_operand(&mut parser)?;
        terms.push(match parser.take_symbol("=") {
            true => ValueTerm::Match(left, parse_value_operand(&mut parser)?),
            false => ValueTerm::Value(left),
        });
        if !parser.take_symbol(",") {
            break;
        }
    }
    if parser.is_at_end() { Ok(terms) } else { Err(parser.unexpected_input_error("`=`, `,` or the end")) }
}

fn parse_value_operand(parser: &mut FilterParser<'_>) -> Result<ValueOperand, ItemFilterError> {
    parser.skip_white_space();
    let start = parser.position;
    let operand = match parser.parse_operand()? {
        Some(operand) => Some(operand),
        None => {
            let word = parser.peek_word();
            let field = FilterField::from_name(word);
            parser.position += if field.is_some() { word.len() } else { 0 };
            field.map(Operand::Field)
        }
    };
    match operand {
        Some(
            operand @ (Operand::Field(FilterField::Text(_) | FilterField::Price)
            | Operand::Attribute(_)
            | Operand::Unbound(..)),
        ) => Ok(ValueOperand(operand)),
        _ => Err(parser.error_at(
            start,
            "expected `item.NAME` with `category`, `brand`, `price`, `tags` or a free attribute, `user.NAME` or \
             `context.NAME`",
        )),
    }
}
