//! Rewrites the type errors of serde so that they contain no names of Rust types.

/// Rewrites the message of a serde error: describes the expected Rust type in words. For example,
/// "expected usize" becomes "expected a whole number of at least 0". `table` is what the file
/// format calls a map: "a table" in TOML, "an object" in JSON.
#[must_use]
pub fn describe_type_error(message: &str, table: &str) -> String {
    if let Some((head, _)) = message.split_once(" any variant of untagged enum ") {
        return format!("{head} any of the allowed forms");
    }
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    // Parsers append the position: " at line 1 column 7", or a line break and an excerpt.
    let end =
        [" at line ", " with ", "\n"].iter().filter_map(|mark| expected.find(mark)).min().unwrap_or(expected.len());
    let (expected, position) = expected.split_at(end);
    let position = position.find(" at line ").map_or("", |at| position.get(at..).unwrap_or_default());
    let found = match found.split_once(": ") {
        Some((prefix, "map")) => format!("{prefix}: {table}"),
        Some((prefix, "sequence")) => format!("{prefix}: a list"),
        Some((prefix, "unit value")) => format!("{prefix}: nothing"),
        Some((prefix, found)) => match found.strip_prefix("floating point ") {
            Some(number) => format!("{prefix}: number {number}"),
            None => format!("{prefix}: {found}"),
        },
        None => found.to_owned(),
    };
    format!("{found}, expected {}{position}", describe_expected_type(expected, table))
}

fn describe_expected_type<'t>(expected: &'t str, table: &'t str) -> &'t str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a map" => table,
        "a sequence" => "a list",
        "a string" | "a borrowed string" | "str" => "a text",
        "option" | "unit" => "a value",
        _ if expected.starts_with("struct ") || expected.contains("tagged enum ") => table,
        _ if expected.starts_with("tuple ")
            || expected.starts_with("a tuple ")
            || expected.starts_with("an array ") =>
        {
            "a list"
        }
        _ if expected.starts_with("enum ") || expected.contains("struct ") || expected.contains("variant ") => {
            "a value"
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn described_type_errors_name_no_rust_type() {
        for (message, words) in [
            ("invalid type: integer `3`, expected struct KindSettings", "invalid type: integer `3`, expected a table"),
            (
                "invalid type: string \"many\", expected usize",
                "invalid type: string \"many\", expected a whole number of at least 0",
            ),
            (
                "invalid value: integer `-1`, expected u32",
                "invalid value: integer `-1`, expected a whole number of at least 0",
            ),
            ("invalid type: floating point `1.5`, expected i64", "invalid type: number `1.5`, expected a whole number"),
            (
                "invalid type: map, expected a string at line 2 column 7",
                "invalid type: a table, expected a text at line 2 column 7",
            ),
            ("invalid length 3, expected struct Pair with 2 elements", "invalid length 3, expected a table"),
            ("invalid type: sequence, expected internally tagged enum Rule", "invalid type: a list, expected a table"),
            ("data did not match any variant of untagged enum Name", "data did not match any of the allowed forms"),
            (
                "unknown field `worth`, expected one of `target`, `value`",
                "unknown field `worth`, expected one of `target`, `value`",
            ),
            ("missing field `name`", "missing field `name`"),
        ] {
            assert_eq!(describe_type_error(message, "a table"), words);
        }
    }
}
