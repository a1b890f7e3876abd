//! The lock of a door: who may come in, and where to.

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::Header;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, ResponseError};
use actix_web_httpauth::headers::authorization::{Authorization, Basic, Bearer};
use metrics::Counter;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;

use crate::auth::{ApiKey, KeyStore, Scope};
use crate::http::middleware::{body_timeout, decompress};
use crate::http::rate_limits::{RateExceeded, RateLimits};
use crate::http::schema::problem::Problem;
use crate::metrics::{LabeledMetric, RefusalReason};

/// What a path needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum RequiredAccess {
    /// Nothing: what is there is no secret, or is asked for by what cannot send a key.
    Public,
    /// A key of this scope, where the door is locked.
    Scope(Scope),
    /// Any key, where the door is locked: what is not there is told only to who may come in.
    AnyKey,
}

/// The lock of one door.
#[derive(Clone)]
pub(in crate::http) struct Authorizer {
    pub(in crate::http) keys: Arc<KeyStore>,
    /// Whether a key is asked for at all.
    pub(in crate::http) requires_key: bool,
    /// How much each may bring; `None`: as much as they like.
    pub(in crate::http) rate_limits: Option<Arc<RateLimits>>,
    /// Those who did not come in, by why.
    pub(in crate::http) refusal_counters: Arc<LabeledMetric<RefusalReason, Counter>>,
}

/// Why somebody does not come in.
type AccessRefusal = (RefusalReason, Problem);

impl Authorizer {
    /// Identifies the caller and checks the access.
    ///
    /// # Errors
    /// [`Problem::missing_key`], [`Problem::invalid_key`], [`Problem::insufficient_scope`] or
    /// [`Problem::too_many_requests`].
    pub(in crate::http) fn authorize(&self, request: &HttpRequest, needs: RequiredAccess) -> Result<GrantedAccess, Problem> {
        self.judge(request, needs).map_err(|turned| self.turn(turned))
    }

    /// Counts somebody who does not come in.
    fn turn(&self, (reason, problem): AccessRefusal) -> Problem {
        self.refusal_counters.with_label(reason).increment(1);
        problem
    }

    fn judge(&self, request: &HttpRequest, needs: RequiredAccess) -> Result<GrantedAccess, AccessRefusal> {
        let address = request.peer_addr().map(|peer| peer.ip());
        // Counted first, so that guessing keys is limited too.
        self.count_address(address, 1)?;
        let access = self.recognise(request, needs, address)?;
        self.count_key(access.key.as_deref(), 1)?;
        Ok(access)
    }

    fn count_address(&self, address: Option<IpAddr>, count: u32) -> Result<(), AccessRefusal> {
        let counted = self.rate_limits.as_ref().zip(address).map_or(Ok(()), |(limits, address)| limits.check_address(address, count));
        counted.map_err(|RateExceeded(wait)| (RefusalReason::AddressRate, Problem::too_many_requests(wait)))
    }

    fn count_key(&self, key: Option<&ApiKey>, count: u32) -> Result<(), AccessRefusal> {
        let counted = self.rate_limits.as_ref().zip(key).map_or(Ok(()), |(limits, key)| limits.check_key(key, count));
        counted.map_err(|RateExceeded(wait)| (RefusalReason::KeyRate, Problem::too_many_requests(wait)))
    }

    fn recognise(&self, request: &HttpRequest, needs: RequiredAccess, address: Option<IpAddr>) -> Result<GrantedAccess, AccessRefusal> {
        let sent = sent(request, needs);
        let key = {
            let ring = self.keys.key_ring();
            sent.iter().find_map(|sent| ring.find(sent).map(Arc::clone))
        };
        let access = GrantedAccess { key, address, authorizer: self.clone() };
        match needs {
            _ if !self.requires_key => Ok(access),
            RequiredAccess::Public => Ok(access),
            _ if access.key.is_none() && sent.is_empty() => Err((RefusalReason::MissingKey, Problem::missing_key())),
            _ if access.key.is_none() => Err((RefusalReason::UnknownKey, Problem::invalid_key())),
            RequiredAccess::AnyKey => Ok(access),
            RequiredAccess::Scope(scope) => access.check(scope).map(|()| access),
        }
    }
}

/// What a request sends that may be a key: as `Bearer`, as either half of `Basic` (Segment's
/// libraries send their write key as the user name, browsers what they ask for as the password),
/// and, where only telling is at stake, as `key` in the address: a beacon can send no header.
fn sent(request: &HttpRequest, needs: RequiredAccess) -> Vec<Cow<'_, str>> {
    let mut sent = Vec::new();
    if let Ok(bearer) = Authorization::<Bearer>::parse(request) {
        sent.push(bearer.as_ref().token().to_owned().into());
    } else if let Ok(basic) = Authorization::<Basic>::parse(request) {
        let halves = [Some(basic.as_ref().user_id()), basic.as_ref().password()];
        sent.extend(halves.into_iter().flatten().filter(|half| !half.is_empty()).map(|half| half.to_owned().into()));
    }
    if needs == RequiredAccess::Scope(Scope::Write) {
        let pairs = request.query_string().split('&').filter_map(|pair| pair.strip_prefix("key=")).filter(|key| !key.is_empty());
        sent.extend(pairs.map(|key| percent_decode_str(key).decode_utf8_lossy()));
    }
    sent
}

/// The caller's key and address, and the access that they grant.
#[derive(Clone)]
pub(in crate::http) struct GrantedAccess {
    key: Option<Arc<ApiKey>>,
    address: Option<IpAddr>,
    authorizer: Authorizer,
}

impl GrantedAccess {
    /// Whether they may do something more than their path needs.
    ///
    /// # Errors
    /// [`Problem::insufficient_scope`].
    pub(in crate::http) fn require_scope(&self, scope: Scope) -> Result<(), Problem> {
        self.check(scope).map_err(|turned| self.authorizer.turn(turned))
    }

