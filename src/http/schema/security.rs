//! The security part of the OpenAPI document: how a client sends an API key, and which scope every
//! operation needs.

use utoipa::IntoResponses;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Components, OpenApi};

use crate::auth::Scope;
use crate::http::schema::responses::AccessDeniedResponse;

/// The names of the security schemes: one for each way to send an API key that
/// [`crate::http::middleware::auth`] accepts.
const BEARER_SCHEME: &str = "bearer";
const BASIC_SCHEME: &str = "basic";
const QUERY_PARAMETER_SCHEME: &str = "query";

/// Adds the security schemes to the document, and the required scope to every operation. If the API
/// does not require a key, the key is optional for every operation.
pub(in crate::http) fn add_security(document: &mut OpenApi, requires_key: bool, scope_of: fn(&str) -> Option<Scope>) {
    let http = |scheme, description: &str| {
        SecurityScheme::Http(HttpBuilder::new().scheme(scheme).description(Some(description)).build())
    };
    let query = ApiKeyValue::with_description(
        "key",
        "The API key in the URL, for clients that cannot send a header. Only for operations with the scope `write`.",
    );
    let components = document.components.get_or_insert_with(Components::default);
    components.add_security_schemes_from_iter([
        (BEARER_SCHEME, http(HttpAuthScheme::Bearer, "An API key from `sequor key create`.")),
        (
            BASIC_SCHEME,
            http(HttpAuthScheme::Basic, "The API key as user name, as Segment's libraries send it, or as password."),
        ),
        (QUERY_PARAMETER_SCHEME, SecurityScheme::ApiKey(ApiKey::Query(query))),
    ]);
    for (path, item) in &mut document.paths.paths {
        let Some(scope) = scope_of(path) else { continue };
        let PathItem { get, put, post, patch, delete, .. } = item;
        for operation in [get, put, post, patch, delete].into_iter().flatten() {
            let schemes = if scope == Scope::Write {
                &[BEARER_SCHEME, BASIC_SCHEME, QUERY_PARAMETER_SCHEME][..]
            } else {
                &[BEARER_SCHEME, BASIC_SCHEME]
            };
            let mut security: Vec<_> =
                schemes.iter().map(|scheme| SecurityRequirement::new(*scheme, [scope.as_str()])).collect();
            if requires_key {
                operation.responses.responses.extend(AccessDeniedResponse::responses());
            } else {
                // An empty requirement makes the key optional.
                security.push(SecurityRequirement::default());
            }
            operation.security = Some(security);
        }
    }
}
