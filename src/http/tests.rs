//! The doors as a whole: what each serves, and to whom.

use actix_web::http::header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE};
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, call_and_read_body, call_service, init_service};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, HttpRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use super::lock::tests::lock;
use super::lock::{RequiredAccess, not_found};
use super::server::admin_routes;
use super::{api, openapi};
use crate::auth::Scope;

type Routes = fn(&mut ServiceConfig);

/// The patterns of a door, asked of the router itself, which shows them to a debugger only.
pub(super) async fn served_paths(routes: Routes) -> BTreeSet<String> {
    let shown = web::to(|request: HttpRequest| async move { format!("{:?}", request.resource_map()) });
    let app = init_service(App::new().configure(routes).default_service(shown)).await;
    let map = call_and_read_body(&app, TestRequest::get().uri("/!").to_request()).await;
    let map = String::from_utf8(map.to_vec()).unwrap();
    let (mut found, mut within, mut last, mut rest) = (BTreeSet::new(), Vec::new(), String::new(), map.as_str());
    // The patterns of a scope come in brackets after its own, and are below it.
    let marks = ["Single(\"", "nodes: Some([", "}])"];
    while let Some((at, mark)) = marks.iter().filter_map(|mark| Some((rest.find(mark)?, *mark))).min() {
        rest = &rest[at + mark.len()..];
        match mark {
            "nodes: Some([" => within.push(last.clone()),
            "}])" => drop(within.pop()),
            _ => {
                last = format!("{}{}", within.last().map_or("", String::as_str), rest.split('"').next().unwrap());
                if rest.contains("is_prefix: false") && rest.find("is_prefix: false") < rest.find("is_prefix: true").or(Some(usize::MAX)) {
                    found.insert(last.clone());
                }
            }
        }
    }
    found
}

/// What each path of the public API needs. One that is not here must be put here: so nobody forgets
/// to ask who may come there.
const PUBLIC: [(&str, RequiredAccess); 23] = [
    ("/v1/events", RequiredAccess::Scope(Scope::Write)),
    ("/v1/events/validate", RequiredAccess::Scope(Scope::Write)),
    ("/v1/track", RequiredAccess::Scope(Scope::Write)),
    ("/v1/page", RequiredAccess::Scope(Scope::Write)),
    ("/v1/screen", RequiredAccess::Scope(Scope::Write)),
    ("/v1/identify", RequiredAccess::Scope(Scope::Write)),
    ("/v1/alias", RequiredAccess::Scope(Scope::Write)),
    ("/v1/group", RequiredAccess::Scope(Scope::Write)),
    ("/v1/batch", RequiredAccess::Scope(Scope::Write)),
    // As `identify` and `alias` do, and a beacon at a sign-in.
    ("/v1/users/{user}/merge", RequiredAccess::Scope(Scope::Write)),
    ("/v1/users/{user}", RequiredAccess::Scope(Scope::Users)),
    ("/v1/users/{user}/consent", RequiredAccess::Scope(Scope::Users)),
    ("/v1/users/{user}/recommendations", RequiredAccess::Scope(Scope::Read)),
    ("/v1/users/{user}/recommendations/stream", RequiredAccess::Scope(Scope::Read)),
    ("/v1/recommendations", RequiredAccess::Scope(Scope::Read)),
    ("/v1/items/{item}/similar", RequiredAccess::Scope(Scope::Read)),
    ("/v1/trending", RequiredAccess::Scope(Scope::Read)),
    ("/v1/items", RequiredAccess::Scope(Scope::Items)),
    ("/v1/items/{item}", RequiredAccess::Scope(Scope::Items)),
    ("/v1/capture.js", RequiredAccess::Public),
    ("/openapi.json", RequiredAccess::Public),
    ("/docs", RequiredAccess::Public),
    ("/nowhere", RequiredAccess::AnyKey),
];

