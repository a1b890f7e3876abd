//! The text of an error: the message with its causes.

use rustls::Error as TlsError;
use sequor_client::ConnectionError;
use std::error::Error;
use std::io;

use crate::http::describe_tls_error;

/// The messages of an error and of its causes. If a message already ends with the text of its
/// cause, the cause is omitted. TLS errors are described in plain words. Control characters, which
/// the answer of a server or a file may contain, are escaped: a terminal would obey them.
#[must_use]
pub fn describe_error(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let (message, is_last) = match tls_error(cause) {
            Some(error) => (describe_tls_error(error), true),
            None => (cause.to_string(), false),
        };
        if text.is_empty() {
            text = message;
        } else if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        // The remaining causes only repeat the TLS error in the wording of the library.
        if is_last {
            break;
        }
    }
    escape_control_characters(&text)
}

/// Escapes control characters other than line breaks and tabs, and those that change the direction
/// of the text.
pub(super) fn escape_control_characters(text: &str) -> String {
    let changes_direction = |character| matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_harmless =
        |character: char| matches!(character, '\n' | '\t') || !(character.is_control() || changes_direction(character));
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        if is_harmless(character) {
            escaped.push(character);
        } else {
            escaped.extend(character.escape_default());
        }
        escaped
    })
}

/// The output of a daemon, in which control characters that a terminal obeys have the escapes of
/// JSON. Such characters can only be in strings, so JSON stays JSON.
pub(super) fn escape_in_output(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        if character.is_control() && !matches!(character, '\n' | '\r' | '\t') {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
        escaped
    })
}

/// Whether a command failed because the reader of its output closed the pipe.
#[must_use]
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether a connection failed because the certificate or the protocol is wrong, so that a retry
/// cannot help.
pub(super) fn is_permanent(error: &ConnectionError) -> bool {
    matches!(tls_error(error), Some(TlsError::InvalidCertificate(_) | TlsError::InvalidMessage(_)))
}

/// The TLS error inside an error of the HTTP client or of a connection.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e TlsError> {
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return Some(error);
    }
    if let Some(error) = error.downcast_ref::<ConnectionError>() {
        return tls_error(error.source()?);
    }
    tls_error_in_io_error(error.downcast_ref::<io::Error>()?)
}

/// The TLS error inside an input/output error.
pub(super) fn tls_error_in_io_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use rustls::CertificateError;

    #[test]
    fn each_cause_appears_once() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let store = crate::store::StoreError::Io { action: "opening", path: "/x".into(), source: denied() };
        assert_eq!(describe_error(&store.into()), "opening /x: permission denied");
        let error = Err::<(), _>(denied()).context("cannot read /y").unwrap_err();
        assert_eq!(describe_error(&error), "cannot read /y: permission denied");
    }

    #[test]
    fn control_characters_are_escaped() {
        let error = anyhow::anyhow!("a\u{1b}[2J\u{7}\u{9b}\u{202e}\r\n\tü");
        assert_eq!(describe_error(&error), "a\\u{1b}[2J\\u{7}\\u{9b}\\u{202e}\\r\n\tü");
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = serde_json::json!({ "name": "a\u{9b}31m\u{7}\u{7f} \u{200f}ü" });
        let text = escape_in_output(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.contains("a\\u009b31m\\u0007\\u007f \u{200f}ü"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_lost_connection_is_described_once() {
        let reset = || ConnectionError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(describe_error(&anyhow::Error::new(reset()).context("no answer")), "no answer: connection reset");
        assert!(!is_permanent(&reset()));
    }

    #[test]
    fn tls_errors_are_described_in_words() {
        let error = || TlsError::InvalidCertificate(CertificateError::Expired);
        let of_connection = ConnectionError::from(io::Error::other(error()));
        assert!(is_permanent(&of_connection));
        for error in [anyhow::Error::new(error()), io::Error::other(error()).into(), of_connection.into()] {
            assert_eq!(describe_error(&error.context("no answer")), "no answer: the certificate has expired");
        }
    }
}
