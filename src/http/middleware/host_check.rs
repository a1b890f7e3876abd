//! Checks the host and the origin of requests. A page of another site could make a browser send
//! requests to the admin endpoint, or to a public API that requires no key.

use actix_web::body::BoxBody;
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HOST, ORIGIN};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, ResponseError};
use metrics::Counter;
use std::net::IpAddr;
use std::sync::Arc;

use crate::http::schema::problem::Problem;
use crate::metrics::{LabeledMetric, RefusalReason};

/// The endpoint that a [`BrowserGuard`] protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum GuardedEndpoint {
    /// The public API, if it requires no key. The settings can allow pages of other origins.
    Api,
    /// The admin endpoint.
    Admin,
}

/// Host names and origins from which an endpoint accepts requests.
#[derive(Debug, Clone)]
pub(in crate::http) struct BrowserGuard {
    endpoint: GuardedEndpoint,
    /// The configured names, in lower case.
    names: Arc<[String]>,
    /// The origins whose pages may send requests. The entry `*` stands for any origin.
    origins: Arc<[String]>,
    refused: Arc<LabeledMetric<RefusalReason, Counter>>,
}

impl BrowserGuard {
    /// The guard of the admin endpoint. If a browser sends a request that changes something, the
    /// guard accepts it only from a page of the admin endpoint itself.
    pub(in crate::http) fn for_admin(names: &[String], refused: Arc<LabeledMetric<RefusalReason, Counter>>) -> Self {
        Self { endpoint: GuardedEndpoint::Admin, names: to_lower_case(names), origins: Arc::new([]), refused }
    }

    /// The guard of a public API that requires no key. In addition to the host names `names`, it
    /// accepts the hosts of `origins`.
    pub(in crate::http) fn for_api(
        names: &[String],
        origins: &[String],
        refused: Arc<LabeledMetric<RefusalReason, Counter>>,
    ) -> Self {
        let origin_hosts =
            origins.iter().filter_map(|origin| Some(without_port(origin.split_once("://")?.1).to_owned()));
        let names: Vec<_> = names.iter().cloned().chain(origin_hosts).collect();
        Self { endpoint: GuardedEndpoint::Api, names: to_lower_case(&names), origins: to_lower_case(origins), refused }
    }

    /// Whether requests to this host are accepted. All IP addresses are accepted, because they are
    /// safe from DNS rebinding: in such an attack, the host is the attacker's domain name.
    fn accepts_host(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        bare_address(&name).is_some() || is_localhost(&name) || self.names.contains(&name)
    }

    /// Whether pages of `origin` may send requests. The endpoint's own origin is not checked here.
    /// Pages that this machine serves may call the API, because an API that requires no key trusts
    /// every user of the machine.
    fn accepts_origin(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        if self.origins.iter().any(|allowed| *allowed == origin || allowed == "*") {
            return true;
        }
        let Some((_, host)) = origin.split_once("://") else { return false };
        let name = without_port(host);
        self.endpoint == GuardedEndpoint::Api
            && (is_localhost(name) || bare_address(name).is_some_and(|address| address.to_canonical().is_loopback()))
    }

    fn check(&self, head: &RequestHead) -> Result<(), (RefusalReason, Problem)> {
        let header = |name| head.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
        // HTTP/2 sends the host in the URI, HTTP/1.1 sends it in the `Host` header. A request
        // without a host does not come from a browser, so it is accepted.
        let Some(host) = head.uri.authority().map(|authority| authority.as_str()).or_else(|| header(HOST)) else {
            return Ok(());
        };
        let is_api = self.endpoint == GuardedEndpoint::Api;
        if !self.accepts_host(host) {
            return Err((
                RefusalReason::Host,
                if is_api { Problem::unknown_api_host() } else { Problem::unknown_host() },
            ));
        }
        let fetch = |name: &str| head.headers().get(name).and_then(|value| value.to_str().ok());
        // A page of another site may make a browser send a GET request, because the browser hides
        // the response from the page. The API nevertheless refuses a GET request for an embedded
        // resource, such as an image, because a recommendation would be recorded as an impression.
        // Embedded scripts are allowed.
        let is_embedded =
            is_api && fetch("sec-fetch-mode") == Some("no-cors") && fetch("sec-fetch-dest") != Some("script");
        if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) && !is_embedded {
            return Ok(());
        }
        let is_own_site = |site: &str| ["same-origin", "none"].contains(&site);
        let is_accepted = match header(ORIGIN) {
            Some(origin) => {
                let origin_host = origin.split_once("://").map_or(origin, |(_, rest)| rest);
                let is_own = origin_host.eq_ignore_ascii_case(host) && fetch("sec-fetch-site").is_none_or(is_own_site);
                is_own || self.accepts_origin(origin)
            }
            None => fetch("sec-fetch-site").is_none_or(is_own_site) || self.origins.iter().any(|origin| origin == "*"),
        };
        let problem = if is_api { Problem::unknown_origin } else { Problem::cross_origin };
        if is_accepted { Ok(()) } else { Err((RefusalReason::Origin, problem())) }
    }
}

fn to_lower_case(names: &[String]) -> Arc<[String]> {
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}

