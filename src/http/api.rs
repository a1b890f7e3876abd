//! The public API.

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use actix_web::{Error, HttpResponse};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::pages::PaginationCache;
use super::problem::Problem;
use super::pulse::StatusSampler;
use super::{beacon, consents, events, items, lists, merges, openapi, segment, slow, stream, users};
use crate::actors::error::SystemError;
use crate::actors::system::{CommitReceipt, ConsentedEntries, System};
use crate::auth::KeyStore;
use crate::clock::Clock;
use crate::domain::{Entry, Offset, Recommendation, Timestamp, WithConsent};
use crate::ingest::{ValidationError, ValidationRules};
use crate::metrics::Metrics;
use crate::settings::LiveSettings;

/// What every handler needs.
#[derive(Clone)]
pub(super) struct ApiState {
    pub(super) system: System,
    pub(super) rules: ValidationRules,
    pub(super) clock: Clock,
    pub(super) recommendation_ids: Arc<IdGenerator>,
    pub(super) request_ids: Arc<IdGenerator>,
    pub(super) pagination: Arc<PaginationCache>,
    pub(super) status_sampler: StatusSampler,
    pub(super) max_body_bytes: usize,
    /// How long a read waits for the offset that it wants.
    pub(super) read_wait: Duration,
    /// A place for each stream that there may be.
    pub(super) stream_permits: Arc<Semaphore>,
    pub(super) live_settings: Arc<LiveSettings>,
    pub(super) key_store: Arc<KeyStore>,
}

/// After how long it is worth to ask again.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(1);

impl ApiState {
    /// The metrics, to record with.
    pub(super) fn metrics(&self) -> &Metrics {
        self.system.metrics()
    }
}

/// Names recommendations, or requests: a letter, a start's number and a counter, so that no two of
/// them share one.
#[derive(Debug)]
pub(super) struct IdGenerator {
    letter: char,
    start: Timestamp,
    next: AtomicU64,
}

impl IdGenerator {
    pub(super) fn new(letter: char, start: Timestamp) -> Self {
        Self { letter, start, next: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> String {
        format!("{}{:x}-{:x}", self.letter, self.start, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

pub(super) fn public_routes(config: &mut ServiceConfig) {
    config
        .configure(events::routes)
        .configure(lists::routes)
        .configure(stream::routes)
        .configure(openapi::routes)
        .configure(items::routes)
        .configure(merges::routes)
        .configure(users::routes)
        .configure(consents::routes)
        .configure(segment::routes)
        .configure(beacon::routes);
}

/// What became of a request's records.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Receipt)]
pub(super) struct IngestReceipt {
    /// How many were taken, and are on the disk.
    pub(super) accepted: usize,
    /// How many changed nothing, since their id was seen before.
    pub(super) duplicates: usize,
    /// How many were not taken since their users do not let them be kept; nothing of them is.
    pub(super) withheld: usize,
    /// Those that break a rule, each with what it breaks.
    pub(super) rejected: Vec<ValidationError>,
    /// What may be misspelt in records that were taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<ValidationError>,
    /// The journal's next offset once these records were in it; `null` if there were none to take.
    #[schema(value_type = Option<u64>)]
    pub(super) offset: Option<Offset>,
    /// What follows from them, if that was asked; `null` if it could not be told, though the
    /// records were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Recommendation>)]
    pub(super) recommendations: Option<Option<Recommendation>>,
}

impl IngestReceipt {
    /// Whether anything of the request was understood and no fault.
    pub(super) fn is_success(&self) -> bool {
        self.offset.is_some() || self.withheld > 0
    }

    pub(super) fn into_response(self) -> HttpResponse {
        let status = if self.is_success() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        HttpResponse::build(status).json(self)
    }
}

/// Answers a request for entries once they are durable.
pub(super) async fn ingest(
    api: &ApiState,
    entries: Vec<impl Into<WithConsent<Entry>>>,
    rejected: Vec<ValidationError>,
    warnings: Vec<ValidationError>,
) -> Result<HttpResponse, Problem> {
    Ok(ingest_entries(api, entries, rejected, warnings).await?.into_response())
}

/// Makes entries durable, as far as their users let them be; the faults of those that are none come
/// along.
pub(super) async fn ingest_entries(
    api: &ApiState,
    entries: Vec<impl Into<WithConsent<Entry>>>,
    rejected: Vec<ValidationError>,
    warnings: Vec<ValidationError>,
) -> Result<IngestReceipt, Problem> {
    let ConsentedEntries { entries, withheld } = api.system.apply_consent(entries.into_iter().map(Into::into));
    let mut taken = IngestReceipt { accepted: 0, duplicates: 0, withheld, rejected, warnings, offset: None, recommendations: None };
    if let Some(receipt) = append(api, entries).await? {
        taken.accepted = receipt.accepted;
        taken.duplicates = receipt.duplicates.len();
        taken.withheld += receipt.withheld.len();
        taken.offset = Some(receipt.offset);
    }
    Ok(taken)
}

/// Makes entries durable, if there are any.
pub(super) async fn append(api: &ApiState, entries: Vec<Entry>) -> Result<Option<CommitReceipt>, Problem> {
    if entries.is_empty() {
        return Ok(None);
    }
    let permit = api.system.try_admit(entries.len())?;
    Ok(Some(api.system.append(entries, permit).await?))
}

/// What is wrong with a body that could not be taken off the wire.
pub(super) fn unreadable_body(error: &Error, max_body: usize) -> Problem {
    match error.as_error::<PayloadError>() {
        Some(error) => payload_problem(error, max_body),
        None => Problem::invalid_body(error.to_string()),
    }
}

/// What is wrong with a body before anything is known of what it holds.
pub(super) fn payload_problem(error: &PayloadError, max_body: usize) -> Problem {
    match error {
        error if slow::is_body_timeout(error) => Problem::body_timeout(),
        PayloadError::Overflow => Problem::body_too_large(max_body),
        PayloadError::Incomplete(_) | PayloadError::EncodingCorrupted | PayloadError::Io(_) => {
            Problem::invalid_body("The body is not what its Content-Encoding says, or a part of it is missing.")
        }
        other => Problem::invalid_body(other.to_string()),
    }
}

impl From<SystemError> for Problem {
    fn from(error: SystemError) -> Self {
        match error {
            SystemError::Busy(_) => Self::over_capacity(RETRY_DELAY),
            SystemError::NotReached { .. } => Self::offset_not_reached(format!("{error}."), RETRY_DELAY),
            SystemError::NoRestorePoint { .. } => Self::conflict(format!("{error}.")),
            SystemError::Store(source) if source.is_disk_full() => Self::disk_full(source.to_string(), RETRY_DELAY),
            SystemError::Store(source) => Self::not_ready(format!("The journal does not take writes now: {source}."), RETRY_DELAY),
            SystemError::Draining | SystemError::MaintenanceRunning | SystemError::Stopping => Self::not_ready(format!("{error}."), RETRY_DELAY),
            SystemError::Model(source) if source.is_disk_full() => Self::disk_full(source.to_string(), RETRY_DELAY),
            // Coming back does not help against these: they are no lack of room.
            SystemError::Model(_)
            | SystemError::Learner(_)
            | SystemError::PretrainedMismatch { .. }
            | SystemError::PretrainedItemsMismatch { .. }
            | SystemError::ActorStopped(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
                Self::internal()
            }
        }
    }
}
