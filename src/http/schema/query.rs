//! Parameters of a recommendation request, in a query or a body.

use std::str::FromStr;
use std::sync::Arc;
use utoipa::IntoParams;

use crate::domain::{
    Attributes, Consent, EventKind, EventKinds, ImpressionLimitAction, ItemIx, Offset, PlacementConfig, PlacementKind,
    Timestamp,
};
use crate::http::schema::consent::ConsentBody;
use crate::http::schema::exclusion_parameters::{
    ImpressionLimit, ImpressionLimitActionSchema, action_without_limit, check_excluded_kind_count,
    parse_event_exclusions, parse_impression_limit, parse_impression_limit_action, parse_period,
};
use crate::http::schema::problem::Problem;
use crate::http::schema::request_digest::RequestDigest;
use crate::http::state::ApiState;
use crate::ingest::{ValidationError, with_context_parameter};
use crate::learner::{
    EventExclusion, HiddenItems, ImpressionCap, ItemExclusions, ItemFilter, ListBase, RecommendationRequest,
};
use crate::services::placements::{CompiledPlacement, CompiledPlacements, RequestContext};
use crate::settings::Period;

/// Largest number of excluded items, and of context items, in one request.
const MAX_LISTED_ITEMS: usize = 1000;

/// The names of the parameters of a context have this prefix.
const CONTEXT_PREFIX: &str = "context.";

/// The parameters of a recommendation, parsed from a query or a body.
#[derive(Debug, Clone, Default, PartialEq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct RecommendationQuery {
    /// The number of items to recommend.
    #[param(minimum = 1, maximum = 1000, default = 20)]
    pub(in crate::http) limit: Option<usize>,
    /// Items to exclude, separated by commas.
    #[param(required = false, style = Form, explode = false, max_items = 1000)]
    pub(in crate::http) exclude: Vec<String>,
    /// Exclude the items of the user's last 50 events.
    #[param(default = false)]
    pub(in crate::http) exclude_seen: Option<bool>,
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
    /// Add to each item its title, addresses, price, brand, categories and tags.
    #[param(required = false, default = false)]
    pub(in crate::http) details: bool,
    /// How long an item is hidden after the user has dismissed it, such as `30d`. `off` hides it
    /// forever. Default: session.dismissed_for.
    #[param(required = false, value_type = String)]
    pub(in crate::http) dismissed_for: Option<Period>,
    /// How long an item is hidden after the user has purchased it, such as `1d`. `0s` does not hide
    /// it. Default: session.purchased_for.
    #[param(required = false, value_type = String)]
    pub(in crate::http) purchased_for: Option<Period>,
    /// Exclude the items with an event of these kinds within a period, such as
    /// `purchase:365d,dismiss:30d`. At most 16 kinds. For each kind, the model remembers the latest 100
    /// items of a user.
    #[param(required = false, value_type = String)]
    pub(in crate::http) exclude_events: Vec<(String, Period)>,
    /// Exclude the items that were shown to the user this number of times within a period without a
    /// later event on them, such as `3/24h`. The model remembers the latest 300 shown items of a user.
    #[param(required = false, value_type = String)]
    pub(in crate::http) max_impressions: Option<ImpressionLimit>,
    /// What happens to the items of `max_impressions`: `drop` leaves them out, `demote` puts them
    /// behind all other items of the list.
    #[param(required = false, value_type = ImpressionLimitActionSchema, default = "drop")]
    pub(in crate::http) impression_limit_action: Option<ImpressionLimitAction>,
    /// Wait until the model and the sessions include every journal entry before this offset. With
    /// the `offset` of a receipt, they include the records of that receipt.
    #[param(required = false, value_type = u64)]
    pub(in crate::http) min_offset: Offset,
    /// The consent level of this request. If the user's level is lower, the user's level applies.
    /// With `none`, the recommendation uses no stored data of the user. Below `full`, the journal
    /// does not record the recommendation as an impression.
    #[param(required = false, value_type = ConsentBody)]
    pub(in crate::http) consent: Option<Consent>,
    /// The placement for which the list is. It determines the type of the list, and the defaults of
    /// the other parameters.
    pub(in crate::http) placement: Option<String>,
    /// The context item, such as the item of the page.
    pub(in crate::http) item: Option<String>,
    /// Several context items, such as the items of the cart, separated by commas. The last one is
    /// the context item of rules.
    #[param(required = false, style = Form, explode = false, max_items = 1000)]
    pub(in crate::http) items: Vec<String>,
    /// A value of the context of the request, for the filter and for declared features. `NAME`
    /// begins with `a-z`, and has at most 32 characters `a-z`, `0-9` and `_`. `true`, `false` and
    /// numbers have their own types. At most 8 names.
    #[param(rename = "context.NAME", required = false, value_type = String, max_length = 64)]
    pub(in crate::http) context: Attributes,
    /// Only items of this category, instead of a filter. Only the endpoint of trending items has this
    /// parameter.
    #[param(ignore)]
    pub(in crate::http) category: Option<String>,
    /// The candidates of the list, if the endpoint determines them.
    #[param(ignore)]
    pub(in crate::http) base: Option<ListBase>,
}

