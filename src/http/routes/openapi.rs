//! The OpenAPI document and a page that renders it.

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_SECURITY_POLICY;
use actix_web::web::{Bytes, Data};

use crate::http::middleware::auth::Authorizer;
use crate::http::schema::responses::UnavailableResponse;

/// The content security policy of the documentation page. The page has an inline script and style,
/// and may only fetch resources of the service.
const DOCS_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Renders the OpenAPI document. The argument tells whether the API requires keys.
///
/// The router provides this function, because the document describes every route.
pub(in crate::http) struct DocumentSource(pub(in crate::http) fn(bool) -> Bytes);

/// Get the OpenAPI document
///
/// The document has the format OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", operation_id = "description", tag = "description", responses((status = 200, description = "The document.", body = serde_json::Value), UnavailableResponse))]
pub(in crate::http) async fn get_description(
    authorizer: Data<Authorizer>,
    source: Data<DocumentSource>,
) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body((source.0)(authorizer.requires_key))
}

/// Get the documentation page
#[utoipa::path(get, path = "/docs", operation_id = "docs", tag = "description", responses((status = 200, description = "The page.", body = String, content_type = "text/html"), UnavailableResponse))]
pub(in crate::http) async fn get_docs() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, DOCS_SECURITY_POLICY))
        .body(include_str!("docs.html"))
}
