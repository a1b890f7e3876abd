//! Merging of two user ids.

use actix_web::web::{Bytes, Data, Path};
use actix_web::{Error, HttpResponse};
use serde::Deserialize;
use std::sync::Once;
use utoipa::ToSchema;

use crate::domain::Entry;
use crate::http::middleware::auth::GrantedAccess;
use crate::http::schema::error_mapping::{parse_json, unreadable_body};
use crate::http::schema::problem::Problem;
use crate::http::schema::receipt::IngestReceipt;
use crate::http::schema::responses::{BadRequestResponse, IdString, InvalidBodyResponse, UnavailableResponse};
use crate::http::state::ApiState;
use crate::ingest::ValidationErrorCode;
use crate::services::ingest::{FullQueuePolicy, ingest};

/// The request to merge a user id into the user of the path.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MergeRequest)]
pub(in crate::http) struct MergeRequest {
    /// The id that becomes an alias of the user.
    #[schema(value_type = IdString)]
    from: String,
}

/// Merge two users
///
/// The history of the user id `from` becomes part of the history of the user in the path.
/// Placeholder ids, which the setting `events.placeholder_ids` lists, are never merged. Any content
/// type is accepted, because a beacon cannot set the content type.
#[utoipa::path(post, path = "/v1/users/{user}/merge", operation_id = "merge", tag = "events", params(("user" = IdString, Path, description = "The user that remains.")), request_body(content = MergeRequest),
    responses((status = 200, description = "The receipt.", body = IngestReceipt), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn merge_users(
    api: Data<ApiState>,
    access: GrantedAccess,
    user: Path<String>,
    body: Result<Bytes, Error>,
) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let MergeRequest { from } = parse_json(&body, r#"{"from": "…"}"#)?;
    let into = user.into_inner();
    if from == into {
        return Err(Problem::out_of_range("from", "the user itself", "another user"));
    }
    let merge =
        api.rules.validate_merge(["from", "user"], from.into(), into.into(), api.clock.now()).map_err(|error| {
            record_refused_merges(&api, usize::from(error.code == ValidationErrorCode::PlaceholderId));
            Problem::invalid_message(&error)
        })?;
    let origin = access.origin(&api.origins, api.clock.now());
    let outcome = ingest(&api.system.ingest, [Entry::Merge(merge)], origin, FullQueuePolicy::Fail).await?;
    Ok(IngestReceipt::new(outcome, Vec::new(), Vec::new()).into_response())
}

/// Counts refused merges of placeholder ids. The first refused merge is logged, because it means
/// that a site sends wrong ids.
pub(in crate::http) fn record_refused_merges(api: &ApiState, count: usize) {
    static FIRST_REFUSED_MERGE: Once = Once::new();
    if count > 0 {
        api.metrics().refused_merges.increment(count as u64);
        FIRST_REFUSED_MERGE.call_once(|| {
            tracing::warn!(
                "a site asked to merge a placeholder id such as `undefined`, which many visitors share; such merges are refused and \
                 counted in sequor_refused_merges_total, see events.placeholder_ids"
            );
        });
    }
}
