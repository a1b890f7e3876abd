//! Consistency check of a store against its journal, and the report of its findings.

use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

use super::progress_display::ProgressDisplay;
use crate::actors::pretrained::read_pretrained;
use crate::actors::session::{SessionOp, SessionUpdate};
use crate::actors::shard::shard_of;
use crate::domain::{Entry, EventKinds, ItemDictionary, Offset, Step, UserMerge, UserSequence};
use crate::settings::Settings;
use crate::store::{DamageFinding, DamageRemedy, FORMAT, QuarantineReader, Store, StoreCounts, StoreError, VerificationReport, keys};
use rustc_hash::{FxHashMap, FxHashSet};

/// Journal entries per pass. A pass keeps the sessions of one part of the users in memory; more
/// entries mean more passes.
const ENTRIES_PER_PASS: u64 = 2_000_000;

/// Checks all records of a store, and compares derived state with the journal.
pub(super) fn check_consistency(store: &Store, settings: &Settings) -> ConsistencyReport {
    let progress = ProgressDisplay::new(store.journal().next_offset().unwrap_or_default(), "entries verified");
    let pretrained = read_pretrained(store);
    let first_names =
        pretrained.as_ref().ok().and_then(Option::as_ref).map(|pretrained| pretrained.item_names().to_vec()).unwrap_or_default();
    let (mut findings, names) = store.verify(&first_names, &mut |entries| progress.update(entries));
    progress.finish();
    if let Err(error) = &pretrained
        && store.pretrained_state().is_ok()
    {
        findings.add("origin", format!("cannot be read: {error}"), DamageRemedy::Backup);
    }
    // With a damaged journal, comparing the sessions would only repeat its damage.
    if findings.is_journal_intact()
        && let Err(error) = check_sessions(store, &names, settings, &mut findings)
    {
        findings.add("journal", error, DamageRemedy::Restore);
    }
    let VerificationReport { counts, damages } = findings;
    let format = store.format_found().unwrap_or(FORMAT);
    ConsistencyReport { data_dir: store.dir().to_owned(), format, counts, damages }
}

/// The session of a user, replayed from the journal.
#[derive(Debug, Default)]
pub(super) struct ReplayedSession {
    /// The sequence of the events before `stop_at`.
    pub(super) sequence: UserSequence,
    /// The first offset after the applied events; 0 if there are none.
    pub(super) applied_through: Offset,
    /// The offset before which events are applied to `sequence`.
    stop_at: Offset,
    /// The offset of the first event from `stop_at` on.
    first_unapplied: Option<Offset>,
    /// The offset of the last event.
    last_offset: Offset,
    /// The sequence after all events, if it differs from `sequence`.
    full_sequence: Option<UserSequence>,
    /// Whether the user was merged into another one, or erased.
    pub(super) is_removed: bool,
}

/// Union of merged users: maps each merged user to the user merged into.
#[derive(Debug, Default)]
struct UserMergeMap(FxHashMap<String, String>);

impl UserMergeMap {
    fn load(store: &Store) -> Result<Self, StoreError> {
        let mut merged = Self::default();
        for entry in store.journal().entries(store.journal().first_offset()?)? {
            if let (_, Entry::Merge(UserMerge { from, into, .. })) = entry? {
                let (from, into) = (merged.resolve(&from).to_owned(), merged.resolve(&into).to_owned());
                if from != into {
                    merged.0.insert(from, into);
                }
            }
        }
        Ok(merged)
    }

    fn resolve<'u>(&'u self, mut user: &'u str) -> &'u str {
        while let Some(into) = self.0.get(user) {
            user = into;
        }
        user
    }
}

impl ReplayedSession {
    /// Marks the user as merged into another one, and returns the sequence to merge.
    fn mark_merged(&mut self) -> UserSequence {
        self.is_removed = true;
        self.full_sequence.as_ref().unwrap_or(&self.sequence).clone()
    }
}

/// Replays the journal of a store into sessions.
pub(super) struct SessionReplayer<'s> {
    pub(super) store: &'s Store,
    pub(super) names: &'s ItemDictionary,
    pub(super) kinds: &'s EventKinds,
    pub(super) idle_gap_ms: i64,
}

