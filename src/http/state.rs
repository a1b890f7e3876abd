//! The state that every handler shares.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use crate::actors::system::System;
use crate::auth::KeyStore;
use crate::clock::Clock;
use crate::http::origins::OriginRecorder;
use crate::http::status::history::StatusSampler;
use crate::ingest::ValidationRules;
use crate::learner::HiddenItems;
use crate::metrics::Metrics;
use crate::services::id_generator::IdGenerator;
use crate::services::placements::PlacementService;
use crate::services::recommendation::RecommendationService;
use crate::services::reports::ReportService;
use crate::settings::LiveSettings;

/// The state that every handler shares.
#[derive(Clone)]
pub(in crate::http) struct ApiState {
    pub(in crate::http) system: System,
    pub(in crate::http) recommendations: RecommendationService,
    pub(in crate::http) placements: PlacementService,
    pub(in crate::http) reports: ReportService,
    pub(in crate::http) rules: ValidationRules,
    pub(in crate::http) clock: Clock,
    pub(in crate::http) request_ids: Arc<IdGenerator>,
    pub(in crate::http) status_sampler: StatusSampler,
    /// How long dismissed and purchased items are hidden, if a request does not say how long.
    pub(in crate::http) hidden_items: HiddenItems,
    pub(in crate::http) origins: OriginRecorder,
    pub(in crate::http) max_body_bytes: usize,
    /// Longest time that a read waits for its `min_offset`.
    pub(in crate::http) read_wait: Duration,
    /// One permit per open stream.
    pub(in crate::http) stream_permits: Arc<Semaphore>,
    pub(in crate::http) live_settings: Arc<LiveSettings>,
    pub(in crate::http) key_store: Arc<KeyStore>,
}

impl ApiState {
    /// The metrics of the daemon.
    pub(in crate::http) fn metrics(&self) -> &Metrics {
        &self.system.metrics
    }
}
