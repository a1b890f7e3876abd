//! Who may come where, as it is described.

use utoipa::IntoResponses;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi};

use super::said::AccessDeniedResponse;
use crate::auth::Scope;
use crate::http::consents::CONSENT;
use crate::http::events::{EVENTS, VALIDATE};
use crate::http::items::{ITEM, ITEMS};
use crate::http::lists::{INLINE_RECOMMENDATIONS, RECOMMENDATIONS, SIMILAR_ITEMS, TRENDING_ITEMS};
use crate::http::merges::MERGE;
use crate::http::segment;
use crate::http::stream::STREAM;
use crate::http::users::USER;

/// What the key of each path opens. The door asks what [`crate::http::watch::path`] is told; a test
/// holds the two together.
const OPENED: [(Scope, &[&str]); 5] = [
    (Scope::Write, &[EVENTS, VALIDATE, MERGE]),
    (Scope::Write, &segment::SEGMENT_PATHS),
    (Scope::Read, &[RECOMMENDATIONS, STREAM, INLINE_RECOMMENDATIONS, SIMILAR_ITEMS, TRENDING_ITEMS]),
    (Scope::Items, &[ITEMS, ITEM]),
    (Scope::Users, &[USER, CONSENT]),
];

/// The ways to send a key, as [`crate::http::lock`] takes them.
const BEARER: &str = "bearer";
const BASIC: &str = "basic";
const QUERY: &str = "query";

fn scope(path: &str) -> Option<Scope> {
    OPENED.iter().find(|(_, paths)| paths.contains(&path)).map(|(scope, _)| *scope)
}

/// Describes the keys, and what each operation wants of them; a door that is not `locked` does
/// without.
pub(super) fn add_security(document: &mut OpenApi, locked: bool) {
    let http = |scheme, said: &str| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).description(Some(said)).build());
    let query = ApiKeyValue::with_description("key", "In the address, for what can send no header, and where only telling is at stake.");
    let components = document.components.get_or_insert_with(Components::default);
    components.add_security_schemes_from_iter([
        (BEARER, http(HttpAuthScheme::Bearer, "A key of `sequor key create`.")),
        (BASIC, http(HttpAuthScheme::Basic, "The key as the user name, as Segment's libraries send it, or as the password.")),
        (QUERY, SecurityScheme::ApiKey(ApiKey::Query(query))),
    ]);
    for (path, item) in &mut document.paths.paths {
        let Some(scope) = scope(path) else { continue };
        let PathItem { get, put, post, patch, delete, .. } = item;
        for operation in [get, put, post, patch, delete].into_iter().flatten() {
            let ways = if scope == Scope::Write { &[BEARER, BASIC, QUERY][..] } else { &[BEARER, BASIC] };
            let mut security: Vec<_> = ways.iter().map(|way| SecurityRequirement::new(*way, [scope.as_str()])).collect();
            if locked {
                operation.responses.responses.extend(AccessDeniedResponse::responses());
            } else {
                // A requirement without a scheme: it may be left out.
                security.push(SecurityRequirement::default());
            }
            operation.security = Some(security);
        }
    }
}
