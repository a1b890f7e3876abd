//! Reports API keys with many events that the learner holds back.

use rustc_hash::FxHashMap;
use serde::Serialize;
use std::time::{Duration, Instant};

use crate::actors::handles::SenderCounts;
use crate::auth::{ApiKey, KeyRing};
use crate::domain::OriginHash;
use crate::http::origins::OriginRecorder;
use crate::http::state::ApiState;

/// The shortest time between two warnings about the same key.
const WARNING_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Maximum number of keys in the view.
const MAX_LISTED_KEYS: usize = 20;

/// Recent events of an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::http) struct SenderView {
    /// The id of the key; absent if the key was revoked in the meantime.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Events in the last five to ten minutes.
    events: u64,
    /// Those of `events` that the learner held back.
    held_back: u64,
    /// Whether so many events were held back that an operator should look at the key.
    suspicious: bool,
}

/// The key that has this hash.
fn find_key<'k>(ring: &'k KeyRing, recorder: &OriginRecorder, hash: OriginHash) -> Option<&'k ApiKey> {
    ring.all().into_iter().find(|key| recorder.hash_key(&key.id) == hash)
}

/// The keys with most held-back events, in descending order.
pub(in crate::http) fn list_senders(api: &ApiState) -> Vec<SenderView> {
    let ring = api.key_store.key_ring();
    let counts = api.system.model.sender_activity().held_back_by_key(Instant::now());
    let view = |(hash, counts): (OriginHash, SenderCounts)| {
        let key = find_key(&ring, &api.origins, hash);
        SenderView {
            key: key.map(|key| key.id.to_string()),
            name: key.map(|key| key.name.clone()),
            events: counts.events,
            held_back: counts.held_back,
            suspicious: counts.is_suspicious(),
        }
    };
    counts.into_iter().take(MAX_LISTED_KEYS).map(view).collect()
}

/// Logs a warning about each suspicious key, at most every ten minutes.
#[derive(Debug, Default)]
pub(in crate::http) struct SenderMonitor {
    /// The time of the last warning about a key.
    warned: FxHashMap<OriginHash, Instant>,
}

impl SenderMonitor {
    /// Logs the warnings that are due.
    pub(in crate::http) fn check(&mut self, api: &ApiState) {
        let now = Instant::now();
        self.warned.retain(|_, warned| now.saturating_duration_since(*warned) < WARNING_INTERVAL);
        for (hash, counts) in api.system.model.sender_activity().held_back_by_key(now) {
            if !counts.is_suspicious() || self.warned.contains_key(&hash) {
                continue;
            }
            self.warned.insert(hash, now);
            let ring = api.key_store.key_ring();
            let key = find_key(&ring, &api.origins, hash).map_or("revoked", |key| key.id.as_str());
            let (events, held_back) = (counts.events, counts.held_back);
            tracing::warn!(
                key,
                events,
                held_back,
                "the learner holds back many events of an API key, which may be fake; see `sequor admin senders` and `sequor admin purge --help`"
            );
        }
    }
}
