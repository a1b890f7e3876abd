//! Stores the settings with which the stored user sequences were computed.

use super::envelope::{self, ChecksummedEnvelope};
use super::{Store, StoreError, codec, keys};
use crate::domain::{EventKind, EventKinds, KindRule};

/// The settings on which the stored user sequences depend. If these settings change, the sequences
/// must be computed again.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRules {
    /// The idle gap after which an event starts a new session, in milliseconds.
    pub idle_gap_ms: i64,
    /// The name and the default value of each kind of event, in the order of the kinds' ids.
    pub kinds: Vec<(String, f32)>,
}

impl SessionRules {
    /// Creates the rules from an idle gap and the kinds of event.
    #[must_use]
    pub fn new(idle_gap_ms: i64, kinds: &EventKinds) -> Self {
        let value = |name: &str| kinds.id_of(&EventKind::from_name(name)).map_or(0.0, |id| kinds.rule_of(id).value);
        Self { idle_gap_ms, kinds: kinds.names().map(|name| (name.to_owned(), value(name))).collect() }
    }

    /// The kinds of event in the form that a replay of the journal needs.
    #[must_use]
    pub fn event_kinds(&self) -> EventKinds {
        let mut kinds = EventKinds::default();
        for (name, value) in &self.kinds {
            kinds.set_rule(EventKind::from_name(name), KindRule { target: true, value: *value });
        }
        kinds
    }
}

impl Store {
    /// The rules of the stored sequences; `None` if the store was last used by an earlier version,
    /// which did not record the rules.
    ///
    /// # Errors
    /// Any database error.
    pub fn session_rules(&self) -> Result<Option<SessionRules>, StoreError> {
        let engine = self.engine()?;
        let Some(value) = engine.get(&engine.db, keys::SESSION_RULES_KEY)? else { return Ok(None) };
        let damaged = |reason| StoreError::DamagedValue { tree: "default", key: "session-rules".to_owned(), reason };
        let payload = envelope::open_value(keys::SESSION_RULES_KEY, &value).map_err(damaged)?;
        let (idle_gap_ms, kinds) = codec::decode(payload).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(SessionRules { idle_gap_ms, kinds }))
    }

    /// Records the rules of the stored sequences. The write becomes durable with the next commit or
    /// [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn set_session_rules(&self, rules: &SessionRules) -> Result<(), StoreError> {
        let engine = self.lock_for_writing()?;
        let mut envelope = ChecksummedEnvelope::with_capacity(512);
        codec::encode_to(&(rules.idle_gap_ms, &rules.kinds), envelope.payload())?;
        engine.insert(&engine.db, keys::SESSION_RULES_KEY, envelope.seal(keys::SESSION_RULES_KEY))
    }
}