/// Parses a host as an IP address, with or without the brackets of IPv6. `None` if the host is a
/// name.
fn bare_address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // A host with several colons is an IPv6 address. If a port follows, the address is in
        // brackets.
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && (name.ends_with(']') || !name.contains(':')) =>
        {
            name
        }
        _ => host,
    }
}

/// Refuses a request if a page of another site made the browser send it.
///
/// # Errors
/// If `next` returns an error.
pub(in crate::http) async fn check_host(
    guard: Data<Option<BrowserGuard>>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(guard) = &**guard else { return next.call(request).await };
    match guard.check(request.head()) {
        Ok(()) => next.call(request).await,
        Err((reason, problem)) => {
            guard.refused.with_label(reason).increment(1);
            Ok(request.into_response(problem.error_response()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventKinds;
    use crate::metrics::Metrics;
    use actix_web::test::TestRequest;

    fn refused_requests() -> Arc<LabeledMetric<RefusalReason, Counter>> {
        Arc::new(Metrics::new(&EventKinds::default()).unwrap().refused_requests.clone())
    }

    fn admin_status(method: Method, headers: &[(&str, &str)]) -> u16 {
        guard_status(&BrowserGuard::for_admin(&["Sequor.example".to_owned()], refused_requests()), method, headers)
    }

    fn guard_status(guard: &BrowserGuard, method: Method, headers: &[(&str, &str)]) -> u16 {
        let request = headers
            .iter()
            .fold(TestRequest::default().method(method), |request, header| request.insert_header(*header));
        guard
            .check(request.to_http_request().head())
            .map_or_else(|(_, problem)| problem.status_code().as_u16(), |()| 200)
    }

    #[test]
    fn refuses_unknown_host_names() {
        for host in [
            "localhost",
            "localhost:9090",
            "a.LOCALHOST",
            "127.0.0.1:9090",
            "[::1]:9090",
            "[::1]",
            "10.0.0.7:9090",
            "sequor.EXAMPLE:9090",
        ] {
            assert_eq!(admin_status(Method::GET, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "rebound.example",
            "rebound.example:9090",
            "localhost.rebound.example",
            "127.0.0.1.rebound.example",
            "",
            "sequor.example.org",
        ] {
            assert_eq!(admin_status(Method::GET, &[("host", host)]), 421, "{host}");
        }
    }

    #[test]
    fn refuses_changes_from_other_origins() {
        let post =
            |headers: &[(&str, &str)]| admin_status(Method::POST, &[&[("host", "localhost:9090")], headers].concat());
        assert_eq!((post(&[]), post(&[("origin", "http://localhost:9090")])), (200, 200));
        assert_eq!((post(&[("sec-fetch-site", "same-origin")]), post(&[("sec-fetch-site", "none")])), (200, 200));
        for origin in ["http://shop.example", "null", "http://localhost:8080", "https://localhost"] {
            assert_eq!(post(&[("origin", origin)]), 403, "{origin}");
        }
        assert_eq!((post(&[("sec-fetch-site", "cross-site")]), post(&[("sec-fetch-site", "same-site")])), (403, 403));
        // GET is allowed: the browser hides the response from other sites, and a link from another
        // site may lead here.
        assert_eq!(admin_status(Method::GET, &[("host", "localhost"), ("sec-fetch-site", "cross-site")]), 200);
    }

    #[test]
    fn api_without_keys_accepts_configured_origins_and_those_of_this_machine() {
        let names = ["api.example".to_owned()];
        let guard = BrowserGuard::for_api(&names, &["https://Shop.example:8443".to_owned()], refused_requests());
        let post = |headers: &[(&str, &str)]| {
            guard_status(&guard, Method::POST, &[&[("host", "localhost:8080")], headers].concat())
        };
        let cross = ("sec-fetch-site", "cross-site");
        assert_eq!(post(&[("origin", "https://shop.example:8443"), cross]), 200);
        for origin in ["http://localhost:3000", "http://127.0.0.1:3000", "http://[::1]:3000", "http://app.localhost"] {
            assert_eq!(post(&[("origin", origin), ("sec-fetch-site", "same-site")]), 200, "{origin}");
        }
        for origin in [
            "https://shop.example",
            "null",
            "http://10.0.0.7",
            "http://localhost.rebound.example",
            "https://api.example",
        ] {
            assert_eq!(post(&[("origin", origin), cross]), 403, "{origin}");
        }
        assert_eq!((post(&[cross]), post(&[])), (403, 200));
        let get = |host: &str, headers: &[(&str, &str)]| {
            guard_status(&guard, Method::GET, &[&[("host", host)], headers].concat())
        };
        for host in ["api.example", "shop.example", "localhost:8080"] {
            assert_eq!(get(host, &[]), 200, "{host}");
        }
        assert_eq!(get("rebound.example", &[]), 421);
        let embedded =
            |destination| get("localhost", &[cross, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", destination)]);
        assert_eq!((embedded("script"), embedded("image")), (200, 403));
        let open = BrowserGuard::for_api(&[], &["*".to_owned()], refused_requests());
        assert_eq!(guard_status(&open, Method::POST, &[("host", "localhost"), ("origin", "null"), cross]), 200);
        assert_eq!(guard_status(&open, Method::POST, &[("host", "rebound.example"), ("origin", "null"), cross]), 421);
    }
}
