//! Handles of the running system, one per purpose. All handles are cheap to clone.
//!
//! - [`IngestHandle`]: consent, admission and the journal append.
//! - [`RecommenderHandle`]: recommendations, similar and trending items, session subscriptions.
//! - [`ModelHandle`]: learner status, checkpoints, and model operations such as a rollback.
//! - [`MaintenanceHandle`]: backups, compaction, removal of user data, drain and stop.
//! - [`InspectionHandle`]: stored sessions, ranking inspection, liveness and refreshed metrics.

mod ingest;
mod inline_session;
mod inspection;
mod maintenance;
mod model;
mod recommender;
mod shards;

pub use ingest::{ConsentedEntries, IngestHandle};
pub use inspection::InspectionHandle;
pub use maintenance::MaintenanceHandle;
pub use model::ModelHandle;
pub use recommender::{RecommenderHandle, Watermarks};
pub use shards::ShardRouter;

pub use crate::actors::sender_activity::SenderCounts;
pub use crate::store::{ErasedEntryCounts, PurgedEntryCounts, QuarantinedEntry, RestorePoint};
