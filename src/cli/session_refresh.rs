//! Recomputes the stored sequences after a change of settings or of the algorithm.
//!
//! A sequence depends on the idle gap, the kinds and their values, and on the version of the
//! algorithm. The store records the settings and the version that its sequences were computed with.
//! If the daemon starts with different ones, it recomputes the sequences from the journal before
//! anything else uses them.

use anyhow::Context;

use super::session_replay::{ReplayedSession, SessionReplayer};
use crate::domain::{Entry, KindId, Step, UserSequence};
use crate::registries::ItemDictionary;
use crate::settings::Settings;
use crate::store::{Durability, SessionRecord, SessionRules, Store, StoreError};

/// Number of records that are read at a time.
const RECORDS_PER_PAGE: usize = 256;

/// The session rules under the current settings.
pub(super) fn session_rules(settings: &Settings) -> SessionRules {
    SessionRules::new(settings.session.idle_gap.as_millis(), &settings.events.resolved_kinds())
}

/// Recomputes the stored sequences if they were computed with other settings. If the call is
/// interrupted, the next start repeats it.
pub(super) fn refresh_sessions(store: &Store, settings: &Settings) -> anyhow::Result<()> {
    let wanted = session_rules(settings);
    match stored_rules(store, &wanted)? {
        stored if stored == wanted => {}
        stored => {
            tracing::info!(
                "session.idle_gap, events.kinds or the program changed: the sessions are recomputed from the journal"
            );
            recompute_sessions(store, &stored, &wanted)
                .context("cannot recompute the sessions after a change of settings")?;
            store.sync(Durability::PowerLoss)?;
            tracing::info!("the sessions are recomputed");
        }
    }
    if store.session_rules()?.as_ref() == Some(&wanted) { Ok(()) } else { Ok(store.set_session_rules(&wanted)?) }
}

/// The rules of the stored sequences. The first version of the algorithm did not record them.
pub(super) fn stored_rules(store: &Store, current: &SessionRules) -> Result<SessionRules, StoreError> {
    let is_empty = store.sessions().watermark()? == 0;
    let version = if is_empty { current.version } else { 0 };
    Ok(store.session_rules()?.unwrap_or_else(|| SessionRules { version, ..current.clone() }))
}

