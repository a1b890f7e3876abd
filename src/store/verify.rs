//! Everything that a store can tell of its own soundness: every checksum, every reference, every
//! count.

use super::engine::Engine;
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec, envelope, journal_records, keys, open_checkpoint, session_tree};
use crate::domain::{Entry, ItemDictionary, ItemIx, Offset, UserSequence};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is wrong at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamageFinding {
    /// Where: a part of the store, and the key or file in it.
    #[serde(rename = "place")]
    pub location: String,
    /// What is wrong, and how it is known.
    pub reason: String,
    /// What can be done.
    pub remedy: DamageRemedy,
}

/// What can be done about damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageRemedy {
    /// The truth itself is damaged.
    Restore,
    /// What nothing can be rebuilt without is damaged.
    Backup,
    /// A fold of the journal is.
    Rebuild,
    /// It is used by nobody and can be deleted.
    Delete,
    /// Nothing is lost if it is looked at under the settings that it was made with.
    Settings,
    /// The next event that is taken repairs it.
    #[serde(rename = "nothing")]
    SelfRepairing,
}

impl DamageRemedy {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restore => "restore a backup with `sequor restore`; without one, `sequor rebuild --accept-loss` keeps what comes before",
            Self::Backup => "only a backup helps: `sequor restore`",
            Self::Rebuild => "`sequor rebuild` makes it anew from the journal",
            Self::Delete => "delete the file: it is passed over, and what it held is learned again from the journal",
            Self::Settings => "verify with the settings of the daemon (--config, --set); if these are they, `sequor rebuild`",
            Self::SelfRepairing => "the next event that is taken writes it anew",
        }
    }
}

impl DamageFinding {
    /// Whether something is lost or wrong, and not only to be looked at under other settings or
    /// repaired by itself.
    #[must_use]
    pub fn is_serious(&self) -> bool {
        !matches!(self.remedy, DamageRemedy::Settings | DamageRemedy::SelfRepairing)
    }
}

/// How much was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoreCounts {
    /// Journal records that are whole.
    pub records: u64,
    /// Entries in them.
    pub entries: u64,
    /// Of those, events.
    pub events: u64,
    /// Of those, impressions.
    pub impressions: u64,
    /// Of those, changes of items.
    pub item_changes: u64,
    /// Of those, acts upon the model.
    pub model_changes: u64,
    /// Merges of users.
    pub merges: u64,
    /// Changes of consent.
    pub consent_changes: u64,
    /// Users who are to be erased.
    pub erasures: u64,
    /// Entries that were erased, or kept long enough.
    pub blanks: u64,
    /// Times at which it was found that something was kept long enough.
    pub expiries: u64,
    /// Item names.
    pub items: u64,
    /// Session records.
    pub sessions: u64,
    /// Checkpoints.
    pub checkpoints: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerificationReport {
    /// How much was looked at.
    pub counts: StoreCounts,
    /// Every damage, the journal's first.
    pub damages: Vec<DamageFinding>,
}

impl VerificationReport {
    /// Notes a damage.
    pub fn add(&mut self, place: impl Into<String>, reason: impl ToString, remedy: DamageRemedy) {
        self.damages.push(DamageFinding { location: place.into(), reason: reason.to_string(), remedy });
    }

    /// Whether the journal itself is whole, and what its folds begin with, so that they can be held
    /// against it.
    #[must_use]
    pub fn is_journal_intact(&self) -> bool {
        self.damages.iter().all(|damage| !matches!(damage.remedy, DamageRemedy::Restore | DamageRemedy::Backup))
    }
}

/// What the journal says of the items.
struct NamedItems {
    /// All that it names, by number.
    all: ItemDictionary,
    /// How many it names before the offset that the stored names are said to reach.
    due: usize,
    /// Whether all of the journal was there to be read.
    whole: bool,
}

