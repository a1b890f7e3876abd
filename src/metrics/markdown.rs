//! Renders the reference page of all metrics.

use std::fmt::Write;

use super::handle::{MetricDeclaration, MetricType, MetricUnit};
use super::{BUILD_INFO_HELP, BUILD_INFO_NAME, Metrics, ThreadRole, process, threads};

impl Metrics {
    /// Renders all metrics as the Markdown page `ops/METRICS.md`.
    #[must_use]
    pub fn render_markdown() -> String {
        let mut page = String::from(
            "# Metrics\n\nThis page lists all metrics that the admin endpoint serves at `/metrics`. It is generated from the declarations in `src/metrics`:\n\
             `SEQUOR_WRITE_PAGES=1 cargo test --test integration metrics` writes it. A test fails if the page differs from the declarations.\n\n\
             Histograms of durations have buckets from 50 µs to 600 s, and histograms of counts have buckets from 1 to 4096. A label has only the listed values; \
             the values of `kind` are the built-in and the configured kinds of event, those of `placement` are the configured placements, and those of `feature` are the declared features.\n\n\
             | name | type | unit | labels | description |\n|---|---|---|---|---|\n",
        );
        for declared in Self::DECLARATIONS {
            append_row(
                &mut page,
                declared.name,
                declared.kind.as_str(),
                declared.unit.as_str(),
                &format_labels(declared),
                declared.help,
            );
        }
        append_row(
            &mut page,
            BUILD_INFO_NAME,
            MetricType::Gauge.as_str(),
            MetricUnit::None.as_str(),
            "`version`",
            BUILD_INFO_HELP,
        );
        for (name, kind, help) in process::PROCESS_METRICS {
            let unit = if name.contains("_seconds") {
                MetricUnit::Seconds
            } else if name.contains("_bytes") {
                MetricUnit::Bytes
            } else {
                MetricUnit::Count
            };
            append_row(&mut page, name, kind, unit.as_str(), "", help);
        }
        let roles = ThreadRole::ALL.map(|role| format!("`{}`", role.as_str())).join(", ");
        let (kind, unit) = (MetricType::Counter.as_str(), MetricUnit::Seconds.as_str());
        append_row(&mut page, threads::NAME, kind, unit, &format!("`role`: {roles}"), threads::HELP);
        page
    }
}

fn append_row(page: &mut String, name: &str, kind: &str, unit: &str, labels: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
}

fn format_labels(declared: &MetricDeclaration) -> String {
    let Some(label) = declared.label else { return String::new() };
    let values: Vec<_> = declared.values.iter().map(|value| format!("`{value}`")).collect();
    if values.is_empty() { format!("`{label}`") } else { format!("`{label}`: {}", values.join(", ")) }
}
