//! The OpenAPI 3.1 document: general information, operations and security.

use utoipa::OpenApi;

use crate::auth::Scope;
use crate::http::schema::security;

/// The document without its operations.
#[derive(OpenApi)]
#[openapi(
    info(title = "Sequor", description = "Real-time recommendations from user events. Request bodies may be compressed with gzip, zstd or deflate (`Content-Encoding`); responses are compressed if \
        `Accept-Encoding` allows it. Every response has the header `x-request-id`, with the id that the request sent or a new id. Errors are `application/problem+json` (RFC 9457). \
        A service on a loopback address requires an API key only if the settings say so. On any other address, it requires a key with the scope that the operation names."),
    servers((url = "/", description = "This service.")),
    tags(
        (name = "events", description = "User events."),
        (name = "recommendations", description = "Recommendations."),
        (name = "users", description = "A user's data and consent, and their erasure."),
        (name = "catalog", description = "Item attributes."),
        (name = "placements", description = "Placements of lists on the site, and rules that change lists."),
        (name = "reports", description = "What recommendations earn."),
        (name = "segment", description = "Segment's tracking API."),
        (name = "description", description = "The description of this API."),
    )
)]
struct ApiInfo;

/// Builds the document from the `operations` of the routes. `requires_key` tells whether the API
/// requires keys. `scope_of` returns the scope that a path requires, or `None` for a public path.
pub(in crate::http) fn build_document(
    operations: utoipa::openapi::OpenApi,
    requires_key: bool,
    scope_of: fn(&str) -> Option<Scope>,
) -> utoipa::openapi::OpenApi {
    let mut document = ApiInfo::openapi();
    document.merge(operations);
    security::add_security(&mut document, requires_key, scope_of);
    document
}
