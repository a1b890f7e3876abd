//! Export and erasure of a user's data.

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path, Query};
use actix_web::{Error, HttpResponse};
use futures_util::StreamExt;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

use crate::actors::error::RequestError;
use crate::actors::handles::ErasedEntryCounts;
use crate::domain::{AttributeView, Entry, MAX_ATTRIBUTES, Offset, Timestamp, UserAttributesChange};
use crate::http::routes::journal_export;
use crate::http::routes::learned_user::LearnedUserBody;
use crate::http::schema::error_mapping::unreadable_body;
use crate::http::schema::problem::Problem;
use crate::http::schema::query;
use crate::http::schema::receipt::IngestReceipt;
use crate::http::schema::responses::{
    BadRequestResponse, IdString, InvalidBodyResponse, UnavailableResponse, UserAttributesBody,
};
use crate::http::state::ApiState;
use crate::ingest::{ValidationError, read_user_attributes};
use crate::services::ingest::{FullQueuePolicy, ingest};

/// Longest time that the request waits until the erasure is complete.
const MAX_ERASURE_WAIT: Duration = Duration::from_secs(20);

/// A user's ids and sequence: the first line of an export.
#[derive(Serialize)]
struct UserSequenceBody<'k> {
    entry: &'static str,
    /// The user's id, and the ids merged into it.
    ids: Vec<String>,
    /// The first journal offset that the sequence does not include.
    applied: Offset,
    sequence: Vec<UserStepBody<'k>>,
}

#[derive(Serialize)]
struct UserStepBody<'k> {
    item_id: Option<Arc<str>>,
    r#type: &'k str,
    value: f32,
    timestamp: Timestamp,
    /// Whether the event starts a session.
    boundary: bool,
}

/// A user's attributes, in an export.
#[derive(Serialize)]
struct UserAttributesExport<'k> {
    entry: &'static str,
    attributes: BTreeMap<&'k str, AttributeView<'k>>,
}

/// Change attributes of a user
///
/// Filter expressions of recommendation requests can compare items with these attributes. An absent
/// attribute keeps its value, and `null` removes it.
#[utoipa::path(patch, path = "/v1/users/{user}", operation_id = "describe_user", tag = "users", params(("user" = IdString, Path, description = "The user.")), request_body(content = UserAttributesBody),
    responses((status = 200, description = "The receipt. `withheld` counts the change if the user does not consent to storage.", body = IngestReceipt), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn change_attributes(
    api: Data<ApiState>,
    user: Path<String>,
    body: Result<Bytes, Error>,
) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let user_id = query::validate_user_id(&api, user.into_inner())?;
    let patch = read_user_attributes(&body).map_err(|error| Problem::invalid_message(&error))?;
    let count = api.system.ingest.user_attributes(&user_id).unwrap_or_default().len_after(&patch);
    if count > MAX_ATTRIBUTES {
        return Err(Problem::invalid_message(&ValidationError::too_many_attributes(count)));
    }
    let change = UserAttributesChange { user_id, patch, timestamp: api.clock.now() };
    let outcome = ingest(&api.system.ingest, [Entry::UserAttributes(change)], None, FullQueuePolicy::Fail).await?;
    Ok(IngestReceipt::new(outcome, Vec::new(), Vec::new()).into_response())
}

/// Export a user's data
///
/// Returns JSON lines. If there is a sequence of the user's latest events, it is the first line,
/// with `"entry": "user"`. The user's attributes follow with `"entry": "user_attributes"`. If the
/// published model holds a long-term profile or event values of the user, they follow with
/// `"entry": "profile"`. All other lines are the journal entries about the user, in the format of
/// `sequor export`. The request reads the whole journal. Other counts and weights are not included,
/// because they are not stored per user.
#[utoipa::path(get, path = "/v1/users/{user}", operation_id = "known", tag = "users", params(("user" = IdString, Path, description = "The user.")),
    responses((status = 200, description = "JSON lines. For an unknown user, the response is empty.", body = String, content_type = "application/x-ndjson"), BadRequestResponse, UnavailableResponse))]