impl SessionReplayer<'_> {
    /// Replays each user's events before the offset `until(user)`. Calls `visit` once per pass,
    /// with the users of that pass and a predicate that tells whether a user belongs to it.
    pub(super) fn replay_sessions(
        &self,
        label: &'static str,
        until: impl Fn(&str) -> Offset,
        visit: impl FnMut(FxHashMap<String, ReplayedSession>, &dyn Fn(&str) -> bool) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let passes = usize::try_from(self.store.journal().next_offset()? / ENTRIES_PER_PASS + 1).unwrap_or(1);
        self.replay_in_passes(passes, label, until, visit)
    }

    /// Replays in a given number of passes.
    fn replay_in_passes(
        &self,
        passes: usize,
        label: &'static str,
        until: impl Fn(&str) -> Offset,
        mut visit: impl FnMut(FxHashMap<String, ReplayedSession>, &dyn Fn(&str) -> bool) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let &Self { store, names, kinds, idle_gap_ms } = self;
        let (begin, end) = (store.journal().first_offset()?, store.journal().next_offset()?);
        let quarantined = store.quarantine().all()?.into_iter().filter(|entry| entry.reader == QuarantineReader::Session);
        let quarantined: FxHashSet<Offset> = quarantined.map(|entry| entry.offset).collect();
        // Users who are merged must be in the same pass.
        let merged = if passes > 1 { UserMergeMap::load(store)? } else { UserMergeMap::default() };
        let part = |user: &str| shard_of(merged.resolve(user), passes);
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
                        let merged_sequence = users.get_mut(&from).map(ReplayedSession::mark_merged).unwrap_or_default();
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
                    SessionOp::Step { step, session_id } => drop(session.push(offset, step, session_id.as_deref(), idle_gap_ms)),
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

/// Compares every session record with the replay of its user's events, up to the offset in the
/// record.
fn check_sessions(store: &Store, names: &ItemDictionary, settings: &Settings, findings: &mut VerificationReport) -> Result<(), StoreError> {
    let (kinds, idle_gap_ms) = (&settings.events.resolved_kinds(), settings.session.idle_gap.as_millis());
    let sessions = store.sessions();
    let (begin, end) = (store.journal().first_offset()?, store.journal().next_offset()?);
    let through = sessions.watermark().unwrap_or(0);
    let expired = store.expiries().last_begun()?.map(|expiry| expiry.cutoffs(kinds));
    let until = |user: &str| sessions.get(user).ok().flatten().map_or(0, |record| record.applied_through);
    let replayer = SessionReplayer { store, names, kinds, idle_gap_ms };
    replayer.replay_sessions("entries compared with the sessions", until, |mut users, is_in_pass| {
        for record in sessions.iter()? {
            // `Store::verify` has already reported unreadable records.
            let Ok((user, record)) = record else { continue };
            if !is_in_pass(&user) {
                continue;
            }
            let location = format!("sessions, {}", keys::redacted(&user));
            let Some(replayed) = users.remove(&user) else {
                // All events of this user may be in the dropped head of the journal.
                if begin > 0 && record.applied_through <= begin {
                    continue;
                }
                findings.add(location, "the journal contains no event of this user", DamageRemedy::Settings);
                continue;
            };
            if replayed.first_unapplied.is_some_and(|next| next < through) {
                let reason = format!("the record ends at offset {}; all records should reach {through}", record.applied_through);
                findings.add(&location, reason, DamageRemedy::Rebuild);
            }
            if (replayed.applied_through, &replayed.sequence) == (record.applied_through, &record.sequence) {
                continue;
            }
            let items_and_times = |session: &UserSequence| session.steps.iter().map(|step| (step.item, step.at)).collect::<Vec<_>>();
            // If the head of the journal was dropped, the replay yields only the end of a sequence.
            if begin > 0
                && replayed.applied_through == record.applied_through
                && items_and_times(&record.sequence).ends_with(&items_and_times(&replayed.sequence))
            {
                continue;
            }
            // Expired events may be missing on either side. Session starts are not compared,
            // because they depend on expired events. The replay may contain older events than the
            // record.
            if let Some(expired) = &expired {
                let retained = |session: &UserSequence| -> Vec<_> {
                    let is_kept = |step: &&Step| !expired.covers(step.kind, step.at);
                    session.steps.iter().filter(is_kept).map(|step| (step.item, step.at)).collect()
                };
                if replayed.applied_through <= record.applied_through && retained(&replayed.sequence).ends_with(&retained(&record.sequence))
                {
                    continue;
                }
            }
            if replayed.applied_through == record.applied_through
                && items_and_times(&replayed.sequence) == items_and_times(&record.sequence)
            {
                findings.add(
                    location,
                    "session starts, kinds or values differ from the replay under these settings",
                    DamageRemedy::Settings,
                );
            } else {
                findings.add(location, "the sequence differs from the user's events in the journal", DamageRemedy::Rebuild);
            }
        }
        for (user, replayed) in users {
            let must_exist = replayed.last_offset.saturating_add(settings.learning.users_kept) >= end;
            // A removed user needs no record.
            if must_exist
                && !replayed.is_removed
                && replayed.first_unapplied.is_some_and(|next| next < through)
                && matches!(sessions.get(&user), Ok(None))
            {
                findings.add(
                    format!("sessions, {}", keys::redacted(&user)),
                    format!("the record is missing; all records should reach {through}"),
                    DamageRemedy::Rebuild,
                );
            }
        }
        Ok(())
    })
}

/// Report of a consistency check.
#[derive(Debug, Serialize)]
pub(super) struct ConsistencyReport {
    data_dir: PathBuf,
    format: u32,
    counts: StoreCounts,
    damages: Vec<DamageFinding>,
}

impl ConsistencyReport {
    /// A report for a store that cannot be opened.
    pub(super) fn from_open_error(dir: &Path, error: &StoreError) -> Self {
        let damage = DamageFinding { location: "store".to_owned(), reason: error.to_string(), remedy: DamageRemedy::Backup };
        Self { data_dir: dir.to_owned(), format: FORMAT, counts: StoreCounts::default(), damages: vec![damage] }
    }

    /// The same report for another directory, the target of a restore.
    pub(super) fn with_data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = dir.to_owned();
        self
    }

    pub(super) fn damages(&self) -> &[DamageFinding] {
        &self.damages
    }

    /// Fails if there is any damage, for the exit code. The report lists the damages.
    pub(super) fn ensure_undamaged(&self) -> anyhow::Result<()> {
        match self.damages.len() {
            0 => Ok(()),
            1 => anyhow::bail!("{} is damaged in one place", self.data_dir.display()),
            count => anyhow::bail!("{} is damaged in {count} places", self.data_dir.display()),
        }
    }
}

