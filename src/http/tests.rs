//! Tests of both servers as a whole: their paths, the access that the paths require, and the
//! OpenAPI document.

use actix_web::http::header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE};
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, call_and_read_body, call_service, init_service};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, HttpRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use crate::auth::Scope;
use crate::http::middleware::auth::tests::test_authorizer;
use crate::http::middleware::auth::{RequiredAccess, not_found};
use crate::http::router::{
    ADMIN_ROUTES, CONSOLE_ROUTES, PUBLIC_ROUTES, RouteInfo, admin_routes, openapi_document, public_routes,
};
use crate::http::schema::query::RecommendationQuery;

type RegisterRoutes = fn(&mut ServiceConfig);

/// The path patterns that a server registers. They are read from the debug output of its router.
pub(in crate::http) async fn served_paths(routes: RegisterRoutes) -> BTreeSet<String> {
    let resource_map = web::to(|request: HttpRequest| async move { format!("{:?}", request.resource_map()) });
    let app = init_service(App::new().configure(routes).default_service(resource_map)).await;
    let map = call_and_read_body(&app, TestRequest::get().uri("/!").to_request()).await;
    let map = String::from_utf8(map.to_vec()).unwrap();
    let (mut found, mut within, mut last, mut rest) = (BTreeSet::new(), Vec::new(), String::new(), map.as_str());
    // In the output, the pattern of an actix-web scope precedes the patterns inside the scope,
    // which are in brackets.
    let marks = ["Single(\"", "nodes: Some([", "}])"];
    while let Some((at, mark)) = marks.iter().filter_map(|mark| Some((rest.find(mark)?, *mark))).min() {
        rest = &rest[at + mark.len()..];
        match mark {
            "nodes: Some([" => within.push(last.clone()),
            "}])" => drop(within.pop()),
            _ => {
                last = format!("{}{}", within.last().map_or("", String::as_str), rest.split('"').next().unwrap());
                if rest.contains("is_prefix: false")
                    && rest.find("is_prefix: false") < rest.find("is_prefix: true").or(Some(usize::MAX))
                {
                    found.insert(last.clone());
                }
            }
        }
    }
    found
}

/// The access that each path of a server must require. For each path in `routes`, the expected
/// access is the one in the route table. The paths in `unknown` do not exist and require any key.
fn required_access(routes: &[&[RouteInfo]], unknown: &[&str]) -> BTreeMap<String, RequiredAccess> {
    let known = routes.iter().flat_map(|routes| routes.iter()).map(|route| (route.path.to_owned(), route.access));
    known.chain(unknown.iter().map(|path| ((*path).to_owned(), RequiredAccess::AnyKey))).collect()
}

/// The OpenAPI document as JSON.
fn openapi_document_json(requires_key: bool) -> Value {
    serde_json::to_value(openapi_document(requires_key)).unwrap()
}

/// The operations that a document describes for a path.
fn operations_of_path<'d>(document: &'d Value, path: &str) -> impl Iterator<Item = (&'d String, &'d Value)> {
    document["paths"][path].as_object().unwrap().iter()
}

