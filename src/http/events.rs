//! Where events come in.

use actix_web::web::{self, Bytes, Data, Json, ServiceConfig};
use actix_web::{Error, HttpResponse};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::api::{ApiState, IngestReceipt, ingest_entries, unreadable_body};
use super::lists;
use super::lock::{GrantedAccess, RequiredAccess};
use super::openapi::{BadRequestResponse, InvalidBodyResponse, EventsBody, UnavailableResponse};
use super::problem::Problem;
use super::watch::protected_resource;
use super::wishes::{self, QueryPairs, RecommendationQuery};
use crate::auth::Scope;
use crate::domain::{Consent, Entry, Event, WithConsent};
use crate::ingest::{ParsedBatch, ValidationError, read_events};
use crate::metrics::{EventOutcome, RecommendationOutcome};
use crate::telemetry::span;

/// Where events come in.
pub(super) const EVENTS: &str = "/v1/events";
/// Where events are looked at and not taken.
pub(super) const VALIDATE: &str = "/v1/events/validate";

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(protected_resource(EVENTS, "POST", RequiredAccess::Scope(Scope::Write)).route(web::post().to(events)))
        .service(protected_resource(VALIDATE, "POST", RequiredAccess::Scope(Scope::Write)).route(web::post().to(validate)));
}

/// What a request wants to be told beside its receipt.
#[derive(Debug, Default, PartialEq, IntoParams)]
#[into_params(parameter_in = Query)]
struct RecommendQuery {
    /// So many recommendations.
    #[param(minimum = 1, maximum = 1000)]
    recommend: Option<usize>,
    /// For this user, if not for that of the last event.
    user: Option<String>,
}

impl RecommendQuery {
    fn read(query: &[(String, String)]) -> Result<Self, Problem> {
        let mut following = Self::default();
        for (name, value) in query {
            match name.as_str() {
                "recommend" => following.recommend = Some(wishes::validate_list_length(name, wishes::parse_integer(name, value)?)?),
                "user" => following.user = Some(value.clone()),
                // The lock's affair.
                "key" => {}
                other => return Err(wishes::unknown_parameter(other, &["recommend", "user"])),
            }
        }
        if following.user.is_some() && following.recommend.is_none() {
            let detail = "`user` says whose recommendations are wanted; say how many with `recommend`.";
            return Err(Problem::invalid_parameter("user", detail));
        }
        Ok(following)
    }
}

fn read(api: &ApiState, body: Result<Bytes, Error>) -> Result<ParsedBatch<WithConsent>, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    Ok(span!("capture").in_scope(|| read_events(&body, &api.rules, api.clock.now()))?)
}

/// Takes events
///
/// Answered once they are on the disk. Those that break a rule are named in `rejected` and cost the
/// others nothing. With `recommend` the receipt brings what follows from them, shown to the user of
/// the last one; that takes a key that may read, too.
#[utoipa::path(post, path = EVENTS, tag = "events", params(RecommendQuery),
    request_body(content((EventsBody = "application/json"), (String = "application/x-ndjson")), description = "One event, an array of them, or one a line."),
    responses((status = 200, description = "The receipt.", body = IngestReceipt),
        (status = 400, description = "None could be taken; or the request could not be read.", content((IngestReceipt = "application/json"), (Problem = "application/problem+json"))),
        InvalidBodyResponse, UnavailableResponse))]
