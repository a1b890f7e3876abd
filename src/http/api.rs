//! The public API.

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Json, Path, Query, ServiceConfig};
use actix_web::{HttpResponse, error, rt};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::problem::Problem;
use crate::actors::system::{System, SystemError};
use crate::capture::{Fault, Rules, read_body};
use crate::clock::Clock;
use crate::domain::{Entry, Impression, Offset, Recommendation, Recommended, Shown, Timestamp};
use crate::learning::{Answer, Request};
use crate::metrics::{self, Endpoint};

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
    pub(super) names: std::sync::Arc<Names>,
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
        .route("/v1/events", web::post().to(events))
        .route("/v1/users/{user}/recommendations", web::get().to(recommendations))
        .route("/v1/recommendations", web::post().to(inline));
}

/// Answers a request for events once they are durable.
#[derive(Debug, Serialize)]
struct Taken {
    accepted: usize,
    duplicates: usize,
    rejected: Vec<Fault>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Fault>,
    /// The journal's next offset once these events were in it.
    offset: Option<Offset>,
}

async fn events(api: Data<Api>, body: Bytes) -> Result<HttpResponse, Problem> {
    let began = Instant::now();
    let reading = read_body(&body, &api.rules, api.clock.now()).map_err(|error| Problem::bad_body(&error.to_string()))?;
    let (mut entries, mut rejected) = (Vec::with_capacity(reading.events.len()), Vec::new());
    for event in reading.events {
        match event {
            Ok(event) => entries.push(Entry::Event(event)),
            Err(fault) => rejected.push(fault),
        }
    }
    metrics::events_rejected(rejected.len());
    let mut taken = Taken { accepted: 0, duplicates: 0, rejected, warnings: reading.warnings, offset: None };
    let status = if entries.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    if !entries.is_empty() {
        let permit = api.system.enter(entries.len())?;
        let receipt = api.system.append(entries, permit).await?;
        metrics::events_taken(receipt.accepted, receipt.duplicates.len());
        taken.accepted = receipt.accepted;
        taken.duplicates = receipt.duplicates.len();
        taken.offset = Some(receipt.offset);
    }
    metrics::answered(Endpoint::Events, status.as_u16(), began.elapsed());
    Ok(HttpResponse::build(status).json(taken))
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
    let began = Instant::now();
    let user = user.into_inner();
    let request = Request { limit: checked_limit(query.limit)?, now: api.clock.now() };
    let answer = api.system.recommend(user.clone(), request).await?;
    let list = named(&api, answer);
    shown(&api, user, &list);
    metrics::recommended(list.items.len());
    metrics::answered(Endpoint::Recommendations, 200, began.elapsed());
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
    let began = Instant::now();
    let Inline { items, limit } = body.into_inner();
    if items.len() > MAX_INLINE {
        return Err(Problem::out_of_range("items", &items.len().to_string(), "at most 1000 items"));
    }
    let now = api.clock.now();
    let answer = api.system.recommend_inline(&items, now, &Request { limit: checked_limit(limit)?, now });
    let list = named(&api, answer);
    metrics::recommended(list.items.len());
    metrics::answered(Endpoint::Inline, 200, began.elapsed());
    Ok(Json(list))
}

fn checked_limit(limit: usize) -> Result<usize, Problem> {
    let fits = (1..=MAX_LIMIT).contains(&limit);
    fits.then_some(limit).ok_or_else(|| Problem::out_of_range("limit", &limit.to_string(), "1 to 1000"))
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
        metrics::impression_lost();
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
            metrics::impression_lost();
        }
    });
}

impl From<SystemError> for Problem {
    fn from(error: SystemError) -> Self {
        match error {
            SystemError::Busy(full) => Self::over_capacity(&full.to_string()),
            SystemError::Store(source) => Self::unavailable(&format!("the journal does not take writes now: {source}")),
            other => Self::unavailable(&other.to_string()),
        }
    }
}

/// Turns what actix refuses by itself into problems that name the reason.
pub(super) fn refused(error: error::Error) -> Problem {
    let status = error.as_response_error().status_code();
    Problem::refused(status, &error.to_string())
}