/// Sends every method to every path, with every kind of key and without one, and checks which
/// requests are refused.
async fn check_access(routes: RegisterRoutes, needs: &BTreeMap<String, RequiredAccess>) {
    let (authorizer, keys) = test_authorizer(true, &Scope::ALL);
    let app = App::new().app_data(Data::new(authorizer.clone())).configure(routes).default_service(web::to(not_found));
    let app = init_service(app).await;
    let send = async |method: &str, path: &str, key: Option<&str>| {
        let request = TestRequest::default().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        let request = key
            .into_iter()
            .fold(request, |request, key| request.insert_header((AUTHORIZATION, format!("Bearer {key}"))));
        call_service(&app, request.to_request()).await
    };
    let revoked = {
        let (_, secret) =
            authorizer.keys.create("gone", "write,read,items,users,metrics,admin".parse().unwrap(), None, 0).unwrap();
        let id = authorizer.keys.key_ring().find(secret.reveal()).unwrap().id.clone();
        authorizer.keys.revoke(&id).unwrap();
        secret.reveal().to_owned()
    };
    let invalid_keys = [None, Some("a-key-that-never-was"), Some(revoked.as_str())];
    let by_scope = || Scope::ALL.into_iter().zip(&keys);
    for (path, needs) in needs {
        let path = path.replace("{user}", "ann").replace("{item}", "tea").replace("{id}", "1a2b3c4d");
        let grants = |scope: Scope| match needs {
            RequiredAccess::Scope(Scope::Metrics) => matches!(scope, Scope::Metrics | Scope::Admin),
            RequiredAccess::Scope(needed) => scope == *needed,
            RequiredAccess::Public | RequiredAccess::AnyKey => true,
        };
        let valid_key = by_scope().find(|(scope, _)| grants(*scope)).map(|(_, key)| key.as_str());
        let refused = send("BREW", &path, valid_key).await;
        let methods = match refused.headers().get(ALLOW) {
            Some(allowed) => allowed.to_str().unwrap().split(", ").map(str::to_owned).collect(),
            None => vec!["GET".to_owned()],
        };
        for method in methods.iter().map(String::as_str).chain(["BREW", "OPTIONS"]) {
            for invalid_key in invalid_keys {
                let response = send(method, &path, invalid_key).await;
                let expected = if *needs == RequiredAccess::Public { None } else { Some(StatusCode::UNAUTHORIZED) };
                let found = Some(response.status())
                    .filter(|status| *status == StatusCode::UNAUTHORIZED || *status == StatusCode::FORBIDDEN);
                assert_eq!(found, expected, "{method} {path} with {invalid_key:?}");
                assert_eq!(response.headers().contains_key(WWW_AUTHENTICATE), expected.is_some());
            }
            for (scope, key) in by_scope() {
                let status = send(method, &path, Some(key)).await.status();
                let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
                assert_eq!(is_refused, !grants(scope), "{method} {path} with a key of {scope}: {status}");
                assert!(!is_refused || status == StatusCode::FORBIDDEN, "{method} {path}: {status}");
            }
        }
    }
}

#[actix_web::test]
async fn public_api_checks_the_access_of_the_table() {
    let access = required_access(&[PUBLIC_ROUTES], &["/nowhere"]);
    assert_eq!(served_paths(public_routes).await, PUBLIC_ROUTES.iter().map(|route| route.path.to_owned()).collect());
    check_access(public_routes, &access).await;
}

#[test]
fn public_table_grants_the_documented_access() {
    // Only the scripts and the description are public; every other path requires the scope for its
    // data.
    let access = required_access(&[PUBLIC_ROUTES], &[]);
    let public: Vec<_> =
        access.iter().filter(|(_, access)| **access == RequiredAccess::Public).map(|(path, _)| path.as_str()).collect();
    assert_eq!(public, ["/docs", "/openapi.json", "/v1/capture.js", "/v1/widget.js"]);
    for (path, scope) in [
        ("/v1/events", Scope::Write),
        ("/v1/batch", Scope::Write),
        ("/v1/users/{user}/merge", Scope::Write),
        ("/v1/users/{user}", Scope::Users),
        ("/v1/users/{user}/consent", Scope::Users),
        ("/v1/users/{user}/recommendations", Scope::Read),
        ("/v1/items/{item}", Scope::Items),
    ] {
        assert_eq!(access[path], RequiredAccess::Scope(scope), "{path}");
    }
}

#[test]
fn document_states_the_security_of_every_operation() {
    for requires_key in [true, false] {
        let document = openapi_document_json(requires_key);
        for RouteInfo { path, access: needs, .. } in PUBLIC_ROUTES.iter().copied() {
            let expected = match needs {
                RequiredAccess::Scope(scope) => {
                    let schemes =
                        ["bearer", "basic", "query"].into_iter().filter(|way| *way != "query" || scope == Scope::Write);
                    schemes
                        .map(|way| json!({ way: [scope.as_str()] }))
                        .chain((!requires_key).then(|| json!({})))
                        .collect()
                }
                _ => Value::Null,
            };
            for (method, operation) in operations_of_path(&document, path) {
                assert_eq!(operation["security"], expected, "{method} {path}");
                let answers = |status: &str| operation["responses"].get(status).is_some();
                let can_refuse = requires_key && needs != RequiredAccess::Public;
                assert_eq!(
                    (answers("401"), answers("403"), answers("429")),
                    (can_refuse, can_refuse, true),
                    "{method} {path}"
                );
            }
        }
    }
}

