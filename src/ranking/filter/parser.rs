//! Recursive descent parser of filter expressions.

use super::error::ItemFilterError;
use super::expression::{Comparison, FilterExpression, FilterField, TextField, TimeField};
use crate::domain::Timestamp;

/// Maximum length of an expression in bytes.
pub(super) const MAX_BYTES: usize = 1024;
/// Maximum nesting depth of parentheses and `not`.
pub(super) const MAX_DEPTH: usize = 32;

/// Fields by name.
const FIELDS: [(&str, FilterField); 7] = [
    ("category", FilterField::Text(TextField::Category)),
    ("brand", FilterField::Text(TextField::Brand)),
    ("price", FilterField::Price),
    ("tags", FilterField::Text(TextField::Tags)),
    ("available", FilterField::Available),
    ("published", FilterField::Time(TimeField::Published)),
    ("expires", FilterField::Time(TimeField::Expires)),
];

/// Reserved words; as values they must be quoted.
const KEYWORDS: [&str; 5] = ["and", "or", "not", "in", "has"];

/// Comparison operators, longer ones before their prefixes. The flag says whether the comparison is
/// negated.
const OPERATORS: [(&str, Comparison, bool); 6] = [
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
pub(super) fn parse(text: &str) -> Result<FilterExpression, ItemFilterError> {
    let mut parser = FilterParser { text, position: 0, depth: 0 };
    if text.len() > MAX_BYTES {
        return Err(parser.error(0, format!("the filter has {} bytes, more than the allowed {MAX_BYTES}", text.len())));
    }
    let expression = parser.expression()?;
    parser.skip_space();
    if parser.rest().is_empty() { Ok(expression) } else { Err(parser.expected("`and`, `or` or the end")) }
}

struct FilterParser<'a> {
    text: &'a str,
    /// Byte offset of the next character.
    position: usize,
    depth: usize,
}

