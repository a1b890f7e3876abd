//! What recommendations earn.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use maud::{Markup, html};
use std::collections::BTreeSet;

use crate::domain::Timestamp;
use crate::http::console::chart::{ChartLine, TimeChart};
use crate::http::console::format::{NO_VALUE_TEXT, format_count, format_timestamp};
use crate::http::console::layout::{page_or_problem, value_tile};
use crate::http::listener::ClientWatch;
use crate::http::routes::reports::compute_attribution;
use crate::http::schema::attribution_query::AttributionQuery;
use crate::http::schema::problem::Problem;
use crate::http::schema::query_pairs::QueryPairs;
use crate::http::state::ApiState;
use crate::reports::{AttributionReport, AttributionRow, GroupBy, Interval};

/// The path of the page.
const PAGE_PATH: &str = "/console/attribution";
/// The groupings of the page: the first is for the charts, the others have a table each.
const GROUPINGS: [GroupBy; 4] = [GroupBy::Day, GroupBy::Placement, GroupBy::Source, GroupBy::Rule];
/// The period of the report if the request names none.
const DEFAULT_PERIOD_MS: i64 = 28 * 24 * 3_600_000;
/// Largest number of rows in a table.
const MAX_TABLE_ROWS: usize = 100;

pub(in crate::http) async fn attribution_page(
    api: Data<ApiState>,
    request: HttpRequest,
    pairs: QueryPairs,
) -> HttpResponse {
    page_or_problem("Attribution", "Attribution", page_content(&api, &request, &pairs).await)
}

async fn page_content(api: &ApiState, request: &HttpRequest, pairs: &QueryPairs) -> Result<Markup, Problem> {
    // A field of the form that is left empty has no effect.
    let given: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
    let mut query = AttributionQuery::from_pairs(&given, api.system.recommender.kinds())?;
    if query.from.is_none() {
        query.from = Some(query.to.unwrap_or_else(|| api.clock.now()).saturating_sub(DEFAULT_PERIOD_MS));
    }
    let report_request = query.to_request(GROUPINGS.to_vec());
    let (report, _) = compute_attribution(api, &report_request, &ClientWatch::begin(request)).await?;
    let [days, tables @ ..] = report.tables.as_slice() else { return Err(Problem::internal()) };
    let names = ["placement", "source", "rule"];
    Ok(html! {
        p.lead {
            "What the lists that were shown to users earned. An event on an item counts as a click within 1 hour after the impression, and a purchase counts within 7 days after an impression that was clicked. "
            code { "GET /v1/reports/attribution" } " has further parameters."
        }
        (period_form(&query))
        (totals(&report))
        div.charts {
            (rate_chart(days))
            (revenue_chart(days))
        }
        @for (name, rows) in names.iter().zip(tables) { (rows_section(name, rows)) }
    })
}

/// The form that selects the lists of the report.
fn period_form(query: &AttributionQuery) -> Markup {
    let day = |time: Option<Timestamp>| time.map(|time| format_timestamp(time).chars().take(10).collect::<String>());
    html! {
        form.search action=(PAGE_PATH) method="get" role="search" {
            label for="from" { "From (UTC)" }
            input id="from" name="from" type="date" value=[day(query.from)];
            label for="to" { "Before" }
            input id="to" name="to" type="date" value=[day(query.to)];
            label for="placement" { "Placement" }
            input id="placement" name="placement" type="search" value=[query.placement.as_deref()] autocomplete="off" spellcheck="false";
            button { "Show" }
        }
    }
}

fn totals(report: &AttributionReport) -> Markup {
    let total = &report.total;
    html! {
        dl.tiles.five {
            (value_tile("Impressions", &format_count(total.impressions), None, "shown items"))
            (value_tile("Clicks", &format_count(total.clicks), None, "clicked items"))
            (value_tile("Click-through rate", &format_rate_percent(total.ctr), None, &format_interval(total.ctr_interval)))
            (value_tile("Conversions", &format_count(total.conversions), None, "attributed"))
            (value_tile("Conversion rate", &format_rate_percent(total.cvr), None, &format_interval(total.cvr_interval)))
            @for revenue in &total.revenue {
                (value_tile(&revenue_name(&revenue.currency), &format_amount(revenue.sum), None,
                    &format!("{} to {}", format_amount(revenue.interval.low), format_amount(revenue.interval.high))))
            }
        }
    }
}

/// The start of the day of a row, for the horizontal axis of a chart.
fn day_start(row: &AttributionRow) -> Option<f64> {
    let start = format!("{}T00:00:00Z", row.group).parse::<jiff::Timestamp>().ok()?;
    Some(start.as_millisecond() as f64)
}

fn format_day(at: f64) -> String {
    format_timestamp(at as Timestamp).chars().take(10).collect()
}