impl fmt::Display for ConsistencyReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(out, "{}, format {}", self.data_dir.display(), self.format)?;
        writeln!(out, "  journal entries   {:>12}   in {} records", counts.entries, counts.records)?;
        writeln!(out, "    events          {:>12}", counts.events)?;
        writeln!(out, "    impressions     {:>12}", counts.impressions)?;
        writeln!(out, "    item changes    {:>12}", counts.item_changes)?;
        writeln!(out, "    model changes   {:>12}", counts.model_changes)?;
        writeln!(out, "    merges of users {:>12}", counts.merges)?;
        writeln!(out, "    consent         {:>12}", counts.consent_changes)?;
        writeln!(out, "    erasures due    {:>12}", counts.erasures)?;
        writeln!(out, "    erased entries  {:>12}", counts.blanks)?;
        writeln!(out, "  item names        {:>12}", counts.items)?;
        writeln!(out, "  session records   {:>12}", counts.sessions)?;
        writeln!(out, "  checkpoints       {:>12}", counts.checkpoints)?;
        write!(out, "  damages           {:>12}", self.damages.len())?;
        for damage in &self.damages {
            write!(out, "\n{}: {}\n  -> {}", damage.location, damage.reason, damage.remedy.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Event, EventKind};
    use crate::store::{Durability, StoreOptions};
    use std::collections::BTreeMap;

    fn event(offset: i64, user: &str) -> Entry {
        Entry::Event(Event {
            event_id: None,
            user_id: user.to_owned(),
            session_id: None,
            kind: EventKind::View,
            item_id: Some(format!("item{}", offset % 7)),
            value: None,
            timestamp: offset * 60_000,
            properties: None,
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
            entries.push(event(round, merged.resolve(&format!("user{}", round * 17 % users))));
            // Chains of merges: each user is merged into the next one, who is merged later. Every
            // eighth user remains.
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
                    // State up to the offset, and beyond it.
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
            replayer.replay_in_passes(passes, "entries", |user| if user == "user23" { 200 } else { Offset::MAX }, take).unwrap();
            all
        };
        let once = replay(1);
        assert!(once.values().filter(|state| state.5).count() > 10 && once.values().any(|state| state.4.is_some()), "{once:?}");
        for passes in [2, 3, 7] {
            assert_eq!(replay(passes), once, "{passes} passes");
        }
    }
}
