//! Placements in requests and responses.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{ImpressionLimitAction, ItemBoost, Objective, PlacementConfig, PlacementKind};
use crate::http::schema::domain_schemas::ObjectiveSchema;
use crate::http::schema::exclusion_parameters::{
    ImpressionLimit, ImpressionLimitActionSchema, action_without_limit, check_excluded_kind_count,
    parse_event_exclusions, parse_impression_limit, parse_impression_limit_action, parse_period,
};
use crate::http::schema::problem::Problem;
use crate::http::schema::query;
use crate::http::schema::quoted::quoted;
use crate::learner::ItemFilter;
use crate::settings::Period;

/// The configuration of a placement.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PlacementConfig, example = json!({ "type": "similar", "limit": 8, "filter": "available" }))]
pub(in crate::http) struct PlacementBody {
    /// The type of the lists. Default: `next-items`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<PlacementKindSchema>)]
    kind: Option<String>,
    /// The number of items.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// A filter expression on attributes. Every item of the list satisfies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    /// Exclude the items of the user's last 50 events.
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude_seen: Option<bool>,
    /// The largest number of items per category.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    diversity: Option<usize>,
    /// How long an item is hidden after the user has purchased it, such as `1d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    purchased_for: Option<String>,
    /// How long an item is hidden after the user has dismissed it, such as `30d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    dismissed_for: Option<String>,
    /// Kinds of events with periods, such as `purchase:365d,dismiss:30d`: items with such an event are
    /// excluded.
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude_events: Option<String>,
    /// Items that were shown to the user this often within a period without a later event on them are
    /// excluded, such as `3/24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_impressions: Option<String>,
    /// What happens to the items of `max_impressions`: `drop` leaves them out, `demote` puts them
    /// behind all other items of the list. Default: `drop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ImpressionLimitActionSchema>)]
    impression_limit_action: Option<String>,
    /// Factors on the scores of items. If an item satisfies several filters, their factors multiply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    boosts: Vec<BoostBody>,
    /// What the lists are ranked for. Default: the next event of any kind. Only for the types
    /// `for-you`, `next-items` and `rank`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ObjectiveSchema>)]
    objective: Option<String>,
}

/// A factor on the scores of the items that satisfy a filter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Boost)]
pub(in crate::http) struct BoostBody {
    /// A filter expression on attributes.
    filter: String,
    /// The factor. A factor below 1 moves items down.
    #[schema(minimum = 0.001, maximum = 1000)]
    factor: f32,
}

/// The type of the lists of a placement.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = PlacementType)]
#[expect(dead_code, reason = "the type exists only for the OpenAPI document")]
enum PlacementKindSchema {
    /// The items that the user is likely to want, also at the start of a session.
    ForYou,
    /// The items that are likely to follow the events of the session.
    NextItems,
    /// Items that are similar to the context items.
    Similar,
    /// The items that the user has purchased, those first that are due again.
    BuyAgain,
    /// Trending items.
    Trending,
    /// The newest items.
    New,
    /// The order of a list that the site sends to `/v1/rank`.
    Rank,
    /// Items that are bought together with the context items.
    BoughtTogether,
}

/// Smallest and largest factor of a boost.
const FACTOR_RANGE: std::ops::RangeInclusive<f32> = 0.001..=1000.0;
/// Largest length of a name of a placement, or of the id of a rule.
const MAX_NAME_LENGTH: usize = 64;

/// Checks the name of a placement or the id of a rule. `field` is the name of the parameter.
///
/// # Errors
/// 400 if the name has other characters, or is too short, too long or reserved.
pub(in crate::http) fn check_name(field: &str, name: String) -> Result<String, Problem> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let fits = (1..=MAX_NAME_LENGTH).contains(&name.len()) && name.bytes().all(is_allowed) && name != "none";
    let allowed = "1 to 64 characters of a-z, 0-9, `_` and `-`, and not `none`";
    if fits { Ok(name) } else { Err(Problem::out_of_range(field, quoted(&name), allowed)) }
}

/// Checks a filter expression of the field `field`.
///
/// # Errors
/// 400 if the expression has a syntax error.
pub(in crate::http) fn check_filter(field: &str, text: String) -> Result<String, Problem> {
    ItemFilter::parse(&text).map_err(|error| Problem::invalid_filter(&error).with_field(field))?;
    Ok(text)
}