fn rate_chart(days: &[AttributionRow]) -> Markup {
    let points = days.iter().filter_map(|row| Some((day_start(row)?, row.ctr? * 100.0)));
    TimeChart {
        id: "rate",
        title: "Click-through rate by day",
        x_axis: ("Day (UTC)", &format_day),
        format_y: &|percent| format!("{percent:.2} %"),
        lines: vec![ChartLine { name: "clicks per impression", points: points.collect() }],
    }
    .render_fixed()
}

/// The revenue of the first two currencies by day.
fn revenue_chart(days: &[AttributionRow]) -> Markup {
    let currencies: BTreeSet<_> =
        days.iter().flat_map(|row| &row.revenue).map(|revenue| revenue.currency.as_str()).collect();
    let names: Vec<_> = currencies.iter().take(2).map(|currency| (*currency, revenue_name(currency))).collect();
    let amount = |row: &AttributionRow, currency: &str| {
        row.revenue.iter().find(|revenue| revenue.currency == currency).map_or(0.0, |revenue| revenue.sum)
    };
    let lines = names.iter().map(|(currency, name)| ChartLine {
        name,
        points: days.iter().filter_map(|row| Some((day_start(row)?, amount(row, currency)))).collect(),
    });
    TimeChart {
        id: "revenue",
        title: "Revenue by day of the impression",
        x_axis: ("Day (UTC)", &format_day),
        format_y: &format_amount,
        lines: lines.collect(),
    }
    .render_fixed()
}

fn rows_section(name: &str, rows: &[AttributionRow]) -> Markup {
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by(|a, b| b.impressions.cmp(&a.impressions).then_with(|| a.group.cmp(&b.group)));
    let shown = sorted.get(..MAX_TABLE_ROWS).unwrap_or(&sorted);
    html! {
        section.card {
            h2 { "By " (name) }
            @if rows.is_empty() { p.empty { "Nothing was shown in this period." } } @else {
                @if shown.len() < rows.len() { p.note { "The " (shown.len()) " of " (format_count(rows.len() as u64)) " groups with the most impressions." } }
                div.scroll tabindex="0" role="region" aria-label=(format!("By {name}")) {
                    table {
                        thead { tr {
                            th scope="col" { (name.get(..1).unwrap_or_default().to_uppercase()) (name.get(1..).unwrap_or_default()) }
                            th.number scope="col" { "Impressions" }
                            th.number scope="col" { "Clicks" }
                            th.number scope="col" { "CTR" }
                            th scope="col" { "95 %" }
                            th.number scope="col" { "Conversions" }
                            th.number scope="col" { "CVR" }
                            th scope="col" { "Revenue" }
                        } }
                        tbody { @for row in shown { (report_row(row)) } }
                    }
                }
            }
        }
    }
}

fn report_row(row: &AttributionRow) -> Markup {
    let amounts: Vec<_> = row
        .revenue
        .iter()
        .map(|revenue| format!("{} {}", format_amount(revenue.sum), revenue.currency).trim_end().to_owned())
        .collect();
    html! {
        tr {
            th scope="row" { (row.group) }
            td.number { (format_count(row.impressions)) }
            td.number { (format_count(row.clicks)) }
            td.number { (format_rate_percent(row.ctr)) }
            td { (format_interval(row.ctr_interval)) }
            td.number { (format_count(row.conversions)) }
            td.number { (format_rate_percent(row.cvr)) }
            td { (if amounts.is_empty() { NO_VALUE_TEXT.to_owned() } else { amounts.join("; ") }) }
        }
    }
}

fn revenue_name(currency: &str) -> String {
    if currency.is_empty() { "Revenue".to_owned() } else { format!("Revenue, {currency}") }
}

fn format_rate_percent(rate: Option<f64>) -> String {
    rate.map_or_else(|| NO_VALUE_TEXT.to_owned(), |rate| format!("{:.2} %", rate * 100.0))
}

fn format_interval(interval: Option<Interval>) -> String {
    interval.map_or_else(
        || NO_VALUE_TEXT.to_owned(),
        |Interval { low, high }| format!("{:.2} to {:.2} %", low * 100.0, high * 100.0),
    )
}

/// Formats an amount of money with two decimal places and thousands separators.
fn format_amount(amount: f64) -> String {
    let cents = (amount.abs() * 100.0).round() as u64;
    let sign = if amount < 0.0 && cents > 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", format_count(cents / 100), cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_amounts_and_rates() {
        assert_eq!([0.0, -0.001, 1_234.567, -2.5].map(format_amount), ["0.00", "0.00", "1,234.57", "-2.50"]);
        assert_eq!(format_rate_percent(Some(0.1234)), "12.34 %");
        assert_eq!(format_interval(Some(Interval { low: 0.01, high: 0.5 })), "1.00 to 50.00 %");
    }
}
