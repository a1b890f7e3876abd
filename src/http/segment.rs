//! Segment's tracking API.

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Query, ServiceConfig};
use actix_web::{Error, HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};

use super::api::{Api, append, unreadable};
use super::problem::Problem;
use super::watch::path;
use crate::capture::{Call, Fault, Messages, read_batch, read_call};
use crate::domain::Entry;
use crate::metrics::{EventOutcome, MessageOutcome};

/// Where each call comes in, and where many at once.
pub(super) const PATHS: [&str; 7] = ["/v1/track", "/v1/page", "/v1/screen", "/v1/identify", "/v1/alias", "/v1/group", "/v1/batch"];

pub(super) fn routes(config: &mut ServiceConfig) {
    let [track, page, screen, identify, alias, group, many] = PATHS;
    for (place, call) in [
        (track, Call::Track),
        (page, Call::Page),
        (screen, Call::Screen),
        (identify, Call::Identify),
        (alias, Call::Alias),
        (group, Call::Group),
    ] {
        let one = move |request, api, body| one(request, api, body, call);
        config.service(path(place, "POST").route(web::post().to(one)));
    }
    config.service(path(many, "POST").route(web::post().to(batch)));
}

/// Whether the write key that a request brings, as the user name of its `Authorization: Basic`, lets it write. There are no keys yet, and any is taken.
fn may_write(_: &HttpRequest) -> bool {
    true
}

/// The answer that Segment gives, and what it cannot say.
#[derive(Debug, Serialize)]
struct Success {
    success: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<Fault>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Fault>,
}

async fn one(request: HttpRequest, api: Data<Api>, body: Result<Bytes, Error>, call: Call) -> Result<HttpResponse, Problem> {
    let body = admitted(&request, &api, body)?;
    let messages = read_call(&body, call, &api.rules, api.clock.now())?;
    let fault = messages.faults.first().map(Problem::bad_message);
    let success = take(&api, messages).await?;
    fault.map_or_else(|| Ok(HttpResponse::Ok().json(Success { warnings: Vec::new(), ..success })), Err)
}

#[derive(Debug, Deserialize)]
struct Wish {
    verbose: Option<String>,
}

async fn batch(request: HttpRequest, api: Data<Api>, wish: Query<Wish>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
    let body = admitted(&request, &api, body)?;
    let messages = read_batch(&body, &api.rules, api.clock.now())?;
    let mut success = take(&api, messages).await?;
    if !matches!(wish.verbose.as_deref(), Some("1" | "true")) {
        success.warnings.clear();
    }
    Ok(HttpResponse::build(if success.success { StatusCode::OK } else { StatusCode::BAD_REQUEST }).json(success))
}

/// The body of a request that may write.
fn admitted(request: &HttpRequest, api: &Api, body: Result<Bytes, Error>) -> Result<Bytes, Problem> {
    if may_write(request) { body.map_err(|error| unreadable(&error, api.max_body)) } else { Err(Problem::locked()) }
}

/// Takes what messages say; no success if nothing of any could be taken for their faults.
async fn take(api: &Api, messages: Messages) -> Result<Success, Problem> {
    let Messages { entries, faults, unknown, ignored, taken } = messages;
    let metrics = api.metrics();
    let events: Vec<_> = entries.iter().map(|entry| matches!(entry, Entry::Event(_))).collect();
    let success = faults.is_empty() || !unknown.is_empty() || ignored + taken > 0;
    let receipt = append(api, entries).await?;
    for (outcome, count) in [
        (MessageOutcome::Taken, taken),
        (MessageOutcome::Ignored, ignored),
        (MessageOutcome::Unknown, unknown.len() as u64),
        (MessageOutcome::Rejected, faults.len() as u64),
    ] {
        metrics.messages.of(outcome).increment(count);
    }
    let duplicates = receipt.iter().flat_map(|receipt| &receipt.duplicates);
    let duplicates = duplicates.filter(|place| events.get(**place) == Some(&true)).count();
    let accepted = events.iter().filter(|event| **event).count() - duplicates;
    metrics.events.of(EventOutcome::Accepted).increment(accepted as u64);
    metrics.events.of(EventOutcome::Duplicate).increment(duplicates as u64);
    Ok(Success { success, rejected: faults, warnings: unknown })
}
