//! Verification of a store: checks all checksums, references and counts.

use super::engine::Engine;
use super::journal_records::JournalRecord;
use super::key_value_iter::KeyValueIter;
use super::salvage::find_readable_record;
use super::{Checkpoints, Store, StoreError, codec, envelope, journal_records, keys, open_checkpoint, session_tree};
use crate::domain::{Entry, ItemIx, Offset, UserSequence};
use crate::registries::ItemDictionary;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One finding of a verification: a damaged part of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamageFinding {
    /// Where the damage is: a part of the store, and the damaged key or file in this part.
    #[serde(rename = "place")]
    pub location: String,
    /// What is damaged, and which check found it.
    pub reason: String,
    /// What the operator can do.
    pub remedy: DamageRemedy,
}

/// What the operator can do about damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageRemedy {
    /// The journal is damaged: restore a backup, or rebuild from the intact part of the journal.
    Restore,
    /// Data that a rebuild needs is damaged: restore a backup.
    Backup,
    /// Derived state is damaged: rebuild the state from the journal.
    Rebuild,
    /// The file is unused and can be deleted.
    Delete,
    /// Perhaps nothing is damaged: the finding may have arisen because the settings of this
    /// verification differ from the daemon's.
    Settings,
    /// The file of API keys is damaged: restore the file, or create new keys.
    Keys,
    /// The next accepted event repairs the damage.
    #[serde(rename = "nothing")]
    SelfRepairing,
}

impl DamageRemedy {
    /// A description for the operator.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restore => {
                "restore a backup with `sequor restore`; without a backup, `sequor rebuild --accept-loss` keeps every entry that can be read"
            }
            Self::Backup => "only a backup helps: `sequor restore`",
            Self::Rebuild => "`sequor rebuild` recreates it from the journal",
            Self::Delete => "delete the file: it is skipped, and its content is learned again from the journal",
            Self::Settings => {
                "verify with the settings of the daemon (--config, --set); if these are the same, run `sequor rebuild`"
            }
            Self::Keys => {
                "restore the file from a copy; without one, delete it and create new keys with `sequor key create`"
            }
            Self::SelfRepairing => "the next accepted event rewrites it",
        }
    }
}

impl DamageFinding {
    /// Whether data is lost or wrong. A finding is not serious if other settings may explain it, or
    /// if the next event repairs it.
    #[must_use]
    pub fn is_serious(&self) -> bool {
        !matches!(self.remedy, DamageRemedy::Settings | DamageRemedy::SelfRepairing)
    }
}

/// Numbers of verified records, and of verified entries by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoreCounts {
    /// Complete journal records.
    pub records: u64,
    /// Entries in the verified records.
    pub entries: u64,
    /// Events among the entries.
    pub events: u64,
    /// Impressions among the entries.
    pub impressions: u64,
    /// Item changes among the entries.
    pub item_changes: u64,
    /// Model operations among the entries.
    pub model_changes: u64,
    /// User merges among the entries.
    pub merges: u64,
    /// Consent changes among the entries.
    pub consent_changes: u64,
    /// User erasures among the entries.
    pub erasures: u64,
    /// Tombstones of erased, expired or purged entries.
    pub blanks: u64,
    /// Expiries among the entries.
    pub expiries: u64,
    /// Purges among the entries.
    #[serde(skip_serializing_if = "is_zero")]
    pub purges: u64,
    /// Changes of placements and rules among the entries.
    #[serde(skip_serializing_if = "is_zero")]
    pub placement_changes: u64,
    /// Changes of users' attributes among the entries.
    #[serde(skip_serializing_if = "is_zero")]
    pub user_attribute_changes: u64,
    /// Stored item names.
    pub items: u64,
    /// Stored session records.
    pub sessions: u64,
    /// Checkpoint files.
    pub checkpoints: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The result of a verification.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerificationReport {
    /// Numbers of verified records, and of verified entries by kind.
    pub counts: StoreCounts,
    /// All findings. Those about the journal come first.
    pub damages: Vec<DamageFinding>,
}

impl VerificationReport {
    /// Adds a finding.
    pub fn add_finding(&mut self, location: impl Into<String>, reason: impl ToString, remedy: DamageRemedy) {
        self.damages.push(DamageFinding { location: location.into(), reason: reason.to_string(), remedy });
    }

