//! The live sessions of all shards, which any thread can read.
//!
//! The session actor of a user is the only writer of the user's session. A request reads the
//! sequence directly, without a message to the shard, if the session has applied every entry that
//! the committer has sent. Otherwise the request asks the shard, which answers after it has
//! delivered these entries.

use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use crate::domain::{Offset, PackedSequence, UserSequence};
use crate::store::SessionRecord;

/// The state of a session.
#[derive(Debug, Default)]
pub struct SessionState {
    /// The user's sequence.
    pub sequence: UserSequence,
    /// The session has applied every entry of the user before this offset.
    pub applied_through: Offset,
}

/// The state of a session as it stays in memory.
#[derive(Debug, Default)]
struct PackedState {
    sequence: PackedSequence,
    applied_through: Offset,
}

impl From<&SessionState> for PackedState {
    fn from(state: &SessionState) -> Self {
        Self { sequence: PackedSequence::from(&state.sequence), applied_through: state.applied_through }
    }
}

/// A session that its actor writes and other threads read. The sequence is packed, because many
/// sessions are in memory and few of them change at the same time.
#[derive(Debug, Default)]
pub struct SharedSession {
    state: Mutex<PackedState>,
    /// Every update of the user before this offset was sent to the session actor.
    sent_through: AtomicU64,
    /// The shard's tick in which the last event or request arrived.
    last_tick: AtomicU64,
}