fn recompute_sessions(store: &Store, old: &SessionRules, new: &SessionRules) -> Result<(), StoreError> {
    let (kinds, sessions, names) = (new.event_kinds(), store.sessions(), load_item_names(store)?);
    let through = sessions.watermark()?;
    // If the journal lacks its oldest entries or expired entries, the replay yields only a part of
    // a sequence.
    let is_complete = store.journal().first_offset()? == 0 && store.expiries().last_begun()?.is_none();
    let applied =
        |user: &str| sessions.get(user).ok().flatten().map_or(through, |record| record.applied_through.max(through));
    let replayer = SessionReplayer { store, names: &names, kinds: &kinds, idle_gap_ms: new.idle_gap_ms };
    replayer.replay_sessions("entries replayed into sessions", applied, |mut users, is_in_pass| {
        let mut after: Option<String> = None;
        loop {
            let page = sessions.read_page(after.as_deref(), RECORDS_PER_PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let in_pass = page.into_iter().filter(|(user, _)| is_in_pass(user));
            let rewritten: Vec<_> = in_pass
                .filter_map(|(user, record)| {
                    // A damaged record is left as it is: `sequor verify` reports it, and `sequor
                    // rebuild` replaces it.
                    let record = record?;
                    let ReplayedSession { sequence, applied_through, .. } = users.remove(&user).unwrap_or_default();
                    let sequence =
                        if is_complete { sequence } else { join_steps(&record.sequence, sequence, old, new) };
                    // If all events of a user have a removed kind, the replay applies none. The
                    // record then keeps its offset.
                    let applied_through = if applied_through > 0 { applied_through } else { record.applied_through };
                    Some((user, SessionRecord { applied_through, sequence, hidden_state: Vec::new() }))
                })
                .collect();
            sessions.replace_records(rewritten.iter().map(|(user, record)| (user.as_str(), record)))?;
        }
    })
}

/// All item names: the stored names, and the names in the journal after the watermark.
fn load_item_names(store: &Store) -> Result<ItemDictionary, StoreError> {
    let (names, through) = (store.items().load()?, store.items().watermark()?);
    for entry in store.journal().entries(through)? {
        match entry?.1 {
            Entry::Event(event) | Entry::Private(event) => drop(event.item_id.map(|item| names.intern(&item))),
            Entry::Item(change) => drop(names.intern(&change.item_id)),
            _ => {}
        }
    }
    Ok(names)
}

/// Joins the stored steps that the journal no longer contains with the replayed steps. The stored
/// steps keep their session starts and values. Steps whose kind was removed are dropped.
fn join_steps(
    stored: &UserSequence,
    mut replayed: UserSequence,
    old: &SessionRules,
    new: &SessionRules,
) -> UserSequence {
    let new_kind = |kind: KindId| -> Option<KindId> {
        let (name, _) = old.kinds.get(usize::from(kind))?;
        new.kinds.iter().position(|(other, _)| other == name).and_then(|index| KindId::try_from(index).ok())
    };
    let kept: Vec<Step> =
        stored.steps.iter().filter_map(|step| Some(Step { kind: new_kind(step.kind)?, ..*step })).collect();
    let same = |(a, b): (&Step, &Step)| (a.item, a.at) == (b.item, b.at);
    let Some(count) = kept.len().checked_sub(replayed.steps.len()) else { return replayed };
    let (head, tail) = kept.split_at(count);
    if !tail.iter().zip(&replayed.steps).all(same) {
        let is_same_but_for_version = SessionRules { version: new.version, ..old.clone() } == *new;
        return if is_same_but_for_version { stored.clone() } else { replayed };
    }
    if let (Some(before), Some(first), Some(was)) = (head.last(), replayed.steps.first_mut(), tail.first()) {
        let gap = first.at.saturating_sub(before.at);
        // If the stored step starts a session without an idle gap before it, a new `session_id`
        // started the session.
        first.starts_session = gap > new.idle_gap_ms || (was.starts_session && gap <= old.idle_gap_ms);
    }
    let has_start = replayed.steps.iter().any(|step| step.starts_session);
    UserSequence {
        session_number: stored.session_number,
        session_start: if has_start { replayed.session_start } else { stored.session_start },
        session_id: if replayed.steps.is_empty() { stored.session_id.clone() } else { replayed.session_id },
        steps: [head, &replayed.steps].concat(),
        earlier_sessions: replayed.earlier_sessions,
        kept_steps: replayed.kept_steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventKinds;

    fn step_at(kind: KindId, at: i64, starts_session: bool) -> Step {
        Step { item: Some(1), kind, starts_session, at, value: 1.0 }
    }

    #[test]
    fn stored_steps_precede_replayed_ones_and_removed_kinds_are_dropped() {
        let old = SessionRules {
            idle_gap_ms: 100,
            kinds: ["view", "wish", "cart"].map(|name| (name.to_owned(), 1.0)).into(),
            version: SessionRules::VERSION,
        };
        let new = SessionRules {
            idle_gap_ms: 10,
            kinds: ["view", "cart"].map(|name| (name.to_owned(), 2.0)).into(),
            version: SessionRules::VERSION,
        };
        let stored = UserSequence {
            session_number: 1,
            session_start: 3,
            session_id: None,
            steps: vec![step_at(0, 0, true), step_at(1, 10, false), step_at(2, 20, false), step_at(0, 50, false)],
            earlier_sessions: Vec::new(),
            kept_steps: Vec::new(),
        };
        let replayed = UserSequence {
            session_number: 1,
            session_start: 9,
            steps: vec![step_at(0, 50, true)],
            ..UserSequence::default()
        };
        let joined = join_steps(&stored, replayed, &old, &new);
        assert_eq!(joined.steps, [step_at(0, 0, true), step_at(1, 20, false), step_at(0, 50, true)]);
        assert_eq!(joined.session_start, 9);
        // The gap before the replay's first step is within the new idle gap, so this step continues
        // the session.
        let replayed = UserSequence {
            session_number: 1,
            session_start: 9,
            steps: vec![step_at(0, 50, true)],
            ..UserSequence::default()
        };
        let joined = join_steps(&stored, replayed, &old, &SessionRules { idle_gap_ms: 30, ..new });
        assert_eq!((joined.steps[2].starts_session, joined.session_start), (false, 3));
    }

    #[test]
    fn rules_keep_the_ids_and_values_of_kinds() {
        let kinds = EventKinds::default();
        let rules = SessionRules::new(5, &kinds);
        assert_eq!(SessionRules::new(5, &rules.event_kinds()), rules);
        assert_eq!(rules.event_kinds().names().collect::<Vec<_>>(), kinds.names().collect::<Vec<_>>());
    }
}
