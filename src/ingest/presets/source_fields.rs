//! The fields of a product in a foreign catalog, and the conversion of their texts.

use crate::domain::{MAX_ATTRIBUTE_TEXT_BYTES, MAX_TITLE_BYTES};
use crate::ingest::items::{MAX_CATEGORIES, MAX_TAGS};
use crate::ingest::validation::{MAX_ID_BYTES, printable_excerpt};
use crate::ingest::validation_error::{ValidationError, ValidationErrorCode};
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

/// The fields of a row or element, by their normalised names. A field can have several values.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SourceFields(FxHashMap<String, Vec<String>>);

impl SourceFields {
    /// Adds a value of a field, whose name is normalised. Blank values are left out.
    pub(super) fn add(&mut self, name: String, text: &str) {
        let text = text.trim();
        if !text.is_empty() {
            self.0.entry(name).or_default().push(text.to_owned());
        }
    }

    /// The first value of the first of these fields that has one.
    pub(super) fn text(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.all(name).first()).map(String::as_str)
    }

    /// All values of a field.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Takes over the fields of `others` that this product lacks.
    pub(super) fn fill_from(&mut self, others: Self) {
        for (name, values) in others.0 {
            self.0.entry(name).or_insert(values);
        }
    }
}

/// A name in lower case, with `_` in place of all other characters: `Body (HTML)` is `body_html`.
pub(super) fn normalised_name(name: &str) -> String {
    let words = name.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

/// A price, and its currency if the text names one: `15.00 EUR`, `EUR 15`, `1,299.00` or `19,99`.
///
/// # Errors
/// If the text holds no number.
pub(super) fn parse_price(field: &'static str, text: &str) -> Result<(f64, Option<String>), ValidationError> {
    let currency =
        text.split_whitespace().find(|word| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_uppercase()));
    let number: String =
        text.chars().filter(|character| character.is_ascii_digit() || ".,-".contains(*character)).collect();
    // The last separator is the decimal one, unless it is a comma before three digits.
    let decimal = number.rfind(['.', ',']).filter(|&at| number.get(at..at + 1) == Some(".") || number.len() - at != 4);
    let digits = |part: &str| part.replace(['.', ','], "");
    let plain = match decimal {
        Some(at) => {
            format!("{}.{}", digits(number.get(..at).unwrap_or_default()), digits(number.get(at..).unwrap_or_default()))
        }
        None => digits(&number),
    };
    match plain.parse::<f64>() {
        Ok(price) if price >= 0.0 => Ok((price, currency.map(str::to_owned))),
        _ => {
            let reason =
                format!("`{field}` must be a number of at least 0, such as 15.00, not `{}`", printable_excerpt(text));
            Err(ValidationError::new(field, ValidationErrorCode::WrongType, reason))
        }
    }
}

/// Whether a text means yes; `None` if the text is neither yes nor no.
pub(super) fn parse_yes_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// The parts of a list. A backslash before the separator makes it part of a value.
pub(super) fn split_list(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut part, mut is_escaped) = (Vec::new(), String::new(), false);
    for character in text.chars() {
        if character == separator && !is_escaped {
            parts.push(std::mem::take(&mut part));
        } else {
            if character == separator {
                part.pop();
            }
            part.push(character);
        }
        is_escaped = character == '\\';
    }
    parts.push(part);
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// The fields of an item change, as JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ItemFields {
    fields: Map<String, Value>,
    attributes: Map<String, Value>,
}

impl ItemFields {
    /// A change of the item with this id.
    pub(super) fn new(item_id: &str) -> Self {
        Self { fields: Map::from_iter([("item_id".to_owned(), Value::from(item_id))]), attributes: Map::new() }
    }

    /// Sets a field, unless there is no value or the field is already set.
    pub(super) fn set(&mut self, field: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.fields.entry(field).or_insert_with(|| value.into());
        }
    }

    /// Sets the title, cut to the longest allowed length.
    pub(super) fn set_title(&mut self, title: Option<&str>) {
        let cut = |title: &str| {
            let end =
                (0..=title.len().min(MAX_TITLE_BYTES)).rev().find(|&end| title.is_char_boundary(end)).unwrap_or(0);
            without_control_characters(title.get(..end).unwrap_or_default())
        };
        self.set("title", title.map(cut));
    }

    /// Sets a list of labels, of which the first ones are kept.
    pub(super) fn set_labels(&mut self, field: &str, labels: impl IntoIterator<Item = String>) {
        let limit = if field == "tags" { MAX_TAGS } else { MAX_CATEGORIES };
        let mut kept: Vec<String> = Vec::new();
        for label in labels.into_iter().map(|label| without_control_characters(&label)) {
            if kept.len() < limit && (1..=MAX_ID_BYTES).contains(&label.len()) && !kept.contains(&label) {
                kept.push(label);
            }
        }
        self.set(field, (!kept.is_empty()).then_some(kept));
    }

    /// Sets the lower of the present price and this one.
    pub(super) fn set_lowest_price(&mut self, price: f64) {
        let present = self.fields.get("price").and_then(Value::as_f64);
        self.fields.insert("price".to_owned(), present.map_or(price, |present| present.min(price)).into());
    }

    /// Sets a free attribute, unless it is absent, too long or already set.
    pub(super) fn set_attribute(&mut self, name: &str, value: Option<impl Into<Value>>) {
        let value: Option<Value> = value.map(Into::into);
        let is_too_long = |value: &Value| value.as_str().is_some_and(|text| text.len() > MAX_ATTRIBUTE_TEXT_BYTES);
        if let Some(value) = value.filter(|value| !is_too_long(value)) {
            self.attributes.entry(name).or_insert(value);
        }
    }

    /// The JSON object.
    pub(super) fn into_object(mut self) -> Map<String, Value> {
        if !self.attributes.is_empty() {
            self.fields.insert("attributes".to_owned(), self.attributes.into());
        }
        self.fields
    }
}

fn without_control_characters(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_have_many_forms() {
        let price = |text| parse_price("price", text).map_err(|error| error.code);
        for (text, expected, currency) in [
            ("15.00 EUR", 15.0, Some("EUR")),
            ("EUR 15", 15.0, Some("EUR")),
            ("1,299.00", 1299.0, None),
            ("1.299,50", 1299.5, None),
            ("19,99", 19.99, None),
            ("1,299", 1299.0, None),
            ("0", 0.0, None),
        ] {
            assert_eq!(price(text), Ok((expected, currency.map(str::to_owned))), "{text}");
        }
        for text in ["", "dear", "-1", "1-2"] {
            assert_eq!(price(text), Err(ValidationErrorCode::WrongType), "{text}");
        }
    }

    #[test]
    fn lists_keep_escaped_separators() {
        assert_eq!(split_list(r"a, b\, c,,d ", ','), ["a", "b, c", "d"]);
        assert_eq!(normalised_name("Price / Amérique"), "price_am_rique");
    }

    #[test]
    fn long_titles_are_cut_at_a_character() {
        let mut item = ItemFields::new("i");
        item.set_title(Some(&"ä".repeat(200)));
        assert_eq!(item.into_object()["title"], "ä".repeat(128));
    }
}
