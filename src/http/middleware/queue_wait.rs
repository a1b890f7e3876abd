//! The longest time that a request waits for a thread of the server.
//!
//! A thread handles its requests one after another. Under overload, requests wait for seconds in
//! the queue of a thread. A request that has waited too long is refused at once, so that the thread
//! serves the other requests in time.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, ResponseError};
use std::time::{Duration, Instant};
use tokio::task::yield_now;

use crate::http::schema::problem::{Problem, RETRY_DELAY};

/// The longest time that a request may wait for its thread; `None`: no limit.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct MaxQueueWait(pub(in crate::http) Option<Duration>);

impl MaxQueueWait {
    /// Waits until the thread has handled the requests that arrived earlier.
    ///
    /// # Errors
    /// [`Problem::queued_too_long`] if that takes longer than the limit.
    pub(in crate::http) async fn wait_for_turn(&self) -> Result<(), Problem> {
        let Some(limit) = self.0 else { return Ok(()) };
        let arrived = Instant::now();
        yield_now().await;
        if arrived.elapsed() > limit { Err(Problem::queued_too_long(RETRY_DELAY)) } else { Ok(()) }
    }
}

/// Refuses a request that waited too long for the thread.
///
/// # Errors
/// If `next` returns an error.
pub(in crate::http) async fn limit_queue_wait(
    limit: Data<MaxQueueWait>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match limit.wait_for_turn().await {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(problem) => Ok(request.into_response(problem.error_response()).map_into_right_body()),
    }
}