    /// Whether everything that a rebuild needs is intact: the journal and the pretrained state.
    /// Derived state can only be compared with an intact journal.
    #[must_use]
    pub fn can_rebuild_fully(&self) -> bool {
        self.damages.iter().all(|damage| !matches!(damage.remedy, DamageRemedy::Restore | DamageRemedy::Backup))
    }
}

/// The item names that the journal contains.
struct JournalItems {
    /// All items of the journal, by number.
    all: ItemDictionary,
    /// Number of items that occur before the watermark of the stored names. The store must contain
    /// at least their names.
    due: usize,
    /// Whether the whole journal was readable.
    is_complete: bool,
}

impl Store {
    /// Verifies the whole store. `first_names` are the items of the pretrained state, which precede
    /// the items of the journal. `observe` receives the number of entries verified so far. After
    /// damage, the verification adds a finding and continues. Returns the findings, and the items
    /// with their numbers in the journal.
    #[must_use]
    pub fn verify(
        &self,
        first_names: &[Arc<str>],
        observe: &mut dyn FnMut(u64),
    ) -> (VerificationReport, ItemDictionary) {
        let mut findings = VerificationReport::default();
        let engine = match self.engine() {
            Ok(engine) => engine,
            Err(error) => {
                findings.add_finding("store", error, DamageRemedy::Restore);
                return (findings, ItemDictionary::default());
            }
        };
        let items_through = self.items().watermark().unwrap_or_else(|error| {
            findings.add_finding("items", error, DamageRemedy::Rebuild);
            0
        });
        let first_offset = engine.first_offset.load(Ordering::Acquire);
        // If entries were removed or became tombstones, their items occur only in the stored names.
        let erased = self.erasures().erased_users().and_then(|done| {
            Ok(!done.is_empty()
                || !self.erasures().in_progress()?.is_empty()
                || self.expiries().last_begun()?.is_some()
                || !self.purges().in_progress()?.is_empty()
                || self.purges().finished_count()? > 0)
        });
        let has_lost_entries = first_offset > 0
            || erased.unwrap_or_else(|error| {
                findings.add_finding("erasures", error, DamageRemedy::Restore);
                true
            });
        let stored = if has_lost_entries { self.items().load().unwrap_or_default() } else { ItemDictionary::default() };
        let stored: Vec<_> = (0..).map_while(|number| stored.name(number)).collect();
        let first_names = if has_lost_entries { stored.as_slice() } else { first_names };
        let (end, journal_items) = check_journal(&engine, first_names, items_through, &mut findings, observe);
        if let Err(error) = self.pretrained_state() {
            findings.add_finding("origin", error, DamageRemedy::Backup);
        }
        // The item numbers depend on the order of all entries, so those from a damaged journal
        // would be wrong.
        let journal_items =
            JournalItems { is_complete: findings.can_rebuild_fully() && !has_lost_entries, ..journal_items };
        check_end_marker(&engine, end, &mut findings);
        if items_through > end {
            findings.add_finding(
                "items",
                format!("they reach offset {items_through}, but the journal ends at {end}"),
                DamageRemedy::Rebuild,
            );
        }
        check_items(&engine, &journal_items, &mut findings);
        let items = if journal_items.is_complete { journal_items.all.len() } else { usize::MAX };
        check_sessions(self, &engine, end, items, &mut findings);
        let (checkpoints, restore_points) = (self.checkpoints_read_only(), self.restore_points_read_only());
        findings.counts.checkpoints =
            check_checkpoints("checkpoints", &checkpoints, end, DamageRemedy::Delete, &mut findings);
        // If the journal contains a rollback entry, its replay may need the restore point. Deleting
        // a damaged restore-point file is therefore not enough.
        check_checkpoints("restore-points", &restore_points, end, DamageRemedy::Rebuild, &mut findings);
        if let Err(error) = self.aliases().load() {
            findings.add_finding("links", error, DamageRemedy::Rebuild);
        }
        if let Err(error) = self.consents().load() {
            findings.add_finding("consents", error, DamageRemedy::Rebuild);
        }
        if let Err(error) = self.user_attributes().load() {
            findings.add_finding("attributes", error, DamageRemedy::Rebuild);
        }
        if let Err(error) = self.placements().load() {
            findings.add_finding("placements", error, DamageRemedy::Rebuild);
        }
        if let Err(error) = self.quarantine().all() {
            findings.add_finding("quarantine", error, DamageRemedy::Rebuild);
        }
        (findings, journal_items.all)
    }
}

