//! What is known of a user, and its end.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Query};
use futures_util::StreamExt;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

use crate::actors::error::RequestError;
use crate::actors::handles::ErasedEntryCounts;
use crate::domain::{Entry, Offset, Timestamp};
use crate::http::routes::journal_export;
use crate::http::schema::problem::Problem;
use crate::http::schema::query;
use crate::http::schema::responses::{BadRequestResponse, IdString, InvalidBodyResponse, UnavailableResponse};
use crate::http::state::ApiState;

/// How long an answer waits for an erasure to be carried out.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is known of a user but for the journal's entries.
#[derive(Serialize)]
struct UserSequenceBody<'k> {
    entry: &'static str,
    /// The user's ids: that under which it is kept, and those that were merged into it.
    ids: Vec<String>,
    /// The first journal entry that is not in the sequence yet.
    applied: Offset,
    sequence: Vec<UserStepBody<'k>>,
}

#[derive(Serialize)]
struct UserStepBody<'k> {
    item_id: Option<Arc<str>>,
    r#type: &'k str,
    value: f32,
    timestamp: Timestamp,
    /// Whether it began a session.
    boundary: bool,
}

/// Everything known of a user
///
/// Lines of JSON: first the sequence that answers follow from, if there is one, as `"entry":
/// "user"`; then every journal entry about the user, in the form of `sequor export`. The whole
/// journal is looked through for it. What was learned from them is in none of these lines: it is
/// not kept by user.
#[utoipa::path(get, path = "/v1/users/{user}", operation_id = "known", tag = "users", params(("user" = IdString, Path, description = "Whose.")),
    responses((status = 200, description = "Lines of JSON; none for an unknown user.", body = String, content_type = "application/x-ndjson"), BadRequestResponse, UnavailableResponse))]
pub(in crate::http) async fn export_user(api: Data<ApiState>, user: Path<String>) -> Result<HttpResponse, Problem> {
    let user = query::validate_user_id(&api, user.into_inner())?;
    let ids = api.system.inspection.ids_of_user(&user);
    let mut first = Vec::new();
    if let Some(record) = api.system.inspection.session_record(user).await?.filter(|record| !record.sequence.steps.is_empty()) {
        let kinds: Vec<_> = api.system.recommender.kinds().names().collect();
        let steps = record.sequence.steps.iter().map(|step| UserStepBody {
            item_id: step.item.and_then(|item| api.system.recommender.dictionary().name(item)),
            r#type: kinds.get(usize::from(step.kind)).copied().unwrap_or_default(),
            value: step.value,
            timestamp: step.at,
            boundary: step.starts_session,
        });
        let line = UserSequenceBody { entry: "user", ids: ids.clone(), applied: record.applied_through, sequence: steps.collect() };
        serde_json::to_writer(&mut first, &line).map_err(|_| Problem::internal())?;
        first.push(b'\n');
    }
    let wanted = move |entry: &Entry| entry.users().any(|user| ids.iter().any(|id| id == user));
    let rest = journal_export::export_journal(api, None, None, Arc::new(wanted))?;
    Ok(journal_export::answer(stream::iter([Ok(first.into())]).chain(rest)))
}

/// How a user is erased.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct EraseQuery {
    /// Whether what was learned is to be learned anew without the user.
    unlearn: bool,
}

/// What became of a user who was to be erased.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erased)]
pub(in crate::http) struct EraseResponse {
    /// Whether it is done: then nothing that was the user's is left in the data directory. If not,
    /// it is under way, and goes on after any restart.
    done: bool,
    /// The journal's next offset once the erasure was in it.
    offset: Offset,
    /// How many ids were the user's.
    ids: usize,
    /// What went from the journal; absent while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<EraseOutcome>,
    /// What of the user remains in what was learned.
    learned: &'static str,
}

/// What went with a user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Went)]
pub(in crate::http) struct EraseOutcome {
    /// Events.
    events: u64,
    /// Lists that were shown.
    impressions: u64,
    /// Merges with other ids, and changes of consent.
    others: u64,
}

impl From<ErasedEntryCounts> for EraseOutcome {
    fn from(ErasedEntryCounts { events, impressions, others }: ErasedEntryCounts) -> Self {
        Self { events, impressions, others }
    }
}

/// Erases a user
///
/// Journal entries, the sequence, remembered event ids and sessions, lists that were shown: nothing
/// is left, in the journal only blank places. Later events under the id belong to a new user.
/// What was counted and trained from the user along with everybody else carries its influence on,
/// unless it is asked to be unlearned: then everything is learned again from the journal in the
/// background, and takes the place of what is there by a restart of a moment. Backups made before
/// hold the user still: see `sequor restore --erasures`.
#[utoipa::path(delete, path = "/v1/users/{user}", operation_id = "erase", tag = "users", params(("user" = IdString, Path, description = "Whose."), EraseQuery),
    responses((status = 200, description = "It is done.", body = EraseResponse), (status = 202, description = "It is under way.", body = EraseResponse), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn erase_user(api: Data<ApiState>, user: Path<String>, how: Query<EraseQuery>) -> Result<HttpResponse, Problem> {
    let (user, unlearn) = (query::validate_user_id(&api, user.into_inner())?, how.unlearn);
    let begin = api.system.store.journal().first_offset().map_err(RequestError::from)?;
    if unlearn && begin > 0 {
        let detail = format!(
            "Only from a whole journal can everything be learned anew, and of this one the entries before offset {begin} were dropped. Erase without it."
        );
        return Err(Problem::invalid_parameter("unlearn", detail));
    }
    let ids = api.system.inspection.ids_of_user(&user);
    let offset = api.system.maintenance.erase(user, unlearn, api.clock.now()).await?;
    api.recommendations.forget(&ids);
    let gone = api.system.maintenance.wait_for_erasure(&ids, PATIENCE).await;
    let learned = if unlearn {
        "It will be learned anew without the user."
    } else {
        "Counts and weights were shared with everybody's, and carry the user's influence on; ask with ?unlearn=true to have them learned anew without it."
    };
    let status = if gone.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(HttpResponse::build(status).json(EraseResponse {
        done: gone.is_some(),
        offset,
        ids: ids.len(),
        gone: gone.map(EraseOutcome::from),
        learned,
    }))
}
