//! Authorization: API keys, scopes and rate limits.

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::Header;
use actix_web::middleware::Next;
use actix_web::web::{Data, Path};
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, ResponseError};
use actix_web_httpauth::headers::authorization::{Authorization, Basic, Bearer};
use metrics::Counter;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;

use crate::auth::{ApiKey, KeyStore, Scope, is_user_token};
use crate::clock::Clock;
use crate::domain::{Origin, Timestamp};
use crate::http::middleware::{body_timeout, decompress};
use crate::http::origins::OriginRecorder;
use crate::http::rate_limits::{RateExceeded, RateLimits};
use crate::http::schema::problem::Problem;
use crate::metrics::{LabeledMetric, RefusalReason};

/// The access that a path requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum RequiredAccess {
    /// No key: the resource is public, or its clients cannot send a key.
    Public,
    /// A key with this scope, if the server requires keys.
    Scope(Scope),
    /// Any key, if the server requires keys. Unknown paths require this, so that clients without a
    /// key cannot find out which paths exist.
    AnyKey,
}

/// Checks API keys and rate limits for one server.
#[derive(Clone)]
pub(in crate::http) struct Authorizer {
    pub(in crate::http) keys: Arc<KeyStore>,
    /// Whether the server requires keys.
    pub(in crate::http) requires_key: bool,
    /// The rate limits; `None`: unlimited.
    pub(in crate::http) rate_limits: Option<Arc<RateLimits>>,
    /// Refused requests, by reason.
    pub(in crate::http) refusal_counters: Arc<LabeledMetric<RefusalReason, Counter>>,
    /// The clock, which decides whether a user token has expired.
    pub(in crate::http) clock: Clock,
}

/// Reason and response of a refused request.
type AccessRefusal = (RefusalReason, Problem);

impl Authorizer {
    /// Identifies the caller by its API key, and checks that the key grants the access `needs`.
    ///
    /// # Errors
    /// [`Problem::missing_key`], [`Problem::invalid_key`], [`Problem::insufficient_scope`] or
    /// [`Problem::too_many_requests`].
    pub(in crate::http) fn authorize(
        &self,
        request: &HttpRequest,
        needs: RequiredAccess,
    ) -> Result<GrantedAccess, Problem> {
        self.authorize_for_user(request, needs, None)
    }

    /// Like [`Self::authorize`], but for a path that belongs to one user. If the path requires the
    /// scope `read`, a token of that user is accepted instead of a key.
    fn authorize_for_user(
        &self,
        request: &HttpRequest,
        needs: RequiredAccess,
        user: Option<&str>,
    ) -> Result<GrantedAccess, Problem> {
        self.check_request(request, needs, user).map_err(|refusal| self.count_refusal(refusal))
    }

    /// Counts a refused request and returns its problem.
    fn count_refusal(&self, (reason, problem): AccessRefusal) -> Problem {
        self.refusal_counters.with_label(reason).increment(1);
        problem
    }

    fn check_request(
        &self,
        request: &HttpRequest,
        needs: RequiredAccess,
        user: Option<&str>,
    ) -> Result<GrantedAccess, AccessRefusal> {
        let address = request.peer_addr().map(|peer| peer.ip());
        // The address is charged first, so that its rate limit also applies to clients that guess
        // keys.
        self.charge_address(address, 1)?;
        let access = match self.identify_by_token(request, needs, user, address) {
            Some(access) => access,
            None => self.identify_caller(request, needs, address)?,
        };
        self.charge_key(access.key.as_deref(), 1)?;
        Ok(access)
    }

    fn charge_address(&self, address: Option<IpAddr>, count: u32) -> Result<(), AccessRefusal> {
        let outcome = self
            .rate_limits
            .as_ref()
            .zip(address)
            .map_or(Ok(()), |(limits, address)| limits.check_address(address, count));
        outcome.map_err(|RateExceeded(wait)| (RefusalReason::AddressRate, Problem::too_many_requests(wait)))
    }

