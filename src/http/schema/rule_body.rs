//! Rules in requests and responses.

use jiff::Timestamp as UtcTimestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{RankingRule, RuleCondition, RuleConsequence, Timestamp};
use crate::http::schema::placement_body::{BoostBody, check_filter, check_name};
use crate::http::schema::problem::Problem;
use crate::http::schema::query;
use crate::http::schema::quoted::quoted;
use crate::http::schema::responses::IdString;
use crate::ingest::check_id;
use crate::learner::ItemFilter;

/// A rule.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rule, example = json!({ "condition": { "placements": ["home"] }, "consequence": { "promote": { "item_id": "tea", "position": 1 } }, "valid_until": "2026-12-24T18:00:00+01:00" }))]
pub(in crate::http) struct RuleBody {
    /// The lists to which the rule applies. Default: all lists.
    #[serde(default)]
    condition: ConditionBody,
    /// What the rule does.
    consequence: ConsequenceBody,
    /// The rule applies from this time on: a date and time in the format of RFC 3339, with the offset
    /// from UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    valid_from: Option<String>,
    /// The rule applies before this time, in the same format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    valid_until: Option<String>,
    /// Among rules of one kind, the rule with the larger priority applies first. Default: 0.
    #[serde(default)]
    priority: i32,
    /// Whether the rule applies at all. Default: `true`.
    #[serde(default = "default_enabled")]
    enabled: bool,
}

fn default_enabled() -> bool {
    true
}

/// The lists to which a rule applies.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RuleCondition)]
pub(in crate::http) struct ConditionBody {
    /// The placements of the lists. Empty: all lists, also those without a placement.
    #[serde(default)]
    #[schema(max_items = 64)]
    placements: Vec<String>,
    /// A filter expression that the last context item of the list must satisfy. A list without a
    /// context item does not satisfy it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context_filter: Option<String>,
}

/// What a rule does.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = RuleConsequence)]
pub(in crate::http) enum ConsequenceBody {
    /// Puts an item at a position of the list.
    Promote {
        /// The item.
        #[schema(value_type = IdString)]
        item_id: String,
        /// The position, counted from 1.
        #[schema(minimum = 1, maximum = 1000)]
        position: usize,
    },
    /// Multiplies the scores of items by a factor.
    Boost(BoostBody),
    /// Removes the items that satisfy a filter.
    Hide {
        /// A filter expression on attributes.
        filter: String,
    },
    /// Requires that the items that satisfy a filter have a share of the list: `min_share`,
    /// `max_share` or both.
    Require {
        /// A filter expression on attributes.
        filter: String,
        /// The smallest share.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(minimum = 0, maximum = 1)]
        min_share: Option<f32>,
        /// The largest share.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(minimum = 0, maximum = 1)]
        max_share: Option<f32>,
    },
}

impl RuleBody {
    /// Checks the rule.
    ///
    /// # Errors
    /// 400 if a value is invalid.
    pub(in crate::http) fn into_rule(self) -> Result<RankingRule, Problem> {
        let time = |field, text: Option<String>| text.map(|text| parse_time(field, &text)).transpose();
        let (valid_from, valid_until) = (time("valid_from", self.valid_from)?, time("valid_until", self.valid_until)?);
        if valid_from.zip(valid_until).is_some_and(|(from, until)| from >= until) {
            let detail = "`valid_until` must be after `valid_from`; otherwise the rule never applies.";
            return Err(Problem::invalid_parameter("valid_until", detail));
        }
        Ok(RankingRule {
            condition: self.condition.into_condition()?,
            consequence: self.consequence.into_consequence()?,
            valid_from,
            valid_until,
            priority: self.priority,
            is_enabled: self.enabled,
        })
    }
}

impl ConditionBody {
    fn into_condition(self) -> Result<RuleCondition, Problem> {
        if self.placements.len() > RankingRule::MAX_PLACEMENTS {
            let given = format!("a list of {}", self.placements.len());
            return Err(Problem::out_of_range("condition.placements", given, "a list of at most 64"));
        }
        let check = |name| check_name("condition.placements", name);
        let filter = self.context_filter.map(|text| check_filter("condition.context_filter", text));
        let reads_user = |text: &String| ItemFilter::parse(text).is_ok_and(|filter| filter.reads_user());
        if let Some(Ok(text)) = filter.as_ref().filter(|filter| filter.as_ref().is_ok_and(reads_user)) {
            let allowed = "a filter without attributes of the user; the filter of the consequence can read them";
            return Err(Problem::out_of_range("condition.context_filter", text, allowed));
        }
        Ok(RuleCondition {
            placements: self.placements.into_iter().map(check).collect::<Result<_, _>>()?,
            context_filter: filter.transpose()?,
        })
    }
}

