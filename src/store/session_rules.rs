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
    /// The name and the default value of each kind of event, in the order of the kinds' ids. These
    /// entries are followed by one for each kind with a midpoint: its name with `MIDPOINT_MARK`,
    /// and the midpoint.
    pub kinds: Vec<(String, f32)>,
    /// The version of the algorithm, see [`SessionRules::VERSION`].
    pub version: u32,
}

/// Marks the name of a midpoint's entry. No name of an event kind contains this mark.
const MIDPOINT_MARK: &str = "<";

impl SessionRules {
    /// The version of the algorithm that places events in sequences. Version 0 appended late events
    /// to the current session; version 1 did not keep dismissals and purchases that had left the
    /// list of steps.
    pub const VERSION: u32 = 2;

    /// Creates the rules from an idle gap and the kinds of event.
    #[must_use]
    pub fn new(idle_gap_ms: i64, kinds: &EventKinds) -> Self {
        let rules: Vec<_> = kinds.names().zip(0..).map(|(name, id)| (name, kinds.rule_of(id))).collect();
        let values = rules.iter().map(|(name, rule)| ((*name).to_owned(), rule.value));
        let midpoints = rules
            .iter()
            .filter(|(_, rule)| rule.midpoint != 0.0)
            .map(|(name, rule)| (format!("{name}{MIDPOINT_MARK}"), rule.midpoint));
        Self { idle_gap_ms, kinds: values.chain(midpoints).collect(), version: Self::VERSION }
    }

    /// The kinds of event in the form that a replay of the journal needs.
    #[must_use]
    pub fn event_kinds(&self) -> EventKinds {
        let mut kinds = EventKinds::default();
        let midpoint = |name: &str| {
            self.kinds
                .iter()
                .find(|(entry, _)| entry.strip_suffix(MIDPOINT_MARK) == Some(name))
                .map_or(0.0, |(_, midpoint)| *midpoint)
        };
        for (name, value) in self.kinds.iter().filter(|(name, _)| !name.ends_with(MIDPOINT_MARK)) {
            let kind = EventKind::from_name(name);
            let rule = KindRule { midpoint: midpoint(name), ..KindRule::new(&kind, true, *value) };
            kinds.set_rule(kind, rule);
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
        let damaged = |error: codec::CodecError| damaged(error.to_string());
        let ((idle_gap_ms, kinds), rest) = codec::decode_prefix(payload).map_err(damaged)?;
        let version = if rest.is_empty() { 0 } else { codec::decode(rest).map_err(damaged)? };
        Ok(Some(SessionRules { idle_gap_ms, kinds, version }))
    }

    /// Records the rules of the stored sequences. The write becomes durable with the next commit or
    /// [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn set_session_rules(&self, rules: &SessionRules) -> Result<(), StoreError> {
        let engine = self.lock_for_writing()?;
        let mut envelope = ChecksummedEnvelope::with_capacity(512);
        codec::encode_to(&(rules.idle_gap_ms, &rules.kinds, rules.version), envelope.payload())?;
        engine.insert(&engine.db, keys::SESSION_RULES_KEY, envelope.seal(keys::SESSION_RULES_KEY))
    }
}
