//! The lock of the admin endpoint.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::Header;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpRequest};
use actix_web_httpauth::headers::authorization::{Authorization, Basic, Bearer};
use std::sync::Arc;
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// What opens it.
#[derive(Clone)]
pub(super) struct Token(Arc<str>);

impl Token {
    /// `None` if there is no lock.
    pub(super) fn new(token: &str) -> Option<Self> {
        (!token.is_empty()).then(|| Self(token.into()))
    }

    /// Whether somebody knows it. How long this takes tells only its length.
    fn is(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }

    fn is_sent_by(&self, request: &HttpRequest) -> bool {
        let bearer = Authorization::<Bearer>::parse(request).is_ok_and(|sent| self.is(sent.as_ref().token()));
        let basic =
            || Authorization::<Basic>::parse(request).is_ok_and(|sent| sent.as_ref().password().is_some_and(|password| self.is(password)));
        bearer || basic()
    }
}

/// Lets through whoever sends the token. Whether the daemon is alive and ready anybody may ask.
///
/// # Errors
/// [`Problem::locked`], or whatever `next` says.
pub(super) async fn unlocked(
    token: Data<Option<Token>>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let open = matches!(request.path(), "/healthz" | "/readyz");
    if open || token.as_ref().as_ref().is_none_or(|token| token.is_sent_by(request.request())) {
        next.call(request).await
    } else {
        Err(Problem::locked().into())
    }
}
