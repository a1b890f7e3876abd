//! The public API.

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Json, Path, Query, ServiceConfig};
use actix_web::{Error, HttpResponse, rt};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::items;
use super::problem::Problem;
use super::watch::path;
use crate::actors::system::{System, SystemError};
use crate::capture::{Fault, Rules, read_body};
use crate::clock::Clock;
use crate::domain::{Entry, Impression, Offset, Recommendation, Recommended, Shown, Timestamp};
use crate::learning::{Answer, Request};
use crate::metrics::{EventOutcome, Metrics, RecommendationOutcome};

/// Where events come in.
pub(super) const EVENTS: &str = "/v1/events";
/// Where a user's recommendations are asked for.
pub(super) const RECOMMENDATIONS: &str = "/v1/users/{user}/recommendations";
/// Where recommendations for a session sent along are asked for.
pub(super) const INLINE: &str = "/v1/recommendations";

/// The longest list that is answered.
const MAX_LIMIT: usize = 1000;
/// The longest inline session.
const MAX_INLINE: usize = 1000;

/// What every handler needs.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) system: System,
    pub(super) rules: Rules,
    pub(super) clock: Clock,
    pub(super) names: Arc<Names>,
    pub(super) max_body: usize,
}

/// After how long it is worth to ask again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

impl Api {
    fn metrics(&self) -> &Metrics {
        self.system.metrics_handles()
    }
}

fn recommended(metrics: &Metrics, list: &Recommendation) {
    metrics.recommendations.of(RecommendationOutcome::Answered).increment(1);
    for item in &list.items {
        metrics.recommended_items.of(item.source).increment(1);
    }
}

/// Names recommendations: a start's number and a counter, so that no two answers share one.
#[derive(Debug)]
pub(super) struct Names {
    start: Timestamp,
    next: AtomicU64,
}

impl Names {
    pub(super) fn new(start: Timestamp) -> Self {
        Self { start, next: AtomicU64::new(0) }
    }

