//! Ingestion and validation of events.

use actix_web::web::{Bytes, Data, Json};
use actix_web::{Error, HttpResponse};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::auth::Scope;
use crate::domain::{Entry, Recommendation, WithConsent};
use crate::http::middleware::auth::GrantedAccess;
use crate::http::schema::domain_schemas::ValidationErrorSchema;
use crate::http::schema::error_mapping::unreadable_body;
use crate::http::schema::problem::Problem;
use crate::http::schema::query::{self, RecommendationQuery};
use crate::http::schema::query_pairs::QueryPairs;
use crate::http::schema::receipt::IngestReceipt;
use crate::http::schema::responses::{BadRequestResponse, EventsBody, InvalidBodyResponse, UnavailableResponse};
use crate::http::state::ApiState;
use crate::ingest::{ParsedBatch, ValidationError, read_events};
use crate::metrics::{EventOutcome, RecommendationOutcome};
use crate::services::ingest::{FullQueuePolicy, count_event_outcomes, ingest};
use crate::telemetry::span;

/// Query parameters of a request that sends events. They can ask for recommendations, and limit the
/// learner's lag.
#[derive(Debug, Default, PartialEq, IntoParams)]
#[into_params(parameter_in = Query)]
struct IngestQuery {
    /// The number of recommendations to return with the receipt.
    #[param(minimum = 1, maximum = 1000)]
    recommend: Option<usize>,
    /// The user to recommend to. Default: the user of the last event.
    user: Option<String>,
    /// Respond with 503 if the learner is this many journal entries behind, or more. A bulk import
    /// sets this limit so that it is not faster than the learner. Default and maximum:
    /// server.max_lag_events.
    #[param(minimum = 1)]
    max_lag: Option<u64>,
    /// The parameters of the list: its length, its placement and its context.
    #[param(ignore)]
    list: RecommendationQuery,
}

impl IngestQuery {
    const PARAMETER_NAMES: [&str; 7] = ["recommend", "user", "max_lag", "placement", "item", "items", "context.NAME"];

    fn from_query(query: &[(String, String)]) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for (name, value) in query {
            match name.as_str() {
                "recommend" => parsed.recommend = Some(query::parse_list_length(name, value)?),
                "max_lag" => parsed.max_lag = Some(query::parse_integer(name, value)?),
                "user" => parsed.user = Some(value.clone()),
                "placement" | "item" | "items" => drop(parsed.list.set_parameter(name, value)?),
                context if context.starts_with("context.") => drop(parsed.list.set_parameter(context, value)?),
                // The parameter `key` is the API key, which is not read here but by the authorizer.
                "key" => {}
                other => return Err(query::unknown_parameter(other, &Self::PARAMETER_NAMES)),
            }
        }
        if parsed.user.is_some() && parsed.recommend.is_none() {
            let detail = "`user` names the user to recommend to; also send `recommend` with the number of items.";
            return Err(Problem::invalid_parameter("user", detail));
        }
        if parsed.recommend.is_none() && parsed.list != RecommendationQuery::default() {
            let detail = "`placement`, `item`, `items` and `context` describe the list; also send `recommend` with the number of items.";
            return Err(Problem::invalid_parameter("recommend", detail));
        }
        parsed.list.limit = parsed.recommend;
        Ok(parsed)
    }
}

fn read_body(api: &ApiState, body: Result<Bytes, Error>) -> Result<ParsedBatch<WithConsent>, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    Ok(span!("capture").in_scope(|| read_events(&body, &api.rules, api.clock.now()))?)
}

