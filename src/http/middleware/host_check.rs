//! Whether a request to the admin endpoint comes from where it seems to: a page elsewhere can make
//! a browser send some.

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

/// The names by which the admin endpoint may be asked.
#[derive(Debug, Clone)]
pub(in crate::http) struct AllowedHosts {
    /// Those that an operator set, in lower case.
    names: Arc<[String]>,
    refused: Arc<LabeledMetric<RefusalReason, Counter>>,
}

impl AllowedHosts {
    pub(in crate::http) fn new(names: &[String], refused: Arc<LabeledMetric<RefusalReason, Counter>>) -> Self {
        Self { names: names.iter().map(|name| name.to_ascii_lowercase()).collect(), refused }
    }

    /// Whether a host may be asked for. An address may: a page that has another name resolve to
    /// this machine (DNS rebinding) is asked for by that name.
    fn know(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        address || name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name)
    }

    fn judge(&self, head: &RequestHead) -> Result<(), (RefusalReason, Problem)> {
        let header = |name| head.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
        // HTTP/2 says it in the address. Without either it is no browser.
        let Some(host) = head.uri.authority().map(|authority| authority.as_str()).or_else(|| header(HOST)) else { return Ok(()) };
        if !self.know(host) {
            return Err((RefusalReason::Host, Problem::unknown_host()));
        }
        if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let elsewhere = header(ORIGIN).is_some_and(|origin| {
            let there = origin.split_once("://").map_or(origin, |(_, there)| there);
            !there.eq_ignore_ascii_case(host)
        });
        let told = head.headers().get("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].iter().any(|good| site == good));
        if elsewhere || told { Err((RefusalReason::Origin, Problem::cross_origin())) } else { Ok(()) }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // What has colons beside the one before the port is an IPv6 address, and in brackets.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && (name.ends_with(']') || !name.contains(':')) => name,
        _ => host,
    }
}

/// Refuses what a page elsewhere made a browser send.
///
/// # Errors
/// Whatever `next` says.
pub(in crate::http) async fn check_host(
    hosts: Data<Option<AllowedHosts>>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(hosts) = &**hosts else { return next.call(request).await };
    match hosts.judge(request.head()) {
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
        hosts.judge(request.to_http_request().head()).map_or_else(|(_, problem)| problem.status_code().as_u16(), |()| 200)
    }

    #[test]
    fn a_name_that_leads_here_by_somebody_elses_doing_is_refused() {
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
    fn a_page_elsewhere_changes_nothing() {
        let post = |headers: &[(&str, &str)]| status(Method::POST, &[&[("host", "localhost:9090")], headers].concat());
        assert_eq!((post(&[]), post(&[("origin", "http://localhost:9090")])), (200, 200));
        assert_eq!((post(&[("sec-fetch-site", "same-origin")]), post(&[("sec-fetch-site", "none")])), (200, 200));
        for origin in ["http://shop.example", "null", "http://localhost:8080", "https://localhost"] {
            assert_eq!(post(&[("origin", origin)]), 403, "{origin}");
        }
        assert_eq!((post(&[("sec-fetch-site", "cross-site")]), post(&[("sec-fetch-site", "same-site")])), (403, 403));
        // Reading is kept from pages elsewhere by the browser itself; a link from there may lead
        // here.
        assert_eq!(status(Method::GET, &[("host", "localhost"), ("sec-fetch-site", "cross-site")]), 200);
    }
}
