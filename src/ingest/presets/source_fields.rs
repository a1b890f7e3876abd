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

/// Words for currencies that are neither a code nor contain a symbol, in lower case.
const CURRENCY_WORDS: [&str; 16] =
    ["din", "eur", "fr", "ft", "gbp", "kc", "kr", "kč", "lei", "rs", "rub", "tl", "usd", "zł", "лв", "руб"];

/// A price, and its currency if the text names one by its code: `15.00 EUR`, `$15`, `1,299.00`,
/// `1.299,00 €`, `1 299` or `19,99`. A comma before the last three digits separates thousands.
///
/// # Errors
/// If the text is anything else than one number of at least 0 and a currency.
pub(super) fn parse_price(field: &'static str, text: &str) -> Result<(f64, Option<String>), ValidationError> {
    parse_amount(text).ok_or_else(|| {
        let reason = format!(
            "`{field}` must be a number of at least 0, with or without a currency, such as 15.00 or 15.00 EUR, not `{}`",
            printable_excerpt(text)
        );
        ValidationError::new(field, ValidationErrorCode::WrongType, reason)
    })
}

fn parse_amount(text: &str) -> Option<(f64, Option<String>)> {
    let first = text.find(|character: char| character.is_ascii_digit())?;
    let end = text.rfind(|character: char| character.is_ascii_digit())? + 1;
    let (before, number, after) = (text.get(..first)?, text.get(first..end)?, text.get(end..)?);
    // `.99` has no digit before the separator, `Rs. 99` has a dot of the currency.
    let (before, number) = match before.strip_suffix('.') {
        Some(rest) if !rest.ends_with(char::is_alphabetic) => (rest, format!("0.{number}")),
        _ => (before, number.to_owned()),
    };
    // `1.250,-` has no minor units, so its dot separates thousands.
    let end = [",-", ".-", ",–", ".–"].into_iter().find(|end| after.starts_with(end));
    let after = end.and_then(|end| after.strip_prefix(end)).unwrap_or(after);
    let number = end.and_then(|end| end.get(..1)).map_or(number.clone(), |separator| format!("{number}{separator}0"));
    let words: Vec<_> = before.split_whitespace().chain(after.split_whitespace()).collect();
    if !words.iter().all(|word| is_currency(word)) {
        return None;
    }
    let code = words.into_iter().find(|word| is_currency_code(word)).map(str::to_owned);
    Some((parse_grouped(&number)?, code))
}

