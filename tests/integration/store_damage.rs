//! Random damage to a store's files: flipped bits, zeroed sectors, truncation. For each damage, the
//! store must refuse to open, verification must detect the damage, or the damage must have no
//! effect.
//!
//! `SEQUOR_DAMAGES` sets the number of damages (default 1000), `SEQUOR_DAMAGE_SEED` the seed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sequor::domain::{Entry, Event, EventKind, Item, ItemChange, ItemOperation, Offset, Step, UserSequence};
use sequor::store::{
    CheckpointWriter, Committer, CommitterSettings, Durability, SessionRecord, Store, StoreError, StoreOptions, restore,
};
use tempfile::TempDir;

use crate::journal_dump::copy_dir;
use crate::random::TestRng;

const USER_COUNT: u64 = 40;

/// The entry at an offset.
fn entry_at_offset(offset: Offset) -> Entry {
    let mut random = TestRng(offset);
    let item_id = format!("item{}", random.number_below(300));
    if offset % 17 == 3 {
        let item =
            Item { categories: vec![format!("category{}", offset % 5)], price: Some(offset as f64), ..Item::default() };
        return Entry::Item(ItemChange { item_id, timestamp: offset as i64, operation: ItemOperation::Put(item) });
    }
    Entry::Event(Event {
        event_id: Some(format!("e{offset}")),
        user_id: format!("user{}", random.number_below(USER_COUNT)),
        session_id: None,
        kind: EventKind::View,
        item_id: Some(item_id),
        value: None,
        timestamp: offset as i64 * 60_000,
        properties: offset
            .is_multiple_of(3)
            .then(|| format!("{{\"page\":\"{}\"}}", "x".repeat(random.number_below(700) as usize))),
        details: None,
    })
}

fn write_to_checkpoint(file: &mut CheckpointWriter, bytes: &[u8]) -> Result<(), StoreError> {
    file.write_all(bytes).unwrap();
    Ok(())
}

/// The session records after all entries before `end`.
fn session_records(committer: &Committer, end: Offset) -> BTreeMap<String, SessionRecord> {
    let names = committer.dictionary();
    let mut users: BTreeMap<String, SessionRecord> = BTreeMap::new();
    for offset in 0..end {
        let Entry::Event(event) = entry_at_offset(offset) else { continue };
        let new = || SessionRecord { applied_through: 0, sequence: UserSequence::default(), hidden_state: Vec::new() };
        let record = users.entry(event.user_id).or_insert_with(new);
        let item = event.item_id.and_then(|name| names.get(&name));
        record.sequence.push(
            offset,
            Step { item, kind: 0, starts_session: false, at: event.timestamp, value: 1.0 },
            None,
            1_800_000,
        );
        record.applied_through = offset + 1;
        record.hidden_state = vec![offset as u8; 200];
    }
    users
}

/// The undamaged store and its expected contents.
struct UndamagedStore {
    home: TempDir,
    entries: Vec<Entry>,
    names: Vec<String>,
    /// The session records at each time that they were stored.
    stored: Vec<BTreeMap<String, SessionRecord>>,
}

