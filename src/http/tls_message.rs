//! Describes the errors of the TLS library in plain words, because the library's own messages are
//! debug output.

use rustls::{CertificateError, Error, InconsistentKeys};
use std::fmt::Debug;

/// The meaning of a TLS error, and the remedy if one is known.
#[must_use]
pub fn describe_tls_error(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => describe_certificate_error(error),
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the private key does not belong to the certificate".to_owned()
        }
        Error::InconsistentKeys(_) => "the private key cannot be compared with the certificate".to_owned(),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            "the other side does not speak TLS at this port; does its URL begin with http://?".to_owned()
        }
        Error::NoCertificatesPresented => "the other side has no certificate".to_owned(),
        Error::PeerIncompatible(reason) => {
            format!("the other side supports no common TLS version or cipher ({})", debug_text_to_words(reason))
        }
        Error::PeerMisbehaved(reason) => {
            format!("the other side broke the TLS protocol ({})", debug_text_to_words(reason))
        }
        Error::AlertReceived(alert) => {
            format!("the other side ended the TLS handshake ({})", debug_text_to_words(alert))
        }
        Error::General(reason) => reason.clone(),
        other => debug_text_to_words(other),
    }
}

fn describe_certificate_error(error: &CertificateError) -> String {
    let text = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet; check the clocks of both machines"
        }
        CertificateError::UnknownIssuer => {
            "the certificate's issuer is not trusted; pass the issuer's CA certificate with --ca FILE"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is not valid for this host name; use a name that the certificate lists"
        }
        CertificateError::Revoked => "the certificate was revoked",
        CertificateError::BadSignature => "the certificate's signature is wrong",
        CertificateError::BadEncoding => "the certificate cannot be decoded",
        // The library has no separate variant for this error.
        CertificateError::Other(error) if format!("{error:?}").contains("CaUsedAsEndEntity") => {
            "the daemon presents a CA certificate as its own; create a server certificate (basicConstraints = CA:FALSE) and sign it with the CA"
        }
        other => return format!("the certificate is invalid ({})", debug_text_to_words(other)),
    };
    text.to_owned()
}

/// Converts the debug text of a value to words: `Other(OtherError(MissingExtension))` becomes
/// "missing extension".
fn debug_text_to_words(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let name = text.split(['{', ' ']).next().unwrap_or_default().trim_end_matches(')');
    let name = name.rsplit('(').next().unwrap_or_default();
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_no_debug_text() {
        for (error, words) in [
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "issuer is not trusted; pass the issuer's CA certificate with --ca",
            ),
            (
                Error::InvalidCertificate(CertificateError::UnhandledCriticalExtension),
                "is invalid (unhandled critical extension)",
            ),
            (
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch),
                "the private key does not belong to the certificate",
            ),
            (Error::HandshakeNotComplete, "handshake not complete"),
        ] {
            let text = describe_tls_error(&error);
            assert!(text.contains(words), "{text}");
        }
    }
}
