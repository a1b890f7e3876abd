//! The admin pages: what the admin endpoint tells, for people. Rendered here, from the same structs
//! as the JSON; one style sheet and one script, no build step, nothing from elsewhere.

mod chart;
mod format;
mod items;
mod layout;
mod model;
mod overview;
mod recall;
mod sessions;
mod store;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};

use super::lock::{Authorizer, RequiredAccess};
use super::problem::Problem;
use super::watch::private;

/// Nothing but what the service itself gives; no script or style within a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

pub(super) fn routes(config: &mut ServiceConfig) {
    let headers = DefaultHeaders::new()
        .add((CONTENT_SECURITY_POLICY, POLICY))
        .add((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((REFERRER_POLICY, "no-referrer"))
        .add((CACHE_CONTROL, "no-store"));
    let asset =
        |at, kind, text| private(at, "GET").route(web::get().to(move || async move { HttpResponse::Ok().content_type(kind).body(text) }));
    let pages = web::scope("/console")
        .wrap(headers)
        .service(private("", "GET").route(web::get().to(overview::page)))
        .service(private("/sessions", "GET").route(web::get().to(sessions::list)))
        .service(private("/sessions/{user}", "GET").route(web::get().to(sessions::xray)))
        .service(private("/items", "GET").route(web::get().to(items::list)))
        .service(private("/items/{item}", "GET").route(web::get().to(items::item)))
        .service(private("/model", "GET").route(web::get().to(model::page)))
        .service(private("/recall", "GET").route(web::get().to(recall::page)))
        .service(private("/store", "GET").route(web::get().to(store::page)))
        .service(asset("/console.css", "text/css; charset=utf-8", include_str!("console.css")))
        .service(asset("/console.js", "text/javascript; charset=utf-8", include_str!("console.js")))
        .service(asset("/icon.svg", "image/svg+xml", include_str!("icon.svg")))
        .default_service(web::to(nowhere));
    config.service(pages).service(private("/", "GET").route(web::get().to(home)));
}

/// Only whoever may come in is told that there is nothing.
async fn nowhere(request: HttpRequest, lock: Data<Authorizer>) -> HttpResponse {
    match lock.admit(&request, RequiredAccess::Any) {
        Ok(_) => layout::problem(&Problem::unknown_path()),
        Err(problem) => problem.error_response(),
    }
}

async fn home() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, "/console")).finish()
}