impl UndamagedStore {
    /// Creates a store that is opened and filled several times, like the store of a restarted
    /// daemon.
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let mut stored = Vec::new();
        let mut end = 0;
        for opening in 0..3 {
            let store = Store::open(&dir, &StoreOptions::default()).unwrap();
            if opening == 0 {
                store.set_pretrained_state::<StoreError>(|file| write_to_checkpoint(file, &[5; 500])).unwrap();
            }
            let mut committer = Committer::open(store.clone(), CommitterSettings::default()).unwrap();
            for commit in 0..40 {
                let size = 1 + commit * 7 % 60;
                committer.commit(vec![(end..end + size).map(entry_at_offset).collect()]).unwrap();
                end += size;
                if commit % 13 == 5 {
                    let users = session_records(&committer, end);
                    store.sessions().put(users.iter().map(|(user, record)| (user.as_str(), record)), end).unwrap();
                    committer.persist_indexes().unwrap();
                    stored.push(users);
                }
            }
            store.checkpoints(2).unwrap().write(end, |file| write_to_checkpoint(file, &[opening; 3000])).unwrap();
            store.sync(Durability::PowerLoss).unwrap();
            drop(committer);
            store.close().unwrap();
        }
        // The expected contents are read from a copy. Each opening moves the previous writes into
        // the database's own snapshot, and damage outside the snapshot is a separate case.
        copy_dir(&dir, &home.path().join("looked-at"));
        let store = Store::open(home.path().join("looked-at"), &StoreOptions::default()).unwrap();
        let findings = store.verify(&[], &mut |_| {}).0;
        assert_eq!(findings.damages, []);
        let names = Committer::open(store.clone(), CommitterSettings::default()).unwrap().dictionary();
        let names = (0..names.len() as u32).map(|number| names.name(number).unwrap().to_string()).collect();
        store.backup(&home.path().join("backup.tar.gz"), &mut |_, _| {}).unwrap();
        store.close().unwrap();
        Self { home, entries: (0..end).map(entry_at_offset).collect(), names, stored }
    }

    fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Opens a damaged copy and checks its contents. `Ok(true)` if everything is intact;
    /// `Ok(false)` if the damage is detected; an error if the damage goes undetected.
    fn check_damaged_copy(&self, dir: &Path) -> Result<bool, String> {
        let store = match Store::open_for_inspection(dir, &StoreOptions::default()) {
            Ok(store) => store,
            Err(error) if error.to_string().len() > 20 => return Ok(false),
            Err(error) => return Err(format!("opening failed without a reason: {error}")),
        };
        let damages = store.verify(&[], &mut |_| {}).0.damages;
        let is_intact = damages.is_empty();
        // Opens the store as the daemon does.
        let result = match Committer::open(store.clone(), CommitterSettings::default()) {
            Ok(committer) => self.read_all(&store, &committer).and_then(|first_error| match first_error {
                Some(error) if is_intact => Err(format!("verification passed, but reading failed: {error}")),
                _ => Ok(is_intact),
            }),
            Err(error) if is_intact => Err(format!("verification passed, but opening failed: {error}")),
            Err(_) => Ok(false),
        };
        store.close().map_err(|error| error.to_string())?;
        result
    }

    /// Reads the whole store. Every value must be correct or an error; returns the last error.
    fn read_all(&self, store: &Store, committer: &Committer) -> Result<Option<StoreError>, String> {
        let mut error = None;
        let mut read = 0;
        for found in store.journal().entries(0).map_err(|error| error.to_string())? {
            match found {
                Ok((offset, entry)) if self.entries.get(offset as usize) == Some(&entry) && offset as usize == read => {
                    read += 1
                }
                Ok((offset, _)) => return Err(format!("wrong entry at {offset}")),
                Err(found) => error = Some(found),
            }
        }
        if error.is_none() && read != self.entries.len() {
            return Err(format!("the journal ends at {read} of {} without an error", self.entries.len()));
        }
        let names = committer.dictionary();
        let found: Vec<_> = (0..names.len() as u32).map(|number| names.name(number).unwrap().to_string()).collect();
        if error.is_none() && found != self.names {
            return Err(format!("wrong item names: {} items, expected {}", found.len(), self.names.len()));
        }
        let through = store.sessions().watermark();
        for user in (0..USER_COUNT).map(|number| format!("user{number}")) {
            match store.sessions().get(&user) {
                Ok(record) => {
                    // An older version of a session record is acceptable if the stored watermark
                    // does not cover later events of the user.
                    let detected = |(index, users): (usize, &BTreeMap<String, SessionRecord>)| {
                        (users.get(&user) == record.as_ref()).then_some(index)
                    };
                    let newest = self.stored.iter().enumerate().filter_map(detected).next_back();
                    let applied_through = newest
                        .and_then(|index| self.stored[index].values().map(|record| record.applied_through).max())
                        .unwrap_or(0);
                    if record.is_some() && newest.is_none() {
                        return Err(format!("wrong session record of {user}"));
                    }
                    if through.as_ref().is_ok_and(|through| {
                        applied_through < *through && !self.has_no_later_event(&user, newest, *through)
                    }) {
                        return Err(format!("the session record of {user} is older than the watermark"));
                    }
                }
                Err(found) => error = Some(found),
            }
        }
        if let Ok(Some(newest)) =
            store.checkpoints(2).and_then(|checkpoints| checkpoints.open_newest(self.entries.len() as u64))
            && newest.remaining() != 3000
        {
            return Err("wrong checkpoint".to_owned());
        }
        Ok(error.or(through.err()))
    }

    /// Whether a user has no event between the found record and the watermark.
    fn has_no_later_event(&self, user: &str, newest: Option<usize>, through: Offset) -> bool {
        let applied = newest.and_then(|index| self.stored[index].get(user)).map_or(0, |record| record.applied_through);
        let moved = |entry: &Entry| matches!(entry, Entry::Event(event) if event.user_id == user);
        !self.entries[applied as usize..through as usize].iter().any(moved)
    }
}

