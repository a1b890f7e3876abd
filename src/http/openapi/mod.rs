//! The API's own description: OpenAPI 3.1, made of the handlers and the types that they take and
//! give, and a page that shows it.

mod said;
mod security;

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_SECURITY_POLICY;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use std::sync::LazyLock;
use utoipa::OpenApi;

use super::lock::{Authorizer, RequiredAccess};
use super::watch::protected_resource;
use super::{beacon, consents, events, items, lists, merges, segment, stream, users};

pub(super) use said::{NotFoundResponse, ItemAttributesBody, BadRequestResponse, InvalidBodyResponse, EventsBody, ItemsBody, SegmentMessageBody, SegmentBatchBody, IdString, UnavailableResponse};

/// Where the description is.
const DESCRIPTION: &str = "/openapi.json";
/// Where it is shown to people.
const DOCS: &str = "/docs";

/// What the page may do: nothing but read the description.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(protected_resource(DESCRIPTION, "GET", RequiredAccess::Public).route(web::get().to(description)))
        .service(protected_resource(DOCS, "GET", RequiredAccess::Public).route(web::get().to(docs)));
}

/// Every path of the public API.
#[derive(OpenApi)]
#[openapi(
    info(title = "Sequor", description = "Events in, recommendations out. Bodies may be packed with gzip, zstd, br or deflate (`Content-Encoding`), answers are where `Accept-Encoding` \
        allows it. Every answer bears `x-request-id`: the one that the request brought, or a new one. What goes wrong is answered as `application/problem+json` (RFC 9457). \
        A service on a loopback address asks for no keys unless it is told to; on any other it asks for one of the scope that the operation names."),
    servers((url = "/", description = "This service.")),
    tags(
        (name = "events", description = "What users do."),
        (name = "recommendations", description = "What they may want next."),
        (name = "users", description = "Who they are, what is known of them and what they let be kept; and their end."),
        (name = "catalog", description = "What is known of items."),
        (name = "segment", description = "What Segment's libraries send."),
        (name = "description", description = "This API."),
    ),
    paths(
        events::events,
        events::validate,
        lists::recommendations,
        stream::follow,
        lists::inline,
        lists::similar,
        lists::trending,
        items::bulk,
        items::get,
        items::put,
        items::patch,
        items::delete,
        merges::merge,
        users::known,
        users::erase,
        consents::consent,
        consents::say,
        segment::track,
        segment::page,
        segment::screen,
        segment::identify,
        segment::alias,
        segment::group,
        segment::batch,
        beacon::script,
        description,
        docs,
    )
)]
struct ApiDocument;

/// This description
///
/// OpenAPI 3.1.
#[utoipa::path(get, path = DESCRIPTION, tag = "description", responses((status = 200, description = "The description.", body = serde_json::Value), UnavailableResponse))]
async fn description(lock: Data<Authorizer>) -> HttpResponse {
    static OPEN: LazyLock<Bytes> = LazyLock::new(|| text(false));
    static LOCKED: LazyLock<Bytes> = LazyLock::new(|| text(true));
    let text = if lock.requires_key { &LOCKED } else { &OPEN };
    HttpResponse::Ok().content_type("application/json").body(Bytes::clone(text))
}

/// The description of a door that asks for keys, or of one that does not.
fn document(locked: bool) -> utoipa::openapi::OpenApi {
    let mut document = ApiDocument::openapi();
    security::add_security(&mut document, locked);
    document
}

fn text(locked: bool) -> Bytes {
    document(locked).to_json().unwrap_or_default().into()
}

/// This description, for people
#[utoipa::path(get, path = DOCS, tag = "description", responses((status = 200, description = "A page.", body = String, content_type = "text/html"), UnavailableResponse))]
async fn docs() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(include_str!("docs.html"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::http::api;
    use crate::http::lock::tests::lock;
    use crate::http::tests::served_paths;
    use crate::http::wishes::RecommendationQuery;
    use actix_web::App;
    use actix_web::http::{Method, StatusCode, header::ALLOW};
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::web::Data;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn described() -> Value {
        openapi_json(true)
    }

    /// The description that a door gives.
    pub(in crate::http) fn openapi_json(locked: bool) -> Value {
        serde_json::to_value(document(locked)).unwrap()
    }

    /// The methods of each path, as they are described.
    fn paths(document: &Value) -> Vec<(String, Vec<String>)> {
        let paths = document["paths"].as_object().unwrap().iter();
        paths.map(|(path, methods)| (path.clone(), methods.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect())).collect()
    }

    /// Every path that is described.
    pub(in crate::http) fn described_paths() -> BTreeSet<String> {
        paths(&described()).into_iter().map(|(path, _)| path).collect()
    }

    #[actix_web::test]
    async fn every_route_is_described_and_what_is_described_is_there() {
        let paths = paths(&described());
        assert_eq!(served_paths(api::public_routes).await, paths.iter().map(|(path, _)| path.clone()).collect());

        let app = init_service(App::new().app_data(Data::new(lock(false, &[]).0)).configure(api::public_routes)).await;
        for (path, methods) in paths {
            let ask = async |method: &str| {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                call_service(&app, TestRequest::default().method(method).uri(&path).to_request()).await
            };
            for method in &methods {
                assert_ne!(ask(method).await.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            }
            let refused = ask("BREW").await;
            let allowed = refused.headers().get(ALLOW).unwrap().to_str().unwrap();
            assert_eq!(allowed.split(", ").collect::<BTreeSet<_>>(), methods.iter().map(String::as_str).collect(), "{path}");
        }
    }

    #[test]
    fn every_parameter_of_a_list_is_described() {
        let document = described();
        let parameters = document["paths"][lists::RECOMMENDATIONS]["get"]["parameters"].as_array().unwrap();
        let named = parameters.iter().filter(|one| one["in"] == "query").map(|one| one["name"].as_str().unwrap());
        let known = RecommendationQuery::PARAMETER_NAMES.into_iter().chain(["recommendation_id", "offset"]);
        assert_eq!(named.collect::<BTreeSet<_>>(), known.collect());
    }
}
