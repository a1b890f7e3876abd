//! What a request for a list may wish, as it stands in a query or a body.

use actix_web::web::Query;
use std::str::FromStr;
use utoipa::IntoParams;

use crate::domain::{Consent, ItemIx, Offset};
use crate::http::schema::consent::ConsentBody;
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::learner::{ItemFilter, RecommendationRequest};

/// The most items that one request may exclude.
const MAX_EXCLUDED: usize = 1000;

/// A query, pair by pair: a name that stands in it twice is seen twice.
pub(in crate::http) type QueryPairs = Query<Vec<(String, String)>>;

/// The wishes of a body, and of a query once it is read.
#[derive(Debug, Clone, PartialEq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct RecommendationQuery {
    /// The length of the list.
    #[param(required = false, minimum = 1, maximum = 1000, default = 20)]
    pub(in crate::http) limit: usize,
    /// Items that are not wanted, separated by commas.
    #[param(required = false, style = Form, explode = false, max_items = 1000)]
    pub(in crate::http) exclude: Vec<String>,
    /// Without the items of the user's last 50 events.
    #[param(required = false, default = false)]
    pub(in crate::http) exclude_seen: bool,
    /// An expression on attributes that the items must meet.
    #[param(example = "category in (tea, \"green tea\") and price < 10")]
    pub(in crate::http) filter: Option<String>,
    /// At most so many items of one category.
    #[param(minimum = 1, maximum = 1000)]
    pub(in crate::http) diversity: Option<usize>,
    /// For each item what every source gives it, and the event that moved it up.
    #[param(required = false, default = false)]
    pub(in crate::http) explain: bool,
    /// Waits, for a moment, until what answers follow from holds every entry before this offset:
    /// the `offset` of a receipt.
    #[param(required = false, value_type = u64)]
    pub(in crate::http) min_offset: Offset,
    /// How far the consent to just this goes: with `none` the list follows from nothing that is
    /// kept of the user, below `full` it is not noted as shown. Where the user said less, that
    /// counts.
    #[param(required = false, value_type = ConsentBody)]
    pub(in crate::http) consent: Option<Consent>,
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
            min_offset: 0,
            consent: None,
        }
    }
}

impl RecommendationQuery {
    /// The parameters of a query that are wishes.
    pub(in crate::http) const PARAMETER_NAMES: [&str; 8] =
        ["limit", "exclude", "exclude_seen", "filter", "diversity", "explain", "min_offset", "consent"];

