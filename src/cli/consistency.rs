//! A store held against what its journal says, and the words for what was found.

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

/// Entries for which one pass over the journal keeps the sessions in memory.
const ENTRIES_PER_PASS: u64 = 2_000_000;

/// Everything that can be held against something else in a store is.
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
        findings.add("origin", format!("it cannot be read: {error}"), DamageRemedy::Backup);
    }
    // Held against a damaged journal, sessions would only repeat its damage.
    if findings.is_journal_intact()
        && let Err(error) = check_sessions(store, &names, settings, &mut findings)
    {
        findings.add("journal", error, DamageRemedy::Restore);
    }
    let VerificationReport { counts, damages } = findings;
    let format = store.format_found().unwrap_or(FORMAT);
    ConsistencyReport { data_dir: store.dir().to_owned(), format, counts, damages }
}

/// A user's events, folded.
#[derive(Debug, Default)]
pub(super) struct ReplayedSession {
    /// The sequence.
    pub(super) sequence: UserSequence,
    /// The first offset that is not in it; 0 if nothing is.
    pub(super) applied_through: Offset,
    /// Where to stop.
    stop_at: Offset,
    /// The first event from there on.
    first_unapplied: Option<Offset>,
    /// The last event of all.
    last_offset: Offset,
    /// The sequence after all events, where that is another one.
    full_sequence: Option<UserSequence>,
    /// The user is no more: merged into another one, or erased.
    pub(super) is_removed: bool,
}

/// Which users become one in the end: each user who is merged, with one into whom.
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
    /// The sequence of a user who is merged into another one.
    fn mark_merged(&mut self) -> UserSequence {
        self.is_removed = true;
        self.full_sequence.as_ref().unwrap_or(&self.sequence).clone()
    }
}

/// The journal of a store, and what makes sessions of it.
pub(super) struct SessionReplayer<'s> {
    pub(super) store: &'s Store,
    pub(super) names: &'s ItemDictionary,
    pub(super) kinds: &'s EventKinds,
    pub(super) idle_gap_ms: i64,
}

impl SessionReplayer<'_> {
    /// Folds every user's events before the offset that `stop_at` says for the user, and gives them
    /// to `folded`, of each pass over the journal one part of the users after another.
    pub(super) fn replay_sessions(
        &self,
        what: &'static str,
        until: impl Fn(&str) -> Offset,
        folded: impl FnMut(FxHashMap<String, ReplayedSession>, &dyn Fn(&str) -> bool) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let passes = usize::try_from(self.store.journal().next_offset()? / ENTRIES_PER_PASS + 1).unwrap_or(1);
        self.replay_in_passes(passes, what, until, folded)
    }

    /// The same in so many passes.
    fn replay_in_passes(
        &self,
        passes: usize,
        what: &'static str,
        until: impl Fn(&str) -> Offset,
        mut folded: impl FnMut(FxHashMap<String, ReplayedSession>, &dyn Fn(&str) -> bool) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let &Self { store, names, kinds, idle_gap_ms } = self;
        let (begin, end) = (store.journal().first_offset()?, store.journal().next_offset()?);
        let passed_over = store.quarantine().all()?.into_iter().filter(|noted| noted.reader == QuarantineReader::Session);
        let passed_over: FxHashSet<Offset> = passed_over.map(|noted| noted.offset).collect();
        // Users who become one belong into one part.
        let merged = if passes > 1 { UserMergeMap::load(store)? } else { UserMergeMap::default() };
        let part = |user: &str| shard_of(merged.resolve(user), passes);
        let progress = ProgressDisplay::new(end * passes as u64, what);
        for pass in 0..passes {
            let mut users: FxHashMap<String, ReplayedSession> = FxHashMap::default();
            for entry in store.journal().entries(begin)? {
                let (offset, entry) = entry?;
                progress.update(pass as u64 * end + offset);
                let Some((user, happened)) = SessionUpdate::from_entry(offset, entry, names, kinds) else { continue };
                if part(&user) != pass {
                    continue;
                }
                let act = match happened.op {
                    SessionOp::Merge { from, .. } => {
                        let gone = users.get_mut(&from).map(ReplayedSession::mark_merged).unwrap_or_default();
                        SessionOp::Merge { from, sequence: gone }
                    }
                    other => other,
                };
                let user = match users.get_mut(&user) {
                    Some(known) if !known.is_removed => known,
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
                match act {
                    _ if passed_over.contains(&offset) => {}
                    SessionOp::Step { step, session_id } => drop(session.push(offset, step, session_id.as_deref(), idle_gap_ms)),
                    SessionOp::Merge { sequence: gone, .. } => session.merge(&gone, idle_gap_ms),
                    SessionOp::Forget => {
                        *session = UserSequence::default();
                        user.is_removed = true;
                    }
                }
            }
            folded(users, &|user| part(user) == pass)?;
        }
        progress.finish();
        Ok(())
    }
}

