//! Consistency check of a store against its journal.

use super::consistency_report::ConsistencyReport;
use super::progress_display::ProgressDisplay;
use super::session_refresh::{session_rules, stored_rules};
use super::session_replay::{ReplayedSession, SessionReplayer};
use crate::actors::pretrained::read_pretrained;
use crate::auth::KeyFile;
use crate::domain::{ExpiryCutoffs, Offset, Step, UserSequence};
use crate::registries::ItemDictionary;
use crate::settings::Settings;
use crate::store::{
    DamageFinding, DamageRemedy, STORE_FORMAT, SessionRecord, SessionRules, Store, StoreError, VerificationReport, keys,
};
use rustc_hash::FxHashMap;

/// Checks all records of a store, and compares the state derived from the journal with the journal.
pub(super) fn check_consistency(store: &Store, settings: &Settings) -> ConsistencyReport {
    let progress = ProgressDisplay::new(store.journal().next_offset().unwrap_or_default(), "entries verified");
    let pretrained = read_pretrained(store);
    let first_names = pretrained
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .map(|pretrained| pretrained.item_names().to_vec())
        .unwrap_or_default();
    let (mut findings, names) = store.verify(&first_names, &mut |entries| progress.update(entries));
    progress.finish();
    if let Err(error) = &pretrained
        && store.pretrained_state().is_ok()
    {
        findings.add_finding("origin", format!("cannot be read: {error}"), DamageRemedy::Backup);
    }
    if let Err(error) = KeyFile::in_dir(store.dir()).read_keys() {
        findings.add_finding("keys.json", error, DamageRemedy::Keys);
    }
    // If the journal is damaged, a comparison of the sessions would only report the same damage
    // again.
    if findings.can_rebuild_fully()
        && let Err(error) = check_sessions(store, &names, settings, &mut findings)
    {
        findings.add_finding("journal", error, DamageRemedy::Restore);
    }
    let VerificationReport { counts, damages } = findings;
    let format = store.format_at_open().unwrap_or(STORE_FORMAT);
    let (differing, damages): (Vec<_>, Vec<_>) =
        damages.into_iter().partition(|finding| finding.remedy == DamageRemedy::Settings);
    let differences = describe_differences(store, settings, &differing);
    ConsistencyReport::new(store.dir(), format, counts, damages, differences)
}

/// Describes the differences between the store and the journal that changed settings explain. Such
/// differences are not damage.
fn describe_differences(store: &Store, settings: &Settings, differing: &[DamageFinding]) -> Vec<String> {
    let mut differences = Vec::new();
    let current = session_rules(settings);
    // An earlier version alone makes no difference, unless records differ.
    let is_changed = |stored: SessionRules| stored != SessionRules { version: stored.version, ..current.clone() };
    if stored_rules(store, &current).is_ok_and(is_changed) {
        differences.push(
            "the sessions were computed with another session.idle_gap or other events.kinds; the next start with these settings recomputes them from the journal"
                .to_owned(),
        );
    }
    if !differing.is_empty() {
        differences.push(format!(
            "{} session records differ from the replay under these settings; {}",
            differing.len(),
            DamageRemedy::Settings.as_str()
        ));
    }
    differences
}