/// Reads all records, including records after a damaged record. Returns the end of the journal and
/// its items.
fn check_journal(
    engine: &Engine,
    first_names: &[Arc<str>],
    items_through: Offset,
    findings: &mut VerificationReport,
    observe: &mut dyn FnMut(u64),
) -> (Offset, JournalItems) {
    let mut journal_items = JournalItems { all: ItemDictionary::default(), due: first_names.len(), is_complete: true };
    for name in first_names {
        journal_items.all.intern(name);
    }
    let location = |offset: Offset| format!("journal, offset {offset}");
    let first_offset = engine.first_offset.load(Ordering::Acquire);
    let (mut next, last) = match journal_records::find_last_record(&engine.journal, engine.path()) {
        Ok(Some(last)) => (first_offset, last),
        Ok(None) => return (first_offset, journal_items),
        Err(error) => {
            findings.add_finding("journal", error, DamageRemedy::Restore);
            return (first_offset, journal_items);
        }
    };
    let mut records = journal_records::JournalRecords::starting_at(&engine.journal, engine.path(), first_offset);
    while next <= last {
        match records.next() {
            Some(Ok(JournalRecord { entries, .. })) => {
                findings.counts.records += 1;
                for (offset, entry) in &entries {
                    count_entry(entry, &mut findings.counts);
                    if let Some(item) = super::committer::item_id_of_entry(entry) {
                        journal_items.all.intern(item);
                    }
                    if *offset < items_through {
                        journal_items.due = journal_items.all.len();
                    }
                    next = offset + 1;
                }
                if entries.is_empty() {
                    findings.add_finding(location(next), "the record has no entries", DamageRemedy::Restore);
                    next += 1;
                }
                observe(next);
                continue;
            }
            Some(Err(error)) => {
                findings.add_finding(location(next), &error, DamageRemedy::Restore);
                let resume_at = match error {
                    StoreError::MissingEntries { until, .. } => until,
                    _ => next + 1,
                };
                match find_readable_record(&engine.journal, engine.path(), resume_at, last) {
                    Some(first) => next = first,
                    None => break,
                }
                records = journal_records::JournalRecords::starting_at(&engine.journal, engine.path(), next);
            }
            None => break,
        }
    }
    (next, journal_items)
}

fn count_entry(entry: &Entry, counts: &mut StoreCounts) {
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
        Entry::Purge(_) => counts.purges += 1,
        Entry::Placement(_) | Entry::Rule(_) => counts.placement_changes += 1,
        Entry::UserAttributes(_) => counts.user_attribute_changes += 1,
    }
}

fn check_end_marker(engine: &Engine, end: Offset, findings: &mut VerificationReport) {
    let location = engine.end_marker.path().display().to_string();
    match engine.end_marker.end_at_open() {
        Ok(known) if known.unwrap_or(0) > end => {
            let known = known.unwrap_or(0);
            findings.add_finding(
                format!("journal, offset {end}"),
                format!("it ends here, but {known} entries were in it"),
                DamageRemedy::Restore,
            );
        }
        Ok(_) => {}
        Err(reason) => findings.add_finding(location, reason, DamageRemedy::SelfRepairing),
    }
}

fn check_items(engine: &Engine, journal_items: &JournalItems, findings: &mut VerificationReport) {
    let mut stored = 0_usize;
    for pair in KeyValueIter::new(engine.items.iter(), engine.path()) {
        let (key, value) = match pair {
            Ok(pair) => pair,
            Err(error) => {
                findings.add_finding("items", error, DamageRemedy::Rebuild);
                return;
            }
        };
        let Ok(first) = key.as_ref().try_into().map(ItemIx::from_be_bytes) else {
            if key != keys::ITEMS_WATERMARK_KEY {
                findings.add_finding(
                    "items",
                    format!("there is an unknown key of {} bytes", key.len()),
                    DamageRemedy::Rebuild,
                );
            }
            continue;
        };
        let location = format!("items, from number {first}");
        let names = envelope::open_value(&key, &value)
            .and_then(|payload| codec::decode::<Vec<String>>(payload).map_err(|error| error.to_string()));
        let names = match names {
            Ok(names) => names,
            Err(reason) => {
                findings.add_finding(location, reason, DamageRemedy::Rebuild);
                continue;
            }
        };
        if first as usize > stored {
            findings.add_finding(
                &location,
                format!("the names from number {stored} on are missing"),
                DamageRemedy::Rebuild,
            );
        }
        // Item names are unique, so the stored number of each name must equal its number in the
        // journal.
        let other = (first..).zip(&names).find(|(number, name)| journal_items.all.get(name) != Some(*number));
        if let Some((number, name)) = other.filter(|_| journal_items.is_complete) {
            let in_journal =
                journal_items.all.name(number).map_or_else(|| "nothing".to_owned(), |name| format!("`{name}`"));
            findings.add_finding(
                &location,
                format!("number {number} is `{name}`, but in the journal it is {in_journal}"),
                DamageRemedy::Rebuild,
            );
        }
        stored = stored.max(first as usize + names.len());
    }
    findings.counts.items = stored as u64;
    if stored < journal_items.due && journal_items.is_complete {
        findings.add_finding(
            "items",
            format!("there are {stored} names, but the journal has {}", journal_items.due),
            DamageRemedy::Rebuild,
        );
    }
}

