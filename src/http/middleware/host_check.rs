//! Checks host and origin of requests to the admin endpoint, because a page of another site can
//! make a browser send requests.

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

/// The host names of the admin endpoint.
#[derive(Debug, Clone)]
pub(in crate::http) struct AllowedHosts {
    /// The configured names, in lower case.
    names: Arc<[String]>,
    refused: Arc<LabeledMetric<RefusalReason, Counter>>,
}

impl AllowedHosts {
    pub(in crate::http) fn new(names: &[String], refused: Arc<LabeledMetric<RefusalReason, Counter>>) -> Self {
        Self { names: names.iter().map(|name| name.to_ascii_lowercase()).collect(), refused }
    }

    /// Whether a `Host` is accepted. IP addresses are: in a DNS rebinding attack, the host is the
    /// attacker's name and not an address.
    fn accepts(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        address || name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name)
    }

    fn check(&self, head: &RequestHead) -> Result<(), (RefusalReason, Problem)> {
        let header = |name| head.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
        // HTTP/2 sends the host in the URI. A browser always sends one of the two.
        let Some(host) = head.uri.authority().map(|authority| authority.as_str()).or_else(|| header(HOST)) else { return Ok(()) };
        if !self.accepts(host) {
            return Err((RefusalReason::Host, Problem::unknown_host()));
        }
        if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let is_other_origin = header(ORIGIN).is_some_and(|origin| {
            let origin_host = origin.split_once("://").map_or(origin, |(_, rest)| rest);
            !origin_host.eq_ignore_ascii_case(host)
        });
        let is_cross_site = head.headers().get("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].iter().any(|own| site == own));
        if is_other_origin || is_cross_site { Err((RefusalReason::Origin, Problem::cross_origin())) } else { Ok(()) }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // A host with further colons is an IPv6 address, which is in brackets if a port follows.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && (name.ends_with(']') || !name.contains(':')) => name,
        _ => host,
    }
}

/// Refuses requests that a page of another site made a browser send.
///
/// # Errors
/// The error of `next`.
pub(in crate::http) async fn check_host(
    hosts: Data<Option<AllowedHosts>>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(hosts) = &**hosts else { return next.call(request).await };
    match hosts.check(request.head()) {
        Ok(()) => next.call(request).await,
        Err((reason, problem)) => {
            hosts.refused.with_label(reason).increment(1);
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

    fn status(method: Method, headers: &[(&str, &str)]) -> u16 {
        let refused = Arc::new(Metrics::new(&EventKinds::default()).unwrap().refused_requests.clone());
        let hosts = AllowedHosts::new(&["Sequor.example".to_owned()], refused);
        let request = headers.iter().fold(TestRequest::default().method(method), |request, header| request.insert_header(*header));
        hosts.check(request.to_http_request().head()).map_or_else(|(_, problem)| problem.status_code().as_u16(), |()| 200)
    }

    #[test]
    fn refuses_unknown_host_names() {
        for host in
            ["localhost", "localhost:9090", "a.LOCALHOST", "127.0.0.1:9090", "[::1]:9090", "[::1]", "10.0.0.7:9090", "sequor.EXAMPLE:9090"]
        {
            assert_eq!(status(Method::GET, &[("host", host)]), 200, "{host}");
        }
        for host in
            ["rebound.example", "rebound.example:9090", "localhost.rebound.example", "127.0.0.1.rebound.example", "", "sequor.example.org"]
        {
            assert_eq!(status(Method::GET, &[("host", host)]), 421, "{host}");
        }
    }

    #[test]
    fn refuses_changes_from_other_origins() {
        let post = |headers: &[(&str, &str)]| status(Method::POST, &[&[("host", "localhost:9090")], headers].concat());
        assert_eq!((post(&[]), post(&[("origin", "http://localhost:9090")])), (200, 200));
        assert_eq!((post(&[("sec-fetch-site", "same-origin")]), post(&[("sec-fetch-site", "none")])), (200, 200));
        for origin in ["http://shop.example", "null", "http://localhost:8080", "https://localhost"] {
            assert_eq!(post(&[("origin", origin)]), 403, "{origin}");
        }
        assert_eq!((post(&[("sec-fetch-site", "cross-site")]), post(&[("sec-fetch-site", "same-site")])), (403, 403));
        // GET is allowed: the browser hides the response from other sites, and a link from another
        // site may lead here.
        assert_eq!(status(Method::GET, &[("host", "localhost"), ("sec-fetch-site", "cross-site")]), 200);
    }
}