/// Every session record against the fold of its user's events, as far as it says to reach.
fn check_sessions(store: &Store, names: &ItemDictionary, settings: &Settings, findings: &mut VerificationReport) -> Result<(), StoreError> {
    let (kinds, idle_gap_ms) = (&settings.events.resolved_kinds(), settings.session.idle_gap.as_millis());
    let sessions = store.sessions();
    let (begin, end) = (store.journal().first_offset()?, store.journal().next_offset()?);
    let through = sessions.watermark().unwrap_or(0);
    let expired = store.expiries().last_begun()?.map(|expiry| expiry.cutoffs(kinds));
    let until = |user: &str| sessions.get(user).ok().flatten().map_or(0, |record| record.applied_through);
    let recorded = SessionReplayer { store, names, kinds, idle_gap_ms };
    recorded.replay_sessions("entries held against the sessions", until, |mut users, is_of_this_pass| {
        for record in sessions.iter()? {
            // A record that cannot be read was told of.
            let Ok((user, record)) = record else { continue };
            if !is_of_this_pass(&user) {
                continue;
            }
            let place = format!("sessions, {}", keys::redacted(&user));
            let Some(folded) = users.remove(&user) else {
                // All that is known of this user may lie in a head that was dropped.
                if begin > 0 && record.applied_through <= begin {
                    continue;
                }
                findings.add(place, "the journal has no event of this user", DamageRemedy::Settings);
                continue;
            };
            if folded.first_unapplied.is_some_and(|next| next < through) {
                let reason = format!("it reaches offset {}, and all should reach {through}", record.applied_through);
                findings.add(&place, reason, DamageRemedy::Rebuild);
            }
            if (folded.applied_through, &folded.sequence) == (record.applied_through, &record.sequence) {
                continue;
            }
            let bare = |session: &UserSequence| session.steps.iter().map(|step| (step.item, step.at)).collect::<Vec<_>>();
            // Of a journal whose head was dropped the end of a sequence is all that can be folded.
            if begin > 0 && folded.applied_through == record.applied_through && bare(&record.sequence).ends_with(&bare(&folded.sequence)) {
                continue;
            }
            // Where something was kept long enough neither tells of it, and borders are where it
            // was not known. A sequence that is folded from what is left may reach further back.
            if let Some(expired) = &expired {
                let left = |session: &UserSequence| -> Vec<_> {
                    let kept = |step: &&Step| !expired.covers(step.kind, step.at);
                    session.steps.iter().filter(kept).map(|step| (step.item, step.at)).collect()
                };
                if folded.applied_through <= record.applied_through && left(&folded.sequence).ends_with(&left(&record.sequence)) {
                    continue;
                }
            }
            if folded.applied_through == record.applied_through && bare(&folded.sequence) == bare(&record.sequence) {
                findings.add(place, "its borders, kinds or values are not those that the settings give", DamageRemedy::Settings);
            } else {
                findings.add(place, "its sequence is not that of the user's events in the journal", DamageRemedy::Rebuild);
            }
        }
        for (user, folded) in users {
            let is_kept = folded.last_offset.saturating_add(settings.learning.users_kept) >= end;
            // Of one who is no more nothing need be left.
            if is_kept
                && !folded.is_removed
                && folded.first_unapplied.is_some_and(|next| next < through)
                && matches!(sessions.get(&user), Ok(None))
            {
                findings.add(
                    format!("sessions, {}", keys::redacted(&user)),
                    format!("there is no record, and all should reach {through}"),
                    DamageRemedy::Rebuild,
                );
            }
        }
        Ok(())
    })
}