impl BoostBody {
    /// Checks the boost. `field` is its place in the body.
    ///
    /// # Errors
    /// 400 if a value is invalid.
    pub(in crate::http) fn into_boost(self, field: &str) -> Result<ItemBoost, Problem> {
        if !FACTOR_RANGE.contains(&self.factor) {
            return Err(Problem::out_of_range(&format!("{field}.factor"), self.factor, "0.001 to 1000"));
        }
        Ok(ItemBoost { filter: check_filter(&format!("{field}.filter"), self.filter)?, factor: self.factor })
    }
}

impl From<&ItemBoost> for BoostBody {
    fn from(boost: &ItemBoost) -> Self {
        Self { filter: boost.filter.clone(), factor: boost.factor }
    }
}

impl PlacementBody {
    /// Checks the configuration.
    ///
    /// # Errors
    /// 400 if a value is invalid.
    pub(in crate::http) fn into_config(self) -> Result<PlacementConfig, Problem> {
        let kind = match self.kind {
            None => PlacementKind::default(),
            Some(name) => PlacementKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                let names = PlacementKind::ALL.map(PlacementKind::name);
                Problem::out_of_range("type", quoted(&name), format!("one of {}", names.join(", ")))
            })?,
        };
        let objective = self.objective.map(|name| parse_objective(&name, kind)).transpose()?;
        let period =
            |name, text: Option<String>| text.map(|text| parse_period(name, &text).map(Period::as_millis)).transpose();
        let action = |text: String| parse_impression_limit_action("impression_limit_action", &text);
        let impression_limit_action = self.impression_limit_action.map(action).transpose()?;
        if impression_limit_action.is_some() && self.max_impressions.is_none() {
            return Err(action_without_limit());
        }
        let boosts = self.boosts;
        if boosts.len() > PlacementConfig::MAX_BOOSTS {
            let given = format!("a list of {}", boosts.len());
            return Err(Problem::out_of_range("boosts", given, "a list of at most 16"));
        }
        let to_boost = |(index, boost): (usize, BoostBody)| boost.into_boost(&format!("boosts[{index}]"));
        Ok(PlacementConfig {
            kind,
            limit: self.limit.map(query::validate_limit).transpose()?,
            filter: self.filter.map(|text| check_filter("filter", text)).transpose()?,
            exclude_seen: self.exclude_seen,
            diversity: self.diversity.map(|max| query::validate_list_length("diversity", max)).transpose()?,
            purchased_for_ms: period("purchased_for", self.purchased_for)?,
            dismissed_for_ms: period("dismissed_for", self.dismissed_for)?,
            boosts: boosts.into_iter().enumerate().map(to_boost).collect::<Result<_, _>>()?,
            exclude_events: self.exclude_events.map_or(Ok(Vec::new()), |text| parse_excluded_events(&text))?,
            max_impressions: self.max_impressions.map(|text| parse_max_impressions(&text)).transpose()?,
            impression_limit_action: impression_limit_action.unwrap_or_default(),
            objective,
        })
    }
}

impl From<&PlacementConfig> for PlacementBody {
    fn from(config: &PlacementConfig) -> Self {
        Self {
            kind: Some(config.kind.name().to_owned()),
            limit: config.limit,
            filter: config.filter.clone(),
            exclude_seen: config.exclude_seen,
            diversity: config.diversity,
            purchased_for: config.purchased_for_ms.map(format_period),
            dismissed_for: config.dismissed_for_ms.map(format_period),
            exclude_events: (!config.exclude_events.is_empty()).then(|| {
                let parts =
                    config.exclude_events.iter().map(|(kind, period)| format!("{kind}:{}", format_period(*period)));
                parts.collect::<Vec<_>>().join(",")
            }),
            max_impressions: config.max_impressions.map(|(count, period)| format!("{count}/{}", format_period(period))),
            impression_limit_action: (config.impression_limit_action != ImpressionLimitAction::default())
                .then(|| config.impression_limit_action.name().to_owned()),
            boosts: config.boosts.iter().map(BoostBody::from).collect(),
            objective: config.objective.map(|objective| objective.name().to_owned()),
        }
    }
}