#[actix_web::test]
async fn accepts_a_key_only_as_documented() {
    let (authorizer, keys) = test_authorizer(true, &Scope::ALL);
    let app = init_service(App::new().app_data(Data::new(authorizer)).configure(public_routes)).await;
    let document = openapi_document_json(true);
    for (path, scope) in PUBLIC_ROUTES.iter().filter_map(|route| {
        if let RequiredAccess::Scope(scope) = route.access { Some((route.path, scope)) } else { None }
    }) {
        let key = keys.iter().zip(Scope::ALL).find(|(_, known)| *known == scope).map(|(key, _)| key).unwrap();
        for (method, operation) in operations_of_path(&document, path) {
            for (name, scheme) in document["components"]["securitySchemes"].as_object().unwrap() {
                let send =
                    || TestRequest::default().method(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap());
                let with = |value: String| send().uri(path).insert_header((AUTHORIZATION, value));
                let basic = |text: String| with(format!("Basic {}", STANDARD.encode(text)));
                let requests = match (scheme["scheme"].as_str(), scheme["in"].as_str()) {
                    (Some("bearer"), None) => vec![with(format!("Bearer {key}"))],
                    (Some("basic"), None) => vec![basic(format!("{key}:")), basic(format!("any:{key}"))],
                    (None, Some("query")) => {
                        vec![send().uri(&format!("{path}?{}={key}", scheme["name"].as_str().unwrap()))]
                    }
                    other => panic!("{other:?}"),
                };
                let described = operation["security"].as_array().unwrap().iter().any(|one| one.get(name).is_some());
                for request in requests {
                    let status = call_service(&app, request.to_request()).await.status();
                    assert_eq!(
                        status != StatusCode::UNAUTHORIZED,
                        described,
                        "{method} {path} with a key by {name}: {status}"
                    );
                }
            }
        }
    }
}

#[actix_web::test]
async fn admin_endpoint_checks_the_access_of_the_table() {
    let access = required_access(&[ADMIN_ROUTES, CONSOLE_ROUTES], &[]);
    assert_eq!(served_paths(admin_routes).await, access.keys().cloned().collect());
    for (path, access) in &access {
        let expected = match path.as_str() {
            "/healthz" | "/healthz/journal" | "/readyz" => RequiredAccess::Public,
            "/metrics" => RequiredAccess::Scope(Scope::Metrics),
            _ => RequiredAccess::Scope(Scope::Admin),
        };
        assert_eq!(*access, expected, "{path}");
    }
    check_access(admin_routes, &required_access(&[ADMIN_ROUTES, CONSOLE_ROUTES], &["/nowhere", "/console/nowhere"]))
        .await;
}

#[actix_web::test]
async fn neither_server_serves_the_paths_of_the_other() {
    for (here, there) in
        [(public_routes as RegisterRoutes, admin_routes as RegisterRoutes), (admin_routes, public_routes)]
    {
        let authorizer = test_authorizer(false, &[]).0;
        let app = init_service(
            App::new().app_data(Data::new(authorizer)).configure(here).default_service(web::to(not_found)),
        )
        .await;
        for path in served_paths(there).await {
            let path = path.replace("{user}", "ann").replace("{item}", "tea").replace("{id}", "1a2b3c4d");
            for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
                let response =
                    call_service(&app, TestRequest::default().method(method.clone()).uri(&path).to_request()).await;
                assert_eq!(response.status(), StatusCode::NOT_FOUND, "{method} {path}");
            }
        }
    }
}

/// The methods that the document describes for each path.
fn methods_by_path(document: &Value) -> Vec<(String, Vec<String>)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .map(|(path, methods)| {
            (path.clone(), methods.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect())
        })
        .collect()
}

#[actix_web::test]
async fn every_route_is_described_and_every_described_route_exists() {
    let paths = methods_by_path(&openapi_document_json(true));
    assert_eq!(served_paths(public_routes).await, paths.iter().map(|(path, _)| path.clone()).collect());

    let app =
        init_service(App::new().app_data(Data::new(test_authorizer(false, &[]).0)).configure(public_routes)).await;
    for (path, methods) in paths {
        let send = async |method: &str| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            call_service(&app, TestRequest::default().method(method).uri(&path).to_request()).await
        };
        for method in &methods {
            assert_ne!(send(method).await.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        }
        let refused = send("BREW").await;
        let allowed = refused.headers().get(ALLOW).unwrap().to_str().unwrap();
        assert_eq!(
            allowed.split(", ").collect::<BTreeSet<_>>(),
            methods.iter().map(String::as_str).collect(),
            "{path}"
        );
    }
}

#[test]
fn every_parameter_of_a_recommendation_is_described() {
    let document = openapi_document_json(true);
    let parameters = document["paths"]["/v1/users/{user}/recommendations"]["get"]["parameters"].as_array().unwrap();
    let named = parameters.iter().filter(|one| one["in"] == "query").map(|one| one["name"].as_str().unwrap());
    let known = RecommendationQuery::PARAMETER_NAMES.into_iter().chain(["recommendation_id", "offset"]);
    assert_eq!(named.collect::<BTreeSet<_>>(), known.collect());
}
