//! Parameters that exclude or demote items by the user's item history.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::ImpressionLimitAction;
use crate::http::schema::problem::Problem;
use crate::http::schema::quoted::quoted;
use crate::settings::Period;

/// Largest number of kinds of events by which one request excludes items.
const MAX_EXCLUDED_KINDS: usize = 16;

/// Largest number of impressions in `max_impressions`.
const MAX_IMPRESSION_COUNT: usize = 100;

/// What happens to an item that was shown to the user too often.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ImpressionLimitAction)]
#[expect(dead_code, reason = "the type exists only for the OpenAPI document")]
pub(in crate::http) enum ImpressionLimitActionSchema {
    /// The list does not contain the item.
    Drop,
    /// The item follows all items that were not shown too often.
    Demote,
}

/// The number of impressions in a period that excludes an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct ImpressionLimit {
    pub(in crate::http) count: usize,
    pub(in crate::http) period: Period,
}

/// Checks the number of kinds of events in `exclude_events`.
///
/// # Errors
/// 400 if there are too many.
pub(in crate::http) fn check_excluded_kind_count(count: usize) -> Result<(), Problem> {
    if count > MAX_EXCLUDED_KINDS {
        let got = format!("a list of {count}");
        return Err(Problem::out_of_range("exclude_events", got, "a list of at most 16 kinds"));
    }
    Ok(())
}

/// Parses kinds of events with periods, such as `purchase:365d,dismiss:30d`.
///
/// # Errors
/// 400 if the text has another form.
pub(in crate::http) fn parse_event_exclusions(name: &str, value: &str) -> Result<Vec<(String, Period)>, Problem> {
    let parse = |part: &str| {
        let Some((kind, period)) = part.rsplit_once(':') else {
            let detail = format!("`{name}` must be kinds with periods, such as purchase:365d,dismiss:30d.");
            return Err(Problem::invalid_parameter(name, detail));
        };
        Ok((kind.trim().to_owned(), parse_period(name, period)?))
    };
    value.split(',').map(parse).collect()
}

/// Parses a number of impressions in a period, such as `3/24h`.
///
/// # Errors
/// 400 if the text has another form, or the number is out of range.
pub(in crate::http) fn parse_impression_limit(name: &str, value: &str) -> Result<ImpressionLimit, Problem> {
    let allowed = 1..=MAX_IMPRESSION_COUNT;
    let limit = value.split_once('/').and_then(|(count, period)| Some((count.parse::<usize>().ok()?, period)));
    let Some((count, period)) = limit.filter(|(count, _)| allowed.contains(count)) else {
        let detail = format!("`{name}` must be a number from 1 to {MAX_IMPRESSION_COUNT} and a period, such as 3/24h.");
        return Err(Problem::invalid_parameter(name, detail));
    };
    Ok(ImpressionLimit { count, period: parse_period(name, period)? })
}

/// Parses what happens to items that were shown too often.
///
/// # Errors
/// 400 if there is no action of this name.
pub(in crate::http) fn parse_impression_limit_action(
    name: &str,
    value: &str,
) -> Result<ImpressionLimitAction, Problem> {
    let action = ImpressionLimitAction::ALL.into_iter().find(|action| action.name() == value);
    action.ok_or_else(|| Problem::out_of_range(name, quoted(value), "drop or demote"))
}

/// 400: an action for items that were shown too often, without a limit.
pub(in crate::http) fn action_without_limit() -> Problem {
    let detail = "`impression_limit_action` needs a limit; also send `max_impressions`, such as 3/24h.";
    Problem::invalid_parameter("impression_limit_action", detail)
}

/// Parses a duration.
///
/// # Errors
/// 400 if the text is not a duration.
pub(in crate::http) fn parse_period(name: &str, value: &str) -> Result<Period, Problem> {
    value.parse::<Period>().map_err(|error| Problem::invalid_parameter(name, format!("{error}.")))
}