    fn charge_key(&self, key: Option<&ApiKey>, count: u32) -> Result<(), AccessRefusal> {
        let outcome = self.rate_limits.as_ref().zip(key).map_or(Ok(()), |(limits, key)| limits.check_key(key, count));
        outcome.map_err(|RateExceeded(wait)| (RefusalReason::KeyRate, Problem::too_many_requests(wait)))
    }

    /// The access that a user token grants. `None` if the request has no user token that is valid
    /// for this path.
    fn identify_by_token(
        &self,
        request: &HttpRequest,
        needs: RequiredAccess,
        user: Option<&str>,
        address: Option<IpAddr>,
    ) -> Option<GrantedAccess> {
        let user = user.filter(|_| self.requires_key && needs == RequiredAccess::Scope(Scope::Read))?;
        let bearer = Authorization::<Bearer>::parse(request).ok()?;
        let token = self.keys.key_ring().check_user_token(bearer.as_ref().token(), user, self.clock.now())?;
        let (key, expires) = (Some(token.key), Some(token.expires));
        Some(GrantedAccess { key, expires, address, authorizer: self.clone() })
    }

    fn identify_caller(
        &self,
        request: &HttpRequest,
        needs: RequiredAccess,
        address: Option<IpAddr>,
    ) -> Result<GrantedAccess, AccessRefusal> {
        let candidates = candidate_keys(request, needs);
        let key = {
            let ring = self.keys.key_ring();
            candidates.iter().find_map(|candidate| ring.find(candidate).map(Arc::clone))
        };
        let access = GrantedAccess { key, expires: None, address, authorizer: self.clone() };
        match needs {
            _ if !self.requires_key => Ok(access),
            RequiredAccess::Public => Ok(access),
            _ if access.key.is_none() && candidates.is_empty() => {
                Err((RefusalReason::MissingKey, Problem::missing_key()))
            }
            _ if access.key.is_none() && candidates.iter().any(|candidate| is_user_token(candidate)) => {
                Err((RefusalReason::UnknownKey, Problem::invalid_user_token()))
            }
            _ if access.key.is_none() => Err((RefusalReason::UnknownKey, Problem::invalid_key())),
            RequiredAccess::AnyKey => Ok(access),
            RequiredAccess::Scope(scope) => access.check_scope(scope).map(|()| access),
        }
    }
}

/// The parts of a request that may be an API key: the `Bearer` token, and both halves of `Basic`.
/// Segment's libraries send the key as the user name of `Basic`; browsers send it as the password.
/// Operations with the scope `write` also accept the query parameter `key`, because a beacon cannot
/// set a header.
fn candidate_keys(request: &HttpRequest, needs: RequiredAccess) -> Vec<Cow<'_, str>> {
    let mut candidates = Vec::new();
    if let Ok(bearer) = Authorization::<Bearer>::parse(request) {
        candidates.push(bearer.as_ref().token().to_owned().into());
    } else if let Ok(basic) = Authorization::<Basic>::parse(request) {
        let halves = [Some(basic.as_ref().user_id()), basic.as_ref().password()];
        candidates
            .extend(halves.into_iter().flatten().filter(|half| !half.is_empty()).map(|half| half.to_owned().into()));
    }
    if needs == RequiredAccess::Scope(Scope::Write) {
        let pairs = request
            .query_string()
            .split('&')
            .filter_map(|pair| pair.strip_prefix("key="))
            .filter(|key| !key.is_empty());
        candidates.extend(pairs.map(|key| percent_decode_str(key).decode_utf8_lossy()));
    }
    candidates
}

/// The caller's key and address, and the access that they grant.
#[derive(Clone)]
pub(in crate::http) struct GrantedAccess {
    key: Option<Arc<ApiKey>>,
    /// The time at which the user token expires. `None` if the request has no user token.
    expires: Option<Timestamp>,
    address: Option<IpAddr>,
    authorizer: Authorizer,
}

