//! The time limit of request bodies.

use actix_web::HttpMessage;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::rt::time::{Sleep, sleep};
use actix_web::web::Bytes;
use futures_util::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Longest time that receiving a whole body may take.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct BodyTimeout(pub(in crate::http) Duration);

/// A body that fails if it does not arrive within the time limit. The timer starts when a handler
/// first waits for bytes. Most bodies arrive together with their request, so they need no timer.
struct TimedPayload {
    body: Payload,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Stream for TimedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(part) = Pin::new(&mut self.body).poll_next(context) {
            return Poll::Ready(part);
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        deadline.as_mut().poll(context).map(|()| Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))))
    }
}

/// Applies the time limit to the body of a request.
pub(in crate::http) fn apply_body_timeout(request: &mut ServiceRequest) {
    let Some(BodyTimeout(limit)) = request.app_data::<BodyTimeout>().copied() else { return };
    match request.take_payload() {
        Payload::None => {}
        body => {
            request.set_payload(Payload::Stream { payload: Box::pin(TimedPayload { body, limit, deadline: None }) })
        }
    }
}

/// Whether a body failed because it exceeded the time limit.
pub(in crate::http) fn is_body_timeout(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(error) | PayloadError::Incomplete(Some(error)) if error.kind() == io::ErrorKind::TimedOut)
}
