//! Replays the journal into the users' sessions.

use super::progress_display::ProgressDisplay;
use crate::actors::session::{SessionOp, SessionUpdate};
use crate::actors::shard::shard_of_user;
use crate::domain::{Entry, EventKinds, Offset, UserMerge, UserSequence};
use crate::registries::ItemDictionary;
use crate::store::{QuarantineReader, Store, StoreError};
use rustc_hash::{FxHashMap, FxHashSet};

/// To limit its memory, the replay splits the users into parts, and reads the whole journal once
/// per part (a pass). It makes one pass for each of this number of journal entries.
const ENTRIES_PER_PASS: u64 = 2_000_000;

/// The session of a user, replayed from the journal.
#[derive(Debug, Default)]
pub(super) struct ReplayedSession {
    /// The user's sequence after all of the user's events before the offset `stop_at`.
    pub(super) sequence: UserSequence,
    /// The offset after the last entry that is applied to `sequence`; 0 if no entry is applied.
    pub(super) applied_through: Offset,
    /// `sequence` does not contain events from this offset on.
    stop_at: Offset,
    /// The offset of the user's first event at or after `stop_at`.
    pub(super) first_unapplied: Option<Offset>,
    /// The offset of the user's last event.
    pub(super) last_offset: Offset,
    /// The user's sequence after all events of the journal; `None` if the user has no event at or
    /// after `stop_at`, so that `sequence` contains all events.
    full_sequence: Option<UserSequence>,
    /// Whether the user was merged into another user, or erased.
    pub(super) is_removed: bool,
}

/// For each merge of two users: maps the id of the removed user to the id of the remaining user.
#[derive(Debug, Default)]
struct UserMergeMap(FxHashMap<String, String>);

impl UserMergeMap {
    fn load(store: &Store) -> Result<Self, StoreError> {
        let mut merged = Self::default();
        for entry in store.journal().entries(store.journal().first_offset()?)? {
            if let (_, Entry::Merge(UserMerge { from, into, .. })) = entry? {
                let (from, into) =
                    (merged.user_after_merges(&from).to_owned(), merged.user_after_merges(&into).to_owned());
                if from != into {
                    merged.0.insert(from, into);
                }
            }
        }
        Ok(merged)
    }

    /// The user into whom `user` was finally merged; `user` itself if there was no merge.
    fn user_after_merges<'u>(&'u self, mut user: &'u str) -> &'u str {
        while let Some(into) = self.0.get(user) {
            user = into;
        }
        user
    }
}

impl ReplayedSession {
    /// Marks this user as merged into another user, and returns the sequence to merge into the
    /// other user's sequence.
    fn mark_merged(&mut self) -> UserSequence {
        self.is_removed = true;
        self.full_sequence.as_ref().unwrap_or(&self.sequence).clone()
    }
}

/// Computes the sessions of all users from the journal of a store.
pub(super) struct SessionReplayer<'s> {
    pub(super) store: &'s Store,
    pub(super) names: &'s ItemDictionary,
    pub(super) kinds: &'s EventKinds,
    pub(super) idle_gap_ms: i64,
}