impl ConsequenceBody {
    fn into_consequence(self) -> Result<RuleConsequence, Problem> {
        Ok(match self {
            Self::Promote { item_id, position } => RuleConsequence::Promote {
                item_id: check_id("item_id", item_id).map_err(|error| Problem::invalid_item(&error))?,
                position: query::validate_list_length("consequence.promote.position", position)?,
            },
            Self::Boost(boost) => RuleConsequence::Boost(boost.into_boost("consequence.boost")?),
            Self::Hide { filter } => RuleConsequence::Hide { filter: check_filter("consequence.hide.filter", filter)? },
            Self::Require { filter, min_share, max_share } => {
                let filter = check_filter("consequence.require.filter", filter)?;
                check_shares(min_share, max_share)?;
                RuleConsequence::Require { filter, min_share, max_share }
            }
        })
    }
}

fn check_shares(min: Option<f32>, max: Option<f32>) -> Result<(), Problem> {
    for (name, share) in [("min_share", min), ("max_share", max)] {
        if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(Problem::out_of_range(&format!("consequence.require.{name}"), share, "0 to 1"));
        }
    }
    let is_empty = min.zip(max).is_some_and(|(min, max)| min > max);
    if is_empty || (min.is_none() && max.is_none()) {
        let detail = "Send `min_share`, `max_share` or both, with `min_share` at most `max_share`.";
        return Err(Problem::invalid_parameter("consequence.require", detail));
    }
    Ok(())
}

/// Parses a date and time with the offset from UTC.
///
/// # Errors
/// 400 if the text has another form.
pub(in crate::http) fn parse_time(field: &str, text: &str) -> Result<Timestamp, Problem> {
    text.parse::<UtcTimestamp>().map(UtcTimestamp::as_millisecond).map_err(|_| {
        let allowed = "a date and time with the offset from UTC, such as 2026-12-24T18:00:00+01:00";
        Problem::out_of_range(field, quoted(text), allowed)
    })
}

/// A time in the format of RFC 3339, in UTC.
fn format_time(time: Timestamp) -> String {
    UtcTimestamp::from_millisecond(time).map_or_else(|_| time.to_string(), |time| time.to_string())
}

