//! An attribution report as JSON and as CSV.

use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use utoipa::ToSchema;

use crate::domain::Offset;
use crate::http::schema::attribution_query::format_report_time;
use crate::reports::{AttributionReport, AttributionRow, Interval, Revenue};
use crate::services::reports::AttributionRequest;

/// A 95 % confidence interval.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Interval)]
pub(in crate::http) struct IntervalBody {
    low: f64,
    high: f64,
}

impl From<Interval> for IntervalBody {
    fn from(Interval { low, high }: Interval) -> Self {
        Self { low, high }
    }
}

/// The revenue in one currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Revenue)]
pub(in crate::http) struct RevenueBody {
    /// The currency of the events; empty if they name none.
    currency: String,
    /// The sum of value times quantity over the conversions.
    sum: f64,
    /// The 95 % interval of the sum.
    interval: IntervalBody,
}

impl From<Revenue> for RevenueBody {
    fn from(Revenue { currency, sum, interval }: Revenue) -> Self {
        Self { currency, sum, interval: interval.into() }
    }
}

/// One group of a report.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AttributionRow)]
pub(in crate::http) struct AttributionRowBody {
    /// The name of the group. `(none)` stands for lists without a placement, variant, rule or known
    /// source, `(other)` for the groups beyond the first 10,000.
    group: String,
    /// Number of shown items.
    impressions: u64,
    /// Number of shown items that were clicked.
    clicks: u64,
    /// Clicks per impression; absent without impressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    ctr: Option<f64>,
    /// The 95 % interval of `ctr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ctr_interval: Option<IntervalBody>,
    /// Number of attributed conversions.
    conversions: u64,
    /// Conversions per click; absent without clicks. It can exceed 1, because one click can lead to
    /// several conversions.
    #[serde(skip_serializing_if = "Option::is_none")]
    cvr: Option<f64>,
    /// The 95 % interval of `cvr`, which is limited to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    cvr_interval: Option<IntervalBody>,
    /// The revenue by currency.
    revenue: Vec<RevenueBody>,
}

impl From<AttributionRow> for AttributionRowBody {
    fn from(row: AttributionRow) -> Self {
        let AttributionRow { group, impressions, clicks, ctr, ctr_interval, conversions, cvr, cvr_interval, revenue } =
            row;
        Self {
            group,
            impressions,
            clicks,
            ctr,
            ctr_interval: ctr_interval.map(IntervalBody::from),
            conversions,
            cvr,
            cvr_interval: cvr_interval.map(IntervalBody::from),
            revenue: revenue.into_iter().map(RevenueBody::from).collect(),
        }
    }
}

/// What recommendations earn: impressions, clicks, conversions and revenue by group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AttributionReport)]
pub(in crate::http) struct AttributionReportBody {
    /// The grouping.
    by: &'static str,
    /// What a conversion is attributed to.
    touch: &'static str,
    /// The kinds of events that are conversions.
    conversions: Vec<String>,
    /// The time after an impression within which an event is a click, in seconds.
    click_window_seconds: f64,
    /// The time after an impression within which a conversion is attributed to it, in seconds.
    conversion_window_seconds: f64,
    /// The time after an impression within which the report attributed events to it, in seconds:
    /// the longer of the two windows, or less if more than 2,000,000 items were shown in it.
    attributed_within_seconds: f64,
    /// The start of the period; absent if the report begins with the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// The end of the period; absent if the report ends with the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// The placement of the lists; absent if the report covers all lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<String>,
    /// The report contains the journal entries before this offset.
    #[schema(value_type = u64)]
    offset: Offset,
    /// The groups in the order of their names.
    rows: Vec<AttributionRowBody>,
    /// The sum over all shown items. An item that several rules moved counts once.
    total: AttributionRowBody,
}

