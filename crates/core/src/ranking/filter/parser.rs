//! Recursive descent parser of filter expressions.

use super::error::ItemFilterError;
use super::expression::{Comparison, FilterExpression};
use super::operand::{FilterField, Operand};
use crate::domain::Timestamp;

/// Maximum length of an expression in bytes.
pub(super) const MAX_EXPRESSION_BYTES: usize = 1024;
/// Maximum nesting depth of parentheses and `not`.
pub(super) const MAX_NESTING_DEPTH: usize = 32;

/// Reserved words. A value that equals a reserved word must be quoted.
const RESERVED_WORDS: [&str; 5] = ["and", "or", "not", "in", "has"];

/// Comparison operators, in the order in which the parser tries them. A longer operator such as
/// `<=` comes before its prefix `<`. The flag is `true` if the operator negates the comparison.
pub(super) const COMPARISON_OPERATORS: [(&str, Comparison, bool); 6] = [
    ("!=", Comparison::Equal, true),
    ("<=", Comparison::AtMost, false),
    (">=", Comparison::AtLeast, false),
    ("=", Comparison::Equal, false),
    ("<", Comparison::Less, false),
    (">", Comparison::Greater, false),
];

/// Parses a whole expression.
///
/// # Errors
/// The first syntax error with its column.
pub(super) fn parse_filter(text: &str) -> Result<FilterExpression, ItemFilterError> {
    let mut parser = FilterParser::new(text)?;
    let expression = parser.parse_expression()?;
    if parser.is_at_end() { Ok(expression) } else { Err(parser.unexpected_input_error("`and`, `or` or the end")) }
}

pub(super) struct FilterParser<'a> {
    text: &'a str,
    /// Byte offset of the next character to parse.
    pub(super) position: usize,
    depth: usize,
}

impl<'a> FilterParser<'a> {
    /// A parser at the start of a text.
    ///
    /// # Errors
    /// If the text is too long.
    pub(super) fn new(text: &'a str) -> Result<Self, ItemFilterError> {
        let parser = Self { text, position: 0, depth: 0 };
        if text.len() > MAX_EXPRESSION_BYTES {
            let reason = format!("the filter has {} bytes, more than the allowed {MAX_EXPRESSION_BYTES}", text.len());
            return Err(parser.error_at(0, reason));
        }
        Ok(parser)
    }