/// What a path of the admin endpoint needs.
fn private(path: &str) -> RequiredAccess {
    match path {
        "/healthz" | "/readyz" => RequiredAccess::Public,
        "/metrics" => RequiredAccess::Scope(Scope::Metrics),
        "/nowhere" | "/console/nowhere" => RequiredAccess::AnyKey,
        _ => RequiredAccess::Scope(Scope::Admin),
    }
}

/// Every operation that a description has of these paths.
fn operations<'d>(document: &'d Value, path: &str) -> impl Iterator<Item = (&'d String, &'d Value)> {
    document["paths"][path].as_object().unwrap().iter()
}

/// Asks a locked door for everything that it serves, by every method, with every kind of key and
/// with none.
async fn hold(routes: Routes, needs: &BTreeMap<String, RequiredAccess>) {
    let (lock, keys) = lock(true, &Scope::ALL);
    let app = App::new().app_data(Data::new(lock.clone())).configure(routes).default_service(web::to(not_found));
    let app = init_service(app).await;
    let ask = async |method: &str, path: &str, key: Option<&str>| {
        let request = TestRequest::default().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        let request = key.into_iter().fold(request, |request, key| request.insert_header((AUTHORIZATION, format!("Bearer {key}"))));
        call_service(&app, request.to_request()).await
    };
    let revoked = {
        let (_, secret) = lock.keys.create("gone", "write,read,items,users,metrics,admin".parse().unwrap(), None, 0).unwrap();
        let id = lock.keys.key_ring().find(secret.reveal()).unwrap().id.clone();
        lock.keys.revoke(&id).unwrap();
        secret.reveal().to_owned()
    };
    let strangers = [None, Some("a-key-that-never-was"), Some(revoked.as_str())];
    let by_scope = || Scope::ALL.into_iter().zip(&keys);
    for (path, needs) in needs {
        let path = path.replace("{user}", "ann").replace("{item}", "tea").replace("{id}", "1a2b3c4d");
        let opens = |scope: Scope| match needs {
            RequiredAccess::Scope(Scope::Metrics) => matches!(scope, Scope::Metrics | Scope::Admin),
            RequiredAccess::Scope(needed) => scope == *needed,
            RequiredAccess::Public | RequiredAccess::AnyKey => true,
        };
        let right = by_scope().find(|(scope, _)| opens(*scope)).map(|(_, key)| key.as_str());
        let refused = ask("BREW", &path, right).await;
        let methods = match refused.headers().get(ALLOW) {
            Some(allowed) => allowed.to_str().unwrap().split(", ").map(str::to_owned).collect(),
            None => vec!["GET".to_owned()],
        };
        for method in methods.iter().map(String::as_str).chain(["BREW", "OPTIONS"]) {
            for stranger in strangers {
                let answer = ask(method, &path, stranger).await;
                let expected = if *needs == RequiredAccess::Public { None } else { Some(StatusCode::UNAUTHORIZED) };
                let found = Some(answer.status()).filter(|status| *status == StatusCode::UNAUTHORIZED || *status == StatusCode::FORBIDDEN);
                assert_eq!(found, expected, "{method} {path} with {stranger:?}");
                assert_eq!(answer.headers().contains_key(WWW_AUTHENTICATE), expected.is_some());
            }
            for (scope, key) in by_scope() {
                let status = ask(method, &path, Some(key)).await.status();
                let in_vain = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
                assert_eq!(in_vain, !opens(scope), "{method} {path} with a key of {scope}: {status}");
                assert!(!in_vain || status == StatusCode::FORBIDDEN, "{method} {path}: {status}");
            }
        }
    }
}

#[actix_web::test]
async fn the_public_api_opens_to_whom_it_should() {
    let needs: BTreeMap<_, _> = PUBLIC.into_iter().map(|(path, needs)| (path.to_owned(), needs)).collect();
    let mut served = served_paths(api::public_routes).await;
    assert!(served.is_superset(&openapi::tests::described_paths()));
    served.insert("/nowhere".to_owned());
    assert_eq!(served, needs.keys().cloned().collect(), "PUBLIC says who may come where");
    hold(api::public_routes, &needs).await;
}

