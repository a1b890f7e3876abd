//! The store: quarantine, journal export, backups and compactions.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Query};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

use crate::actors::error::{MaintenanceError, RequestError};
use crate::actors::handles::{QuarantinedEntry, RestorePoint};
use crate::domain::{Entry, Offset};
use crate::http::routes::admin::query::EmptyBody;
use crate::http::routes::journal_export;
use crate::http::schema::problem::Problem;
use crate::http::schema::problem::RETRY_DELAY;
use crate::http::state::ApiState;
use crate::ingest::{ENTRY_KINDS, entry_kind_name};

/// A quarantined journal entry, which the daemon skips, with its content.
#[derive(Debug, Serialize)]
pub(in crate::http) struct QuarantinedEntryView {
    #[serde(flatten)]
    pub(in crate::http) record: QuarantinedEntry,
    /// The content of the entry; absent if the journal no longer contains it.
    pub(in crate::http) entry: Option<Entry>,
}

/// The quarantined entries.
#[derive(Debug, Serialize)]
pub(in crate::http) struct QuarantineView {
    pub(in crate::http) entries: Vec<QuarantinedEntryView>,
}

impl QuarantineView {
    /// Reads the quarantine.
    ///
    /// # Errors
    /// A problem if the store cannot be read.
    pub(in crate::http) async fn collect(api: Data<ApiState>) -> Result<Self, Problem> {
        let read = move || {
            let store = &api.system.store;
            let entries = store.quarantine().all()?.into_iter().map(|quarantined| {
                let held = store.journal().read_entries(quarantined.offset, 1).ok().and_then(|mut read| read.pop());
                QuarantinedEntryView {
                    entry: held.filter(|(offset, _)| *offset == quarantined.offset).map(|(_, entry)| entry),
                    record: quarantined,
                }
            });
            Ok::<_, RequestError>(Self { entries: entries.collect() })
        };
        Ok(web::block(read).await.map_err(|_| Problem::internal())??)
    }
}

pub(in crate::http) async fn get_quarantine(api: Data<ApiState>) -> Result<Json<QuarantineView>, Problem> {
    Ok(Json(QuarantineView::collect(api).await?))
}

/// What the data directory contains.
#[derive(Debug, Serialize)]
pub(in crate::http) struct StoreView {
    /// The data directory.
    pub(in crate::http) directory: PathBuf,
    /// Size of the database.
    pub(in crate::http) bytes_on_disk: u64,
    pub(in crate::http) journal: JournalOffsets,
    /// The checkpoints, newest first.
    pub(in crate::http) checkpoints: Vec<RestorePoint>,
    pub(in crate::http) quarantined: usize,
    pub(in crate::http) sessions: usize,
}

/// The range of offsets that the journal contains.
#[derive(Debug, Serialize)]
pub(in crate::http) struct JournalOffsets {
    /// The first offset.
    pub(in crate::http) begin: Offset,
    /// The next offset.
    pub(in crate::http) end: Offset,
}

impl StoreView {
    /// Reads the state of the store.
    ///
    /// # Errors
    /// A problem if the store cannot be read.
    pub(in crate::http) async fn collect(api: Data<ApiState>) -> Result<Self, Problem> {
        let read = move || {
            let store = &api.system.store;
            Ok::<_, RequestError>(Self {
                directory: store.dir().to_owned(),
                bytes_on_disk: store.size_on_disk()?,
                journal: JournalOffsets { begin: store.journal().first_offset()?, end: store.journal().next_offset()? },
                checkpoints: store.list_restore_points()?.into_iter().rev().collect(),
                quarantined: store.quarantine().count()?,
                sessions: store.sessions().count()?,
            })
        };
        Ok(web::block(read).await.map_err(|_| Problem::internal())??)
    }
}

pub(in crate::http) async fn get_store(api: Data<ApiState>) -> Result<Json<StoreView>, Problem> {
    Ok(Json(StoreView::collect(api).await?))
}

/// The request for a backup to the path `target`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct BackupRequest {
    target: PathBuf,
}

/// Makes a backup while the daemon runs. Responds when the backup is complete.
pub(in crate::http) async fn create_backup(
    api: Data<ApiState>,
    Json(BackupRequest { target }): Json<BackupRequest>,
) -> Result<HttpResponse, Problem> {
    if !target.is_absolute() {
        return Err(Problem::invalid_parameter("target", "The path must be absolute, such as /backups/monday."));
    }
    let copied = web::block(move || api.system.maintenance.backup(&target)).await.map_err(|_| Problem::internal())?;
    copied.map(|copied| HttpResponse::Ok().json(copied)).map_err(maintenance_problem)
}

/// Compacts the database while the daemon runs. Responds when the compaction is complete.
pub(in crate::http) async fn compact_store(
    api: Data<ApiState>,
    Json(EmptyBody {}): Json<EmptyBody>,
) -> Result<HttpResponse, Problem> {
    let compacted = web::block(move || api.system.maintenance.compact()).await.map_err(|_| Problem::internal())?;
    compacted.map(|compacted| HttpResponse::Ok().json(compacted)).map_err(maintenance_problem)
}

fn maintenance_problem(error: MaintenanceError) -> Problem {
    match error {
        MaintenanceError::Running => Problem::not_ready("A backup or a compaction is running.", RETRY_DELAY),
        MaintenanceError::Stopping => Problem::not_ready("The daemon is stopping.", RETRY_DELAY),
        MaintenanceError::Store(reason) if reason.is_disk_full() => Problem::disk_full(reason, RETRY_DELAY),
        MaintenanceError::Store(reason) => Problem::conflict(format!("{reason}.")),
        other => other.into(),
    }
}

/// Lists digests of the ids of erased users, as JSON lines. `sequor restore --erasures` reads these
/// lines to erase the users from a restored backup.
pub(in crate::http) async fn list_erasures(api: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let read = move || api.system.store.erasures().erased_users().map_err(RequestError::from);
    let done = web::block(read).await.map_err(|_| Problem::internal())??;
    let lines: String = done
        .iter()
        .map(|(erased, asked)| format!("{}\n", json!({ "erased": erased.to_hex(), "asked": asked })))
        .collect();
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(lines))
}

/// Selects the journal entries to export.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct JournalRange {
    from: Option<Offset>,
    to: Option<Offset>,
    only: Option<String>,
}

/// Exports the journal as JSON lines, up to its end at the time of the request.
pub(in crate::http) async fn export_journal_range(
    api: Data<ApiState>,
    Query(JournalRange { from, to, only }): Query<JournalRange>,
) -> Result<HttpResponse, Problem> {
    if let Some(only) = only.as_deref().filter(|only| !ENTRY_KINDS.contains(only)) {
        return Err(Problem::out_of_range("only", only, ENTRY_KINDS.join(", ")));
    }
    let wanted = move |entry: &Entry| only.as_deref().is_none_or(|only| only == entry_kind_name(entry));
    Ok(journal_export::json_lines_response(journal_export::export_journal(api, from, to, Arc::new(wanted))?))
}
