//! Parameters of an attribution report.

use jiff::Timestamp as UtcTimestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use utoipa::IntoParams;

use crate::domain::{EventKind, EventKinds, Timestamp};
use crate::http::schema::exclusion_parameters::parse_period;
use crate::http::schema::placement_body::check_name;
use crate::http::schema::problem::Problem;
use crate::http::schema::query::unknown_parameter;
use crate::http::schema::quoted::quoted;
use crate::reports::{AttributionSettings, ConversionTouch, GroupBy, ReportWindow};
use crate::services::reports::AttributionRequest;

/// Largest number of kinds of conversions.
const MAX_CONVERSION_KINDS: usize = 16;
/// The shortest and the longest window, in milliseconds.
const WINDOW_RANGE_MS: std::ops::RangeInclusive<i64> = 1_000..=90 * 24 * 3_600_000;

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum ReportFormat {
    Json,
    Csv,
}

/// The parameters of an attribution report.
#[derive(Debug, Clone, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct AttributionQuery {
    /// Only lists of this placement.
    #[param(pattern = "^[a-z0-9_-]{1,64}$")]
    pub(in crate::http) placement: Option<String>,
    /// Only lists that were shown at this time or later: a date and time, or a date (the start of
    /// the day in UTC).
    #[param(value_type = Option<String>, example = "2026-01-31")]
    pub(in crate::http) from: Option<Timestamp>,
    /// Only lists that were shown before this time, in the same notation.
    #[param(value_type = Option<String>, example = "2026-02-28T08:00:00Z")]
    pub(in crate::http) to: Option<Timestamp>,
    /// The groups: the day (UTC) of the list, its placement, its variant, the source of the item,
    /// or the rule that moved the item.
    #[param(required = false, value_type = String, pattern = "^(day|placement|variant|source|rule)$", default = "day")]
    by: GroupBy,
    /// What a conversion is attributed to: the latest clicked impression of the item, or the latest
    /// impression.
    #[param(required = false, value_type = String, pattern = "^(click|impression)$", default = "click")]
    touch: ConversionTouch,
    /// The time after an impression within which an event on the item is a click: 1s to 90d.
    #[param(required = false, value_type = String, default = "1h")]
    click_window: i64,
    /// The time after an impression within which a conversion is attributed to it: 1s to 90d.
    #[param(required = false, value_type = String, default = "7d")]
    conversion_window: i64,
    /// Kinds of events that are conversions, separated by commas. Every other event on an item can
    /// be a click.
    #[param(required = false, value_type = Vec<String>, style = Form, explode = false, min_items = 1, max_items = 16)]
    conversions: Vec<EventKind>,
    /// The format of the response. Default: `csv` if the header `Accept` names `text/csv`, else
    /// `json`.
    #[param(value_type = Option<String>, pattern = "^(json|csv)$")]
    pub(in crate::http) format: Option<ReportFormat>,
}

impl Default for AttributionQuery {
    fn default() -> Self {
        let AttributionSettings { conversions, click_window_ms, conversion_window_ms, touch } = Default::default();
        Self {
            placement: None,
            from: None,
            to: None,
            by: GroupBy::default(),
            touch,
            click_window: click_window_ms,
            conversion_window: conversion_window_ms,
            conversions,
            format: None,
        }
    }
}

impl AttributionQuery {
    const PARAMETER_NAMES: [&str; 9] =
        ["placement", "from", "to", "by", "touch", "click_window", "conversion_window", "conversions", "format"];

    /// Parses the parameters of a query.
    ///
    /// # Errors
    /// 400 if a parameter is unknown or not allowed.
    pub(in crate::http) fn from_pairs(pairs: &[(String, String)], kinds: &EventKinds) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "placement" => parsed.placement = Some(check_name(name, value.clone())?),
                "from" => parsed.from = Some(parse_report_time(name, value)?),
                "to" => parsed.to = Some(parse_report_time(name, value)?),
                "by" => parsed.by = parse_name(name, value, &GroupBy::ALL)?,
                "touch" => parsed.touch = parse_name(name, value, &ConversionTouch::ALL)?,
                "click_window" => parsed.click_window = parse_window(name, value)?,
                "conversion_window" => parsed.conversion_window = parse_window(name, value)?,
                "conversions" => parsed.conversions = parse_kinds(name, value, kinds)?,
                "format" => {
                    let formats = [("json", ReportFormat::Json), ("csv", ReportFormat::Csv)];
                    parsed.format = Some(parse_name(name, value, &formats)?);
                }
                other => return Err(unknown_parameter(other, &Self::PARAMETER_NAMES)),
            }
        }
        if let (Some(from), Some(to)) = (parsed.from, parsed.to)
            && to <= from
        {
            return Err(Problem::out_of_range("to", format_report_time(to), "later than `from`"));
        }
        Ok(parsed)
    }

    /// The grouping.
    pub(in crate::http) fn group_by(&self) -> GroupBy {
        self.by
    }

    /// Converts the parameters into a request for a report with these groupings.
    pub(in crate::http) fn to_request(&self, groupings: Vec<GroupBy>) -> AttributionRequest {
        AttributionRequest {
            settings: AttributionSettings {
                conversions: self.conversions.clone(),
                click_window_ms: self.click_window,
                conversion_window_ms: self.conversion_window,
                touch: self.touch,
            },
            window: ReportWindow { from: self.from, to: self.to, placement: self.placement.clone() },
            groupings,
        }
    }
}

