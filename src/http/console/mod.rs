//! The admin pages. The pages render the same structs as the JSON of the admin endpoint. They need
//! one style sheet and two scripts, but no build step. They load no external resources, except the
//! images of the items of a previewed list.

pub(in crate::http) mod attribution;
pub(in crate::http) mod candidates;
mod chart;
pub(in crate::http) mod cluster;
mod features;
mod format;
pub(in crate::http) mod items;
mod layout;
pub(in crate::http) mod model;
pub(in crate::http) mod overview;
mod placement_editor;
pub(in crate::http) mod placements;
pub(in crate::http) mod sessions;
pub(in crate::http) mod store;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};

use crate::http::middleware::auth::{Authorizer, RequiredAccess};
use crate::http::schema::problem::Problem;

/// The content security policy of the admin pages. It allows only resources of the service, and no
/// inline scripts or styles.
const CONSOLE_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// Registers the pages below `/console`, and adds security headers to their responses.
pub(in crate::http) fn register_pages(config: &mut ServiceConfig, pages: fn(&mut ServiceConfig)) {
    let headers = DefaultHeaders::new()
        .add((CONTENT_SECURITY_POLICY, CONSOLE_SECURITY_POLICY))
        .add((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((REFERRER_POLICY, "no-referrer"))
        .add((CACHE_CONTROL, "no-store"));
    config.service(web::scope("/console").wrap(headers).configure(pages).default_service(web::to(not_found)));
}

pub(in crate::http) async fn style_sheet() -> HttpResponse {
    HttpResponse::Ok().content_type("text/css; charset=utf-8").body(include_str!("console.css"))
}

pub(in crate::http) async fn script() -> HttpResponse {
    HttpResponse::Ok().content_type("text/javascript; charset=utf-8").body(include_str!("console.js"))
}

pub(in crate::http) async fn placements_script() -> HttpResponse {
    HttpResponse::Ok().content_type("text/javascript; charset=utf-8").body(include_str!("placements.js"))
}

pub(in crate::http) async fn icon() -> HttpResponse {
    HttpResponse::Ok().content_type("image/svg+xml").body(include_str!("icon.svg"))
}

/// Responds to an unknown path below `/console`. An authorized client gets an error page; any other
/// client gets a JSON problem.
async fn not_found(request: HttpRequest, authorizer: Data<Authorizer>) -> HttpResponse {
    match authorizer.authorize(&request, RequiredAccess::AnyKey) {
        Ok(_) => layout::problem_page(&Problem::unknown_path()),
        Err(problem) => problem.error_response(),
    }
}

pub(in crate::http) async fn redirect_to_console() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, "/console")).finish()
}
