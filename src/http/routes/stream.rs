//! A user's recommendations as server-sent events [HTML Living Standard, 9.2].

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING};
use actix_web::rt::time::timeout;
use actix_web::web::{Bytes, Data, Path};
use futures_util::stream;
use metrics::Gauge;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::Instrument;

use crate::domain::{Offset, Recommendation};
use crate::http::middleware::auth::GrantedAccess;
use crate::http::schema::problem::{Problem, RETRY_DELAY};
use crate::http::schema::query::{self, RecommendationQuery};
use crate::http::schema::query_pairs::QueryPairs;
use crate::http::schema::responses::{BadRequestResponse, IdString, UnavailableResponse};
use crate::http::state::ApiState;
use crate::telemetry::span;

/// Longest time without data on a stream. After this time, the stream sends a comment, so that
/// proxies keep the connection open and the daemon notices a closed connection.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// One open stream. The gauge `open_streams` counts the subscription until it is dropped.
struct StreamSubscription {
    api: Data<ApiState>,
    access: GrantedAccess,
    user: String,
    query: RecommendationQuery,
    updates: watch::Receiver<Offset>,
    _permit: OwnedSemaphorePermit,
    open_streams: Gauge,
}

impl Drop for StreamSubscription {
    fn drop(&mut self) {
        self.open_streams.decrement(1.0);
    }
}

impl StreamSubscription {
    /// The next event of the stream; `None` at its end.
    async fn next_event(&mut self) -> Option<String> {
        let update = timeout(HEARTBEAT_INTERVAL, self.updates.changed()).await;
        if !self.access.is_still_valid() {
            return None;
        }
        match update {
            Err(_) => return Some(":\n\n".to_owned()),
            Ok(update) => update.ok()?,
        }
        let offset = *self.updates.borrow_and_update();
        Some(match self.current_recommendation().instrument(span!("stream")).await {
            Ok(list) => format!("id: {offset}\ndata: {}\n\n", serde_json::to_string(&list).ok()?),
            Err(problem) => format!("event: problem\ndata: {}\n\n", serde_json::to_string(&problem).ok()?),
        })
    }

    async fn current_recommendation(&self) -> Result<Recommendation, Problem> {
        let request = self.query.to_request_after_offset(&self.api).await?;
        Ok(self.api.recommendations.recommend(self.user.clone(), self.query.consent, request).await?)
    }
}

/// Stream a user's recommendations
///
/// The stream sends the current list at once, and a new list after each event of the user. Each
/// list is the data of a server-sent event. The id of that server-sent event is a journal offset:
/// the list takes into account every journal entry before the offset. If a list cannot be computed,
/// the stream sends a server-sent event named `problem` instead. Comments keep the connection open.
/// The stream ends when the service stops, or when the API key is revoked or the user token
/// expires.
#[utoipa::path(get, path = "/v1/users/{user}/recommendations/stream", operation_id = "follow", tag = "recommendations",
    params(("user" = IdString, Path, description = "The user."), RecommendationQuery),
    responses((status = 200, description = "The lists.", body = String, content_type = "text/event-stream"), BadRequestResponse, UnavailableResponse))]
pub(in crate::http) async fn stream_recommendations(
    api: Data<ApiState>,
    access: GrantedAccess,
    user: Path<String>,
    pairs: QueryPairs,
) -> Result<HttpResponse, Problem> {
    let user = query::validate_user_id(&api, user.into_inner())?;
    let mut query = RecommendationQuery::default();
    for (name, value) in pairs.iter() {
        if !query.set_parameter(name, value)? {
            return Err(query::unknown_parameter(name, &RecommendationQuery::PARAMETER_NAMES));
        }
    }
    // Errors in the query must become a status code, so the query is checked before the stream
    // begins.
    query.to_request_after_offset(&api).await?;
    let permit =
        Arc::clone(&api.stream_permits).try_acquire_owned().map_err(|_| Problem::over_capacity(RETRY_DELAY))?;
    let mut updates = api.system.recommender.subscribe(user.clone())?;
    // Makes the stream send the current list at once.
    updates.mark_changed();
    let open_streams = api.metrics().streams.clone();
    open_streams.increment(1.0);
    let subscription = StreamSubscription { api, access, user, query, updates, _permit: permit, open_streams };
    let events = stream::unfold(subscription, |mut subscription| async move {
        let event = subscription.next_event().await?;
        Some((Ok::<_, Problem>(Bytes::from(event)), subscription))
    });
    // Compression and proxy buffers would delay events.
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_ENCODING, "identity"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(events))
}