    /// Takes a parameter of a query; `false` if it is no wish.
    ///
    /// # Errors
    /// 400 if its value cannot be read.
    pub(in crate::http) fn set_parameter(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        match name {
            "limit" => self.limit = parse_integer(name, value)?,
            "min_offset" => self.min_offset = parse_integer(name, value)?,
            // Also what is empty counts, as it is described; no item is meant by it.
            "exclude" => self.exclude.extend(value.split(',').map(str::to_owned)),
            "exclude_seen" => self.exclude_seen = truth(name, value)?,
            "filter" => self.filter = Some(value.to_owned()),
            "diversity" => self.diversity = Some(parse_integer(name, value)?),
            "consent" => self.consent = Some(level(name, value)?),
            "explain" => self.explain = truth(name, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The request that they make, once what they want to be known is.
    ///
    /// # Errors
    /// 400 if one of them is out of its range or no filter, 503 if `min_offset` is too far.
    pub(in crate::http) async fn to_request_after_offset(&self, api: &ApiState) -> Result<RecommendationRequest, Problem> {
        let request = self.to_request(api)?;
        api.system.recommender.wait_for_offset(self.min_offset, api.read_wait).await?;
        Ok(RecommendationRequest { now: api.clock.now(), ..request })
    }

    /// The request that they make.
    ///
    /// # Errors
    /// 400 if one of them is out of its range or no filter.
    pub(in crate::http) fn to_request(&self, api: &ApiState) -> Result<RecommendationRequest, Problem> {
        if self.exclude.len() > MAX_EXCLUDED {
            return Err(Problem::out_of_range("exclude", format!("a list of {}", self.exclude.len()), "a list of at most 1000"));
        }
        if let Some(diversity) = self.diversity.filter(|most| !(1..=RecommendationRequest::MAX_LIMIT).contains(most)) {
            return Err(Problem::out_of_range("diversity", diversity, "1 to 1000"));
        }
        let dictionary = api.system.recommender.dictionary();
        let mut exclude: Vec<ItemIx> = self.exclude.iter().filter_map(|item| dictionary.get(item)).collect();
        exclude.sort_unstable();
        let filter = self.filter.as_deref().map(ItemFilter::parse).transpose().map_err(|fault| Problem::invalid_filter(&fault))?;
        Ok(RecommendationRequest {
            exclude,
            exclude_seen: self.exclude_seen,
            filter,
            max_per_category: self.diversity,
            explain: self.explain,
            ..RecommendationRequest::new(validate_limit(self.limit)?, api.clock.now())
        })
    }
}

/// Passes the id of a user who is asked for.
///
/// # Errors
/// 400 if no event could be of such a user.
pub(in crate::http) fn validate_user_id(api: &ApiState, id: String) -> Result<String, Problem> {
    api.rules.validate_user_id("user", id).map_err(|fault| Problem::invalid_parameter("user", format!("{}.", fault.reason)))
}

/// Passes a length of a list.
///
/// # Errors
/// 400 if it is out of its range.
pub(in crate::http) fn validate_limit(limit: usize) -> Result<usize, Problem> {
    validate_list_length("limit", limit)
}

/// Passes a parameter that is a length of a list.
///
/// # Errors
/// 400 if it is out of its range.
pub(in crate::http) fn validate_list_length(name: &str, length: usize) -> Result<usize, Problem> {
    let fits = (1..=RecommendationRequest::MAX_LIMIT).contains(&length);
    fits.then_some(length).ok_or_else(|| Problem::out_of_range(name, length, "1 to 1000"))
}

/// A parameter that is a whole number.
///
/// # Errors
/// 400 if it is none.
pub(in crate::http) fn parse_integer<T: FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    read(name, value, "a whole number, at least 0")
}

fn level(name: &str, value: &str) -> Result<Consent, Problem> {
    Consent::from_name(value).ok_or_else(|| Problem::invalid_parameter(name, format!("`{name}` must be none, session or full.")))
}

fn truth(name: &str, value: &str) -> Result<bool, Problem> {
    read(name, value, "true or false")
}

fn read<T: FromStr>(name: &str, value: &str, wanted: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| Problem::invalid_parameter(name, format!("`{name}` must be {wanted}.")))
}

/// 400: the query has a parameter that is not known here.
pub(in crate::http) fn unknown_parameter(name: &str, known: &[&str]) -> Problem {
    let name: String = name.chars().filter(|letter| !letter.is_control()).take(40).collect();
    Problem::invalid_parameter(&name, format!("There is no parameter `{name}`; there are {}.", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_pair_by_pair() {
        let mut wishes = RecommendationQuery::default();
        for (name, value) in [("exclude", "tea,,cup"), ("exclude", "pot"), ("limit", "5"), ("explain", "true"), ("diversity", "2")] {
            assert!(wishes.set_parameter(name, value).unwrap());
        }
        let exclude = ["tea", "", "cup", "pot"].map(str::to_owned).to_vec();
        assert_eq!(wishes, RecommendationQuery { limit: 5, exclude, explain: true, diversity: Some(2), ..RecommendationQuery::default() });
        assert!(!wishes.set_parameter("limits", "5").unwrap());
        assert!(wishes.set_parameter("limit", "-1").is_err() && wishes.set_parameter("explain", "yes").is_err());
        assert!(RecommendationQuery::PARAMETER_NAMES.iter().all(|name| matches!(wishes.set_parameter(name, "1"), Ok(true) | Err(_))));
    }
}
