//! Recursive descent over the text of a filter.

use super::{Comparison, FilterExpression, FilterField, ItemFilter, ItemFilterError, TextField, TimeField};
use crate::domain::Timestamp;

/// The fields by name.
const FIELDS: [(&str, FilterField); 7] = [
    ("category", FilterField::Text(TextField::Category)),
    ("brand", FilterField::Text(TextField::Brand)),
    ("price", FilterField::Price),
    ("tags", FilterField::Text(TextField::Tags)),
    ("available", FilterField::Available),
    ("published", FilterField::Time(TimeField::Published)),
    ("expires", FilterField::Time(TimeField::Expires)),
];

/// Words that are no values unless quoted.
const KEYWORDS: [&str; 5] = ["and", "or", "not", "in", "has"];

/// Comparisons by sign, the longer of those that begin alike first; the second says whether it is negated.
const SIGNS: [(&str, Comparison, bool); 6] = [
    ("!=", Comparison::Equal, true),
    ("<=", Comparison::AtMost, false),
    (">=", Comparison::AtLeast, false),
    ("=", Comparison::Equal, false),
    ("<", Comparison::Less, false),
    (">", Comparison::Greater, false),
];

/// Reads a whole text as an expression.
///
/// # Errors
/// The first place at which it is none.
pub(super) fn parse(text: &str) -> Result<FilterExpression, ItemFilterError> {
    let mut parser = FilterParser { text, at: 0, depth: 0 };
    if text.len() > ItemFilter::MAX_BYTES {
        return Err(parser.fault(0, format!("the filter has {} bytes; at most {} are allowed", text.len(), ItemFilter::MAX_BYTES)));
    }
    let expression = parser.expression()?;
    parser.skip_space();
    if parser.rest().is_empty() { Ok(expression) } else { Err(parser.expected("`and`, `or` or the end")) }
}

struct FilterParser<'a> {
    text: &'a str,
    /// The byte that is read next.
    at: usize,
    depth: usize,
}