/// Checks the objective of a placement with this type.
fn parse_objective(name: &str, kind: PlacementKind) -> Result<Objective, Problem> {
    let names = || Objective::ALL.map(Objective::name).join(", ");
    let objective = Objective::from_name(name)
        .ok_or_else(|| Problem::out_of_range("objective", quoted(name), format!("one of {}", names())))?;
    if !kind.is_ranked() {
        let detail = format!(
            "Lists of the type `{}` are not ranked for an objective; leave out `objective`, or use the type `for-you`, `next-items` or `rank`.",
            kind.name()
        );
        return Err(Problem::invalid_parameter("objective", detail));
    }
    Ok(objective)
}

fn parse_excluded_events(text: &str) -> Result<Vec<(String, i64)>, Problem> {
    let exclusions = parse_event_exclusions("exclude_events", text)?;
    check_excluded_kind_count(exclusions.len())?;
    Ok(exclusions.into_iter().map(|(kind, period)| (kind, period.as_millis())).collect())
}

fn parse_max_impressions(text: &str) -> Result<(usize, i64), Problem> {
    let ImpressionLimit { count, period } = parse_impression_limit("max_impressions", text)?;
    Ok((count, period.as_millis()))
}

fn format_period(milliseconds: i64) -> String {
    let period = match u64::try_from(milliseconds) {
        Ok(milliseconds) if milliseconds < i64::MAX as u64 => Period::from_milliseconds(milliseconds),
        _ => Period::OFF,
    };
    period.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<PlacementConfig, Problem> {
        serde_json::from_str::<PlacementBody>(body).unwrap().into_config()
    }

    #[test]
    fn a_configuration_reads_back_as_it_was_put() {
        let body = r#"{"type":"similar","limit":8,"filter":"price < 10","exclude_seen":true,"diversity":2,"purchased_for":"1d","dismissed_for":"off","exclude_events":"purchase:365d,dismiss:30d","max_impressions":"3/1d","impression_limit_action":"demote","boosts":[{"filter":"brand = leaf","factor":0.5}]}"#;
        let config = parse(body).unwrap();
        assert_eq!((config.kind, config.dismissed_for_ms), (PlacementKind::Similar, Some(i64::MAX)));
        assert_eq!(serde_json::to_string(&PlacementBody::from(&config)).unwrap(), body);
        assert_eq!(parse("{}").unwrap(), PlacementConfig::default());
        for objective in Objective::ALL {
            let body = format!(r#"{{"type":"for-you","objective":"{}"}}"#, objective.name());
            let config = parse(&body).unwrap();
            assert_eq!(config.objective, Some(objective));
            assert_eq!(serde_json::to_string(&PlacementBody::from(&config)).unwrap(), body);
        }
    }

    #[test]
    fn invalid_values_are_refused_with_their_field() {
        for (body, field) in [
            (r#"{"type":"best"}"#, "type"),
            (r#"{"objective":"clicks"}"#, "objective"),
            (r#"{"type":"similar","objective":"cvr"}"#, "objective"),
            (r#"{"limit":0}"#, "limit"),
            (r#"{"diversity":1001}"#, "diversity"),
            (r#"{"filter":"price <"}"#, "filter"),
            (r#"{"purchased_for":"soon"}"#, "purchased_for"),
            (r#"{"exclude_events":"purchase"}"#, "exclude_events"),
            (r#"{"max_impressions":"0/1d"}"#, "max_impressions"),
            (r#"{"max_impressions":"3/1d","impression_limit_action":"hide"}"#, "impression_limit_action"),
            (r#"{"impression_limit_action":"demote"}"#, "impression_limit_action"),
            (r#"{"boosts":[{"filter":"available","factor":2},{"filter":"available","factor":0}]}"#, "boosts[1].factor"),
            (r#"{"boosts":[{"filter":"colour = red","factor":2}]}"#, "boosts[0].filter"),
        ] {
            let problem = serde_json::to_value(parse(body).unwrap_err()).unwrap();
            assert_eq!(problem["field"], field, "{body}: {problem}");
            let is_filter = field.ends_with("filter");
            assert_eq!(problem["column"].is_u64(), is_filter, "the position of an error in an expression: {problem}");
        }
    }

    #[test]
    fn names_are_short_and_lower_case() {
        assert!(["home", "a", "cart_2-b"].iter().all(|name| check_name("placement", (*name).to_owned()).is_ok()));
        for name in ["", "Home", "a b", "none", "ü", &"x".repeat(65)] {
            assert!(check_name("placement", name.to_owned()).is_err(), "{name}");
        }
    }
}
