//! Counts the requests of a connection and divides their responses into parts.

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::{Payload, Request, Response, StatusCode};
use actix_service::Service;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::web::Bytes;
use futures_util::Stream;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::activity::{BodyInProgress, ConnectionActivity, RequestInProgress, UntakenResponsePart};
use super::request_body::RequestBody;

/// Size of the largest response part, in bytes. The write buffer of a connection holds a few parts.
const MAX_RESPONSE_PART_BYTES: usize = 16 * 1024;

/// Calls the service with a request and counts the request until its response is complete.
pub(super) fn call_counted<S, B>(
    mut request: Request,
    service: &S,
) -> impl Future<Output = Result<Response<BoxBody>, S::Error>> + use<S, B>
where
    S: Service<Request>,
    S::Response: Into<Response<B>>,
    B: MessageBody + 'static,
{
    let body = RequestBody::of_request(&request);
    let activity = request.conn_data::<Rc<ConnectionActivity>>();
    let admitted = activity.map(|activity| RequestInProgress::begin(activity, body).ok_or(()));
    let response = match &admitted {
        Some(Err(())) => None,
        Some(Ok(in_progress)) => {
            count_body(&mut request, in_progress);
            Some(service.call(request))
        }
        None => Some(service.call(request)),
    };
    async move {
        let Some(response) = response else { return Ok(too_many_streams()) };
        let response = response.await?.into();
        let in_progress = admitted.and_then(Result::ok);
        if let Some(in_progress) = in_progress.as_ref().filter(|_| !body.is_complete()) {
            in_progress.wait_for_held_body().await;
        }
        Ok(response.map_body(|_, body| match body.size() {
            BodySize::None | BodySize::Sized(0) => BoxBody::new(body),
            _ => BoxBody::new(CountedBody { body: BoxBody::new(body), rest: Bytes::new(), untaken: None, in_progress }),
        }))
    }
}

/// The response to a request of a connection that already has too many requests in progress. It has
/// no body, because a body would occupy memory until the client reads it.
fn too_many_streams() -> Response<BoxBody> {
    let mut response = Response::new(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Counts the body of a request as being read, until the body ends or the handler drops it.
fn count_body(request: &mut Request, in_progress: &RequestInProgress) {
    let body = match request.take_payload() {
        Payload::None => return,
        body => body,
    };
    let counted = CountedPayload { body, in_progress: Some(in_progress.begin_body()) };
    *request.payload() = Payload::Stream { payload: Box::pin(counted) };
}

/// A request body that counts as being read until it ends.
struct CountedPayload {
    body: Payload,
    in_progress: Option<BodyInProgress>,
}

impl Stream for CountedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let part = Pin::new(&mut self.body).poll_next(context);
        if matches!(part, Poll::Ready(None | Some(Err(_)))) {
            self.in_progress = None;
        }
        part
    }
}

/// A response body that is offered to the client in parts. The request counts as in progress until
/// its response body is dropped.
struct CountedBody {
    body: BoxBody,
    /// Bytes that the body has produced and that are not yet offered to the client.
    rest: Bytes,
    untaken: Option<UntakenResponsePart>,
    in_progress: Option<RequestInProgress>,
}

impl MessageBody for CountedBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        // The HTTP library asks for another part, so the previous part no longer waits for the
        // client.
        self.untaken = None;
        while self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_next(context) {
                Poll::Ready(Some(Ok(produced))) => self.rest = produced,
                other => return other,
            }
        }
        let length = self.rest.len().min(MAX_RESPONSE_PART_BYTES);
        let part = self.rest.split_to(length);
        self.untaken = self.in_progress.as_ref().map(RequestInProgress::offer_part);
        Poll::Ready(Some(Ok(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::poll_fn;

    #[actix_web::test]
    async fn bodies_are_offered_in_parts() {
        let activity = ConnectionActivity::new(1);
        let in_progress = RequestInProgress::begin(&activity, RequestBody::Complete);
        let body = Bytes::from(vec![7; 2 * MAX_RESPONSE_PART_BYTES + 1]);
        let mut body = CountedBody { body: BoxBody::new(body), rest: Bytes::new(), untaken: None, in_progress };
        assert_eq!(activity.read_parts_if_any_waits(), None);
        let mut lengths = Vec::new();
        while let Some(part) = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await {
            lengths.push(part.unwrap().len());
            assert_eq!(activity.read_parts_if_any_waits(), Some(lengths.len() as u64 - 1));
        }
        assert_eq!(lengths, [MAX_RESPONSE_PART_BYTES, MAX_RESPONSE_PART_BYTES, 1]);
        assert_eq!(activity.read_parts_if_any_waits(), None);
        let begin = || RequestInProgress::begin(&activity, RequestBody::Complete);
        assert!(begin().is_none() && !activity.is_idle());
        drop(body);
        assert!(activity.is_idle() && begin().is_some());
    }
}