impl Store {
    /// Looks at everything. `first_names` are those that the items of learning's begin have, which
    /// come before those of the journal; `observe` is told the entries looked at so far. Returns
    /// what was found, and the items as the journal numbers them. Damage is what this finds, not
    /// why it ends.
    #[must_use]
    pub fn verify(&self, first_names: &[Arc<str>], observe: &mut dyn FnMut(u64)) -> (VerificationReport, ItemDictionary) {
        let mut findings = VerificationReport::default();
        let engine = match self.engine() {
            Ok(engine) => engine,
            Err(error) => {
                findings.add("store", error, DamageRemedy::Restore);
                return (findings, ItemDictionary::default());
            }
        };
        let items_through = self.items().watermark().unwrap_or_else(|error| {
            findings.add("items", error, DamageRemedy::Rebuild);
            0
        });
        let begin = engine.first_offset.load(Ordering::Acquire);
        // What a dropped head named, or an entry that is a blank now, is known by what was stored
        // of it alone.
        let erased = self
            .erasures()
            .erased_users()
            .and_then(|done| Ok(!done.is_empty() || !self.erasures().in_progress()?.is_empty() || self.expiries().last_begun()?.is_some()));
        let nameless = begin > 0
            || erased.unwrap_or_else(|error| {
                findings.add("erasures", error, DamageRemedy::Restore);
                true
            });
        let stored = if nameless { self.items().load().unwrap_or_default() } else { ItemDictionary::default() };
        let stored: Vec<_> = (0..).map_while(|number| stored.name(number)).collect();
        let first_names = if nameless { stored.as_slice() } else { first_names };
        let (end, named) = check_journal(&engine, first_names, items_through, &mut findings, observe);
        if let Err(error) = self.pretrained_state() {
            findings.add("origin", error, DamageRemedy::Backup);
        }
        // What is left of a damaged journal numbers its items otherwise.
        let named = NamedItems { whole: findings.is_journal_intact() && !nameless, ..named };
        check_reach(&engine, end, &mut findings);
        if items_through > end {
            findings.add("items", format!("they reach offset {items_through}, the journal only {end}"), DamageRemedy::Rebuild);
        }
        check_items(&engine, &named, &mut findings);
        let items = if named.whole { named.all.len() } else { usize::MAX };
        check_sessions(self, &engine, end, items, &mut findings);
        check_checkpoints(self, end, &mut findings);
        if let Err(error) = self.aliases().load() {
            findings.add("links", error, DamageRemedy::Rebuild);
        }
        if let Err(error) = self.consents().load() {
            findings.add("consents", error, DamageRemedy::Rebuild);
        }
        if let Err(error) = self.quarantine().all() {
            findings.add("quarantine", error, DamageRemedy::Rebuild);
        }
        (findings, named.all)
    }
}

/// Reads every record, also behind a damaged one. Returns where the journal ends.
fn check_journal(
    engine: &Engine,
    first_names: &[Arc<str>],
    items_through: Offset,
    findings: &mut VerificationReport,
    observe: &mut dyn FnMut(u64),
) -> (Offset, NamedItems) {
    let mut named = NamedItems { all: ItemDictionary::default(), due: first_names.len(), whole: true };
    for name in first_names {
        named.all.intern(name);
    }
    let place = |offset: Offset| format!("journal, offset {offset}");
    let begin = engine.first_offset.load(Ordering::Acquire);
    let (mut next, last) = match journal_records::find_last_record(&engine.journal, engine.path()) {
        Ok(Some(last)) => (begin, last),
        Ok(None) => return (begin, named),
        Err(error) => {
            findings.add("journal", error, DamageRemedy::Restore);
            return (begin, named);
        }
    };
    let mut records = journal_records::JournalRecords::starting_at(&engine.journal, engine.path(), begin);
    while next <= last {
        match records.next() {
            Some(Ok(entries)) => {
                findings.counts.records += 1;
                for (offset, entry) in &entries {
                    count(entry, &mut findings.counts);
                    if let Some(item) = super::committer::item_of(entry) {
                        named.all.intern(item);
                    }
                    if *offset < items_through {
                        named.due = named.all.len();
                    }
                    next = offset + 1;
                }
                if entries.is_empty() {
                    findings.add(place(next), "a record without entries", DamageRemedy::Restore);
                    next += 1;
                }
                observe(next);
                continue;
            }
            Some(Err(error)) => {
                findings.add(place(next), &error, DamageRemedy::Restore);
                // Where the database itself gives up, what follows cannot be found.
                let behind = match error {
                    StoreError::MissingEntries { until, .. } => until,
                    StoreError::DamagedRecord { offset, .. } => offset + 1,
                    _ => break,
                };
                match journal_records::find_record_from(&engine.journal, engine.path(), behind) {
                    Ok(Some(first)) if first <= last => next = first,
                    Ok(_) => break,
                    Err(error) => {
                        findings.add(place(behind), error, DamageRemedy::Restore);
                        break;
                    }
                }
                records = journal_records::JournalRecords::starting_at(&engine.journal, engine.path(), next);
            }
            None => break,
        }
    }
    (next, named)
}

fn count(entry: &Entry, counts: &mut StoreCounts) {
    counts.entries += 1;
    match entry {
        Entry::Event(_) | Entry::Private(_) => counts.events += 1,
        Entry::Impression(_) => counts.impressions += 1,
        Entry::Item(_) => counts.item_changes += 1,
        Entry::Model(_) => counts.model_changes += 1,
        Entry::Merge(_) => counts.merges += 1,
        Entry::Consent(_) => counts.consent_changes += 1,
        Entry::Erase(_) => counts.erasures += 1,
        Entry::Tombstone => counts.blanks += 1,
        Entry::Expire(_) => counts.expiries += 1,
    }
}

fn check_reach(engine: &Engine, end: Offset, findings: &mut VerificationReport) {
    let place = engine.end_marker.path().display().to_string();
    match engine.end_marker.value_at_open() {
        Ok(known) if known.unwrap_or(0) > end => {
            let known = known.unwrap_or(0);
            findings.add(format!("journal, offset {end}"), format!("it ends here, but {known} entries were in it"), DamageRemedy::Restore);
        }
        Ok(_) => {}
        Err(reason) => findings.add(place, reason, DamageRemedy::SelfRepairing),
    }
}