impl RecommendationQuery {
    /// The names of the query parameters.
    pub(in crate::http) const PARAMETER_NAMES: [&str; 18] = [
        "limit",
        "exclude",
        "exclude_seen",
        "filter",
        "diversity",
        "explain",
        "details",
        "dismissed_for",
        "purchased_for",
        "exclude_events",
        "max_impressions",
        "impression_limit_action",
        "min_offset",
        "consent",
        "placement",
        "item",
        "items",
        "context.NAME",
    ];

    /// Sets the parameter `name` to a value from a query. Returns `false` if there is no such
    /// parameter.
    ///
    /// # Errors
    /// 400 if the value cannot be parsed.
    pub(in crate::http) fn set_parameter(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        match name {
            "limit" => self.limit = Some(parse_list_length(name, value)?),
            "min_offset" => self.min_offset = parse_integer(name, value)?,
            // Empty ids count towards the limit of excluded items, although they match no item.
            "exclude" => self.exclude.extend(value.split(',').map(str::to_owned)),
            "exclude_seen" => self.exclude_seen = Some(parse_bool(name, value)?),
            "filter" => self.filter = Some(value.to_owned()),
            "diversity" => self.diversity = Some(parse_integer(name, value)?),
            "consent" => self.consent = Some(parse_consent(name, value)?),
            "dismissed_for" => self.dismissed_for = Some(parse_period(name, value)?),
            "purchased_for" => self.purchased_for = Some(parse_period(name, value)?),
            "exclude_events" => self.exclude_events.extend(parse_event_exclusions(name, value)?),
            "max_impressions" => self.max_impressions = Some(parse_impression_limit(name, value)?),
            "impression_limit_action" => {
                self.impression_limit_action = Some(parse_impression_limit_action(name, value)?);
            }
            "explain" => self.explain = parse_bool(name, value)?,
            "details" => self.details = parse_bool(name, value)?,
            "placement" => self.placement = Some(value.to_owned()),
            "item" => self.item = Some(value.to_owned()),
            "items" => self.items.extend(value.split(',').map(str::to_owned)),
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
        let mut digest = RequestDigest::default();
        let mut add = |name: &str, value: &str| digest.add(name, value);
        let mut exclude = self.exclude.clone();
        exclude.sort_unstable();
        self.limit.iter().for_each(|limit| add("limit", &limit.to_string()));
        exclude.iter().for_each(|item| add("exclude", item));
        self.exclude_seen.iter().for_each(|is_excluded| add("exclude_seen", &is_excluded.to_string()));
        self.filter.iter().for_each(|filter| add("filter", filter));
        self.diversity.iter().for_each(|diversity| add("diversity", &diversity.to_string()));
        for (name, period) in [("dismissed_for", self.dismissed_for), ("purchased_for", self.purchased_for)] {
            period.iter().for_each(|period| add(name, &period.as_millis().to_string()));
        }
        for (kind, period) in &self.exclude_events {
            add("exclude_events", &format!("{kind}:{}", period.as_millis()));
        }
        if let Some(ImpressionLimit { count, period }) = self.max_impressions {
            add("max_impressions", &format!("{count}/{}", period.as_millis()));
        }
        self.impression_limit_action.iter().for_each(|action| add("impression_limit_action", action.name()));
        self.placement.iter().for_each(|placement| add("placement", placement));
        self.item.iter().chain(&self.items).for_each(|item| add("item", item));
        for (name, value) in self.context.views() {
            add(&format!("{CONTEXT_PREFIX}{name}"), &serde_json::to_string(&value).unwrap_or_default());
        }
        digest.finish()
    }

    fn hidden_items(&self, api: &ApiState, config: &PlacementConfig) -> HiddenItems {
        let default = api.hidden_items;
        let period = |own: Option<Period>, of_placement: Option<i64>, default| {
            own.map(Period::as_millis).or(of_placement).unwrap_or(default)
        };
        HiddenItems {
            dismissed_for_ms: period(self.dismissed_for, config.dismissed_for_ms, default.dismissed_for_ms),
            purchased_for_ms: period(self.purchased_for, config.purchased_for_ms, default.purchased_for_ms),
            ..default
        }
    }

    fn item_exclusions(&self, api: &ApiState, config: &PlacementConfig) -> Result<ItemExclusions, Problem> {
        check_excluded_kind_count(self.exclude_events.len())?;
        let kinds = api.system.recommender.kinds();
        let of_placement = if self.exclude_events.is_empty() { config.exclude_events.as_slice() } else { &[] };
        // A kind of a placement that is no longer configured has no events.
        let of_placement = of_placement.iter().filter_map(|(name, period_ms)| {
            Some(EventExclusion { kind: kinds.id_of(&EventKind::from_name(name))?, period_ms: *period_ms })
        });
        let to_exclusion = |(name, period): &(String, Period)| {
            let kind = kinds.id_of(&EventKind::from_name(name));
            let kind = kind.ok_or_else(|| unknown_excluded_kind(name, kinds))?;
            Ok(EventExclusion { kind, period_ms: period.as_millis() })
        };
        let mut events = self.exclude_events.iter().map(to_exclusion).collect::<Result<Vec<_>, Problem>>()?;
        events.extend(of_placement);
        Ok(ItemExclusions { events, max_impressions: self.impression_cap(config)? })
    }

    /// The limit on impressions; `None` without limit.
    fn impression_cap(&self, config: &PlacementConfig) -> Result<Option<ImpressionCap>, Problem> {
        let limit = self.max_impressions.map(|ImpressionLimit { count, period }| (count, period.as_millis()));
        let limit = limit.or(config.max_impressions);
        if limit.is_none() && self.impression_limit_action.is_some() {
            return Err(action_without_limit());
        }
        let action = self.impression_limit_action.unwrap_or(config.impression_limit_action);
        Ok(limit.map(|(count, period_ms)| ImpressionCap { count, period_ms, action }))
    }

    /// Converts the parameters into a request. A placement supplies the parameters that are absent.
    ///
    /// # Errors
    /// 400 if a parameter is out of range, the filter is invalid or a context item is missing, 404 if
    /// the placement or all context items are unknown.
    pub(in crate::http) fn to_request(&self, api: &ApiState) -> Result<RecommendationRequest, Problem> {
        self.to_request_with(api, &api.placements.current(), api.clock.now())
    }

    /// Like [`Self::to_request`], with other placements and rules, and at another time.
    ///
    /// # Errors
    /// As [`Self::to_request`].
    pub(in crate::http) fn to_request_with(
        &self,
        api: &ApiState,
        placements: &CompiledPlacements,
        now: Timestamp,
    ) -> Result<RecommendationRequest, Problem> {
        let placement = self
            .placement
            .as_deref()
            .map(|name| placements.find(name).ok_or_else(|| Problem::unknown_placement(name, placements.names())));
        let placement = placement.transpose()?;
        let no_config = PlacementConfig::default();
        let config = placement.map_or(&no_config, |placement| &placement.config);
        let diversity = self.diversity.or(config.diversity);
        let diversity = diversity.map(|max| validate_list_length("diversity", max)).transpose()?;
        let filter = match (&self.filter, &self.category) {
            (Some(text), _) => Some(ItemFilter::parse(text).map_err(|error| Problem::invalid_filter(&error))?),
            (None, Some(category)) => Some(ItemFilter::for_category(category)),
            (None, None) => placement.and_then(|placement| placement.filter.clone()),
        };
        let filter = filter.map(|filter| filter.with_context(&self.context));
        let dictionary = api.system.recommender.dictionary();
        let context = self.context_items(api)?;
        let base = match &self.base {
            Some(base) => base.clone(),
            None => self.base_of_placement(placement, &context)?,
        };
        let mut exclude = numbers_of("exclude", &self.exclude, api)?;
        if let ListBase::Similar(items) | ListBase::BoughtTogether(items) = &base {
            exclude.extend(items);
        }
        exclude.sort_unstable();
        let catalog = api.system.recommender.catalog();
        let number_of = |item: &str| dictionary.get(item);
        let rule_context = RequestContext { item: context.last().copied(), values: &self.context };
        let rules = placements.rules_of_list(placement, rule_context, &catalog, number_of, now);
        let limit = self.limit.or(config.limit).unwrap_or(RecommendationRequest::DEFAULT_LIMIT);
        Ok(RecommendationRequest {
            exclude,
            exclude_seen: self.exclude_seen.or(config.exclude_seen).unwrap_or_default(),
            filter,
            max_per_category: diversity,
            explain: self.explain,
            details: self.details,
            hidden: self.hidden_items(api, config),
            exclusions: self.item_exclusions(api, config)?,
            base,
            objective: config.objective,
            rules,
            placement: placement.map(|placement| Arc::clone(&placement.name)),
            digest: self.digest(),
            context: self.context.clone(),
            ..RecommendationRequest::new(validate_limit(limit)?, now)
        })
    }

    /// Checks that the placement exists and that the request has the parameters that its type needs.
    /// Context items may still be unknown.
    ///
    /// # Errors
    /// 404 if the placement is unknown, 400 if it needs other parameters.
    pub(in crate::http) fn check_placement(&self, api: &ApiState) -> Result<(), Problem> {
        match self.to_request(api) {
            Err(problem) if problem != Problem::unknown_item() => Err(problem),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The known context items.
    ///
    /// # Errors
    /// 400 if there are too many.
    pub(in crate::http) fn context_items(&self, api: &ApiState) -> Result<Vec<ItemIx>, Problem> {
        let items: Vec<_> = self.items.iter().chain(&self.item).cloned().collect();
        numbers_of("items", &items, api)
    }

    /// The candidates of a list of a placement with the known context items `context`.
    fn base_of_placement(
        &self,
        placement: Option<&CompiledPlacement>,
        context: &[ItemIx],
    ) -> Result<ListBase, Problem> {
        let Some(CompiledPlacement { name, config, .. }) = placement else { return Ok(ListBase::default()) };
        match config.kind {
            PlacementKind::ForYou | PlacementKind::NextItems => Ok(ListBase::NextItems),
            PlacementKind::Similar if !context.is_empty() => Ok(ListBase::Similar(context.to_vec())),
            PlacementKind::BoughtTogether if !context.is_empty() => Ok(ListBase::BoughtTogether(context.to_vec())),
            PlacementKind::Similar | PlacementKind::BoughtTogether if self.item.is_some() || !self.items.is_empty() => {
                Err(Problem::unknown_item())
            }
            kind @ (PlacementKind::Similar | PlacementKind::BoughtTogether) => {
                let detail = format!(
                    "The placement `{name}` has the type `{}`; send the context item as `item`, or several as `items`.",
                    kind.name()
                );
                Err(Problem::invalid_parameter("item", detail))
            }
            PlacementKind::BuyAgain => Ok(ListBase::BuyAgain),
            PlacementKind::Trending => Ok(ListBase::Trending),
            PlacementKind::New => Ok(ListBase::New),
            PlacementKind::Rank => {
                let detail = format!(
                    "The placement `{name}` has the type `rank`, which orders a list of the site; send the list to `POST /v1/rank`."
                );
                Err(Problem::invalid_parameter("placement", detail))
            }
        }
    }
}

/// The numbers of the known items of a parameter. Unknown items have no effect.
fn numbers_of(field: &str, items: &[String], api: &ApiState) -> Result<Vec<ItemIx>, Problem> {
    if items.len() > MAX_LISTED_ITEMS {
        return Err(Problem::out_of_range(field, format!("a list of {}", items.len()), "a list of at most 1000"));
    }
    Ok(items.iter().filter_map(|item| api.system.recommender.dictionary().get(item)).collect())
}

/// 400: the context has a value that is not allowed.
pub(in crate::http) fn invalid_context(error: &ValidationError) -> Problem {
    Problem::invalid_parameter("context", format!("{}.", error.reason))
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

fn unknown_excluded_kind(name: &str, kinds: &EventKinds) -> Problem {
    let known = kinds.names().collect::<Vec<_>>().join(", ");
    Problem::invalid_parameter("exclude_events", format!("There is no kind `{name}`. The kinds are {known}."))
}

/// Checks that the kinds of `exclude_events` are configured.
///
/// # Errors
/// 400 for the first kind that is not.
pub(in crate::http) fn check_excluded_kinds<'n>(
    mut names: impl Iterator<Item = &'n str>,
    api: &ApiState,
) -> Result<(), Problem> {
    let kinds = api.system.recommender.kinds();
    let unknown = names.find(|name| kinds.id_of(&EventKind::from_name(name)).is_none());
    unknown.map_or(Ok(()), |name| Err(unknown_excluded_kind(name, kinds)))
}

/// Parses a parameter that is a whole number.
///
/// # Errors
/// 400 if it is not a whole number.
pub(in crate::http) fn parse_integer<T: FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    parse_parameter(name, value, "a whole number, at least 0")
}

/// Parses the length of a list.
///
/// # Errors
/// 400 if it is not a number from 1 to 1000.
pub(in crate::http) fn parse_list_length(name: &str, value: &str) -> Result<usize, Problem> {
    validate_list_length(name, parse_parameter(name, value, "a whole number from 1 to 1000")?)
}

fn parse_consent(name: &str, value: &str) -> Result<Consent, Problem> {
    Consent::from_name(value)
        .ok_or_else(|| Problem::invalid_parameter(name, format!("`{name}` must be none, session or full.")))
}

/// Parses a parameter that is `true` or `false`.
///
/// # Errors
/// 400 if it is neither.
pub(in crate::http) fn parse_bool(name: &str, value: &str) -> Result<bool, Problem> {
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
                limit: Some(5),
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
        assert_eq!(digest(&[]), 0x1e92_4b9d_7377_00d7, "the digests of stored impressions do not change");
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