impl GrantedAccess {
    /// Checks a further scope, in addition to the scope of the path.
    ///
    /// # Errors
    /// [`Problem::insufficient_scope`].
    pub(in crate::http) fn require_scope(&self, scope: Scope) -> Result<(), Problem> {
        self.check_scope(scope).map_err(|refusal| self.authorizer.count_refusal(refusal))
    }

    fn check_scope(&self, scope: Scope) -> Result<(), AccessRefusal> {
        let is_allowed = !self.authorizer.requires_key || self.key.as_ref().is_some_and(|key| key.scopes.allows(scope));
        if is_allowed { Ok(()) } else { Err((RefusalReason::MissingScope, Problem::insufficient_scope(scope))) }
    }

    /// Charges the rate limits for a batch of `count` records, before any of them is stored. The
    /// first record is already charged, as the request itself.
    ///
    /// # Errors
    /// [`Problem::too_many_requests`].
    pub(in crate::http) fn charge_batch(&self, count: usize) -> Result<(), Problem> {
        let more = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
        let outcome = self
            .authorizer
            .charge_key(self.key.as_deref(), more)
            .and_then(|()| self.authorizer.charge_address(self.address, more));
        outcome.map_err(|refusal| self.authorizer.count_refusal(refusal))
    }

    /// The origin to record for the entries of this request, which arrived at `now`.
    pub(in crate::http) fn origin(&self, recorder: &OriginRecorder, now: Timestamp) -> Option<Origin> {
        recorder.origin_of(self.key.as_ref().map(|key| &key.id), self.address, now)
    }

    /// Whether the access is still valid: since the request began, the key has not been revoked and
    /// the user token has not expired.
    pub(in crate::http) fn is_still_valid(&self) -> bool {
        !self.authorizer.requires_key
            || self.expires.is_none_or(|expires| self.authorizer.clock.now() < expires)
                && self.key.as_ref().is_some_and(|key| self.authorizer.keys.key_ring().get(&key.id).is_some())
    }
}

impl FromRequest for GrantedAccess {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // If the authorization middleware did not run, no access is granted.
        ready(request.extensions().get::<Self>().cloned().ok_or_else(Problem::internal))
    }
}

/// Checks the access of a request before its handler runs.
///
/// # Errors
/// If `next` returns an error.
pub(in crate::http) async fn require_access(
    needs: RequiredAccess,
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    // The user is extracted from the path in the same way as in the handler, so that both see the
    // same id.
    let is_of_user = request.match_pattern().is_some_and(|pattern| pattern.contains("{user}"));
    let user = if is_of_user { request.extract::<Path<String>>().await.ok().map(Path::into_inner) } else { None };
    let admitted = match request.app_data::<Data<Authorizer>>() {
        Some(authorizer) => authorizer.authorize_for_user(request.request(), needs, user.as_deref()),
        // A server always has an authorizer. If a bug leaves it out, no access is granted.
        None => Err(Problem::internal()),
    };
    match admitted {
        Ok(access) => {
            request.extensions_mut().insert(access);
            body_timeout::apply_body_timeout(&mut request);
            decompress::decompress_body(&mut request);
            next.call(request).await
        }
        Err(problem) => Ok(request.into_response(problem.error_response())),
    }
}

/// Responds to unknown paths: 404 if the client has a valid key, otherwise a refusal.
pub(in crate::http) async fn not_found(request: HttpRequest, authorizer: Data<Authorizer>) -> Problem {
    authorizer.authorize(&request, RequiredAccess::AnyKey).err().unwrap_or_else(Problem::unknown_path)
}

#[cfg(test)]
pub(in crate::http) mod tests {
    use super::*;
    use crate::auth::Scopes;
    use crate::domain::EventKinds;
    use crate::metrics::Metrics;
    use actix_web::http::StatusCode;
    use actix_web::test::TestRequest;