impl SessionReplayer<'_> {
    /// Replays the events of all users. The `stop_at` of a user's session is `until(user)`. A pass
    /// replays a part of the users. After each pass, calls `visit` with the sessions of its users,
    /// and a predicate that tells whether a user belongs to the pass.
    pub(super) fn replay_sessions(
        &self,
        label: &'static str,
        until: impl Fn(&str) -> Offset,
        visit: impl FnMut(FxHashMap<String, ReplayedSession>, &dyn Fn(&str) -> bool) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let passes = usize::try_from(self.store.journal().next_offset()? / ENTRIES_PER_PASS + 1).unwrap_or(1);
        self.replay_in_passes(passes, label, until, visit)
    }

    /// Like [`Self::replay_sessions`], with a given number of passes.
    fn replay_in_passes(
        &self,
        passes: usize,
        label: &'static str,
        until: impl Fn(&str) -> Offset,
        mut visit: impl FnMut(FxHashMap<String, ReplayedSession>, &dyn Fn(&str) -> bool) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let &Self { store, names, kinds, idle_gap_ms } = self;
        let (begin, end) = (store.journal().first_offset()?, store.journal().next_offset()?);
        let quarantined =
            store.quarantine().all()?.into_iter().filter(|entry| entry.reader == QuarantineReader::Session);
        let quarantined: FxHashSet<Offset> = quarantined.map(|entry| entry.offset).collect();
        // Both users of a merge must be in the same pass.
        let merged = if passes > 1 { UserMergeMap::load(store)? } else { UserMergeMap::default() };
        let part = |user: &str| shard_of_user(merged.user_after_merges(user), passes);
        let progress = ProgressDisplay::new(end * passes as u64, label);
        for pass in 0..passes {
            let mut users: FxHashMap<String, ReplayedSession> = FxHashMap::default();
            for entry in store.journal().entries(begin)? {
                let (offset, entry) = entry?;
                progress.update(pass as u64 * end + offset);
                let Some((user, update)) = SessionUpdate::from_entry(offset, entry, names, kinds) else { continue };
                if part(&user) != pass {
                    continue;
                }
                let op = match update.op {
                    SessionOp::Merge { from, .. } => {
                        let merged_sequence =
                            users.get_mut(&from).map(ReplayedSession::mark_merged).unwrap_or_default();
                        SessionOp::Merge { from, sequence: merged_sequence }
                    }
                    other => other,
                };
                let user = match users.get_mut(&user) {
                    Some(existing) if !existing.is_removed => existing,
                    _ => {
                        let new = ReplayedSession { stop_at: until(&user), ..ReplayedSession::default() };
                        users.entry(user).insert_entry(new).into_mut()
                    }
                };
                user.last_offset = offset;
                let session = if offset < user.stop_at {
                    user.applied_through = offset + 1;
                    &mut user.sequence
                } else {
                    user.first_unapplied.get_or_insert(offset);
                    user.full_sequence.get_or_insert_with(|| user.sequence.clone())
                };
                match op {
                    _ if quarantined.contains(&offset) => {}
                    SessionOp::Step { step, session_id } => {
                        session.push(offset, step, session_id.as_deref(), idle_gap_ms);
                    }
                    SessionOp::Merge { sequence: merged_sequence, .. } => session.merge(&merged_sequence, idle_gap_ms),
                    SessionOp::Forget => {
                        *session = UserSequence::default();
                        user.is_removed = true;
                    }
                }
            }
            visit(users, &|user| part(user) == pass)?;
        }
        progress.finish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Event, EventKind};
    use crate::store::{Durability, StoreOptions};
    use std::collections::BTreeMap;

    fn view_event(offset: i64, user: &str) -> Entry {
        Entry::Event(Event {
            event_id: None,
            user_id: user.to_owned(),
            session_id: None,
            kind: EventKind::View,
            item_id: Some(format!("item{}", offset % 7)),
            value: None,
            timestamp: offset * 60_000,
            properties: None,
            details: None,
        })
    }

    #[test]
    fn the_number_of_passes_does_not_change_the_replay_of_merged_users() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), &StoreOptions::default()).unwrap();
        let names = ItemDictionary::default();
        for item in 0..7 {
            names.intern(&format!("item{item}"));
        }
        let (kinds, users) = (EventKinds::default(), 40);
        // Events after a merge carry the id of the remaining user.
        let mut merged = UserMergeMap::default();
        let mut entries = Vec::new();
        for round in 0..400_i64 {
            entries.push(view_event(round, merged.user_after_merges(&format!("user{}", round * 17 % users))));
            // The merges form chains: each user is merged into the next user, who is merged later.
            // The chain ends at every eighth user, who remains.
            let from = round / 10;
            if round % 10 == 9 && from % 8 != 7 {
                let (from, into) = (format!("user{from}"), format!("user{}", from + 1));
                merged.0.insert(from.clone(), into.clone());
                entries.push(Entry::Merge(UserMerge { from, into, timestamp: round * 60_000 }));
            }
        }
        store.journal().append(&entries, Durability::ProcessCrash).unwrap();
        let replayer = SessionReplayer { store: &store, names: &names, kinds: &kinds, idle_gap_ms: 30 * 60_000 };
        let replay = |passes: usize| {
            let mut all = BTreeMap::new();
            let take = |users: FxHashMap<String, ReplayedSession>, is_in_pass: &dyn Fn(&str) -> bool| {
                for (user, replayed) in users {
                    assert!(is_in_pass(&user), "{user}");
                    // Compare both results of the replay: the session at the offset `stop_at`, and
                    // the session after all events.
                    let state = (
                        replayed.sequence,
                        replayed.applied_through,
                        replayed.first_unapplied,
                        replayed.last_offset,
                        replayed.full_sequence,
                        replayed.is_removed,
                    );
                    assert!(all.insert(user.clone(), state).is_none(), "{user} is in two passes");
                }
                Ok(())
            };
            replayer
                .replay_in_passes(passes, "entries", |user| if user == "user23" { 200 } else { Offset::MAX }, take)
                .unwrap();
            all
        };
        let once = replay(1);
        assert!(
            once.values().filter(|state| state.5).count() > 10 && once.values().any(|state| state.4.is_some()),
            "{once:?}"
        );
        for passes in [2, 3, 7] {
            assert_eq!(replay(passes), once, "{passes} passes");
        }
    }
}
