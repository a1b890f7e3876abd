//! Export of trace spans.

use super::InvalidSetting;
use serde::{Deserialize, Serialize};

/// Export of trace spans to an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Base URL of the collector, such as `http://localhost:4318`, to which `/v1/traces` is
    /// appended; empty: no export.
    pub endpoint: String,
    /// Fraction of traces to export, 0..=1. This setting applies only to traces that start in this
    /// process.
    pub sample: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { endpoint: String::new(), sample: 1.0 }
    }
}

impl TelemetrySettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if !self.endpoint.is_empty() && !is_base_url(&self.endpoint) {
            // The error omits the value, because it may contain a password.
            return Err(InvalidSetting::new(
                "telemetry.endpoint",
                "…",
                "a URL such as http://localhost:4318, without user name and password, or empty",
            ));
        }
        InvalidSetting::check_range("telemetry.sample", self.sample, 0.0..=1.0)
    }
}

/// Whether a text is a URL without credentials, query or fragment. A path can be appended to such a
/// URL, and the admin endpoint can show it.
fn is_base_url(address: &str) -> bool {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or_default();
    !rest.is_empty()
        && !rest.starts_with(['/', ':'])
        && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"@?#\\\"<>{}|^`".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_must_be_a_url_without_credentials() {
        let check = |endpoint: &str, sample: f64| TelemetrySettings { endpoint: endpoint.to_owned(), sample }.check();
        for good in ["", "http://localhost:4318", "https://collector.example/otlp/", "http://[::1]:4318"] {
            assert_eq!(check(good, 0.5), Ok(()), "{good}");
        }
        for bad in ["localhost:4318", "http://", "http:///v1", "ftp://a", "http://a b", "http://a?b", "http://a#b"] {
            assert_eq!(check(bad, 0.5).unwrap_err().key, "telemetry.endpoint", "{bad}");
        }
        let message = check("https://ann:secret@collector.example", 1.0).unwrap_err().to_string();
        assert!(
            message.starts_with("telemetry.endpoint = …: must be a URL") && !message.contains("secret"),
            "{message}"
        );
        for bad in [-0.1, 1.1, f64::NAN] {
            assert_eq!(check("", bad).unwrap_err().key, "telemetry.sample");
        }
    }
}