impl<'a> FilterParser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn fault(&self, at: usize, reason: impl Into<String>) -> ItemFilterError {
        let column = self.text.get(..at).unwrap_or(self.text).chars().count() + 1;
        ItemFilterError { column, reason: reason.into() }
    }

    fn expected(&self, what: &str) -> ItemFilterError {
        let found = match self.rest().chars().next() {
            Some(letter) => format!("`{letter}`"),
            None => "the end".to_owned(),
        };
        self.fault(self.at, format!("{what} is expected, not {found}"))
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// The word that stands here, without taking it.
    fn word(&mut self) -> &'a str {
        self.skip_space();
        let rest = self.rest();
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && !"_-.+:".contains(letter)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// Takes the word if it stands here, in whatever case.
    fn take_word(&mut self, wanted: &str) -> bool {
        let found = self.word();
        let fits = found.eq_ignore_ascii_case(wanted);
        if fits {
            self.at += found.len();
        }
        fits
    }

    /// Takes the sign if it stands here.
    fn take(&mut self, sign: &str) -> bool {
        self.skip_space();
        let fits = self.rest().starts_with(sign);
        if fits {
            self.at += sign.len();
        }
        fits
    }

    fn need(&mut self, sign: &str) -> Result<(), ItemFilterError> {
        if self.take(sign) { Ok(()) } else { Err(self.expected(&format!("`{sign}`"))) }
    }

    fn expression(&mut self) -> Result<FilterExpression, ItemFilterError> {
        let mut parts = vec![self.conjunction()?];
        while self.take_word("or") {
            parts.push(self.conjunction()?);
        }
        Ok(only(parts).unwrap_or_else(FilterExpression::Any))
    }

    fn conjunction(&mut self) -> Result<FilterExpression, ItemFilterError> {
        let mut parts = vec![self.negation()?];
        while self.take_word("and") {
            parts.push(self.negation()?);
        }
        Ok(only(parts).unwrap_or_else(FilterExpression::All))
    }

    fn negation(&mut self) -> Result<FilterExpression, ItemFilterError> {
        self.skip_space();
        let start = self.at;
        let negated = self.take_word("not");
        if !negated && !self.take("(") {
            return self.test();
        }
        self.depth += 1;
        if self.depth > ItemFilter::MAX_DEPTH {
            return Err(self.fault(start, format!("the filter is nested more than {} levels deep", ItemFilter::MAX_DEPTH)));
        }
        let inner = if negated {
            FilterExpression::Not(Box::new(self.negation()?))
        } else {
            let inner = self.expression()?;
            self.need(")")?;
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
        let sign = SIGNS.into_iter().find(|(sign, ..)| self.take(sign));
        if let Some((_, comparison, negated)) = sign {
            return self.comparison(field, comparison).map(|test| negate(test, negated));
        }
        if self.take_word("in") {
            return self.list(field);
        }
        match field {
            FilterField::Text(text) if self.take_word("has") => Ok(FilterExpression::Text(text, vec![self.text_value()?])),
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
                self.at += word.len();
                Ok(field)
            }
            None => {
                let known = FIELDS.map(|(name, _)| name).join(", ");
                let what = if word.is_empty() { "a field is expected".to_owned() } else { format!("there is no field `{word}`") };
                Err(self.fault(self.at, format!("{what}; there are {known}")))
            }
        }
    }

    fn comparison(&mut self, field: FilterField, comparison: Comparison) -> Result<FilterExpression, ItemFilterError> {
        let ordered = comparison != Comparison::Equal;
        match field {
            FilterField::Text(_) | FilterField::Available if ordered => {
                Err(self.fault(self.at.saturating_sub(1), "only price, published and expires have an order; use `=`, `!=` or `in`"))
            }
            FilterField::Text(text) => Ok(FilterExpression::Text(text, vec![self.text_value()?])),
            FilterField::Available => self.truth().map(FilterExpression::Available),
            FilterField::Price => Ok(FilterExpression::Number(comparison, self.number()?)),
            FilterField::Time(time) => Ok(FilterExpression::Time(time, comparison, self.point_in_time()?)),
        }
    }

    fn list(&mut self, field: FilterField) -> Result<FilterExpression, ItemFilterError> {
        self.need("(")?;
        let mut tests = Vec::new();
        loop {
            tests.push(self.comparison(field, Comparison::Equal)?);
            if !self.take(",") {
                break;
            }
        }
        if !self.take(")") {
            return Err(self.expected("`,` or `)`"));
        }
        // One look at the attribute for all the values of it.
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

    /// A quoted text, or a word that is no keyword.
    fn text_value(&mut self) -> Result<String, ItemFilterError> {
        let word = self.word();
        if let Some(quote @ ('"' | '\'')) = self.rest().chars().next() {
            return self.quoted(quote);
        }
        if word.is_empty() || KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word)) {
            return Err(self.expected("a word or a quoted text"));
        }
        self.at += word.len();
        Ok(word.to_owned())
    }

    /// A text up to its closing quote; a backslash takes the next character as it is.
    fn quoted(&mut self, quote: char) -> Result<String, ItemFilterError> {
        let start = self.at;
        let mut text = String::new();
        let mut letters = self.rest().char_indices().skip(1);
        while let Some((place, letter)) = letters.next() {
            match letter {
                '\\' => text.extend(letters.next().map(|(_, letter)| letter)),
                letter if letter == quote => {
                    self.at = start + place + quote.len_utf8();
                    return Ok(text);
                }
                letter => text.push(letter),
            }
        }
        Err(self.fault(start, "the quoted text never ends"))
    }

    fn number(&mut self) -> Result<f64, ItemFilterError> {
        let word = self.word();
        match word.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.at += word.len();
                Ok(number)
            }
            _ => Err(self.fault(self.at, "a number is expected")),
        }
    }

    fn truth(&mut self) -> Result<bool, ItemFilterError> {
        let truth = self.take_word("true");
        if truth || self.take_word("false") { Ok(truth) } else { Err(self.expected("`true` or `false`")) }
    }

    /// An RFC 3339 date and time with an offset, quoted or not, or milliseconds since 1970.
    fn point_in_time(&mut self) -> Result<Timestamp, ItemFilterError> {
        self.skip_space();
        let start = self.at;
        let text = self.text_value()?;
        let milliseconds = text.parse().ok().or_else(|| Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()));
        milliseconds.ok_or_else(|| self.fault(start, "a date and time with an offset (RFC 3339), or milliseconds since 1970, is expected"))
    }
}

/// The only one of the parts, or all of them.
fn only(mut parts: Vec<FilterExpression>) -> Result<FilterExpression, Vec<FilterExpression>> {
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
