//! The validity of the TLS certificate, and warnings before the certificate expires.

use crate::domain::Timestamp;
use crate::metrics::Metrics;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A certificate that expires within this time causes a warning.
const WARNING_MS: i64 = 14 * DAY_MS;

/// The times between which a certificate is valid, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct CertificateValidity {
    pub(in crate::http) not_before: Timestamp,
    pub(in crate::http) not_after: Timestamp,
}

/// Whether a certificate is valid at a given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum ValidityState {
    NotYetValid,
    Valid,
    /// The certificate is valid, but expires within [`WARNING_MS`].
    ExpiresSoon,
    Expired,
}

impl CertificateValidity {
    /// Reads the validity of a certificate. `None` if the data is not an X.509 certificate; rustls
    /// reports this when the certificate is loaded.
    pub(in crate::http) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let validity = certificate.tbs_certificate().validity();
        let milliseconds = |time: x509_cert::time::Time| {
            Timestamp::try_from(time.to_unix_duration().as_millis()).unwrap_or(Timestamp::MAX)
        };
        Some(Self { not_before: milliseconds(validity.not_before), not_after: milliseconds(validity.not_after) })
    }

    pub(in crate::http) fn state(self, now: Timestamp) -> ValidityState {
        if now < self.not_before {
            ValidityState::NotYetValid
        } else if now >= self.not_after {
            ValidityState::Expired
        } else if self.not_after - now <= WARNING_MS {
            ValidityState::ExpiresSoon
        } else {
            ValidityState::Valid
        }
    }
}

/// Publishes the time at which the certificate expires as a metric, and logs each change of its
/// [`ValidityState`] once.
#[derive(Debug, Default)]
pub(in crate::http) struct ValidityMonitor {
    last: Option<(CertificateValidity, ValidityState)>,
}

impl ValidityMonitor {
    pub(in crate::http) fn check(&mut self, validity: CertificateValidity, now: Timestamp, metrics: &Metrics) {
        let state = validity.state(now);
        if self.last.replace((validity, state)) == Some((validity, state)) {
            return;
        }
        metrics.tls_certificate_expiry.set(validity.not_after as f64 / 1000.0);
        let until = |at: Timestamp| {
            jiff::Timestamp::from_millisecond(at).map_or_else(|_| "a far time".to_owned(), |at| at.to_string())
        };
        let (begins, ends, days) =
            (until(validity.not_before), until(validity.not_after), (validity.not_after - now) / DAY_MS);
        match state {
            ValidityState::Valid => {}
            ValidityState::ExpiresSoon => {
                tracing::warn!(ends, days, "the TLS certificate expires soon; replace its files")
            }
            ValidityState::Expired => {
                tracing::error!(ends, "the TLS certificate has expired, so clients refuse it; replace its files")
            }
            ValidityState::NotYetValid => {
                tracing::warn!(begins, "the TLS certificate is not valid yet, so clients refuse it; check the clock")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_follows_the_time() {
        let validity = CertificateValidity { not_before: 10 * DAY_MS, not_after: 100 * DAY_MS };
        for (day, state) in [
            (9, ValidityState::NotYetValid),
            (10, ValidityState::Valid),
            (85, ValidityState::Valid),
            (86, ValidityState::ExpiresSoon),
            (99, ValidityState::ExpiresSoon),
            (100, ValidityState::Expired),
        ] {
            assert_eq!(validity.state(day * DAY_MS), state, "day {day}");
        }
        assert_eq!(CertificateValidity::read(&CertificateDer::from(vec![0x30, 0])), None);
    }
}