fn check_items(engine: &Engine, named: &NamedItems, findings: &mut VerificationReport) {
    let mut stored = 0_usize;
    for pair in KeyValueIter::new(engine.items.iter(), engine.path()) {
        let (key, value) = match pair {
            Ok(pair) => pair,
            Err(error) => {
                findings.add("items", error, DamageRemedy::Rebuild);
                return;
            }
        };
        let Ok(first) = key.as_ref().try_into().map(ItemIx::from_be_bytes) else {
            if key != keys::ITEMS_WATERMARK_KEY {
                findings.add("items", format!("there is a key of {} bytes, which is none", key.len()), DamageRemedy::Rebuild);
            }
            continue;
        };
        let place = format!("items, from number {first}");
        let names =
            envelope::open(&key, &value).and_then(|payload| codec::decode::<Vec<String>>(payload).map_err(|error| error.to_string()));
        let names = match names {
            Ok(names) => names,
            Err(reason) => {
                findings.add(place, reason, DamageRemedy::Rebuild);
                continue;
            }
        };
        if first as usize > stored {
            findings.add(&place, format!("the names from number {stored} on are missing"), DamageRemedy::Rebuild);
        }
        // The journal's names are each there once, so that equal ones are unique.
        let other = (first..).zip(&names).find(|(number, name)| named.all.get(name) != Some(*number));
        if let Some((number, name)) = other.filter(|_| named.whole) {
            let by_journal = named.all.name(number).map_or_else(|| "nothing".to_owned(), |name| format!("`{name}`"));
            findings.add(&place, format!("number {number} is `{name}`; by the journal it is {by_journal}"), DamageRemedy::Rebuild);
        }
        stored = stored.max(first as usize + names.len());
    }
    findings.counts.items = stored as u64;
    if stored < named.due && named.whole {
        findings.add("items", format!("there are {stored} names, and {} by what the journal says", named.due), DamageRemedy::Rebuild);
    }
}

fn check_sessions(store: &Store, engine: &Engine, end: Offset, items: usize, findings: &mut VerificationReport) {
    match store.sessions().watermark() {
        Ok(through) if through > end => {
            findings.add("sessions", format!("they reach offset {through}, the journal only {end}"), DamageRemedy::Rebuild);
        }
        Ok(_) => {}
        Err(error) => findings.add("sessions", error, DamageRemedy::Rebuild),
    }
    for pair in KeyValueIter::new(engine.sessions.iter(), engine.path()) {
        let (key, value) = match pair {
            Ok(pair) => pair,
            Err(error) => {
                findings.add("sessions", error, DamageRemedy::Rebuild);
                return;
            }
        };
        if key == keys::SESSIONS_WATERMARK_KEY {
            continue;
        }
        let Some(user) = keys::parse_user_key(&key) else {
            findings.add("sessions", format!("there is a key of {} bytes that is no user's", key.len()), DamageRemedy::Rebuild);
            continue;
        };
        findings.counts.sessions += 1;
        let place = format!("sessions, {}", keys::redacted(user));
        match session_tree::decode_record(&key, &value) {
            Ok(record) => {
                if record.applied_through > end {
                    findings.add(
                        &place,
                        format!("it reaches offset {}, the journal only {end}", record.applied_through),
                        DamageRemedy::Rebuild,
                    );
                }
                let strange = record.sequence.steps.iter().filter_map(|step| step.item).find(|item| *item as usize >= items);
                if let Some(item) = strange {
                    findings.add(&place, format!("it names item number {item}, and there are {items}"), DamageRemedy::Rebuild);
                }
                if record.sequence.steps.len() > UserSequence::MAX_STEPS {
                    findings.add(&place, format!("it has {} steps", record.sequence.steps.len()), DamageRemedy::Rebuild);
                }
            }
            Err(error) => findings.add(place, error, DamageRemedy::Rebuild),
        }
    }
}

fn check_checkpoints(store: &Store, end: Offset, findings: &mut VerificationReport) {
    let checkpoints = store.checkpoints_read_only();
    let offsets = match checkpoints.offsets() {
        Ok(offsets) => offsets,
        Err(error) => return findings.add("checkpoints", error, DamageRemedy::Rebuild),
    };
    for offset in offsets {
        findings.counts.checkpoints += 1;
        let path = checkpoints.path(offset);
        let place = path.display().to_string();
        match open_checkpoint(&path) {
            Ok(checkpoint) if checkpoint.offset() != offset => {
                findings.add(place, format!("it is that of offset {}", checkpoint.offset()), DamageRemedy::Delete);
            }
            Ok(_) if offset > end => {
                findings.add(place, format!("it contains more than the journal, which ends at {end}"), DamageRemedy::Delete)
            }
            Ok(_) => {}
            Err(error) => findings.add(place, error, DamageRemedy::Delete),
        }
    }
}

#[cfg(test)]
mod tests;