pub(super) async fn events(
    api: Data<ApiState>,
    access: GrantedAccess,
    query: QueryPairs,
    body: Result<Bytes, Error>,
) -> Result<HttpResponse, Problem> {
    let RecommendQuery { recommend, user } = RecommendQuery::read(&query)?;
    if recommend.is_some() {
        access.require_scope(Scope::Read)?;
    }
    let user = user.map(|user| wishes::validate_user_id(&api, user)).transpose()?;
    let reading = read(&api, body)?;
    access.charge_batch(reading.records.len())?;
    let (mut events, mut rejected) = (Vec::with_capacity(reading.records.len()), Vec::new());
    for event in reading.records {
        match event {
            Ok(event) => events.push(event),
            Err(fault) => rejected.push(fault),
        }
    }
    let asked = recommend.zip(user.or_else(|| Some(events.last()?.value.user_id.clone())));
    let asked = asked.map(|(limit, validate_user_id)| (limit, unkept(&api, &user, &events), user));
    let entries: Vec<_> = events.into_iter().map(|event| event.map(Entry::Event)).collect();
    let metrics = api.metrics();
    metrics.events.with_label(EventOutcome::Rejected).increment(rejected.len() as u64);
    let mut taken = ingest_entries(&api, entries, rejected, reading.warnings).await?;
    metrics.events.with_label(EventOutcome::Accepted).increment(taken.accepted as u64);
    metrics.events.with_label(EventOutcome::Duplicate).increment(taken.duplicates as u64);
    metrics.events.with_label(EventOutcome::Withheld).increment(taken.withheld as u64);
    if let (true, Some((limit, unkept, user))) = (taken.is_success(), asked) {
        let wishes = RecommendationQuery { limit, ..RecommendationQuery::default() };
        let list = match unkept {
            Some(events) => wishes.to_request(&api).map(|request| lists::recommend_without_consent(&api, &events, &request)),
            None => lists::recommend_for_user(&api, validate_user_id, &wishes).await,
        };
        // The events are taken whether or not there was room for the question: who sent them must
        // not believe otherwise.
        if list.is_err() {
            metrics.recommendations.with_label(RecommendationOutcome::Overloaded).increment(1);
        }
        taken.recommendations = Some(list.ok());
    }
    Ok(taken.into_response())
}

/// What the request tells of a user, if it is all that an answer may follow from: nothing is kept
/// of the user, or of something that the request tells.
fn unkept(api: &ApiState, user: &str, events: &[WithConsent]) -> Option<Vec<Event>> {
    let theirs = || events.iter().filter(|event| event.value.user_id == user);
    let none = |sender| api.system.consent(user, sender) == Consent::None;
    (none(None) || theirs().any(|event| none(event.consent))).then(|| theirs().map(|event| event.value.clone()).collect())
}

/// What would become of a request's events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verdict)]
pub(super) struct ValidationReport {
    /// How many break no rule: so many would be taken, save those whose id was seen before.
    acceptable: usize,
    /// Those that break a rule, each with what it breaks.
    rejected: Vec<ValidationError>,
    /// What may be misspelt in events that would be taken.
    warnings: Vec<ValidationError>,
}

/// Tries events
///
/// Says what would become of them. Nothing is taken.
#[utoipa::path(post, path = VALIDATE, tag = "events",
    request_body(content((EventsBody = "application/json"), (String = "application/x-ndjson")), description = "One event, an array of them, or one a line."),
    responses((status = 200, description = "What would become of them.", body = ValidationReport), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(super) async fn validate(
    api: Data<ApiState>,
    access: GrantedAccess,
    body: Result<Bytes, Error>,
) -> Result<Json<ValidationReport>, Problem> {
    let ParsedBatch { records, warnings } = read(&api, body)?;
    access.charge_batch(records.len())?;
    let acceptable = records.iter().filter(|event| event.is_ok()).count();
    Ok(Json(ValidationReport { acceptable, rejected: records.into_iter().filter_map(Result::err).collect(), warnings }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_to_follow() {
        let read = |pairs: &[(&str, &str)]| {
            RecommendQuery::read(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(read(&[]), Ok(RecommendQuery::default()));
        let both = RecommendQuery { recommend: Some(3), user: Some("ann".to_owned()) };
        assert_eq!(read(&[("recommend", "3"), ("user", "ann")]), Ok(both));
        for wrong in [("recommend", "0"), ("recommend", "1001"), ("recommend", "few"), ("user", "ann"), ("limit", "3")] {
            assert!(read(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