impl SharedSession {
    /// Creates a session from its stored record, or an empty session for a new user.
    #[must_use]
    pub fn new(record: Option<SessionRecord>) -> Self {
        let state = record.map_or_else(SessionState::default, |record| SessionState {
            sequence: record.sequence,
            applied_through: record.applied_through,
        });
        Self { state: Mutex::new(PackedState::from(&state)), ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, PackedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user's sequence.
    #[must_use]
    pub fn sequence(&self) -> UserSequence {
        self.lock().sequence.unpack()
    }

    /// Changes the state. If `change` panics, the state stays as it was.
    pub fn update(&self, change: impl FnOnce(&mut SessionState)) {
        let mut packed = self.lock();
        let mut state = SessionState { sequence: packed.sequence.unpack(), applied_through: packed.applied_through };
        change(&mut state);
        *packed = PackedState::from(&state);
    }

    /// Builds the record of the session for the store.
    #[must_use]
    pub fn to_record(&self) -> SessionRecord {
        let state = self.lock();
        SessionRecord {
            applied_through: state.applied_through,
            sequence: state.sequence.unpack(),
            hidden_state: Vec::new(),
        }
    }

    /// Records that an update was sent to the session actor. Must be called before the update is
    /// sent.
    pub(super) fn set_sent_through(&self, through: Offset) {
        self.sent_through.store(through, Ordering::Release);
    }

    /// Records an event or a request.
    pub(super) fn set_last_tick(&self, tick: u64) {
        self.last_tick.store(tick, Ordering::Relaxed);
    }

    /// The shard's tick in which the last event or request arrived.
    pub(super) fn last_tick(&self) -> u64 {
        self.last_tick.load(Ordering::Relaxed)
    }

    /// The sequence, if the session has applied every update that was sent to its actor.
    fn current_sequence(&self) -> Option<UserSequence> {
        let sent = self.sent_through.load(Ordering::Acquire);
        let state = self.lock();
        (state.applied_through >= sent).then(|| state.sequence.unpack())
    }
}

/// Sessions by user.
type SessionsByUser = FxHashMap<Arc<str>, Arc<SharedSession>>;

/// The live sessions of one shard.
#[derive(Debug, Default)]
struct ShardSessions {
    sessions: RwLock<SessionsByUser>,
    /// The offset after the last entry that the committer has sent to the shard.
    sent: AtomicU64,
    /// The offset after the last entry that the shard has sent to its sessions.
    delivered: AtomicU64,
    /// The shard's current tick.
    tick: AtomicU64,
}

impl ShardSessions {
    fn lock_for_writing(&self) -> RwLockWriteGuard<'_, SessionsByUser> {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The live sessions of all shards.
#[derive(Debug)]
pub struct SessionTable {
    shards: Box<[Arc<ShardSessions>]>,
    /// Every entry before this offset was sent to its shard.
    all_sent: AtomicU64,
}

impl SessionTable {
    /// Creates the table of `shards` shards without sessions.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| Arc::default()).collect(), all_sent: AtomicU64::new(0) }
    }

    /// Returns a copy of the user's sequence if it contains every entry that was sent to the shard.
    /// `None` if it does not yet, or if the user has no live session.
    #[must_use]
    pub fn current_sequence(&self, shard: usize, user: &str) -> Option<UserSequence> {
        let shard = self.shards.get(shard)?;
        // The order of the two reads matters: every entry that was sent before the first read must
        // be delivered at the second read.
        let sent = shard.sent.load(Ordering::Acquire);
        if shard.delivered.load(Ordering::Acquire) < sent {
            return None;
        }
        let session = shard.sessions.read().unwrap_or_else(PoisonError::into_inner).get(user).map(Arc::clone)?;
        let sequence = session.current_sequence()?;
        session.set_last_tick(shard.tick.load(Ordering::Relaxed));
        Some(sequence)
    }

    /// The offset after the last entry that was sent to a shard.
    pub(super) fn sent(&self, shard: usize) -> Offset {
        self.shards.get(shard).map_or(0, |shard| shard.sent.load(Ordering::Acquire))
    }

    /// Records that every entry before `through` was sent to its shard.
    pub(super) fn set_all_sent(&self, through: Offset) {
        self.all_sent.fetch_max(through, Ordering::Release);
    }

    /// Returns the offset before which a shard has handled every entry, given that it has handled
    /// every message before `delivered`. The result can be larger than `delivered`, because the
    /// committer sends no message for entries of other shards.
    pub(super) fn delivered_through(&self, shard: usize, delivered: Offset) -> Offset {
        // This read comes first. Every message of an entry before this offset is then counted in
        // the offset that is read next.
        let all_sent = self.all_sent.load(Ordering::Acquire);
        if delivered >= self.sent(shard) { delivered.max(all_sent) } else { delivered }
    }

    /// Records that entries before `through` are sent to a shard. Must be called before they are
    /// sent.
    pub(super) fn set_sent(&self, shard: usize, through: Offset) {
        if let Some(shard) = self.shards.get(shard) {
            shard.sent.fetch_max(through, Ordering::Release);
        }
    }

    /// Records that a shard has sent every entry before `through` to its sessions.
    pub(super) fn set_delivered(&self, shard: usize, through: Offset) {
        if let Some(shard) = self.shards.get(shard) {
            shard.delivered.fetch_max(through, Ordering::Release);
        }
    }

    /// Records a shard's current tick.
    pub(super) fn set_tick(&self, shard: usize, tick: u64) {
        if let Some(shard) = self.shards.get(shard) {
            shard.tick.store(tick, Ordering::Relaxed);
        }
    }

    /// Adds a user's session. The session is removed when the returned guard is dropped. `None` if
    /// there is no such shard.
    pub(super) fn add(&self, shard: usize, user: &Arc<str>, session: &Arc<SharedSession>) -> Option<TableEntry> {
        let shard = Arc::clone(self.shards.get(shard)?);
        shard.lock_for_writing().insert(Arc::clone(user), Arc::clone(session));
        Some(TableEntry { shard, user: Arc::clone(user) })
    }
}

/// An entry of the table. Dropping it removes the session from the table.
#[derive(Debug)]
pub struct TableEntry {
    shard: Arc<ShardSessions>,
    user: Arc<str>,
}

impl Drop for TableEntry {
    fn drop(&mut self) {
        self.shard.lock_for_writing().remove(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Step;

    fn table_with_session() -> (SessionTable, Arc<SharedSession>, TableEntry) {
        let (table, session) = (SessionTable::new(2), Arc::new(SharedSession::new(None)));
        let entry = table.add(1, &Arc::from("ann"), &session).unwrap();
        (table, session, entry)
    }

    #[test]
    fn a_session_takes_48_bytes_and_its_packed_sequence() {
        assert_eq!(size_of::<SharedSession>(), 48);
        let session = SharedSession::new(None);
        let steps = UserSequence::MAX_STEPS as u64;
        session.update(|state| {
            for number in 0..steps {
                let (item, at) = (Some(number as u32 * 7_919), 1_700_000_000_000 + number as i64 * 20_000);
                let step = Step { item, kind: 0, starts_session: false, at, value: 1.0 };
                state.sequence.push(number, step, None, 1_800_000);
            }
        });
        assert_eq!(session.sequence().steps.len() as u64, steps);
        let packed_bytes = session.lock().sequence.byte_len() as u64;
        assert!(packed_bytes <= 8 * steps, "{packed_bytes}");
    }

    #[test]
    fn a_change_that_panics_leaves_the_session_as_it_was() {
        let session = SharedSession::new(None);
        session.update(|state| state.applied_through = 3);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            session.update(|state| {
                state.applied_through = 4;
                panic!("a change that panics");
            });
        }));
        assert!(panicked.is_err());
        assert_eq!(session.to_record().applied_through, 3);
    }

    #[test]
    fn a_session_is_readable_while_its_entry_exists() {
        let (table, _session, entry) = table_with_session();
        assert!(table.current_sequence(1, "ann").is_some());
        assert!(table.current_sequence(0, "ann").is_none());
        assert!(table.current_sequence(1, "bob").is_none());
        assert!(table.current_sequence(2, "ann").is_none());
        drop(entry);
        assert!(table.current_sequence(1, "ann").is_none());
    }

    #[test]
    fn a_session_is_not_readable_before_it_has_applied_every_sent_entry() {
        let (table, session, _entry) = table_with_session();
        table.set_sent(1, 7);
        assert!(table.current_sequence(1, "ann").is_none(), "the shard has not delivered the entries");
        session.set_sent_through(6);
        table.set_delivered(1, 7);
        assert!(table.current_sequence(1, "ann").is_none(), "the session has not applied its entry");
        session.update(|state| state.applied_through = 6);
        assert!(table.current_sequence(1, "ann").is_some());
    }

    #[test]
    fn entries_of_other_shards_count_as_delivered_after_all_own_messages() {
        let table = SessionTable::new(2);
        table.set_sent(1, 7);
        table.set_all_sent(9);
        assert_eq!(table.delivered_through(1, 6), 6);
        assert_eq!(table.delivered_through(1, 7), 9);
        assert_eq!(table.delivered_through(0, 0), 9);
    }

    #[test]
    fn a_read_counts_as_use() {
        let (table, session, _entry) = table_with_session();
        table.set_tick(1, 5);
        assert_eq!(session.last_tick(), 0);
        assert!(table.current_sequence(1, "ann").is_some());
        assert_eq!(session.last_tick(), 5);
    }
}