impl From<&RankingRule> for RuleBody {
    fn from(rule: &RankingRule) -> Self {
        let consequence = match rule.consequence.clone() {
            RuleConsequence::Promote { item_id, position } => ConsequenceBody::Promote { item_id, position },
            RuleConsequence::Boost(boost) => ConsequenceBody::Boost(BoostBody::from(&boost)),
            RuleConsequence::Hide { filter } => ConsequenceBody::Hide { filter },
            RuleConsequence::Require { filter, min_share, max_share } => {
                ConsequenceBody::Require { filter, min_share, max_share }
            }
        };
        let RuleCondition { placements, context_filter } = rule.condition.clone();
        Self {
            condition: ConditionBody { placements, context_filter },
            consequence,
            valid_from: rule.valid_from.map(format_time),
            valid_until: rule.valid_until.map(format_time),
            priority: rule.priority,
            enabled: rule.is_enabled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<RankingRule, Problem> {
        serde_json::from_str::<RuleBody>(body).unwrap().into_rule()
    }

    #[test]
    fn a_rule_reads_back_as_it_was_put() {
        for consequence in [
            r#"{"promote":{"item_id":"tea","position":3}}"#,
            r#"{"boost":{"filter":"brand = leaf","factor":2.5}}"#,
            r#"{"hide":{"filter":"price > 9"}}"#,
            r#"{"require":{"filter":"brand = leaf","min_share":0.25}}"#,
        ] {
            let body = format!(
                r#"{{"condition":{{"placements":["home"],"context_filter":"available"}},"consequence":{consequence},"valid_from":"2026-12-24T17:00:00Z","priority":-2,"enabled":false}}"#
            );
            assert_eq!(serde_json::to_string(&RuleBody::from(&parse(&body).unwrap())).unwrap(), body);
        }
        let rule = parse(r#"{"consequence":{"hide":{"filter":"available"}},"valid_from":"2026-12-24T18:00:00+01:00"}"#);
        assert_eq!(rule.unwrap().valid_from, Some(1_798_131_600_000), "2026-12-24T17:00:00Z");
    }

    /// Whether a rule of this validity applies at these times. All of them have an offset from UTC.
    fn applies(valid_from: &str, valid_until: &str, times: &[&str]) -> Vec<bool> {
        let body = format!(
            r#"{{"consequence":{{"hide":{{"filter":"available"}}}},"valid_from":"{valid_from}","valid_until":"{valid_until}"}}"#
        );
        let rule = parse(&body).unwrap();
        times.iter().map(|time| rule.is_valid_at(parse_time("at", time).unwrap())).collect()
    }

    /// In Berlin, clocks go from 02:00 to 03:00 on 2026-03-29, and from 03:00 back to 02:00 on
    /// 2026-10-25. A rule is valid between two instants, whatever local clocks show.
    #[test]
    fn validity_is_a_range_of_instants_over_changes_of_local_clocks() {
        // One hour: 01:30 to 03:30 on local clocks.
        let times = [
            "01:29:59+01:00",
            "01:30:00+01:00",
            "01:59:59+01:00",
            "03:00:00+02:00",
            "03:29:59+02:00",
            "03:30:00+02:00",
        ];
        let times = times.map(|time| format!("2026-03-29T{time}"));
        let times: Vec<&str> = times.iter().map(String::as_str).collect();
        assert_eq!(
            applies("2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", &times),
            [false, true, true, true, true, false]
        );
        // The same instants in UTC and in another zone.
        assert_eq!(
            applies("2026-03-29T00:30:00Z", "2026-03-28T21:30:00-04:00", &times),
            [false, true, true, true, true, false]
        );
        // Local clocks show 02:30 twice, an hour apart.
        let times = [
            "02:29:59+02:00",
            "02:30:00+02:00",
            "02:59:59+02:00",
            "02:00:00+01:00",
            "02:29:59+01:00",
            "02:30:00+01:00",
        ];
        let times = times.map(|time| format!("2026-10-25T{time}"));
        let times: Vec<&str> = times.iter().map(String::as_str).collect();
        assert_eq!(
            applies("2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", &times),
            [false, true, true, true, true, false]
        );
        // The end has the offset of summer: it is 23:00 on local clocks.
        assert_eq!(
            applies(
                "2026-10-24T00:00:00+02:00",
                "2026-10-26T00:00:00+02:00",
                &["2026-10-25T22:59:59+01:00", "2026-10-25T23:00:00+01:00"]
            ),
            [true, false]
        );
    }

    #[test]
    fn an_error_in_an_expression_has_its_position() {
        let column = |consequence: &str| {
            let problem = parse(&format!(r#"{{"consequence":{consequence}}}"#)).unwrap_err();
            serde_json::to_value(problem).unwrap()["column"].clone()
        };
        assert_eq!(column(r#"{"hide":{"filter":"price < cheap"}}"#), 9);
        assert_eq!(column(r#"{"boost":{"filter":"brand = leaf or","factor":2}}"#), 16);
        assert_eq!(column(r#"{"require":{"filter":"(available","min_share":0.5}}"#), 11);
    }

    #[test]
    fn invalid_values_are_refused_with_their_field() {
        let hide = r#""consequence":{"hide":{"filter":"available"}}"#;
        for (body, field) in [
            (
                r#"{"consequence":{"promote":{"item_id":"tea","position":0}}}"#.to_owned(),
                "consequence.promote.position",
            ),
            (r#"{"consequence":{"promote":{"item_id":"","position":1}}}"#.to_owned(), "item_id"),
            (r#"{"consequence":{"boost":{"filter":"available","factor":-1}}}"#.to_owned(), "consequence.boost.factor"),
            (r#"{"consequence":{"hide":{"filter":"prise < 1"}}}"#.to_owned(), "consequence.hide.filter"),
            (r#"{"consequence":{"require":{"filter":"available"}}}"#.to_owned(), "consequence.require"),
            (
                r#"{"consequence":{"require":{"filter":"available","min_share":1.5}}}"#.to_owned(),
                "consequence.require.min_share",
            ),
            (
                r#"{"consequence":{"require":{"filter":"available","min_share":0.5,"max_share":0.2}}}"#.to_owned(),
                "consequence.require",
            ),
            (format!(r#"{{{hide},"valid_from":"2026-12-24T18:00:00"}}"#), "valid_from"),
            (
                format!(r#"{{{hide},"valid_from":"2026-12-24T18:00:00Z","valid_until":"2026-12-24T18:00:00Z"}}"#),
                "valid_until",
            ),
            (format!(r#"{{{hide},"condition":{{"placements":["Home"]}}}}"#), "condition.placements"),
            (format!(r#"{{{hide},"condition":{{"context_filter":"no"}}}}"#), "condition.context_filter"),
            (
                format!(r#"{{{hide},"condition":{{"context_filter":"user.language = de"}}}}"#),
                "condition.context_filter",
            ),
        ] {
            let problem = serde_json::to_value(parse(&body).unwrap_err()).unwrap();
            assert_eq!(problem["field"], field, "{body}: {problem}");
        }
    }
}