pub(in crate::http) async fn export_user(api: Data<ApiState>, user: Path<String>) -> Result<HttpResponse, Problem> {
    let user = query::validate_user_id(&api, user.into_inner())?;
    let ids = api.system.inspection.ids_of_user(&user);
    let mut first = Vec::new();
    if let Some(record) =
        api.system.inspection.session_record(user).await?.filter(|record| !record.sequence.steps.is_empty())
    {
        let kinds: Vec<_> = api.system.recommender.kinds().names().collect();
        let steps = record.sequence.steps.iter().map(|step| UserStepBody {
            item_id: step.item.and_then(|item| api.system.recommender.dictionary().name(item)),
            r#type: kinds.get(usize::from(step.kind)).copied().unwrap_or_default(),
            value: step.value,
            timestamp: step.at,
            boundary: step.starts_session,
        });
        let line = UserSequenceBody {
            entry: "user",
            ids: ids.clone(),
            applied: record.applied_through,
            sequence: steps.collect(),
        };
        serde_json::to_writer(&mut first, &line).map_err(|_| Problem::internal())?;
        first.push(b'\n');
    }
    if let Some(attributes) = ids.first().and_then(|user| api.system.ingest.user_attributes(user)) {
        let line = UserAttributesExport { entry: "user_attributes", attributes: attributes.views() };
        serde_json::to_writer(&mut first, &line).map_err(|_| Problem::internal())?;
        first.push(b'\n');
    }
    if let Some(learned) = ids.first().and_then(|user| LearnedUserBody::read(&api, user)) {
        serde_json::to_writer(&mut first, &learned).map_err(|_| Problem::internal())?;
        first.push(b'\n');
    }
    let wanted = move |entry: &Entry| entry.user_ids().any(|user| ids.iter().any(|id| id == user));
    let rest = journal_export::export_journal(api, None, None, Arc::new(wanted))?;
    Ok(journal_export::json_lines_response(stream::iter([Ok(first.into())]).chain(rest)))
}

/// Options of an erasure.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct EraseQuery {
    /// Also learn the model again, without the events of the user.
    unlearn: bool,
}

/// The progress of an erasure.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erasure)]
pub(in crate::http) struct EraseResponse {
    /// Whether the erasure is complete: the data directory contains no data of the user. Otherwise
    /// the erasure is in progress, and continues after a restart.
    done: bool,
    /// The journal's next offset after the erasure request.
    #[schema(value_type = u64)]
    offset: Offset,
    /// The number of the user's ids.
    ids: usize,
    /// The erased journal entries; absent while the erasure is in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<EraseOutcome>,
    /// What happens to the user's influence on the model.
    learned: &'static str,
    /// In a cluster: how to learn when the other nodes and the servers have erased the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    elsewhere: Option<&'static str>,
}

/// The erased journal entries of a user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErasedEntries)]
pub(in crate::http) struct EraseOutcome {
    /// Events.
    events: u64,
    /// Impressions.
    impressions: u64,
    /// Merges and changes of consent and attributes.
    others: u64,
}

impl From<ErasedEntryCounts> for EraseOutcome {
    fn from(ErasedEntryCounts { events, impressions, others }: ErasedEntryCounts) -> Self {
        Self { events, impressions, others }
    }
}

/// Erase a user
///
/// Erases the user's journal entries, attributes, sequence, event ids, sessions and impressions.
/// Blank entries remain in the journal in place of the erased entries. Later events with the same
/// user id belong to a new user. Counts and weights, which all users share, keep the user's influence. With
/// `unlearn`, the daemon learns a new model from the journal in the background, and then switches
/// to it in a short restart. Backups that were made before still contain the user's data: see
/// `sequor restore --erasures`.
#[utoipa::path(delete, path = "/v1/users/{user}", operation_id = "erase", tag = "users", params(("user" = IdString, Path, description = "The user."), EraseQuery),
    responses((status = 200, description = "The erasure is complete.", body = EraseResponse), (status = 202, description = "The erasure is in progress.", body = EraseResponse), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn erase_user(
    api: Data<ApiState>,
    user: Path<String>,
    options: Query<EraseQuery>,
) -> Result<HttpResponse, Problem> {
    let (user, unlearn) = (query::validate_user_id(&api, user.into_inner())?, options.unlearn);
    let begin = api.system.store.journal().first_offset().map_err(RequestError::from)?;
    if unlearn && begin > 0 {
        let detail = format!(
            "Unlearning requires the whole journal, and the entries before offset {begin} are no longer retained. Erase without `unlearn`."
        );
        return Err(Problem::invalid_parameter("unlearn", detail));
    }
    let ids = api.system.inspection.ids_of_user(&user);
    let offset = api.system.maintenance.request_erasure(user, unlearn, api.clock.now()).await?;
    api.recommendations.remove_cached_rankings(&ids);
    let gone = api.system.maintenance.wait_for_erasure(&ids, MAX_ERASURE_WAIT).await;
    let learned = if unlearn {
        "The model will be learned again without the user."
    } else {
        "Counts and weights, which all users share, keep the user's influence. Erase with `?unlearn=true` to learn them again without the user."
    };
    let status = if gone.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(HttpResponse::build(status).json(EraseResponse {
        done: gone.is_some(),
        offset,
        ids: ids.len(),
        gone: gone.map(EraseOutcome::from),
        learned,
        elsewhere: api.system.cluster.is_some().then_some(
            "The other nodes and the servers of the cluster follow. They have erased the user when `erased_through` of `/admin/cluster` is at least `offset`.",
        ),
    }))
}
