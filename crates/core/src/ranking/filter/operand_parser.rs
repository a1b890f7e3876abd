//! Parses operands, and the tests that compare them.

use super::error::ItemFilterError;
use super::expression::{Comparison, FilterExpression, OperandComparison};
use super::operand::{Operand, OperandScope, OperandType};
use super::parser::{COMPARISON_OPERATORS, FilterParser};
use crate::domain::{AttributeValue, MAX_ATTRIBUTE_NAME_BYTES};

impl FilterParser<'_> {
    /// Parses the tests of a list in parentheses.
    pub(super) fn parse_list(
        &mut self,
        mut parse_test: impl FnMut(&mut Self) -> Result<FilterExpression, ItemFilterError>,
    ) -> Result<Vec<FilterExpression>, ItemFilterError> {
        self.expect_symbol("(")?;
        let mut tests = Vec::new();
        loop {
            tests.push(parse_test(self)?);
            if !self.take_symbol(",") {
                break;
            }
        }
        if self.take_symbol(")") { Ok(tests) } else { Err(self.unexpected_input_error("`,` or `)`")) }
    }

    /// Parses the rest of a test whose left side is an operand that is no field. The operand starts
    /// at byte `start`.
    pub(super) fn parse_operand_test(
        &mut self,
        start: usize,
        left: Operand,
    ) -> Result<FilterExpression, ItemFilterError> {
        let symbol = COMPARISON_OPERATORS.into_iter().find(|(symbol, ..)| self.take_symbol(symbol));
        if let Some((_, comparison, negated)) = symbol {
            let right = self.parse_right_operand(comparison)?;
            return self.operand_comparison(start, left, comparison, negated, right);
        }
        if self.take_word("has") {
            let right = self.parse_right_operand(Comparison::Equal)?;
            return self.operand_comparison(start, left, Comparison::Equal, false, right);
        }
        if !self.take_word("in") {
            self.skip_white_space();
            return Err(self.unexpected_input_error("a comparison, `in` or `has`"));
        }
        if let Some(right) = self.parse_operand()? {
            return self.operand_comparison(start, left, Comparison::Equal, false, right);
        }
        let tests = self.parse_list(|parser| {
            let right = parser.parse_right_operand(Comparison::Equal)?;
            parser.operand_comparison(start, left.clone(), Comparison::Equal, false, right)
        })?;
        Ok(FilterExpression::Any(tests))
    }

    /// Parses a field or an operand.
    pub(super) fn parse_left_operand(&mut self) -> Result<Operand, ItemFilterError> {
        match self.parse_operand()? {
            Some(operand) => Ok(operand),
            None => self.parse_field().map(Operand::Field),
        }
    }

    /// Parses an operand or a constant.
    pub(super) fn parse_right_operand(&mut self, comparison: Comparison) -> Result<Operand, ItemFilterError> {
        if let Some(operand) = self.parse_operand()? {
            return Ok(operand);
        }
        if comparison != Comparison::Equal {
            return self.parse_number().map(|number| Operand::Constant(AttributeValue::Number(number)));
        }
        let word = self.peek_word();
        let value = match word.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.position += word.len();
                AttributeValue::Number(number)
            }
            _ if self.take_word("true") => AttributeValue::Boolean(true),
            _ if self.take_word("false") => AttributeValue::Boolean(false),
            _ => AttributeValue::Text(self.parse_text_value()?.into()),
        };
        Ok(Operand::Constant(value))
    }

    /// Parses an operand `item.NAME`, `user.NAME` or `context.NAME`; `None` if none is next.
    pub(super) fn parse_operand(&mut self) -> Result<Option<Operand>, ItemFilterError> {
        let before = self.position;
        let word = self.peek_word();
        let Some((scope, name)) = split_scope(word) else {
            self.position = before;
            return Ok(None);
        };
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_valid = (1..=MAX_ATTRIBUTE_NAME_BYTES).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(is_inner);
        if !is_valid {
            let reason = format!(
                "`{word}` has no valid name; a name begins with a-z, and has at most {MAX_ATTRIBUTE_NAME_BYTES} characters \
                 a-z, 0-9 and _"
            );
            return Err(self.error_at(self.position, reason));
        }
        self.position += word.len();
        Ok(Some(scope.map_or_else(|| Operand::of_item(name), |scope| Operand::Unbound(scope, name.into()))))
    }

    /// Creates the comparison of two operands that start at byte `start` and end before the next
    /// character.
    pub(super) fn operand_comparison(
        &self,
        start: usize,
        left: Operand,
        comparison: Comparison,
        negated: bool,
        right: Operand,
    ) -> Result<FilterExpression, ItemFilterError> {
        let is_ordered = comparison != Comparison::Equal;
        let has_no_order = |operand: &Operand| {
            is_ordered && matches!(operand.operand_type(), Some(OperandType::Text | OperandType::Boolean))
        };
        if left == right {
            return Err(self.error_at(start, "the comparison has the same operand on both sides"));
        }
        if has_no_order(&left) || has_no_order(&right) {
            return Err(self.error_at(start, "only numbers and times have an order; use `=`, `!=` or `in`"));
        }
        if let (Some(one), Some(other)) = (left.operand_type(), right.operand_type())
            && one != other
        {
            let reason = format!(
                "the comparison is never true: its left side is {}, its right side {}",
                one.name(),
                other.name()
            );
            return Err(self.error_at(start, reason));
        }
        Ok(FilterExpression::Compare(Box::new(OperandComparison { left, comparison, negated, right })))
    }
}

/// Splits the name of an operand from its scope: `None` for the item.
fn split_scope(word: &str) -> Option<(Option<OperandScope>, &str)> {
    let (scope, name) = word.split_once('.')?;
    match scope {
        "item" => Some((None, name)),
        "user" => Some((Some(OperandScope::User), name)),
        "context" => Some((Some(OperandScope::Context), name)),
        _ => None,
    }
}
