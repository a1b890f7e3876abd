//! Parameters of a recommendation request, in a query or a body.

use actix_web::web::Query;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::str::FromStr;
use utoipa::IntoParams;

use crate::domain::{Attributes, Consent, ItemIx, Offset};
use crate::http::schema::consent::ConsentBody;
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::ingest::{ValidationError, with_context_parameter};
use crate::learner::{HiddenItems, ItemFilter, RecommendationRequest};
use crate::settings::Period;

/// Largest number of excluded items in one request.
const MAX_EXCLUDED_ITEMS: usize = 1000;

/// The names of the parameters of a context have this prefix.
const CONTEXT_PREFIX: &str = "context.";

/// The name-value pairs of a URL query. A name that occurs twice yields two pairs.
pub(in crate::http) type QueryPairs = Query<Vec<(String, String)>>;

/// The parameters of a recommendation, parsed from a query or a body.
#[derive(Debug, Clone, PartialEq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct RecommendationQuery {
    /// The number of items to recommend.
    #[param(required = false, minimum = 1, maximum = 1000, default = 20)]
    pub(in crate::http) limit: usize,
    /// Items to exclude, separated by commas.
    #[param(required = false, style = Form, explode = false, max_items = 1000)]
    pub(in crate::http) exclude: Vec<String>,
    /// Exclude the items of the user's last 50 events.
    #[param(required = false, default = false)]
    pub(in crate::http) exclude_seen: bool,
    /// A filter expression on attributes of items, of the user (`user.NAME`) and of the context
    /// (`context.NAME`). Every recommended item satisfies it.
    #[param(example = "category in (tea, \"green tea\") and price < 10")]
    pub(in crate::http) filter: Option<String>,
    /// The largest number of items per category.
    #[param(minimum = 1, maximum = 1000)]
    pub(in crate::http) diversity: Option<usize>,
    /// Explain each item by the evidence of every source for it, and by the event that improved its
    /// rank the most.
    #[param(required = false, default = false)]
    pub(in crate::http) explain: bool,
    /// How long an item is hidden after the user has dismissed it, such as `30d`. `off` hides it
    /// forever. Default: session.dismissed_for.
    #[param(required = false, value_type = String)]
    pub(in crate::http) dismissed_for: Option<Period>,
    /// How long an item is hidden after the user has purchased it, such as `1d`. `0s` does not hide
    /// it. Default: session.purchased_for.
    #[param(required = false, value_type = String)]
    pub(in crate::http) purchased_for: Option<Period>,
    /// Wait until the model and the sessions include every journal entry before this offset. With
    /// the `offset` of a receipt, they include the records of that receipt.
    #[param(required = false, value_type = u64)]
    pub(in crate::http) min_offset: Offset,
    /// The consent level of this request. If the user's level is lower, the user's level applies.
    /// With `none`, the recommendation uses no stored data of the user. Below `full`, the journal
    /// does not record the recommendation as an impression.
    #[param(required = false, value_type = ConsentBody)]
    pub(in crate::http) consent: Option<Consent>,
    /// A value of the context of the request, for the filter. `NAME` begins with `a-z`, and has at
    /// most 32 characters `a-z`, `0-9` and `_`. `true`, `false` and numbers have their own types. At
    /// most 8 names.
    #[param(rename = "context.NAME", required = false, value_type = String, max_length = 64)]
    pub(in crate::http) context: Attributes,
}

impl Default for RecommendationQuery {
    fn default() -> Self {
        Self {
            limit: 20,
            exclude: Vec::new(),
            exclude_seen: false,
            filter: None,
            diversity: None,
            explain: false,
            dismissed_for: None,
            purchased_for: None,
            min_offset: 0,
            consent: None,
            context: Attributes::default(),
        }
    }
}

impl RecommendationQuery {
    /// The names of the query parameters.
    pub(in crate::http) const PARAMETER_NAMES: [&str; 11] = [
        "limit",
        "exclude",
        "exclude_seen",
        "filter",
        "diversity",
        "explain",
        "dismissed_for",
        "purchased_for",
        "min_offset",
        "consent",
        "context.NAME",
    ];