impl AttributionReportBody {
    /// The body of a report with one table.
    pub(in crate::http) fn new(request: &AttributionRequest, report: AttributionReport, offset: Offset) -> Self {
        let AttributionRequest { settings, window, groupings } = request;
        let seconds = |milliseconds: i64| milliseconds as f64 / 1000.0;
        Self {
            by: groupings.first().map_or("", |by| by.name()),
            touch: settings.touch.name(),
            conversions: settings.conversions.iter().map(|kind| kind.name().to_owned()).collect(),
            click_window_seconds: seconds(settings.click_window_ms),
            conversion_window_seconds: seconds(settings.conversion_window_ms),
            attributed_within_seconds: seconds(report.attributed_within_ms),
            from: window.from.map(format_report_time),
            to: window.to.map(format_report_time),
            placement: window.placement.clone(),
            offset,
            rows: report.tables.into_iter().flatten().map(AttributionRowBody::from).collect(),
            total: report.total.into(),
        }
    }
}

/// The CSV of a report with one table: a header, a line for each group, and a line for the total.
/// Each currency has columns of its own; the revenue of events without currency has the column
/// `revenue`.
pub(in crate::http) fn report_csv(report: &AttributionReport) -> String {
    let rows = || report.tables.iter().flatten().chain([&report.total]);
    let currencies: BTreeSet<&str> =
        rows().flat_map(|row| &row.revenue).map(|revenue| revenue.currency.as_str()).collect();
    let mut csv = "group,impressions,clicks,ctr,ctr_low,ctr_high,conversions,cvr,cvr_low,cvr_high".to_owned();
    for currency in &currencies {
        let name = if currency.is_empty() { "revenue".to_owned() } else { format!("revenue_{currency}") };
        let _ = write!(csv, ",{name},{name}_low,{name}_high");
    }
    csv.push_str("\r\n");
    for row in rows() {
        let _ = write!(csv, "{},{},{}", csv_field(&row.group), row.impressions, row.clicks);
        write_rate(&mut csv, row.ctr, row.ctr_interval);
        let _ = write!(csv, ",{}", row.conversions);
        write_rate(&mut csv, row.cvr, row.cvr_interval);
        for currency in &currencies {
            let found = row.revenue.iter().find(|revenue| revenue.currency == *currency);
            write_rate(&mut csv, found.map(|revenue| revenue.sum), found.map(|revenue| revenue.interval));
        }
        csv.push_str("\r\n");
    }
    csv
}

/// Appends a value with the ends of its interval. Absent values are empty fields.
fn write_rate(csv: &mut String, value: Option<f64>, interval: Option<Interval>) {
    for number in [value, interval.map(|interval| interval.low), interval.map(|interval| interval.high)] {
        let _ = write!(csv, ",{}", number.map(|number| number.to_string()).unwrap_or_default());
    }
}

/// A CSV field, in quotes if it contains a separator [RFC 4180].
fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_has_columns_for_each_currency() {
        let revenue = |currency: &str, sum| Revenue {
            currency: currency.to_owned(),
            sum,
            interval: Interval { low: sum - 1.0, high: sum + 1.0 },
        };
        let row = |group: &str, revenue| AttributionRow {
            group: group.to_owned(),
            impressions: 4,
            clicks: 1,
            ctr: Some(0.25),
            ctr_interval: Some(Interval { low: 0.125, high: 0.5 }),
            conversions: 0,
            cvr: None,
            cvr_interval: None,
            revenue,
        };
        let report = AttributionReport {
            tables: vec![vec![row("a,\"b\"", vec![revenue("EUR", 2.5)])]],
            total: row("(total)", vec![revenue("", 3.0), revenue("EUR", 2.5)]),
            attributed_within_ms: 1,
        };
        assert_eq!(
            report_csv(&report),
            "group,impressions,clicks,ctr,ctr_low,ctr_high,conversions,cvr,cvr_low,cvr_high,\
             revenue,revenue_low,revenue_high,revenue_EUR,revenue_EUR_low,revenue_EUR_high\r\n\
             \"a,\"\"b\"\"\",4,1,0.25,0.125,0.5,0,,,,,,,2.5,1.5,3.5\r\n\
             (total),4,1,0.25,0.125,0.5,0,,,,3,2,4,2.5,1.5,3.5\r\n"
        );
    }
}