    fn check(&self, scope: Scope) -> Result<(), AccessRefusal> {
        let opens = !self.authorizer.requires_key || self.key.as_ref().is_some_and(|key| key.scopes.allows(scope));
        if opens { Ok(()) } else { Err((RefusalReason::MissingScope, Problem::insufficient_scope(scope))) }
    }

    /// Counts what they bring beyond one event or question, before any of it is taken.
    ///
    /// # Errors
    /// [`Problem::too_many_requests`].
    pub(in crate::http) fn charge_batch(&self, count: usize) -> Result<(), Problem> {
        let more = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
        let counted = self.authorizer.count_key(self.key.as_deref(), more).and_then(|()| self.authorizer.count_address(self.address, more));
        counted.map_err(|turned| self.authorizer.turn(turned))
    }

    /// Whether what let them in still does: a key may have been revoked since.
    pub(in crate::http) fn is_still_valid(&self) -> bool {
        !self.authorizer.requires_key || self.key.as_ref().is_some_and(|key| self.authorizer.keys.key_ring().get(&key.id).is_some())
    }
}

impl FromRequest for GrantedAccess {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // A path without a guard lets nobody in.
        ready(request.extensions().get::<Self>().cloned().ok_or_else(Problem::internal))
    }
}

/// Checks the access of a request before its handler runs.
///
/// # Errors
/// Whatever `next` says.
pub(in crate::http) async fn require_access(
    needs: RequiredAccess,
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let admitted = match request.app_data::<Data<Authorizer>>() {
        Some(lock) => lock.authorize(request.request(), needs),
        // A door without a lock is a mistake of the program's own, and stays shut.
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

/// What there is at a path that leads nowhere.
pub(in crate::http) async fn not_found(request: HttpRequest, lock: Data<Authorizer>) -> Problem {
    lock.authorize(&request, RequiredAccess::AnyKey).err().unwrap_or_else(Problem::unknown_path)
}

#[cfg(test)]
pub(in crate::http) mod tests {
    use super::*;
    use crate::auth::Scopes;
    use crate::domain::EventKinds;
    use crate::metrics::Metrics;
    use actix_web::http::StatusCode;
    use actix_web::test::TestRequest;

    /// A lock of fresh keys, one of each of these scopes.
    pub(in crate::http) fn test_authorizer(locked: bool, scopes: &[Scope]) -> (Authorizer, Vec<String>) {
        let home = tempfile::tempdir().unwrap();
        let keys = KeyStore::open(home.path()).unwrap();
        let make = |scope: &Scope| keys.create("k", Scopes::new([*scope]).unwrap(), None, 0).unwrap().1.reveal().to_owned();
        let made = scopes.iter().map(make).collect();
        let refused = Arc::new(Metrics::new(&EventKinds::default()).unwrap().refused_requests.clone());
        // What is revoked later is written where it was.
        let _ = home.keep();
        (Authorizer { keys: Arc::new(keys), requires_key: locked, rate_limits: None, refusal_counters: refused }, made)
    }

    fn status(lock: &Authorizer, request: TestRequest, needs: RequiredAccess) -> u16 {
        lock.authorize(&request.to_http_request(), needs).map_or_else(|problem| problem.status_code(), |_| StatusCode::OK).as_u16()
    }

    fn with(name: &str, value: &str) -> TestRequest {
        TestRequest::default().insert_header((name, value))
    }

    #[test]
    fn a_key_is_taken_wherever_it_may_be_sent() {
        let (lock, keys) = test_authorizer(true, &[Scope::Write, Scope::Read]);
        let (write, read) = (RequiredAccess::Scope(Scope::Write), RequiredAccess::Scope(Scope::Read));
        assert_eq!(status(&lock, with("authorization", &format!("Bearer {}", keys[0])), write), 200);
        assert_eq!(status(&lock, with("authorization", &format!("Bearer {}", keys[0])), read), 403);
        assert_eq!(status(&lock, with("authorization", "Bearer something"), write), 401);
        assert_eq!(status(&lock, TestRequest::default(), write), 401);
        // What asks for a list says so in a header: an address stands in many a log.
        let asks = |key: &str| TestRequest::with_uri(&format!("/?a=b&key={key}"));
        assert_eq!((status(&lock, asks(&keys[0]), write), status(&lock, asks(&keys[1]), read)), (200, 401));
        assert_eq!(status(&lock, asks(&keys[1]), write), 403);
        assert_eq!(
            (status(&lock, TestRequest::default(), RequiredAccess::AnyKey), status(&lock, TestRequest::default(), RequiredAccess::Public)),
            (401, 200)
        );
    }

    #[test]
    fn an_open_door_asks_nothing() {
        let (lock, _) = test_authorizer(false, &[]);
        for request in [TestRequest::default(), with("authorization", "Bearer something"), with("authorization", "Basic eDo=")] {
            assert_eq!(status(&lock, request, RequiredAccess::Scope(Scope::Admin)), 200);
        }
    }

    #[test]
    fn a_key_that_was_revoked_opens_nothing_any_more() {
        let (lock, keys) = test_authorizer(true, &[Scope::Read]);
        let request = || with("authorization", &format!("Bearer {}", keys[0]));
        let access = lock.authorize(&request().to_http_request(), RequiredAccess::Scope(Scope::Read)).unwrap();
        assert!(access.is_still_valid() && access.require_scope(Scope::Write).is_err());
        lock.keys.revoke(&access.key.as_ref().unwrap().id).unwrap();
        assert!(!access.is_still_valid());
        assert_eq!(status(&lock, request(), RequiredAccess::Scope(Scope::Read)), 401);
    }
}