fn check_sessions(store: &Store, engine: &Engine, end: Offset, items: usize, findings: &mut VerificationReport) {
    match store.sessions().watermark() {
        Ok(through) if through > end => {
            findings.add_finding(
                "sessions",
                format!("they reach offset {through}, but the journal ends at {end}"),
                DamageRemedy::Rebuild,
            );
        }
        Ok(_) => {}
        Err(error) => findings.add_finding("sessions", error, DamageRemedy::Rebuild),
    }
    for pair in KeyValueIter::new(engine.sessions.iter(), engine.path()) {
        let (key, value) = match pair {
            Ok(pair) => pair,
            Err(error) => {
                findings.add_finding("sessions", error, DamageRemedy::Rebuild);
                return;
            }
        };
        if key == keys::SESSIONS_WATERMARK_KEY {
            continue;
        }
        let Some(user) = keys::parse_user_key(&key) else {
            findings.add_finding(
                "sessions",
                format!("there is an unknown key of {} bytes", key.len()),
                DamageRemedy::Rebuild,
            );
            continue;
        };
        findings.counts.sessions += 1;
        let location = format!("sessions, {}", keys::redacted_user_name(user));
        match session_tree::decode_record(&key, &value) {
            Ok(record) => {
                if record.applied_through > end {
                    findings.add_finding(
                        &location,
                        format!("it reaches offset {}, but the journal ends at {end}", record.applied_through),
                        DamageRemedy::Rebuild,
                    );
                }
                let unknown =
                    record.sequence.steps.iter().filter_map(|step| step.item).find(|item| *item as usize >= items);
                if let Some(item) = unknown {
                    findings.add_finding(
                        &location,
                        format!("it contains item number {item}, but there are {items} items"),
                        DamageRemedy::Rebuild,
                    );
                }
                if record.sequence.steps.len() > UserSequence::MAX_STEPS {
                    findings.add_finding(
                        &location,
                        format!("it has {} steps, more than {}", record.sequence.steps.len(), UserSequence::MAX_STEPS),
                        DamageRemedy::Rebuild,
                    );
                }
            }
            Err(error) => findings.add_finding(location, error, DamageRemedy::Rebuild),
        }
    }
}

/// Checks the files in a folder of checkpoints or restore points. Findings about damaged files get
/// the remedy `remedy`. Returns the number of files.
fn check_checkpoints(
    name: &str,
    checkpoints: &Checkpoints,
    end: Offset,
    remedy: DamageRemedy,
    findings: &mut VerificationReport,
) -> u64 {
    let offsets = match checkpoints.offsets() {
        Ok(offsets) => offsets,
        Err(error) => {
            findings.add_finding(name, error, DamageRemedy::Rebuild);
            return 0;
        }
    };
    let count = offsets.len() as u64;
    for offset in offsets {
        let path = checkpoints.path(offset);
        let location = path.display().to_string();
        match open_checkpoint(&path) {
            Ok(checkpoint) if checkpoint.offset() != offset => {
                findings.add_finding(
                    location,
                    format!("it contains the checkpoint of offset {}", checkpoint.offset()),
                    remedy,
                );
            }
            Ok(_) if offset > end => {
                findings.add_finding(location, format!("it is ahead of the journal, which ends at {end}"), remedy)
            }
            Ok(_) => {}
            Err(error) => findings.add_finding(location, error, remedy),
        }
    }
    count
}

#[cfg(test)]
mod tests;
