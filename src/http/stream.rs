//! Recommendations as they change: server-sent events [HTML Living Standard, 9.2].

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING};
use actix_web::rt::time::timeout;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use futures_util::stream;
use metrics::Gauge;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::Instrument;

use super::api::{ApiState, RETRY_DELAY};
use super::lists::recommend_for_user;
use super::lock::{GrantedAccess, RequiredAccess};
use super::openapi::{BadRequestResponse, IdString, UnavailableResponse};
use super::problem::Problem;
use super::watch::protected_resource;
use super::wishes::{self, QueryPairs, RecommendationQuery};
use crate::auth::Scope;
use crate::domain::Offset;
use crate::telemetry::span;

/// Where a user's recommendations are followed.
pub(super) const STREAM: &str = "/v1/users/{user}/recommendations/stream";

/// After how long without a list a comment goes out, lest anything on the way take the stream for
/// dead. It is also how the end of a listener is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(protected_resource(STREAM, "GET", RequiredAccess::Scope(Scope::Read)).route(web::get().to(follow)));
}

/// Somebody who listens; counted until dropped.
struct StreamSubscription {
    api: Data<ApiState>,
    access: GrantedAccess,
    user: String,
    wishes: RecommendationQuery,
    moves: watch::Receiver<Offset>,
    _place: OwnedSemaphorePermit,
    streams: Gauge,
}

impl Drop for StreamSubscription {
    fn drop(&mut self) {
        self.streams.decrement(1.0);
    }
}

impl StreamSubscription {
    /// The next event of the stream; `None` once it is over.
    async fn next(&mut self) -> Option<String> {
        let moved = timeout(HEARTBEAT, self.moves.changed()).await;
        if !self.access.is_still_valid() {
            return None;
        }
        match moved {
            Err(_) => return Some(":\n\n".to_owned()),
            Ok(moved) => moved.ok()?,
        }
        let offset = *self.moves.borrow_and_update();
        Some(match recommend_for_user(&self.api, self.user.clone(), &self.wishes).instrument(span!("stream")).await {
            Ok(list) => format!("id: {offset}\ndata: {}\n\n", serde_json::to_string(&list).ok()?),
            Err(problem) => format!("event: problem\ndata: {}\n\n", serde_json::to_string(&problem).ok()?),
        })
    }
}

/// Follows a user's recommendations
///
/// Server-sent events: the list as it stands, then a fresh one each time that an event of the user
/// was taken. An event's id is the offset before which every entry is in the list's session; its
/// data is the list. Events named `problem` tell why there is none this time. Comments come in
/// between; the stream ends when the service stops, or its key is revoked.
#[utoipa::path(get, path = STREAM, tag = "recommendations", params(("user" = IdString, Path, description = "The user."), RecommendationQuery),
    responses((status = 200, description = "The lists as they come.", body = String, content_type = "text/event-stream"), BadRequestResponse, UnavailableResponse))]
pub(super) async fn follow(
    api: Data<ApiState>,
    access: GrantedAccess,
    user: Path<String>,
    query: QueryPairs,
) -> Result<HttpResponse, Problem> {
    let user = wishes::validate_user_id(&api, user.into_inner())?;
    let mut wishes = RecommendationQuery::default();
    for (name, value) in query.iter() {
        if !wishes.take(name, value)? {
            return Err(wishes::unknown_parameter(name, &RecommendationQuery::PARAMETER_NAMES));
        }
    }
    // What is wrong with the wishes is said before the stream begins.
    wishes.to_request_after_offset(&api).await?;
    let place = Arc::clone(&api.stream_permits).try_acquire_owned().map_err(|_| Problem::over_capacity(RETRY_DELAY))?;
    let mut moves = api.system.subscribe(user.clone()).await?;
    // The list as it stands comes at once.
    moves.mark_changed();
    let streams = api.metrics().streams.clone();
    streams.increment(1.0);
    let listener = StreamSubscription { api, access, user, wishes, moves, _place: place, streams };
    let events = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok::<_, Problem>(Bytes::from(event)), listener))
    });
    // Packed, an event would wait in the packer for the next ones; a proxy would let it wait, too.
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_ENCODING, "identity"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(events))
}