    /// An authorizer, and a new key for each of the scopes.
    pub(in crate::http) fn test_authorizer(requires_key: bool, scopes: &[Scope]) -> (Authorizer, Vec<String>) {
        let home = tempfile::tempdir().unwrap();
        let keys = KeyStore::open(home.path()).unwrap();
        let create =
            |scope: &Scope| keys.create("k", Scopes::new([*scope]).unwrap(), None, 0).unwrap().1.reveal().to_owned();
        let secrets = scopes.iter().map(create).collect();
        let refused = Arc::new(Metrics::new(&EventKinds::default()).unwrap().refused_requests.clone());
        // The directory must not be deleted, because revoking a key writes to it.
        let _ = home.keep();
        (
            Authorizer {
                keys: Arc::new(keys),
                requires_key,
                rate_limits: None,
                refusal_counters: refused,
                clock: Clock::system(),
            },
            secrets,
        )
    }

    fn authorization_status(authorizer: &Authorizer, request: TestRequest, needs: RequiredAccess) -> u16 {
        authorizer
            .authorize(&request.to_http_request(), needs)
            .map_or_else(|problem| problem.status_code(), |_| StatusCode::OK)
            .as_u16()
    }

    fn request_with_header(name: &str, value: &str) -> TestRequest {
        TestRequest::default().insert_header((name, value))
    }

    #[test]
    fn accepts_a_key_in_header_or_query() {
        let (authorizer, keys) = test_authorizer(true, &[Scope::Write, Scope::Read]);
        let (write, read) = (RequiredAccess::Scope(Scope::Write), RequiredAccess::Scope(Scope::Read));
        assert_eq!(
            authorization_status(
                &authorizer,
                request_with_header("authorization", &format!("Bearer {}", keys[0])),
                write
            ),
            200
        );
        assert_eq!(
            authorization_status(
                &authorizer,
                request_with_header("authorization", &format!("Bearer {}", keys[0])),
                read
            ),
            403
        );
        assert_eq!(
            authorization_status(&authorizer, request_with_header("authorization", "Bearer something"), write),
            401
        );
        assert_eq!(authorization_status(&authorizer, TestRequest::default(), write), 401);
        // Reads accept no key in the URL, because URLs appear in logs.
        let with_query = |key: &str| TestRequest::with_uri(&format!("/?a=b&key={key}"));
        assert_eq!(
            (
                authorization_status(&authorizer, with_query(&keys[0]), write),
                authorization_status(&authorizer, with_query(&keys[1]), read)
            ),
            (200, 401)
        );
        assert_eq!(authorization_status(&authorizer, with_query(&keys[1]), write), 403);
        assert_eq!(
            (
                authorization_status(&authorizer, TestRequest::default(), RequiredAccess::AnyKey),
                authorization_status(&authorizer, TestRequest::default(), RequiredAccess::Public)
            ),
            (401, 200)
        );
    }

    #[test]
    fn open_server_accepts_every_request() {
        let (authorizer, _) = test_authorizer(false, &[]);
        for request in [
            TestRequest::default(),
            request_with_header("authorization", "Bearer something"),
            request_with_header("authorization", "Basic eDo="),
        ] {
            assert_eq!(authorization_status(&authorizer, request, RequiredAccess::Scope(Scope::Admin)), 200);
        }
    }

    #[test]
    fn revoked_key_loses_its_access() {
        let (authorizer, keys) = test_authorizer(true, &[Scope::Read]);
        let request = || request_with_header("authorization", &format!("Bearer {}", keys[0]));
        let access = authorizer.authorize(&request().to_http_request(), RequiredAccess::Scope(Scope::Read)).unwrap();
        assert!(access.is_still_valid() && access.require_scope(Scope::Write).is_err());
        authorizer.keys.revoke(&access.key.as_ref().unwrap().id).unwrap();
        assert!(!access.is_still_valid());
        assert_eq!(authorization_status(&authorizer, request(), RequiredAccess::Scope(Scope::Read)), 401);
    }
}