fn is_currency_code(word: &str) -> bool {
    word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether a word is a code such as `EUR`, a symbol with or without letters such as `€` or `US$`, or
/// an abbreviation such as `kr.`.
fn is_currency(word: &str) -> bool {
    let is_symbol = |character: char| "$¢£¤¥฿៛﷼".contains(character) || ('\u{20a0}'..='\u{20cf}').contains(&character);
    let word = word.trim_end_matches('.');
    is_currency_code(word)
        || CURRENCY_WORDS.contains(&word.to_lowercase().as_str())
        || (word.contains(is_symbol) && word.chars().all(|character| is_symbol(character) || character.is_alphabetic()))
}

/// A number whose thousands may be separated: by dots, commas, apostrophes or spaces.
fn parse_grouped(number: &str) -> Option<f64> {
    let is_separator = |character: char| !character.is_ascii_digit();
    let kind = |character: char| match character {
        '.' | ',' => Some(character),
        '\'' | '’' => Some('\''),
        ' ' | '\u{a0}' | '\u{2009}' | '\u{202f}' => Some(' '),
        _ => None,
    };
    let separators =
        number.chars().filter(|&character| is_separator(character)).map(kind).collect::<Option<Vec<_>>>()?;
    let mut groups: Vec<_> = number.split(is_separator).collect();
    let (first, last) = (groups.first()?, groups.last()?);
    let mut thousands = separators.as_slice();
    let mut fraction = "0";
    if let Some((&separator, others)) = separators.split_last()
        && matches!(separator, '.' | ',')
        && !others.contains(&separator)
    {
        let is_thousand = separator == ',' && others.is_empty() && last.len() == 3 && first.len() <= 3 && *first != "0";
        if !is_thousand {
            (thousands, fraction) = (others, *last);
            groups.pop();
        }
    }
    let is_uniform = thousands.iter().all(|separator| Some(separator) == thousands.first());
    let is_grouped = match groups.as_slice() {
        [_] => true,
        // Indian numbers have groups of two digits before the last three.
        [first, middle @ .., last] => {
            (1..=3).contains(&first.len())
                && middle.iter().all(|group| (2..=3).contains(&group.len()))
                && last.len() == 3
        }
        [] => false,
    };
    (is_uniform && is_grouped).then(|| format!("{}.{fraction}", groups.concat()).parse().ok())?
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
    use proptest::prelude::*;

    #[test]
    fn prices_have_many_forms() {
        let price = |text| parse_price("price", text).map_err(|error| error.code);
        for (text, expected, currency) in [
            ("15.00 EUR", 15.0, Some("EUR")),
            ("EUR 15", 15.0, Some("EUR")),
            ("15EUR", 15.0, Some("EUR")),
            ("1,299.00", 1299.0, None),
            ("1.299,50", 1299.5, None),
            ("12.345,678", 12345.678, None),
            ("1,234,567", 1_234_567.0, None),
            ("1.234.567", 1_234_567.0, None),
            ("1,23,456.00", 123_456.0, None),
            ("19,99", 19.99, None),
            ("1,299", 1299.0, None),
            ("0,125", 0.125, None),
            ("1299,000", 1299.0, None),
            ("1 299,00 €", 1299.0, None),
            ("1\u{202f}299", 1299.0, None),
            ("1'299.00 CHF", 1299.0, Some("CHF")),
            ("$15", 15.0, None),
            ("US$ 15.5 USD", 15.5, Some("USD")),
            ("Rs. 500", 500.0, None),
            ("Rs.500", 500.0, None),
            ("99,95 kr.", 99.95, None),
            ("15,-", 15.0, None),
            ("1.250,- kr", 1250.0, None),
            ("CHF 1’250.–", 1250.0, Some("CHF")),
            ("$.99", 0.99, None),
            ("0", 0.0, None),
        ] {
            assert_eq!(price(text), Ok((expected, currency.map(str::to_owned))), "{text}");
        }
        for text in [
            "",
            "dear",
            "-1",
            "1-2",
            "3;4",
            "12.50.30",
            "1e3",
            "1.2E+03",
            "0x10",
            "3abc",
            "1/2",
            "5 for 3",
            "from 5",
            "4.50 EUR 3.90",
            "4.50 3.90",
            "1,2,3",
            "10%",
            "-1 EUR",
            "- 5",
            "$-5",
            "5-",
            "1.299,00.5",
            "1,2345.00",
            "3 .",
            "1 2",
            "(5)",
            "1''000",
            "٣",
        ] {
            assert_eq!(price(text), Err(ValidationErrorCode::WrongType), "{text}");
        }
    }

    proptest! {
        /// A price that a shop system writes is read as it is.
        #[test]
        fn written_prices_are_read(cents in 0_u64..100_000_000_000, form in 0_usize..5) {
            let (whole, minor) = (cents / 100, cents % 100);
            let grouped = |separator: &str| {
                let digits = whole.to_string();
                let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
                groups.join(separator)
            };
            let text = match form {
                0 => format!("{whole}.{minor:02}"),
                1 => format!("{}.{minor:02} USD", grouped(",")),
                2 => format!("{},{minor:02} €", grouped(".")),
                3 => format!("{},{minor:02} kr", grouped("\u{a0}")),
                _ => format!("CHF {}.{minor:02}", grouped("’")),
            };
            let price = parse_price("price", &text).unwrap().0;
            prop_assert!((price - cents as f64 / 100.0).abs() < 0.001, "{text}: {price}");
        }

        /// No digit of a text is lost: what is accepted has the digits of the text.
        #[test]
        fn accepted_prices_have_all_digits(text in "[-0-9.,'$€ ;/xeE%+a]{1,9}") {
            if let Ok((price, _)) = parse_price("price", &text) {
                let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
                let found = digits(&format!("{price:.9}"));
                let kept = digits(&text);
                let kept = kept.trim_start_matches('0');
                prop_assert!(found.trim_start_matches('0').starts_with(kept.trim_end_matches('0')), "{text}: {price}");
            }
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