/// Ingest events
///
/// Returns once the events are durable. Invalid events are reported in `rejected`; the others are
/// stored. With `recommend`, the receipt includes recommendations, by default for the user of the
/// last event. This also requires the scope `read`.
#[utoipa::path(post, path = "/v1/events", operation_id = "events", tag = "events", params(IngestQuery,
        ("placement" = Option<String>, Query, description = "The placement of the list. It determines the type of the list and the defaults of its parameters."),
        ("item" = Option<String>, Query, description = "The context item of the list, such as the item of the page."),
        ("items" = Option<String>, Query, description = "Several context items, such as the items of the cart, separated by commas. The last one is the context item of rules."),
        ("context.NAME" = Option<String>, Query, description = "A value of the context of the list, for the filter of the placement.", max_length = 64)),
    request_body(content((EventsBody = "application/json"), (String = "application/x-ndjson")), description = "One event, an array of events, or one event per line."),
    responses((status = 200, description = "The receipt.", body = IngestReceipt),
        (status = 400, description = "No event is valid, or the request cannot be read.", content((IngestReceipt = "application/json"), (Problem = "application/problem+json"))),
        InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn ingest_events(
    api: Data<ApiState>,
    access: GrantedAccess,
    query: QueryPairs,
    body: Result<Bytes, Error>,
) -> Result<HttpResponse, Problem> {
    let IngestQuery { recommend, user, max_lag, list: query } = IngestQuery::from_query(&query)?;
    api.system.ingest.check_lag(max_lag)?;
    if recommend.is_some() {
        access.require_scope(Scope::Read)?;
        query.check_placement(&api)?;
    }
    let user = user.map(|user| query::validate_user_id(&api, user)).transpose()?;
    let batch = read_body(&api, body)?;
    access.charge_batch(batch.records.len())?;
    let (mut events, mut rejected) = (Vec::with_capacity(batch.records.len()), Vec::new());
    for event in batch.records {
        match event {
            Ok(event) => events.push(event),
            Err(error) => rejected.push(error),
        }
    }
    let target = recommend.and_then(|_| user.or_else(|| Some(events.last()?.value.user_id.clone())));
    let target = target.map(|user| (api.recommendations.events_without_consent(&user, &events), user));
    let entries: Vec<_> = events.into_iter().map(|event| event.map(Entry::Event)).collect();
    api.metrics().events.with_label(EventOutcome::Rejected).increment(rejected.len() as u64);
    let origin = access.origin(&api.origins, api.clock.now());
    let outcome = ingest(&api.system.ingest, entries, origin, FullQueuePolicy::Fail).await?;
    count_event_outcomes(&api.system.ingest, outcome.events);
    let mut receipt = IngestReceipt::new(outcome, rejected, batch.warnings);
    if let (true, Some((events, user))) = (receipt.is_success(), target) {
        let list = match events {
            Some(events) => {
                query.to_request(&api).map(|request| api.recommendations.recommend_without_consent(&events, &request))
            }
            None => recommend_for_user(&api, user, &query).await,
        };
        // The events are stored even if the recommendation fails, so the receipt is a success.
        if list.is_err() {
            api.metrics().recommendations.with_label(RecommendationOutcome::Overloaded).increment(1);
        }
        receipt.recommendations = Some(list.ok());
    }
    Ok(receipt.into_response())
}

async fn recommend_for_user(
    api: &ApiState,
    user: String,
    query: &RecommendationQuery,
) -> Result<Recommendation, Problem> {
    let request = query.to_request_after_offset(api).await?;
    Ok(api.recommendations.recommend(user, query.consent, request).await?)
}

/// The result of validating a batch of events. Nothing is stored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ValidationReport)]
pub(in crate::http) struct ValidationReport {
    /// The number of valid events. Ingestion would store these events, except events whose id was
    /// seen before.
    acceptable: usize,
    /// The invalid events, each with its error.
    #[schema(value_type = Vec<ValidationErrorSchema>)]
    rejected: Vec<ValidationError>,
    /// Probable mistakes in valid events.
    #[schema(value_type = Vec<ValidationErrorSchema>)]
    warnings: Vec<ValidationError>,
}

/// Validate events
///
/// Checks events as ingestion would. Nothing is stored.
#[utoipa::path(post, path = "/v1/events/validate", operation_id = "validate", tag = "events",
    request_body(content((EventsBody = "application/json"), (String = "application/x-ndjson")), description = "One event, an array of events, or one event per line."),
    responses((status = 200, description = "The result of the validation.", body = ValidationReport), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn validate_events(
    api: Data<ApiState>,
    access: GrantedAccess,
    body: Result<Bytes, Error>,
) -> Result<Json<ValidationReport>, Problem> {
    let ParsedBatch { records, warnings } = read_body(&api, body)?;
    access.charge_batch(records.len())?;
    let acceptable = records.iter().filter(|event| event.is_ok()).count();
    Ok(Json(ValidationReport { acceptable, rejected: records.into_iter().filter_map(Result::err).collect(), warnings }))
}

/// The event kinds and limits that the daemon accepts.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct IngestInfo {
    /// The kinds of event.
    kinds: Vec<String>,
    /// The largest number of events in one request.
    max_batch: usize,
    /// The id of the journal. The id changes if the daemon is started with another data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    journal_id: Option<String>,
}

/// Show which events are accepted
///
/// Returns the kinds of event, the largest size of a batch, and the id of the journal.
#[utoipa::path(get, path = "/v1/events/rules", operation_id = "event_rules", tag = "events",
    responses((status = 200, description = "The accepted kinds of event, and the limits.", body = IngestInfo), UnavailableResponse))]
pub(in crate::http) async fn get_ingest_info(api: Data<ApiState>) -> Json<IngestInfo> {
    Json(IngestInfo {
        kinds: api.rules.kinds.names().map(str::to_owned).collect(),
        max_batch: api.rules.max_events,
        journal_id: api.system.store.journal_id().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_recommend_query() {
        let read = |pairs: &[(&str, &str)]| {
            IngestQuery::from_query(
                &pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>(),
            )
        };
        assert_eq!(read(&[]), Ok(IngestQuery::default()));
        let list = RecommendationQuery { limit: Some(3), ..RecommendationQuery::default() };
        let both = IngestQuery { recommend: Some(3), user: Some("ann".to_owned()), list, ..IngestQuery::default() };
        assert_eq!(read(&[("recommend", "3"), ("user", "ann")]), Ok(both));
        let cart = read(&[("recommend", "3"), ("placement", "cart"), ("items", "tea,cup"), ("context.max", "9")]);
        let list = cart.unwrap().list;
        assert_eq!(
            (list.limit, list.placement.as_deref(), list.items),
            (Some(3), Some("cart"), vec!["tea".to_owned(), "cup".to_owned()])
        );
        for wrong in [
            ("recommend", "0"),
            ("recommend", "1001"),
            ("recommend", "few"),
            ("user", "ann"),
            ("limit", "3"),
            ("placement", "cart"),
            ("context.max", "9"),
        ] {
            assert!(read(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