/// Compares every session record with the replay of its user's events, up to the offset in the
/// record.
fn check_sessions(
    store: &Store,
    names: &ItemDictionary,
    settings: &Settings,
    findings: &mut VerificationReport,
) -> Result<(), StoreError> {
    // Until unlearning is complete, sessions contain the events of finished purges, which the
    // journal lacks.
    if store.purges().finished_count()? > 0 {
        return Ok(());
    }
    // Sequences are compared with the settings that they were computed with.
    let rules = stored_rules(store, &session_rules(settings))?;
    let is_outdated = rules.version != SessionRules::VERSION;
    let (kinds, idle_gap_ms) = (&rules.event_kinds(), rules.idle_gap_ms);
    let sessions = store.sessions();
    let (begin, end) = (store.journal().first_offset()?, store.journal().next_offset()?);
    let through = sessions.watermark().unwrap_or(0);
    let expired = store.expiries().last_begun()?.map(|expiry| expiry.cutoffs(kinds));
    // If a user has no record, the replay ends at the watermark of the session records. Its result
    // shows whether a record must exist.
    let until = |user: &str| sessions.get(user).ok().flatten().map_or(through, |record| record.applied_through);
    let replayer = SessionReplayer { store, names, kinds, idle_gap_ms };
    replayer.replay_sessions("entries compared with the sessions", until, |mut users, is_in_pass| {
        for record in sessions.iter()? {
            // `Store::verify` has already reported unreadable records.
            let Ok((user, record)) = record else { continue };
            if !is_in_pass(&user) {
                continue;
            }
            let location = format!("sessions, {}", keys::redacted_user_name(&user));
            let Some(replayed) = users.remove(&user) else {
                // All events of this user may be among the removed entries at the start of the
                // journal.
                if begin > 0 && record.applied_through <= begin {
                    continue;
                }
                findings.add_finding(location, "the journal contains no event of this user", DamageRemedy::Settings);
                continue;
            };
            if replayed.first_unapplied.is_some_and(|next| next < through) {
                let reason =
                    format!("the record ends at offset {}; all records should reach {through}", record.applied_through);
                findings.add_finding(&location, reason, DamageRemedy::Rebuild);
            }
            if let Some((reason, remedy)) = session_difference(&record, &replayed, begin, expired.as_ref()) {
                findings.add_finding(location, reason, if is_outdated { DamageRemedy::Settings } else { remedy });
            }
        }
        check_missing_records(store, users, through, end.saturating_sub(settings.learning.users_kept), findings);
        Ok(())
    })
}

/// Compares a session record with the replay of its user's events. Returns the difference and its
/// remedy; `None` if they agree. `begin` is the first offset of the journal.
fn session_difference(
    record: &SessionRecord,
    replayed: &ReplayedSession,
    begin: Offset,
    expired: Option<&ExpiryCutoffs>,
) -> Option<(&'static str, DamageRemedy)> {
    let has_same_end = replayed.applied_through == record.applied_through;
    if has_same_end && replayed.sequence == record.sequence {
        return None;
    }
    let items_and_times =
        |session: &UserSequence| session.steps.iter().map(|step| (step.item, step.at)).collect::<Vec<_>>();
    let (recorded, replayed_steps) = (items_and_times(&record.sequence), items_and_times(&replayed.sequence));
    // If the oldest entries of the journal were removed, the replay yields only the end of a
    // sequence.
    if begin > 0 && has_same_end && recorded.ends_with(&replayed_steps) {
        return None;
    }
    // Expired events may be missing in the record or in the replay, so only the retained events are
    // compared. Session starts are not compared, because they depend on expired events. The replay
    // may begin with older events than the record.
    if let Some(expired) = expired {
        let retained = |session: &UserSequence| -> Vec<_> {
            let is_kept = |step: &&Step| !expired.is_expired(step.kind, step.at);
            session.steps.iter().filter(is_kept).map(|step| (step.item, step.at)).collect()
        };
        if replayed.applied_through <= record.applied_through
            && retained(&replayed.sequence).ends_with(&retained(&record.sequence))
        {
            return None;
        }
    }
    Some(if has_same_end && recorded == replayed_steps {
        ("session starts, kinds or values differ from the replay under these settings", DamageRemedy::Settings)
    } else {
        ("the sequence differs from the user's events in the journal", DamageRemedy::Rebuild)
    })
}

/// Reports users who have steps but no record. A user whose last event is before the offset
/// `kept_from` is not reported, because the daemon may have removed the user.
fn check_missing_records(
    store: &Store,
    users: FxHashMap<String, ReplayedSession>,
    through: Offset,
    kept_from: Offset,
    findings: &mut VerificationReport,
) {
    for (user, replayed) in users {
        // Removed users need no record. Users without steps, such as merged users without events,
        // need none either: the store keeps no empty records.
        let must_exist =
            replayed.last_offset >= kept_from && !replayed.is_removed && !replayed.sequence.steps.is_empty();
        if must_exist && matches!(store.sessions().get(&user), Ok(None)) {
            let reason = format!("the record is missing; all records should reach {through}");
            findings.add_finding(
                format!("sessions, {}", keys::redacted_user_name(&user)),
                reason,
                DamageRemedy::Rebuild,
            );
        }
    }
}