/// What was found, to be shown.
#[derive(Debug, Serialize)]
pub(super) struct ConsistencyReport {
    data_dir: PathBuf,
    format: u32,
    counts: StoreCounts,
    damages: Vec<DamageFinding>,
}

impl ConsistencyReport {
    /// A store that could not even be opened.
    pub(super) fn from_open_error(dir: &Path, error: &StoreError) -> Self {
        let damage = DamageFinding { location: "store".to_owned(), reason: error.to_string(), remedy: DamageRemedy::Backup };
        Self { data_dir: dir.to_owned(), format: FORMAT, counts: StoreCounts::default(), damages: vec![damage] }
    }

    /// As of another directory, where it will stand.
    pub(super) fn with_data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = dir.to_owned();
        self
    }

    pub(super) fn damages(&self) -> &[DamageFinding] {
        &self.damages
    }

    /// An error if there is any damage; it is for the exit code, the damage itself having been
    /// shown.
    pub(super) fn ensure_undamaged(&self) -> anyhow::Result<()> {
        match self.damages.len() {
            0 => Ok(()),
            1 => anyhow::bail!("{} is damaged in one place", self.data_dir.display()),
            places => anyhow::bail!("{} is damaged in {places} places", self.data_dir.display()),
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
    fn users_who_become_one_are_folded_alike_however_many_passes_it_takes() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), &StoreOptions::default()).unwrap();
        let names = ItemDictionary::default();
        for item in 0..7 {
            names.intern(&format!("item{item}"));
        }
        let (kinds, users) = (EventKinds::default(), 40);
        // The journal names who a user is by then.
        let mut merged = UserMergeMap::default();
        let mut entries = Vec::new();
        for round in 0..400_i64 {
            entries.push(event(round, merged.resolve(&format!("user{}", round * 17 % users))));
            // Chains: each is merged into the next one, who is merged later; and every eighth
            // stays, and goes on.
            let from = round / 10;
            if round % 10 == 9 && from % 8 != 7 {
                let (from, into) = (format!("user{from}"), format!("user{}", from + 1));
                merged.0.insert(from.clone(), into.clone());
                entries.push(Entry::Merge(UserMerge { from, into, timestamp: round * 60_000 }));
            }
        }
        store.journal().append(&entries, Durability::ProcessCrash).unwrap();
        let recorded = SessionReplayer { store: &store, names: &names, kinds: &kinds, idle_gap_ms: 30 * 60_000 };
        let fold = |passes: usize| {
            let mut all = BTreeMap::new();
            let take = |users: FxHashMap<String, ReplayedSession>, is_of_this_pass: &dyn Fn(&str) -> bool| {
                for (user, folded) in users {
                    assert!(is_of_this_pass(&user), "{user}");
                    // Up to an offset, and beyond it.
                    let told = (
                        folded.sequence,
                        folded.applied_through,
                        folded.first_unapplied,
                        folded.last_offset,
                        folded.full_sequence,
                        folded.is_removed,
                    );
                    assert!(all.insert(user.clone(), told).is_none(), "{user} is of two passes");
                }
                Ok(())
            };
            recorded.replay_in_passes(passes, "entries", |user| if user == "user23" { 200 } else { Offset::MAX }, take).unwrap();
            all
        };
        let once = fold(1);
        assert!(once.values().filter(|told| told.5).count() > 10 && once.values().any(|told| told.4.is_some()), "{once:?}");
        for passes in [2, 3, 7] {
            assert_eq!(fold(passes), once, "{passes} passes");
        }
    }
}