fn parse_name<T: Copy>(field: &str, value: &str, known: &[(&str, T)]) -> Result<T, Problem> {
    let found = known.iter().find(|(name, _)| *name == value).map(|(_, parsed)| *parsed);
    found.ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        Problem::out_of_range(field, quoted(value), names.join(", "))
    })
}

/// Parses a date and time in the format of RFC 3339, or a date, which is the start of the day in
/// UTC.
fn parse_report_time(field: &str, value: &str) -> Result<Timestamp, Problem> {
    let time = value.parse::<UtcTimestamp>().or_else(|error| {
        // A date and time without an offset from UTC is ambiguous.
        let date = if value.len() == "2026-01-31".len() { value.parse::<Date>() } else { Err(error) };
        date.and_then(|date| TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)))
    });
    time.map(UtcTimestamp::as_millisecond).map_err(|_| {
        let allowed =
            "a date such as 2026-01-31, or a date and time with the offset from UTC such as 2026-01-31T08:00:00Z";
        Problem::out_of_range(field, quoted(value), allowed)
    })
}

/// A time in the format of RFC 3339, in UTC.
pub(in crate::http) fn format_report_time(time: Timestamp) -> String {
    UtcTimestamp::from_millisecond(time).map_or_else(|_| time.to_string(), |time| time.to_string())
}

fn parse_window(field: &str, value: &str) -> Result<i64, Problem> {
    let window = parse_period(field, value)?.as_millis();
    if WINDOW_RANGE_MS.contains(&window) {
        return Ok(window);
    }
    Err(Problem::out_of_range(field, quoted(value), "1s to 90d"))
}

fn parse_kinds(field: &str, value: &str, kinds: &EventKinds) -> Result<Vec<EventKind>, Problem> {
    let names: Vec<_> = value.split(',').map(str::trim).collect();
    if names.len() > MAX_CONVERSION_KINDS {
        return Err(Problem::out_of_range(field, format!("a list of {}", names.len()), "a list of 1 to 16 kinds"));
    }
    let parse = |name: &&str| {
        let kind = EventKind::from_name(name);
        kinds.id_of(&kind).map(|_| kind).ok_or_else(|| {
            let known: Vec<_> = kinds.names().collect();
            Problem::out_of_range(field, quoted(name), format!("kinds of events: {}", known.join(", ")))
        })
    };
    names.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<AttributionQuery, Problem> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        AttributionQuery::from_pairs(&pairs, &EventKinds::default())
    }

    #[test]
    fn parses_every_parameter() {
        assert_eq!(parse(&[]), Ok(AttributionQuery::default()));
        let parsed = parse(&[
            ("placement", "home"),
            ("from", "1970-01-02"),
            ("to", "1970-01-03T02:00:00+02:00"),
            ("by", "rule"),
            ("touch", "impression"),
            ("click_window", "30m"),
            ("conversion_window", "90d"),
            ("conversions", "purchase, cart"),
            ("format", "csv"),
        ]);
        let day = 24 * 3_600_000;
        let expected = AttributionQuery {
            placement: Some("home".to_owned()),
            from: Some(day),
            to: Some(2 * day),
            by: GroupBy::Rule,
            touch: ConversionTouch::Impression,
            click_window: 1_800_000,
            conversion_window: 90 * day,
            conversions: vec![EventKind::Purchase, EventKind::Cart],
            format: Some(ReportFormat::Csv),
        };
        assert_eq!(parsed, Ok(expected));
    }

    #[test]
    fn problems_name_the_parameter() {
        for (name, value) in [
            ("placement", "Home"),
            ("from", "yesterday"),
            ("from", "2026-01-31T08:00:00"),
            ("to", "7"),
            ("by", "item"),
            ("touch", "view"),
            ("click_window", "0s"),
            ("click_window", "off"),
            ("conversion_window", "91d"),
            ("conversions", ""),
            ("conversions", "purchase,buy"),
            ("format", "xml"),
            ("colour", "red"),
        ] {
            let problem = serde_json::to_value(parse(&[(name, value)]).unwrap_err()).unwrap();
            assert_eq!(
                (&problem["field"], &problem["status"]),
                (&name.into(), &400.into()),
                "{name}={value}: {problem}"
            );
        }
        assert!(parse(&[("from", "2026-01-31"), ("to", "2026-01-31")]).is_err());
    }
}