    /// Skips white space. Returns whether the text ends there.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip_white_space();
        self.remaining_text().is_empty()
    }

    fn remaining_text(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    pub(super) fn error_at(&self, position: usize, reason: impl Into<String>) -> ItemFilterError {
        let column = self.text.get(..position).unwrap_or(self.text).chars().count() + 1;
        ItemFilterError { column, reason: reason.into() }
    }

    pub(super) fn unexpected_input_error(&self, expected: &str) -> ItemFilterError {
        let found = match self.remaining_text().chars().next() {
            Some(character) => format!("`{character}`"),
            None => "the end".to_owned(),
        };
        self.error_at(self.position, format!("expected {expected}, found {found}"))
    }

    pub(super) fn skip_white_space(&mut self) {
        let rest = self.remaining_text();
        self.position += rest.len() - rest.trim_start().len();
    }

    /// Returns the next word without consuming it; empty if no word is next.
    pub(super) fn peek_word(&mut self) -> &'a str {
        self.skip_white_space();
        let rest = self.remaining_text();
        let end = rest
            .find(|character: char| !character.is_alphanumeric() && !"_-.+:".contains(character))
            .unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// If the next word is `wanted` (ignoring ASCII case), consumes it and returns `true`.
    pub(super) fn take_word(&mut self, wanted: &str) -> bool {
        let found = self.peek_word();
        let matches = found.eq_ignore_ascii_case(wanted);
        if matches {
            self.position += found.len();
        }
        matches
    }

    /// If the remaining text starts with `symbol`, consumes it and returns `true`.
    pub(super) fn take_symbol(&mut self, symbol: &str) -> bool {
        self.skip_white_space();
        let matches = self.remaining_text().starts_with(symbol);
        if matches {
            self.position += symbol.len();
        }
        matches
    }

    pub(super) fn expect_symbol(&mut self, symbol: &str) -> Result<(), ItemFilterError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.unexpected_input_error(&format!("`{symbol}`"))) }
    }

    fn parse_expression(&mut self) -> Result<FilterExpression, ItemFilterError> {
        let mut parts = vec![self.parse_conjunction()?];
        while self.take_word("or") {
            parts.push(self.parse_conjunction()?);
        }
        Ok(single_part_or_all(parts).unwrap_or_else(FilterExpression::Any))
    }

    fn parse_conjunction(&mut self) -> Result<FilterExpression, ItemFilterError> {
        let mut parts = vec![self.parse_negation()?];
        while self.take_word("and") {
            parts.push(self.parse_negation()?);
        }
        Ok(single_part_or_all(parts).unwrap_or_else(FilterExpression::All))
    }

    fn parse_negation(&mut self) -> Result<FilterExpression, ItemFilterError> {
        self.skip_white_space();
        let start = self.position;
        let negated = self.take_word("not");
        if !negated && !self.take_symbol("(") {
            return self.parse_test();
        }
        self.depth += 1;
        if self.depth > MAX_NESTING_DEPTH {
            return Err(self.error_at(start, format!("the filter is nested more than {MAX_NESTING_DEPTH} levels deep")));
        }
        let inner = if negated {
            FilterExpression::Not(Box::new(self.parse_negation()?))
        } else {
            let inner = self.parse_expression()?;
            self.expect_symbol(")")?;
            inner
        };
        self.depth -= 1;
        Ok(inner)
    }

    fn parse_test(&mut self) -> Result<FilterExpression, ItemFilterError> {
        if self.take_word("has") {
            return Ok(match self.parse_left_operand()? {
                Operand::Field(field) => FilterExpression::Has(field),
                operand => FilterExpression::Present(operand),
            });
        }
        self.skip_white_space();
        let start = self.position;
        let left = self.parse_left_operand()?;
        let Operand::Field(field) = left else { return self.parse_operand_test(start, left) };
        let symbol = COMPARISON_OPERATORS.into_iter().find(|(symbol, ..)| self.take_symbol(symbol));
        if let Some((_, comparison, negated)) = symbol {
            return match self.parse_operand()? {
                Some(right) => self.operand_comparison(start, left, comparison, negated, right),
                None => self.parse_compared_value(field, comparison).map(|test| negate_if(test, negated)),
            };
        }
        if self.take_word("in") {
            return match self.parse_operand()? {
                Some(right) => self.operand_comparison(start, left, Comparison::Equal, false, right),
                None => self.parse_value_list(start, field),
            };
        }
        match field {
            FilterField::Text(text) if self.take_word("has") => match self.parse_operand()? {
                Some(right) => self.operand_comparison(start, left, Comparison::Equal, false, right),
                None => Ok(FilterExpression::Text(text, vec![self.parse_text_value()?])),
            },
            FilterField::Available => Ok(FilterExpression::Available(true)),
            _ => {
                self.skip_white_space();
                Err(self.unexpected_input_error("a comparison, `in` or `has`"))
            }
        }
    }

    pub(super) fn parse_field(&mut self) -> Result<FilterField, ItemFilterError> {
        let word = self.peek_word();
        match FilterField::from_name(word) {
            Some(field) => {
                self.position += word.len();
                Ok(field)
            }
            None => {
                let known = FilterField::ALL.map(|(name, _)| name).join(", ");
                let problem =
                    if word.is_empty() { "expected a field".to_owned() } else { format!("unknown field `{word}`") };
                Err(self.error_at(self.position, format!("{problem}; the fields are {known}")))
            }
        }
    }

    fn parse_compared_value(
        &mut self,
        field: FilterField,
        comparison: Comparison,
    ) -> Result<FilterExpression, ItemFilterError> {
        let ordered = comparison != Comparison::Equal;
        match field {
            FilterField::Text(_) | FilterField::Available if ordered => Err(self.error_at(
                self.position.saturating_sub(1),
                "only price, published and expires have an order; use `=`, `!=` or `in`",
            )),
            FilterField::Text(text) => Ok(FilterExpression::Text(text, vec![self.parse_text_value()?])),
            FilterField::Available => self.parse_boolean_literal().map(FilterExpression::Available),
            FilterField::Price => Ok(FilterExpression::Number(comparison, self.parse_number()?)),
            FilterField::Time(time) => Ok(FilterExpression::Time(time, comparison, self.parse_timestamp()?)),
        }
    }

    fn parse_value_list(&mut self, start: usize, field: FilterField) -> Result<FilterExpression, ItemFilterError> {
        let mut tests = self.parse_list(|parser| match parser.parse_operand()? {
            Some(right) => parser.operand_comparison(start, Operand::Field(field), Comparison::Equal, false, right),
            None => parser.parse_compared_value(field, Comparison::Equal),
        })?;
        // Merge the tests of text values into one test, so that evaluation reads the attribute
        // once.
        let mut texts = Vec::new();
        tests.retain_mut(|test| match test {
            FilterExpression::Text(_, values) => {
                texts.append(values);
                false
            }
            _ => true,
        });
        match field {
            FilterField::Text(text) if tests.is_empty() => Ok(FilterExpression::Text(text, texts)),
            FilterField::Text(text) => {
                tests.push(FilterExpression::Text(text, texts));
                Ok(FilterExpression::Any(tests))
            }
            _ => Ok(FilterExpression::Any(tests)),
        }
    }

    /// Parses a text value: a quoted text, or a word that is not reserved.
    pub(super) fn parse_text_value(&mut self) -> Result<String, ItemFilterError> {
        let word = self.peek_word();
        if let Some(quote @ ('"' | '\'')) = self.remaining_text().chars().next() {
            return self.parse_quoted_text(quote);
        }
        if word.is_empty() || RESERVED_WORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word)) {
            return Err(self.unexpected_input_error("a word or a quoted text"));
        }
        self.position += word.len();
        Ok(word.to_owned())
    }

    /// Parses a quoted text up to its closing quote. A backslash escapes the next character.
    fn parse_quoted_text(&mut self, quote: char) -> Result<String, ItemFilterError> {
        let start = self.position;
        let mut text = String::new();
        let mut characters = self.remaining_text().char_indices().skip(1);
        while let Some((index, character)) = characters.next() {
            match character {
                '\\' => text.extend(characters.next().map(|(_, character)| character)),
                character if character == quote => {
                    self.position = start + index + quote.len_utf8();
                    return Ok(text);
                }
                character => text.push(character),
            }
        }
        Err(self.error_at(start, "the quoted text has no closing quote"))
    }

    pub(super) fn parse_number(&mut self) -> Result<f64, ItemFilterError> {
        let word = self.peek_word();
        match word.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.position += word.len();
                Ok(number)
            }
            _ => Err(self.error_at(self.position, "expected a number")),
        }
    }

    fn parse_boolean_literal(&mut self) -> Result<bool, ItemFilterError> {
        let boolean = self.take_word("true");
        if boolean || self.take_word("false") {
            Ok(boolean)
        } else {
            Err(self.unexpected_input_error("`true` or `false`"))
        }
    }

    /// Parses a time: an RFC 3339 date and time with an offset, quoted or not, or milliseconds
    /// since 1970.
    fn parse_timestamp(&mut self) -> Result<Timestamp, ItemFilterError> {
        self.skip_white_space();
        let start = self.position;
        let text = self.parse_text_value()?;
        let milliseconds = text.parse().ok().or_else(|| Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()));
        milliseconds.ok_or_else(|| {
            self.error_at(start, "expected a date and time with an offset (RFC 3339), or milliseconds since 1970")
        })
    }
}

/// If there is exactly one part, returns it as `Ok`; otherwise returns all parts as `Err`.
fn single_part_or_all(mut parts: Vec<FilterExpression>) -> Result<FilterExpression, Vec<FilterExpression>> {
    match parts.pop() {
        Some(part) if parts.is_empty() => Ok(part),
        last => {
            parts.extend(last);
            Err(parts)
        }
    }
}

fn negate_if(test: FilterExpression, negated: bool) -> FilterExpression {
    if negated { FilterExpression::Not(Box::new(test)) } else { test }
}
