//! The texts of JSON numbers, which sites and data frames use as ids.

use super::validation_error::{ValidationError, ValidationErrorCode};
use serde_json::Number;

/// The text of a number. A whole number has no fraction, because data frames store integers as
/// floats if some are absent.
pub(super) fn number_text(number: &Number) -> String {
    let mut text = number.to_string();
    if text.ends_with(".0") {
        text.truncate(text.len() - 2);
    }
    text
}

/// The text of a number that is an id.
///
/// # Errors
/// If another number can have been read as this one: integers of 64 bits are exact, but a float of
/// 2^53 or more stands for several integers.
pub(super) fn id_from_number(field: &'static str, number: &Number) -> Result<String, ValidationError> {
    if number.is_f64() && number.as_f64().is_none_or(|value| value.abs() >= 9_007_199_254_740_992.0) {
        let reason = format!("`{field}` has more digits than a JSON number holds exactly; write it as a string");
        return Err(ValidationError::new(field, ValidationErrorCode::WrongType, reason));
    }
    Ok(number_text(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_numbers_have_different_ids() {
        let id = |text: &str| id_from_number("user_id", &serde_json::from_str(text).unwrap());
        for (number, text) in [
            ("42", "42"),
            ("42.0", "42"),
            ("-7.0", "-7"),
            ("0.5", "0.5"),
            ("18446744073709551615", "18446744073709551615"),
            ("9007199254740991.0", "9007199254740991"),
        ] {
            assert_eq!(id(number).unwrap(), text);
        }
        for number in ["9007199254740993.0", "18446744073709551616", "-1e300"] {
            let error = id(number).unwrap_err();
            assert_eq!(error.code, ValidationErrorCode::WrongType);
            assert!(error.reason.contains("write it as a string"), "{}", error.reason);
        }
    }
}