    /// Sets the parameter `name` to a value from a query. Returns `false` if there is no such
    /// parameter.
    ///
    /// # Errors
    /// 400 if the value cannot be parsed.
    pub(in crate::http) fn set_parameter(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        match name {
            "limit" => self.limit = parse_integer(name, value)?,
            "min_offset" => self.min_offset = parse_integer(name, value)?,
            // Empty ids count towards the limit of excluded items, although they match no item.
            "exclude" => self.exclude.extend(value.split(',').map(str::to_owned)),
            "exclude_seen" => self.exclude_seen = parse_bool(name, value)?,
            "filter" => self.filter = Some(value.to_owned()),
            "diversity" => self.diversity = Some(parse_integer(name, value)?),
            "consent" => self.consent = Some(parse_consent(name, value)?),
            "dismissed_for" => self.dismissed_for = Some(parse_period(name, value)?),
            "purchased_for" => self.purchased_for = Some(parse_period(name, value)?),
            "explain" => self.explain = parse_bool(name, value)?,
            _ => {
                let Some(key) = name.strip_prefix(CONTEXT_PREFIX) else { return Ok(false) };
                self.context =
                    with_context_parameter(&self.context, key, value).map_err(|error| invalid_context(&error))?;
            }
        }
        Ok(true)
    }

    /// Converts the parameters into a request, and waits until the model and the sessions include
    /// every entry before `min_offset`.
    ///
    /// # Errors
    /// 400 if a parameter is out of range or the filter is invalid, 503 if `min_offset` is not
    /// reached in time.
    pub(in crate::http) async fn to_request_after_offset(
        &self,
        api: &ApiState,
    ) -> Result<RecommendationRequest, Problem> {
        let request = self.to_request(api)?;
        api.system.recommender.wait_for_offset(self.min_offset, api.read_wait).await?;
        Ok(RecommendationRequest { now: api.clock.now(), ..request })
    }

    /// A digest of the parameters that determine the list. It is the same in every build, because
    /// the journal stores it.
    fn digest(&self) -> u64 {
        let mut hasher = SipHasher24::new();
        let mut add = |name: &str, value: &str| {
            for part in [name, value] {
                hasher.write(&(part.len() as u64).to_le_bytes());
                hasher.write(part.as_bytes());
            }
        };
        let mut exclude = self.exclude.clone();
        exclude.sort_unstable();
        add("limit", &self.limit.to_string());
        exclude.iter().for_each(|item| add("exclude", item));
        add("exclude_seen", &self.exclude_seen.to_string());
        self.filter.iter().for_each(|filter| add("filter", filter));
        self.diversity.iter().for_each(|diversity| add("diversity", &diversity.to_string()));
        for (name, period) in [("dismissed_for", self.dismissed_for), ("purchased_for", self.purchased_for)] {
            period.iter().for_each(|period| add(name, &period.as_millis().to_string()));
        }
        for (name, value) in self.context.views() {
            add(&format!("{CONTEXT_PREFIX}{name}"), &serde_json::to_string(&value).unwrap_or_default());
        }
        hasher.finish()
    }

    fn hidden_items(&self, api: &ApiState) -> HiddenItems {
        let default = api.hidden_items;
        HiddenItems {
            dismissed_for_ms: self.dismissed_for.map_or(default.dismissed_for_ms, Period::as_millis),
            purchased_for_ms: self.purchased_for.map_or(default.purchased_for_ms, Period::as_millis),
            ..default
        }
    }

    /// Converts the parameters into a request.
    ///
    /// # Errors
    /// 400 if a parameter is out of range or the filter is invalid.
    pub(in crate::http) fn to_request(&self, api: &ApiState) -> Result<RecommendationRequest, Problem> {
        if self.exclude.len() > MAX_EXCLUDED_ITEMS {
            return Err(Problem::out_of_range(
                "exclude",
                format!("a list of {}", self.exclude.len()),
                "a list of at most 1000",
            ));
        }
        if let Some(diversity) = self.diversity.filter(|max| !(1..=RecommendationRequest::MAX_LIMIT).contains(max)) {
            return Err(Problem::out_of_range("diversity", diversity, "1 to 1000"));
        }
        let dictionary = api.system.recommender.dictionary();
        let mut exclude: Vec<ItemIx> = self.exclude.iter().filter_map(|item| dictionary.get(item)).collect();
        exclude.sort_unstable();
        let filter = self
            .filter
            .as_deref()
            .map(|filter| Ok(ItemFilter::parse(filter)?.with_context(&self.context)))
            .transpose()
            .map_err(|error| Problem::invalid_filter(&error))?;
        Ok(RecommendationRequest {
            exclude,
            exclude_seen: self.exclude_seen,
            filter,
            max_per_category: self.diversity,
            explain: self.explain,
            hidden: self.hidden_items(api),
            digest: self.digest(),
            ..RecommendationRequest::new(validate_limit(self.limit)?, api.clock.now())
        })
    }
}

/// 400: the context has a value that is not allowed.
pub(in crate::http) fn invalid_context(error: &ValidationError) -> Problem {
    Problem::invalid_parameter("context", format!("{}.", error.reason))
}

