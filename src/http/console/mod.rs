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
use super::watch::admin_resource;

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
        |at, kind, text| admin_resource(at, "GET").route(web::get().to(move || async move { HttpResponse::Ok().content_type(kind).body(text) }));
    let pages = web::scope("/console")
        .wrap(headers)
        .service(admin_resource("", "GET").route(web::get().to(overview::page)))
        .service(admin_resource("/sessions", "GET").route(web::get().to(sessions::list_page)))
        .service(admin_resource("/sessions/{user}", "GET").route(web::get().to(sessions::session_page)))
        .service(admin_resource("/items", "GET").route(web::get().to(items::list_page)))
        .service(admin_resource("/items/{item}", "GET").route(web::get().to(items::item_page)))
        .service(admin_resource("/model", "GET").route(web::get().to(model::page)))
        .service(admin_resource("/recall", "GET").route(web::get().to(recall::page)))
        .service(admin_resource("/store", "GET").route(web::get().to(store::page)))
        .service(asset("/console.css", "text/css; charset=utf-8", include_str!("console.css")))
        .service(asset("/console.js", "text/javascript; charset=utf-8", include_str!("console.js")))
        .service(asset("/icon.svg", "image/svg+xml", include_str!("icon.svg")))
        .default_service(web::to(nowhere));
    config.service(pages).service(admin_resource("/", "GET").route(web::get().to(home)));
}

/// Only whoever may come in is told that there is nothing.
async fn nowhere(request: HttpRequest, lock: Data<Authorizer>) -> HttpResponse {
    match lock.authorize(&request, RequiredAccess::AnyKey) {
        Ok(_) => layout::problem_page(&Problem::unknown_path()),
        Err(problem) => problem.error_response(),
    }
}

async fn home() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, "/console")).finish()
}
