//! Request ids, which appear in the response and in the log lines of a request.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::{self, Display};
use std::sync::Arc;

/// The header of the request id in requests and responses.
pub(in crate::http) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest accepted id, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 128;

tokio::task_local! {
    static CURRENT_REQUEST_ID: RequestId;
}

/// The id of a request: the id that the client sent, or a generated id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct RequestId(Arc<str>);

impl RequestId {
    /// The id that the client sent in a header. `None` if the id is not well-formed: only letters,
    /// digits and `._:/+=-` are allowed, because they are safe in logs and headers.
    pub(in crate::http) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let id = headers.get(REQUEST_ID_HEADER)?.to_str().ok()?;
        let well_formed = (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/+=-".contains(&byte));
        well_formed.then(|| Self(id.into()))
    }

    /// Wraps a generated id.
    pub(in crate::http) fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The id of the current request, if any.
    pub(in crate::http) fn current() -> Option<Self> {
        CURRENT_REQUEST_ID.try_with(Clone::clone).ok()
    }

    /// Runs `work`. Meanwhile, [`Self::current`] returns this id.
    pub(in crate::http) async fn run_as_current<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT_REQUEST_ID.scope(self.clone(), work).await
    }

    /// The id as a header value.
    pub(in crate::http) fn to_header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }

    /// The id as text.
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

    fn id_from_header(id: &[u8]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID_HEADER, HeaderValue::from_bytes(id).unwrap());
        RequestId::from_headers(&headers).map(|id| id.to_string())
    }

    #[test]
    fn accepts_only_well_formed_ids() {
        assert_eq!(id_from_header(b"4bf92f35-77b3.A/1:2+3=").as_deref(), Some("4bf92f35-77b3.A/1:2+3="));
        let longest = [b'a'; MAX_REQUEST_ID_BYTES];
        assert!(id_from_header(&longest).is_some());
        for malformed in [&b""[..], b"two words", b"a\"b", b"\xff", &[&longest[..], b"a"].concat(), b"<b>"] {
            assert_eq!(id_from_header(malformed), None, "{malformed:?}");
        }
    }
}