impl<'a> FilterParser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn error(&self, position: usize, reason: impl Into<String>) -> ItemFilterError {
        let column = self.text.get(..position).unwrap_or(self.text).chars().count() + 1;
        ItemFilterError { column, reason: reason.into() }
    }

    fn expected(&self, expected: &str) -> ItemFilterError {
        let found = match self.rest().chars().next() {
            Some(character) => format!("`{character}`"),
            None => "the end".to_owned(),
        };
        self.error(self.position, format!("expected {expected}, found {found}"))
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start().len();
    }

    /// The word at the current position, without consuming it.
    fn word(&mut self) -> &'a str {
        self.skip_space();
        let rest = self.rest();
        let end = rest
            .find(|character: char| !character.is_alphanumeric() && !"_-.+:".contains(character))
            .unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// Consumes the word if it is next, ignoring ASCII case.
    fn take_word(&mut self, wanted: &str) -> bool {
        let found = self.word();
        let matches = found.eq_ignore_ascii_case(wanted);
        if matches {
            self.position += found.len();
        }
        matches
    }

    /// Consumes the symbol if it is next.
    fn take_symbol(&mut self, symbol: &str) -> bool {
        self.skip_space();
        let matches = self.rest().starts_with(symbol);
        if matches {
            self.position += symbol.len();
        }
        matches
    }

    fn expect(&mut self, symbol: &str) -> Result<(), ItemFilterError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.expected(&format!("`{symbol}`"))) }
    }

    fn expression(&mut self) -> Result<FilterExpression, ItemFilterError> {
        let mut parts = vec![self.conjunction()?];
        while self.take_word("or") {
            parts.push(self.conjunction()?);
        }
        Ok(into_single(parts).unwrap_or_else(FilterExpression::Any))
    }

    fn conjunction(&mut self) -> Result<FilterExpression, ItemFilterError> {
        let mut parts = vec![self.negation()?];
        while self.take_word("and") {
            parts.push(self.negation()?);
        }
        Ok(into_single(parts).unwrap_or_else(FilterExpression::All))
    }

    fn negation(&mut self) -> Result<FilterExpression, ItemFilterError> {
        self.skip_space();
        let start = self.position;
        let negated = self.take_word("not");
        if !negated && !self.take_symbol("(") {
            return self.test();
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(start, format!("the filter is nested more than {MAX_DEPTH} levels deep")));
        }
        let inner = if negated {
            FilterExpression::Not(Box::new(self.negation()?))
        } else {
            let inner = self.expression()?;
            self.expect(")")?;
            inner
        };
        self.depth -= 1;
        Ok(inner)
    }

    fn test(&mut self) -> Result<FilterExpression, ItemFilterError> {
        if self.take_word("has") {
            return self.field().map(FilterExpression::Has);
        }
        let field = self.field()?;
        let symbol = OPERATORS.into_iter().find(|(symbol, ..)| self.take_symbol(symbol));
        if let Some((_, comparison, negated)) = symbol {
            return self.comparison(field, comparison).map(|test| negate(test, negated));
        }
        if self.take_word("in") {
            return self.list(field);
        }
        match field {
            FilterField::Text(text) if self.take_word("has") => {
                Ok(FilterExpression::Text(text, vec![self.text_value()?]))
            }
            FilterField::Available => Ok(FilterExpression::Available(true)),
            _ => {
                self.skip_space();
                Err(self.expected("a comparison, `in` or `has`"))
            }
        }
    }

    fn field(&mut self) -> Result<FilterField, ItemFilterError> {
        let word = self.word();
        match FIELDS.into_iter().find(|(name, _)| *name == word) {
            Some((_, field)) => {
                self.position += word.len();
                Ok(field)
            }
            None => {
                let known = FIELDS.map(|(name, _)| name).join(", ");
                let problem =
                    if word.is_empty() { "expected a field".to_owned() } else { format!("unknown field `{word}`") };
                Err(self.error(self.position, format!("{problem}; the fields are {known}")))
            }
        }
    }

    fn comparison(&mut self, field: FilterField, comparison: Comparison) -> Result<FilterExpression, ItemFilterError> {
        let ordered = comparison != Comparison::Equal;
        match field {
            FilterField::Text(_) | FilterField::Available if ordered => Err(self.error(
                self.position.saturating_sub(1),
                "only price, published and expires have an order; use `=`, `!=` or `in`",
            )),
            FilterField::Text(text) => Ok(FilterExpression::Text(text, vec![self.text_value()?])),
            FilterField::Available => self.boolean().map(FilterExpression::Available),
            FilterField::Price => Ok(FilterExpression::Number(comparison, self.number()?)),
            FilterField::Time(time) => Ok(FilterExpression::Time(time, comparison, self.timestamp()?)),
        }
    }

    fn list(&mut self, field: FilterField) -> Result<FilterExpression, ItemFilterError> {
        self.expect("(")?;
        let mut tests = Vec::new();
        loop {
            tests.push(self.comparison(field, Comparison::Equal)?);
            if !self.take_symbol(",") {
                break;
            }
        }
        if !self.take_symbol(")") {
            return Err(self.expected("`,` or `)`"));
        }
        // Merge text values, so that the attribute is read once for all of them.
        let mut texts = Vec::new();
        tests.retain_mut(|test| match test {
            FilterExpression::Text(_, values) => {
                texts.append(values);
                false
            }
            _ => true,
        });
        match field {
            FilterField::Text(text) => Ok(FilterExpression::Text(text, texts)),
            _ => Ok(FilterExpression::Any(tests)),
        }
    }

    /// A quoted text, or a word that is not reserved.
    fn text_value(&mut self) -> Result<String, ItemFilterError> {
        let word = self.word();
        if let Some(quote @ ('"' | '\'')) = self.rest().chars().next() {
            return self.quoted(quote);
        }
        if word.is_empty() || KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word)) {
            return Err(self.expected("a word or a quoted text"));
        }
        self.position += word.len();
        Ok(word.to_owned())
    }

    /// A text up to its closing quote. A backslash escapes the next character.
    fn quoted(&mut self, quote: char) -> Result<String, ItemFilterError> {
        let start = self.position;
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1);
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
        Err(self.error(start, "the quoted text has no closing quote"))
    }

    fn number(&mut self) -> Result<f64, ItemFilterError> {
        let word = self.word();
        match word.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.position += word.len();
                Ok(number)
            }
            _ => Err(self.error(self.position, "expected a number")),
        }
    }

    fn boolean(&mut self) -> Result<bool, ItemFilterError> {
        let boolean = self.take_word("true");
        if boolean || self.take_word("false") { Ok(boolean) } else { Err(self.expected("`true` or `false`")) }
    }

    /// An RFC 3339 date and time with an offset, quoted or not, or milliseconds since 1970.
    fn timestamp(&mut self) -> Result<Timestamp, ItemFilterError> {
        self.skip_space();
        let start = self.position;
        let text = self.text_value()?;
        let milliseconds = text.parse().ok().or_else(|| Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()));
        milliseconds.ok_or_else(|| {
            self.error(start, "expected a date and time with an offset (RFC 3339), or milliseconds since 1970")
        })
    }
}

/// The single part as `Ok`, or all parts as `Err`.
fn into_single(mut parts: Vec<FilterExpression>) -> Result<FilterExpression, Vec<FilterExpression>> {
    match parts.pop() {
        Some(part) if parts.is_empty() => Ok(part),
        last => {
            parts.extend(last);
            Err(parts)
        }
    }
}

fn negate(test: FilterExpression, negated: bool) -> FilterExpression {
    if negated { FilterExpression::Not(Box::new(test)) } else { test }
}
