//! The sessions in memory: started on demand, and stopped if idle or if there are too many.
//!
//! Their number never exceeds the limit. At the limit, the shard stops the least recently used of
//! the sessions whose records are stored. Flushes store records once a second, so there may be no
//! such session. A further user is then served from the stored record, and an update of that user
//! is stored at once.

use actix::Actor;
use rustc_hash::FxHashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::expiry::remove_expired_steps;
use super::{ActiveSession, GetUserSequence, ShardActor};
use crate::actors::admission::AdmissionPermit;
use crate::actors::session::{ApplySessionUpdate, GetSequence, SessionActor, SessionOp, SessionUpdate, StopSession};
use crate::actors::session_table::SharedSession;
use crate::store::{SessionRecord, StoreError};

/// A shard with the maximum number of live sessions makes room by stopping 1/64 of this maximum at
/// once. So it rarely has to search for the least recently used ones.
const STOPPED_SHARE_DIVISOR: usize = 64;

/// The session of a user.
enum FoundSession<'s> {
    /// A live session.
    Live(&'s mut ActiveSession),
    /// There is no room for a live session. Contains the stored record without its expired steps;
    /// `None` for a new user.
    Stored(Option<SessionRecord>),
    /// The user is unknown.
    Unknown,
}

impl ShardActor {
    /// Finds the user's session, or starts it from the stored record. If the user is unknown,
    /// starts a session only if `create` is set.
    fn find_or_start_session(&mut self, user: &str, create: bool) -> Result<FoundSession<'_>, StoreError> {
        if !self.active_sessions.contains_key(user) {
            let (record, is_changed) = self.load(user)?;
            if record.is_none() && !create {
                return Ok(FoundSession::Unknown);
            }
            let has_room = self.make_room();
            let metrics = &self.context.metrics;
            let started = if record.is_some() { &metrics.sessions_revived } else { &metrics.sessions_started };
            started.increment(1);
            if !has_room {
                // The session lives only for this request or update, so it counts as started and as
                // stopped.
                metrics.sessions_passivated.increment(1);
                return Ok(FoundSession::Stored(record));
            }
            self.start_session(user, record, is_changed);
        }
        let tick = self.tick;
        Ok(match self.active_sessions.get_mut(user) {
            Some(active) => {
                active.session.set_last_tick(tick);
                FoundSession::Live(active)
            }
            None => FoundSession::Unknown,
        })
    }

    /// Reads the stored record and removes its expired steps. If the record is damaged, rebuilds it
    /// from the journal. Also returns whether the result differs from the stored record.
    fn load(&mut self, user: &str) -> Result<(Option<SessionRecord>, bool), StoreError> {
        let (mut record, is_rebuilt) = match self.context.store.sessions().get(user) {
            Err(StoreError::DamagedValue { reason, .. }) => {
                tracing::error!(
                    shard = self.context.number.0,
                    reason,
                    "a session record is damaged; the session is rebuilt from the journal"
                );
                (Some(self.rebuild_record_from_journal(user)?), true)
            }
            read => (read?, false),
        };
        // The expiry scan of stored records skips live sessions. A session that loses steps here
        // therefore counts as changed, so that the next flush stores it.
        let is_expired = match (&mut record, &self.cutoffs) {
            (Some(record), Some(cutoffs)) => remove_expired_steps(record, cutoffs),
            _ => false,
        };
        Ok((record, is_rebuilt || is_expired))
    }

    fn start_session(&mut self, user: &str, record: Option<SessionRecord>, is_dirty: bool) {
        self.context.metrics.live_sessions.increment(1.0);
        let session = Arc::new(SharedSession::new(record));
        session.set_last_tick(self.tick);
        let actor = SessionActor::new(Arc::clone(&session), Rc::clone(&self.session_context)).start();
        let user = Arc::<str>::from(user);
        let entry = self.context.session_table.add(self.context.number.0, &user, &session);
        let active = ActiveSession { actor, session, _entry: entry, is_dirty, is_saving: false, is_erased: false };
        self.active_sessions.insert(user, Box::new(active));
    }

    /// Makes room for one more live session. Returns `false` if no session can stop.
    fn make_room(&mut self) -> bool {
        let most = self.context.max_live_sessions;
        if self.active_sessions.len() < most {
            return true;
        }
        if most == 0 || self.is_full {
            return false;
        }
        let surplus = self.active_sessions.len() + 1 - most;
        self.stop_sessions(surplus.max(most / STOPPED_SHARE_DIVISOR), 0);
        self.is_full = self.active_sessions.len() >= most;
        !self.is_full
    }

    /// Stops the sessions that are idle for too long.
    pub(super) fn stop_idle_sessions(&mut self) {
        self.stop_sessions(0, self.tick.saturating_sub(self.idle_ticks));
    }

    /// Stops the `surplus` least recently used sessions, and all sessions that were last used
    /// before the tick `oldest`. Leaves out sessions whose record is not stored yet.
    fn stop_sessions(&mut self, mut surplus: usize, oldest: u64) {
        let mut ticks: Vec<_> = self
            .active_sessions
            .values()
            .filter(|_| surplus > 0)
            .filter(|active| active.is_stored())
            .map(|active| active.session.last_tick())
            .collect();
        // All sessions stop that were last used before the cutoff tick. If this is not enough, some
        // of the sessions that were last used in the cutoff tick stop too.
        let cutoff = surplus.min(ticks.len()).checked_sub(1).map(|index| *ticks.select_nth_unstable(index).1);
        surplus = surplus.saturating_sub(ticks.iter().filter(|tick| Some(**tick) < cutoff).count());
        let before = self.active_sessions.len();
        self.active_sessions.retain(|_, active| {
            let last_tick = active.session.last_tick();
            let at_cutoff = Some(last_tick) == cutoff && surplus > 0;
            let stops = active.is_stored() && (last_tick < oldest || Some(last_tick) < cutoff || at_cutoff);
            if stops {
                surplus -= usize::from(at_cutoff);
                active.actor.do_send(StopSession);
            }
            !stops
        });
        let stopped = before - self.active_sessions.len();
        self.context.metrics.sessions_passivated.increment(stopped as u64);
        self.context.metrics.live_sessions.decrement(stopped as f64);
    }

    /// Delivers updates to the sessions of their users.
    pub(super) fn deliver_updates(
        &mut self,
        events: Vec<(String, SessionUpdate)>,
        permits: Option<&Arc<Vec<AdmissionPermit>>>,
    ) {
        let mut by_user: FxHashMap<String, Vec<SessionUpdate>> = FxHashMap::default();
        for (user, mut update) in events {
            if let Err(error) = self.attach_merged_sequence(&mut update, None) {
                // Recovery delivers all these updates again as soon as the store is readable.
                self.needs_recovery = true;
                return tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the sequence of a merged user could not be read"
                );
            }
            by_user.entry(user).or_default().push(update);
        }
        let mut stored = Vec::new();
        for (user, updates) in by_user {
            let through = updates.last().map_or(0, |last| last.offset + 1);
            let is_erased = updates.last().is_some_and(|last| matches!(last.op, SessionOp::Forget));
            let rerouted: Vec<_> = updates.iter().filter_map(|update| rerouted_user(&user, update)).collect();
            match self.find_or_start_session(&user, true) {
                Ok(FoundSession::Live(active)) => {
                    (active.is_dirty, active.is_erased) = (true, is_erased);
                    active.session.set_sent_through(through);
                    // Admission control bounds this queue, see the committer.
                    active.actor.do_send(ApplySessionUpdate { updates, permits: permits.map(Arc::clone) });
                }
                Ok(FoundSession::Stored(record)) => {
                    stored.push((user.clone(), self.apply_to_record(record, &updates)));
                }
                Ok(FoundSession::Unknown) => continue,
                Err(error) => {
                    // The next flush delivers the update again.
                    self.needs_recovery = true;
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the session of an update could not be loaded; the next flush retries"
                    );
                    continue;
                }
            }
            self.context.subscribers.notify(&user, through);
            rerouted.iter().for_each(|other| self.context.subscribers.reroute(other, through));
        }
        self.store_now(&stored);
    }

    /// Stores the records of users for whom there was no room in memory. If that fails, the next
    /// flush delivers their updates again.
    fn store_now(&mut self, records: &[(String, SessionRecord)]) {
        if records.is_empty() {
            return;
        }
        let records = records.iter().map(|(user, record)| (user.as_str(), record));
        if let Err(error) = self.context.store.sessions().put_ahead_if_generation(self.store_generation, records) {
            self.needs_recovery = true;
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the sessions beyond session.live_max could not be stored; the next flush retries"
            );
        }
    }

    /// Applies updates to a record, without a session actor.
    pub(super) fn apply_to_record(&self, record: Option<SessionRecord>, updates: &[SessionUpdate]) -> SessionRecord {
        let session = Arc::new(SharedSession::new(record));
        SessionActor::new(Arc::clone(&session), Rc::clone(&self.session_context)).apply_updates(updates);
        session.to_record()
    }

    /// Forwards a request to the user's session, unless its caller has stopped waiting. If the
    /// session cannot be loaded, the user is treated as unknown.
    pub(super) fn send_sequence(&mut self, GetUserSequence { user, reply }: GetUserSequence) {
        if reply.is_closed() {
            return;
        }
        let record = match self.find_or_start_session(&user, false) {
            Ok(FoundSession::Live(active)) => {
                let _ = active.actor.try_send(GetSequence { reply });
                return;
            }
            Ok(FoundSession::Stored(record)) => record,
            Ok(FoundSession::Unknown) => None,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the session of a request could not be loaded; the user is treated as unknown"
                );
                None
            }
        };
        // The caller may have stopped waiting.
        let _ = reply.send(record.map(|record| record.sequence).unwrap_or_default());
    }
}

/// The user whose subscribers get another session by an update of `user`, if there is one.
fn rerouted_user(user: &str, update: &SessionUpdate) -> Option<String> {
    match &update.op {
        SessionOp::Merge { from, .. } => Some(from.clone()),
        SessionOp::Forget => Some(user.to_owned()),
        SessionOp::Step { .. } => None,
    }
}