/// Parses a duration.
///
/// # Errors
/// 400 if the text is not a duration.
pub(in crate::http) fn parse_period(name: &str, value: &str) -> Result<Period, Problem> {
    value.parse::<Period>().map_err(|error| Problem::invalid_parameter(name, format!("{error}.")))
}

/// Validates a user id.
///
/// # Errors
/// 400 if the id breaks a validation rule.
pub(in crate::http) fn validate_user_id(api: &ApiState, id: String) -> Result<String, Problem> {
    api.rules
        .validate_user_id("user", id)
        .map_err(|error| Problem::invalid_parameter("user", format!("{}.", error.reason)))
}

/// Validates `limit`.
///
/// # Errors
/// 400 if it is out of range.
pub(in crate::http) fn validate_limit(limit: usize) -> Result<usize, Problem> {
    validate_list_length("limit", limit)
}

/// Validates a parameter that is a number of items.
///
/// # Errors
/// 400 if it is out of range.
pub(in crate::http) fn validate_list_length(name: &str, length: usize) -> Result<usize, Problem> {
    let fits = (1..=RecommendationRequest::MAX_LIMIT).contains(&length);
    fits.then_some(length).ok_or_else(|| Problem::out_of_range(name, length, "1 to 1000"))
}

/// Parses a parameter that is a whole number.
///
/// # Errors
/// 400 if it is not a whole number.
pub(in crate::http) fn parse_integer<T: FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    parse_parameter(name, value, "a whole number, at least 0")
}

fn parse_consent(name: &str, value: &str) -> Result<Consent, Problem> {
    Consent::from_name(value)
        .ok_or_else(|| Problem::invalid_parameter(name, format!("`{name}` must be none, session or full.")))
}

fn parse_bool(name: &str, value: &str) -> Result<bool, Problem> {
    parse_parameter(name, value, "true or false")
}

fn parse_parameter<T: FromStr>(name: &str, value: &str, expected: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| Problem::invalid_parameter(name, format!("`{name}` must be {expected}.")))
}

/// 400: the query has an unknown parameter.
pub(in crate::http) fn unknown_parameter(name: &str, known: &[&str]) -> Problem {
    let name: String = name.chars().filter(|character| !character.is_control()).take(40).collect();
    Problem::invalid_parameter(&name, format!("Unknown parameter `{name}`; known parameters are {}.", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_query_pairs() {
        let mut parsed = RecommendationQuery::default();
        for (name, value) in
            [("exclude", "tea,,cup"), ("exclude", "pot"), ("limit", "5"), ("explain", "true"), ("diversity", "2")]
        {
            assert!(parsed.set_parameter(name, value).unwrap());
        }
        let exclude = ["tea", "", "cup", "pot"].map(str::to_owned).to_vec();
        assert_eq!(
            parsed,
            RecommendationQuery {
                limit: 5,
                exclude,
                explain: true,
                diversity: Some(2),
                ..RecommendationQuery::default()
            }
        );
        assert!(!parsed.set_parameter("limits", "5").unwrap());
        assert!(parsed.set_parameter("context.max_price", "9.5").unwrap());
        assert!(parsed.set_parameter("context.Max", "9.5").is_err());
        assert!(parsed.set_parameter("limit", "-1").is_err() && parsed.set_parameter("explain", "yes").is_err());
        assert!(
            RecommendationQuery::PARAMETER_NAMES
                .iter()
                .all(|name| matches!(parsed.set_parameter(name, "1"), Ok(true) | Err(_)))
        );
    }

    #[test]
    fn a_digest_identifies_the_parameters_of_the_list() {
        let digest = |pairs: &[(&str, &str)]| {
            let mut query = RecommendationQuery::default();
            pairs.iter().for_each(|(name, value)| assert!(query.set_parameter(name, value).unwrap()));
            query.digest()
        };
        assert_eq!(digest(&[]), 0x08d2_9571_a9c6_ce46, "the digests of stored impressions do not change");
        assert_eq!(digest(&[("exclude", "a,b")]), digest(&[("exclude", "b"), ("exclude", "a")]));
        assert_eq!(digest(&[("explain", "true"), ("min_offset", "5"), ("consent", "full")]), digest(&[]));
        let different =
            [("limit", "5"), ("exclude", "a"), ("filter", "available"), ("context.a", "1"), ("context.a", "x")];
        let mut digests: Vec<_> = different.map(|pair| digest(&[pair])).to_vec();
        digests.push(digest(&[]));
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), different.len() + 1);
    }
}
