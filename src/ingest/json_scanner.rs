//! Finds the ends and the nesting depth of JSON values without parsing them. A malformed value can
//! therefore be rejected without affecting the values next to it.

/// Tracks, byte by byte, the number of open brackets and whether the position is inside a string.
#[derive(Debug, Default)]
struct JsonScanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl JsonScanner {
    fn scan_byte(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

/// The deepest nesting of brackets; 0 for a bare number or string.
pub(super) fn nesting_depth(text: &[u8]) -> usize {
    let mut scanner = JsonScanner::default();
    text.iter().fold(0, |deepest, &byte| {
        scanner.scan_byte(byte);
        deepest.max(scanner.depth)
    })
}

/// Whether a text that begins with a bracket is exactly one value: nothing follows the closing
/// bracket.
pub(super) fn is_one_value(text: &[u8]) -> bool {
    let mut scanner = JsonScanner::default();
    let end = text.iter().position(|&byte| {
        scanner.scan_byte(byte);
        scanner.depth == 0
    });
    end.is_some_and(|end| text.iter().skip(end + 1).all(u8::is_ascii_whitespace))
}

/// Splits the text after an array's opening bracket into its elements and the rest after the
/// closing bracket. If the array never closes, the rest is `None` and the last element extends to
/// the end.
pub(super) fn array_elements(text: &[u8]) -> (Vec<&[u8]>, Option<&[u8]>) {
    let mut scanner = JsonScanner::default();
    let mut elements = Vec::new();
    let mut start = 0;
    for (index, &byte) in text.iter().enumerate() {
        if scanner.depth == 0 && !scanner.in_string && matches!(byte, b',' | b']') {
            elements.push(text.get(start..index).unwrap_or_default().trim_ascii());
            start = index + 1;
            if byte == b']' {
                if elements.len() == 1 && elements.iter().all(|only| only.is_empty()) {
                    elements.clear();
                }
                return (elements, text.get(start..));
            }
        }
        scanner.scan_byte(byte);
    }
    elements.push(text.get(start..).unwrap_or_default().trim_ascii());
    (elements, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split_elements(text: &str) -> (Vec<&str>, Option<&str>) {
        let (parts, rest) = array_elements(text.as_bytes());
        (
            parts.into_iter().map(|part| std::str::from_utf8(part).unwrap()).collect(),
            rest.map(|rest| std::str::from_utf8(rest).unwrap()),
        )
    }

    #[test]
    fn splits_array_elements() {
        assert_eq!(split_elements("]"), (vec![], Some("")));
        assert_eq!(split_elements(" 1 , [2,3] ] x"), (vec!["1", "[2,3]"], Some(" x")));
        assert_eq!(split_elements(r#"{"a":"],\"}"},2]"#), (vec![r#"{"a":"],\"}"}"#, "2"], Some("")));
        assert_eq!(
            split_elements("1,]"),
            (vec!["1", ""], Some("")),
            "a trailing comma leaves an empty element, which is rejected"
        );
        assert_eq!(split_elements(r#"{"a":nope},{"b":1}]"#).0.len(), 2, "malformed elements are still separated");
        assert_eq!(split_elements(r#"1,{"a":1"#), (vec!["1", r#"{"a":1"#], None));
    }

    #[test]
    fn ignores_brackets_in_strings() {
        assert_eq!(nesting_depth(br#"{"a":[{"b":"[[[["}]}"#), 3);
        assert_eq!(nesting_depth(b"7"), 0);
    }

    #[test]
    fn distinguishes_one_value_from_several() {
        assert!(is_one_value(b"{\n \"a\": {\n}\n}\n"));
        assert!(!is_one_value(b"{}\n{}"));
        assert!(!is_one_value(b"{\"a\":1"));
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_arrays(values in proptest::collection::vec(".{0,8}", 0..6)) {
            let array = serde_json::to_string(&values).unwrap();
            let (parts, rest) = array_elements(&array.as_bytes()[1..]);
            let back: Vec<String> = parts.iter().map(|part| serde_json::from_slice(part).unwrap()).collect();
            prop_assert_eq!(back, values);
            prop_assert_eq!(rest, Some(&b""[..]));
        }
    }
}
