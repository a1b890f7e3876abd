//! The id by which a request is found again: in its answer, in the lines that it logs, and in
//! whatever sent it.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::{self, Display};
use std::sync::Arc;

/// The header that brings an id and takes it back.
pub(in crate::http) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken.
const LONGEST: usize = 128;

tokio::task_local! {
    static PRESENT: RequestId;
}

/// A request's id: the sender's own, or one that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct RequestId(Arc<str>);

impl RequestId {
    /// The id that a request brings, if it is well-formed: letters, digits and `._:/+=-`, so that
    /// it means nothing to a log or a header.
    pub(in crate::http) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let id = headers.get(HEADER)?.to_str().ok()?;
        let well_formed =
            (1..=LONGEST).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/+=-".contains(&byte));
        well_formed.then(|| Self(id.into()))
    }

    /// One that was made.
    pub(in crate::http) fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The id of the request that is being answered, if one is.
    pub(in crate::http) fn current() -> Option<Self> {
        PRESENT.try_with(Clone::clone).ok()
    }

    /// Does the work of this request.
    pub(in crate::http) async fn scope<T>(&self, work: impl Future<Output = T>) -> T {
        PRESENT.scope(self.clone(), work).await
    }

    /// As the value of a header.
    pub(in crate::http) fn to_header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }

    /// As it is.
    pub(in crate::http) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brought(id: &[u8]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(id).unwrap());
        RequestId::from_headers(&headers).map(|id| id.to_string())
    }

    #[test]
    fn a_well_formed_id_is_taken_and_no_other() {
        assert_eq!(brought(b"4bf92f35-77b3.A/1:2+3=").as_deref(), Some("4bf92f35-77b3.A/1:2+3="));
        let longest = [b'a'; LONGEST];
        assert!(brought(&longest).is_some());
        for strange in [&b""[..], b"two words", b"a\"b", b"\xff", &[&longest[..], b"a"].concat(), b"<b>"] {
            assert_eq!(brought(strange), None, "{strange:?}");
        }
    }
}