/// All non-empty files below a directory.
fn nonempty_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::metadata(&path).unwrap().len() > 0 {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Damages one file of a directory and returns a description. The database's log is chosen most
/// often.
fn damage_one_file(dir: &Path, random: &mut TestRng) -> String {
    let files = nonempty_files(dir);
    let log = dir.join("store/db");
    let file =
        if random.number_below(4) > 0 { log } else { files[random.number_below(files.len() as u64) as usize].clone() };
    let mut bytes = fs::read(&file).unwrap();
    // The log is zero-padded behind its end, and the padding is rarely read.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
    let index = random.number_below(used as u64) as usize;
    let description = match random.number_below(10) {
        0..7 => {
            let bit = random.number_below(8);
            bytes[index] ^= 1 << bit;
            format!("bit {bit} of byte {index}")
        }
        7 => {
            let sector = index / 512 * 512;
            let until = (sector + 512).min(bytes.len());
            bytes[sector..until].fill(0);
            format!("zeroes from {sector} to {until}")
        }
        _ => {
            bytes.truncate(index);
            format!("cut off at {index} of {used}")
        }
    };
    fs::write(&file, bytes).unwrap();
    format!("{}: {description}", file.strip_prefix(dir).unwrap().display())
}

#[test]
fn damage_is_rejected_detected_or_harmless() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |number| number.parse().unwrap());
    let (runs, seed) = (number("SEQUOR_DAMAGES", 1000), number("SEQUOR_DAMAGE_SEED", 1));
    let original = UndamagedStore::new();
    let (next, detected, harmless) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= runs {
                        break;
                    }
                    let home = tempfile::tempdir().unwrap();
                    let dir = home.path().join("data");
                    copy_dir(&original.data_dir(), &dir);
                    let description =
                        damage_one_file(&dir, &mut TestRng(seed.wrapping_mul(1_000_003).wrapping_add(run)));
                    let result = catch_unwind(AssertUnwindSafe(|| original.check_damaged_copy(&dir)));
                    match result {
                        Ok(Ok(true)) => harmless.fetch_add(1, Ordering::Relaxed),
                        Ok(Ok(false)) => detected.fetch_add(1, Ordering::Relaxed),
                        Ok(Err(error)) => panic!("damage {run}, {description}: {error}"),
                        Err(_) => panic!("damage {run}, {description}: panicked"),
                    };
                    if run % 50 == 7 {
                        let restored = home.path().join("restored");
                        restore::<_, StoreError>(
                            &original.home.path().join("backup.tar.gz"),
                            &restored,
                            &StoreOptions::default(),
                            |store| {
                                assert_eq!(store.verify(&[], &mut |_| {}).0.damages, []);
                                Ok(())
                            },
                        )
                        .unwrap();
                        assert_eq!(original.check_damaged_copy(&restored), Ok(true), "damage {run}, {description}");
                    }
                }
            });
        }
    });
    let (detected, harmless) = (detected.into_inner(), harmless.into_inner());
    assert_eq!(detected + harmless, runs);
    // If less damage is detected than this, most damage hits unused bytes.
    assert!(detected > runs / 2, "{detected} known, {harmless} harmless");
    println!("{detected} known, {harmless} harmless");
}
