//! Where spans are sent.

use super::InvalidSetting;
use serde::{Deserialize, Serialize};

/// What is told to a collector of OpenTelemetry's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The collector, such as `http://localhost:4318`, to which `/v1/traces` is added; empty: nothing is sent.
    pub endpoint: String,
    /// The share of traces that are told of, of those that begin here and not with a request's sender, 0..=1.
    pub sample: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { endpoint: String::new(), sample: 1.0 }
    }
}

impl TelemetrySettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if !self.endpoint.is_empty() && !is_base(&self.endpoint) {
            // It may hold a password, which is not to be repeated.
            return Err(InvalidSetting::new(
                "telemetry.endpoint",
                "…",
                "an address such as http://localhost:4318, without name and password, or empty",
            ));
        }
        InvalidSetting::check_range("telemetry.sample", self.sample, 0.0..=1.0)
    }
}

/// Whether a path can be added to an address, which settings may show to everybody who looks at them.
fn is_base(address: &str) -> bool {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or_default();
    !rest.is_empty()
        && !rest.starts_with(['/', ':'])
        && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"@?#\\\"<>{}|^`".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_without_a_secret() {
        let check = |endpoint: &str, sample: f64| TelemetrySettings { endpoint: endpoint.to_owned(), sample }.check();
        for good in ["", "http://localhost:4318", "https://collector.example/otlp/", "http://[::1]:4318"] {
            assert_eq!(check(good, 0.5), Ok(()), "{good}");
        }
        for bad in ["localhost:4318", "http://", "http:///v1", "ftp://a", "http://a b", "http://a?b", "http://a#b"] {
            assert_eq!(check(bad, 0.5).unwrap_err().key, "telemetry.endpoint", "{bad}");
        }
        let said = check("https://ann:secret@collector.example", 1.0).unwrap_err().to_string();
        assert!(said.starts_with("telemetry.endpoint = …: must be an address") && !said.contains("secret"), "{said}");
        for bad in [-0.1, 1.1, f64::NAN] {
            assert_eq!(check("", bad).unwrap_err().key, "telemetry.sample");
        }
    }
}