#[test]
fn the_description_says_who_may_come_where() {
    for locked in [true, false] {
        let document = openapi::tests::openapi_json(locked);
        for (path, needs) in PUBLIC.into_iter().filter(|(_, needs)| *needs != RequiredAccess::AnyKey) {
            let wanted = match needs {
                RequiredAccess::Scope(scope) => {
                    let ways = ["bearer", "basic", "query"].into_iter().filter(|way| *way != "query" || scope == Scope::Write);
                    ways.map(|way| json!({ way: [scope.as_str()] })).chain((!locked).then(|| json!({}))).collect()
                }
                _ => Value::Null,
            };
            for (method, operation) in operations(&document, path) {
                assert_eq!(operation["security"], wanted, "{method} {path}");
                let answers = |status: &str| operation["responses"].get(status).is_some();
                let turned_away = locked && needs != RequiredAccess::Public;
                assert_eq!((answers("401"), answers("403"), answers("429")), (turned_away, turned_away, true), "{method} {path}");
            }
        }
    }
}

#[actix_web::test]
async fn a_key_is_taken_as_it_is_described_and_in_no_other_way() {
    let (lock, keys) = lock(true, &Scope::ALL);
    let app = init_service(App::new().app_data(Data::new(lock)).configure(api::public_routes)).await;
    let document = openapi::tests::openapi_json(true);
    for (path, scope) in
        PUBLIC.into_iter().filter_map(|(path, needs)| if let RequiredAccess::Scope(scope) = needs { Some((path, scope)) } else { None })
    {
        let key = keys.iter().zip(Scope::ALL).find(|(_, known)| *known == scope).map(|(key, _)| key).unwrap();
        for (method, operation) in operations(&document, path) {
            for (name, scheme) in document["components"]["securitySchemes"].as_object().unwrap() {
                let ask = || TestRequest::default().method(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap());
                let with = |value: String| ask().uri(path).insert_header((AUTHORIZATION, value));
                let basic = |text: String| with(format!("Basic {}", STANDARD.encode(text)));
                let requests = match (scheme["scheme"].as_str(), scheme["in"].as_str()) {
                    (Some("bearer"), None) => vec![with(format!("Bearer {key}"))],
                    (Some("basic"), None) => vec![basic(format!("{key}:")), basic(format!("any:{key}"))],
                    (None, Some("query")) => vec![ask().uri(&format!("{path}?{}={key}", scheme["name"].as_str().unwrap()))],
                    other => panic!("{other:?}"),
                };
                let described = operation["security"].as_array().unwrap().iter().any(|one| one.get(name).is_some());
                for request in requests {
                    let status = call_service(&app, request.to_request()).await.status();
                    assert_eq!(status != StatusCode::UNAUTHORIZED, described, "{method} {path} with a key by {name}: {status}");
                }
            }
        }
    }
}

#[actix_web::test]
async fn the_admin_endpoint_opens_to_whom_it_should() {
    let served = served_paths(admin_routes).await;
    assert!(served.len() > 30 && served.contains("/console/sessions/{user}"), "{served:?}");
    let more = ["/nowhere", "/console/nowhere"].map(str::to_owned);
    let needs = served.into_iter().chain(more).map(|path| (path.clone(), private(&path))).collect();
    hold(admin_routes, &needs).await;
}

#[actix_web::test]
async fn neither_door_serves_what_is_the_others() {
    for (here, there) in [(api::public_routes as Routes, admin_routes as Routes), (admin_routes, api::public_routes)] {
        let lock = lock(false, &[]).0;
        let app = init_service(App::new().app_data(Data::new(lock)).configure(here).default_service(web::to(not_found))).await;
        for path in served_paths(there).await {
            let path = path.replace("{user}", "ann").replace("{item}", "tea").replace("{id}", "1a2b3c4d");
            for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
                let answer = call_service(&app, TestRequest::default().method(method.clone()).uri(&path).to_request()).await;
                assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method} {path}");
            }
        }
    }
}