    fn next(&self) -> String {
        format!("r{:x}-{:x}", self.start, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(path(EVENTS, "POST").route(web::post().to(events)))
        .service(path(RECOMMENDATIONS, "GET").route(web::get().to(recommendations)))
        .service(path(INLINE, "POST").route(web::post().to(inline)))
        .configure(items::routes);
}

/// What became of a request's records.
#[derive(Debug, Serialize)]
struct Taken {
    accepted: usize,
    duplicates: usize,
    rejected: Vec<Fault>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Fault>,
    /// The journal's next offset once these records were in it; `None` if there were none to take.
    offset: Option<Offset>,
}

impl Taken {
    fn answer(self) -> HttpResponse {
        let status = if self.offset.is_none() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        HttpResponse::build(status).json(self)
    }
}

async fn events(api: Data<Api>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable(&error, api.max_body))?;
    let reading = read_body(&body, &api.rules, api.clock.now())?;
    let (mut entries, mut rejected) = (Vec::with_capacity(reading.records.len()), Vec::new());
    for event in reading.records {
        match event {
            Ok(event) => entries.push(Entry::Event(event)),
            Err(fault) => rejected.push(fault),
        }
    }
    let metrics = api.metrics();
    metrics.events.of(EventOutcome::Rejected).increment(rejected.len() as u64);
    let taken = append(&api, entries, rejected, reading.warnings).await?;
    metrics.events.of(EventOutcome::Accepted).increment(taken.accepted as u64);
    metrics.events.of(EventOutcome::Duplicate).increment(taken.duplicates as u64);
    Ok(taken.answer())
}

/// Answers a request for entries once they are durable.
pub(super) async fn take(api: &Api, entries: Vec<Entry>, rejected: Vec<Fault>, warnings: Vec<Fault>) -> Result<HttpResponse, Problem> {
    Ok(append(api, entries, rejected, warnings).await?.answer())
}

async fn append(api: &Api, entries: Vec<Entry>, rejected: Vec<Fault>, warnings: Vec<Fault>) -> Result<Taken, Problem> {
    let mut taken = Taken { accepted: 0, duplicates: 0, rejected, warnings, offset: None };
    if !entries.is_empty() {
        let permit = api.system.enter(entries.len())?;
        let receipt = api.system.append(entries, permit).await?;
        taken.accepted = receipt.accepted;
        taken.duplicates = receipt.duplicates.len();
        taken.offset = Some(receipt.offset);
    }
    Ok(taken)
}

/// What is wrong with a body that could not be taken off the wire.
pub(super) fn unreadable(error: &Error, max_body: usize) -> Problem {
    match error.as_error::<PayloadError>() {
        Some(error) => bad_payload(error, max_body),
        None => Problem::bad_body(error.to_string()),
    }
}

/// What is wrong with a body before anything is known of what it holds.
pub(super) fn bad_payload(error: &PayloadError, max_body: usize) -> Problem {
    match error {
        PayloadError::Overflow => Problem::body_too_large(max_body),
        PayloadError::Incomplete(_) | PayloadError::EncodingCorrupted | PayloadError::Io(_) => {
            Problem::bad_body("The body is not what its Content-Encoding says, or a part of it is missing.")
        }
        other => Problem::bad_body(other.to_string()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default = "twenty")]
    limit: usize,
}

const fn twenty() -> usize {
    20
}

async fn recommendations(api: Data<Api>, user: Path<String>, query: Query<ListQuery>) -> Result<Json<Recommendation>, Problem> {
    let user = user.into_inner();
    let request = Request { limit: checked_limit(query.limit)?, now: api.clock.now() };
    let answer = api.system.recommend(user.clone(), request).await?;
    let list = named(&api, answer);
    shown(&api, user, &list);
    recommended(api.metrics(), &list);
    Ok(Json(list))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inline {
    items: Vec<String>,
    #[serde(default = "twenty")]
    limit: usize,
}

async fn inline(api: Data<Api>, body: Json<Inline>) -> Result<Json<Recommendation>, Problem> {
    let Inline { items, limit } = body.into_inner();
    if items.len() > MAX_INLINE {
        return Err(Problem::out_of_range("items", format!("a list of {}", items.len()), "a list of at most 1000"));
    }
    let now = api.clock.now();
    let answer = api.system.recommend_inline(&items, now, &Request { limit: checked_limit(limit)?, now });
    let list = named(&api, answer);
    recommended(api.metrics(), &list);
    Ok(Json(list))
}

fn checked_limit(limit: usize) -> Result<usize, Problem> {
    let fits = (1..=MAX_LIMIT).contains(&limit);
    fits.then_some(limit).ok_or_else(|| Problem::out_of_range("limit", limit, "1 to 1000"))
}

fn named(api: &Api, answer: Answer) -> Recommendation {
    let dictionary = api.system.dictionary();
    let named = answer.items.into_iter().filter_map(|candidate| {
        let item_id = dictionary.name(candidate.item)?.to_string();
        Some(Recommended { item_id, score: candidate.score, source: candidate.source })
    });
    Recommendation { recommendation_id: api.names.next(), weights_version: answer.weights_version, items: named.collect() }
}

/// Journals what was shown, without letting the answer wait for it. When the journal has no room, the impression is counted as lost: only a click's credit
/// hangs on it.
fn shown(api: &Api, user_id: String, list: &Recommendation) {
    if list.items.is_empty() {
        return;
    }
    let Ok(permit) = api.system.enter(1) else {
        api.metrics().impressions_lost.increment(1);
        return;
    };
    let impression = Entry::Impression(Impression {
        recommendation_id: list.recommendation_id.clone(),
        user_id,
        timestamp: api.clock.now(),
        weights_version: list.weights_version,
        items: list.items.iter().map(|item| Shown { item_id: item.item_id.clone(), source: item.source }).collect(),
    });
    let system = api.system.clone();
    rt::spawn(async move {
        if system.append(vec![impression], permit).await.is_err() {
            system.metrics_handles().impressions_lost.increment(1);
        }
    });
}

impl From<SystemError> for Problem {
    fn from(error: SystemError) -> Self {
        match error {
            SystemError::Busy(_) => Self::over_capacity(RETRY),
            SystemError::Store(source) => Self::not_ready(format!("The journal does not take writes now: {source}."), RETRY),
            other => Self::not_ready(format!("{other}."), RETRY),
        }
    }
}
