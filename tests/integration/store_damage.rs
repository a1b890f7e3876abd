//! A small store's files with bits flipped, stretches zeroed and ends cut off, a thousand times:
//! whatever happens to them is refused, or found, or does no harm.
//!
//! `SEQUOR_DAMAGES` says how often (1000 unless set), `SEQUOR_DAMAGE_SEED` where the draws begin.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sequor::domain::{Entry, Event, EventKind, Item, ItemChange, ItemOperation, Offset, Step, UserSequence};
use sequor::store::{CheckpointWriter, Committer, CommitterSettings, Durability, SessionRecord, Store, StoreError, StoreOptions, restore};
use tempfile::TempDir;

use crate::journal_dump::copy_dir;
use crate::random::TestRng;

const USERS: u64 = 40;

/// The entry that stands at an offset.
fn entry(offset: Offset) -> Entry {
    let mut random = TestRng(offset);
    let item_id = format!("item{}", random.below(300));
    if offset % 17 == 3 {
        let item = Item { categories: vec![format!("category{}", offset % 5)], price: Some(offset as f64), ..Item::default() };
        return Entry::Item(ItemChange { item_id, timestamp: offset as i64, operation: ItemOperation::Put(item) });
    }
    Entry::Event(Event {
        event_id: Some(format!("e{offset}")),
        user_id: format!("user{}", random.below(USERS)),
        session_id: None,
        kind: EventKind::View,
        item_id: Some(item_id),
        value: None,
        timestamp: offset as i64 * 60_000,
        properties: offset.is_multiple_of(3).then(|| format!("{{\"page\":\"{}\"}}", "x".repeat(random.below(700) as usize))),
    })
}

fn written(file: &mut CheckpointWriter, bytes: &[u8]) -> Result<(), StoreError> {
    file.write_all(bytes).unwrap();
    Ok(())
}

/// What the journal makes of the users up to an offset.
fn sessions(committer: &Committer, end: Offset) -> BTreeMap<String, SessionRecord> {
    let names = committer.dictionary();
    let mut users: BTreeMap<String, SessionRecord> = BTreeMap::new();
    for offset in 0..end {
        let Entry::Event(event) = entry(offset) else { continue };
        let new = || SessionRecord { applied_through: 0, sequence: UserSequence::default(), hidden_state: Vec::new() };
        let record = users.entry(event.user_id).or_insert_with(new);
        let item = event.item_id.and_then(|name| names.get(&name));
        record.sequence.push(offset, Step { item, kind: 0, starts_session: false, at: event.timestamp, value: 1.0 }, None, 1_800_000);
        record.applied_through = offset + 1;
        record.hidden_state = vec![offset as u8; 200];
    }
    users
}

/// What every copy must be, or be known not to be.
struct Original {
    home: TempDir,
    entries: Vec<Entry>,
    names: Vec<String>,
    /// Each user's record as it was at each time that it was stored.
    stored: Vec<BTreeMap<String, SessionRecord>>,
}

impl Original {
    /// A store that was filled over several openings, as a daemon's is.
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let mut stored = Vec::new();
        let mut end = 0;
        for opening in 0..3 {
            let store = Store::open(&dir, &StoreOptions::default()).unwrap();
            if opening == 0 {
                store.set_pretrained_state::<StoreError>(|file| written(file, &[5; 500])).unwrap();
            }
            let mut committer = Committer::open(store.clone(), CommitterSettings::default()).unwrap();
            for commit in 0..40 {
                let size = 1 + commit * 7 % 60;
                committer.commit(vec![(end..end + size).map(entry).collect()]).unwrap();
                end += size;
                if commit % 13 == 5 {
                    let users = sessions(&committer, end);
                    store.sessions().put(users.iter().map(|(user, record)| (user.as_str(), record)), end).unwrap();
                    committer.persist_indexes().unwrap();
                    stored.push(users);
                }
            }
            store.checkpoints(2).unwrap().write(end, |file| written(file, &[opening; 3000])).unwrap();
            store.sync(Durability::PowerLoss).unwrap();
            drop(committer);
            store.close().unwrap();
        }
        // Looked at in a copy: each opening puts what the one before wrote into the database's own
        // snapshot, and damage to what is in none is another case.
        copy_dir(&dir, &home.path().join("looked-at"));
        let store = Store::open(home.path().join("looked-at"), &StoreOptions::default()).unwrap();
        let findings = store.verify(&[], &mut |_| {}).0;
        assert_eq!(findings.damages, []);
        let names = Committer::open(store.clone(), CommitterSettings::default()).unwrap().dictionary();
        let names = (0..names.len() as u32).map(|number| names.name(number).unwrap().to_string()).collect();
        store.backup(&home.path().join("backup.tar.gz"), &mut |_, _| {}).unwrap();
        store.close().unwrap();
        Self { home, entries: (0..end).map(entry).collect(), names, stored }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Opens a damaged copy and looks at everything in it. `Ok(true)` if it is all there and
    /// nothing is wrong, `Ok(false)` if it is known to be damaged, and why if something is wrong
    /// that nothing said.
    fn judge(&self, dir: &Path) -> Result<bool, String> {
        let store = match Store::open_for_inspection(dir, &StoreOptions::default()) {
            Ok(store) => store,
            Err(error) if error.to_string().len() > 20 => return Ok(false),
            Err(error) => return Err(format!("refused without a reason: {error}")),
        };
        let damages = store.verify(&[], &mut |_| {}).0.damages;
        let whole = damages.is_empty();
        // What the daemon does with it.
        let judged = match Committer::open(store.clone(), CommitterSettings::default()) {
            Ok(committer) => self.answers(&store, &committer).and_then(|silent| match silent {
                Some(error) if whole => Err(format!("verified, but {error}")),
                _ => Ok(whole),
            }),
            Err(error) if whole => Err(format!("verified, but refused: {error}")),
            Err(_) => Ok(false),
        };
        store.close().map_err(|error| error.to_string())?;
        judged
    }

    /// Everything that the store answers, which must be right or an error; the first such error.
    fn answers(&self, store: &Store, committer: &Committer) -> Result<Option<StoreError>, String> {
        let mut error = None;
        let mut read = 0;
        for found in store.journal().entries(0).map_err(|error| error.to_string())? {
            match found {
                Ok((offset, entry)) if self.entries.get(offset as usize) == Some(&entry) && offset as usize == read => read += 1,
                Ok((offset, _)) => return Err(format!("another entry at {offset}")),
                Err(found) => error = Some(found),
            }
        }
        if error.is_none() && read != self.entries.len() {
            return Err(format!("the journal ends at {read} of {} without a word", self.entries.len()));
        }
        let names = committer.dictionary();
        let found: Vec<_> = (0..names.len() as u32).map(|number| names.name(number).unwrap().to_string()).collect();
        if error.is_none() && found != self.names {
            return Err(format!("{} items instead of {}, or others", found.len(), self.names.len()));
        }
        let through = store.sessions().watermark();
        for user in (0..USERS).map(|number| format!("user{number}")) {
            match store.sessions().get(&user) {
                Ok(record) => {
                    // An earlier state is as true, if the records are not said to reach further.
                    let known =
                        |(place, users): (usize, &BTreeMap<String, SessionRecord>)| (users.get(&user) == record.as_ref()).then_some(place);
                    let newest = self.stored.iter().enumerate().filter_map(known).next_back();
                    let reaches =
                        newest.and_then(|place| self.stored[place].values().map(|record| record.applied_through).max()).unwrap_or(0);
                    if record.is_some() && newest.is_none() {
                        return Err(format!("another session of {user}"));
                    }
                    if through.as_ref().is_ok_and(|through| reaches < *through && !self.is_unmoved(&user, newest, *through)) {
                        return Err(format!("an older session of {user} than is said"));
                    }
                }
                Err(found) => error = Some(found),
            }
        }
        if let Ok(Some(newest)) = store.checkpoints(2).and_then(|checkpoints| checkpoints.newest(self.entries.len() as u64))
            && newest.remaining() != 3000
        {
            return Err("another checkpoint".to_owned());
        }
        Ok(error.or(through.err()))
    }

    /// Whether a user has no event between the state found and the offset that the records are said
    /// to reach.
    fn is_unmoved(&self, user: &str, newest: Option<usize>, through: Offset) -> bool {
        let applied = newest.and_then(|place| self.stored[place].get(user)).map_or(0, |record| record.applied_through);
        let moved = |entry: &Entry| matches!(entry, Entry::Event(event) if event.user_id == user);
        !self.entries[applied as usize..through as usize].iter().any(moved)
    }
}

/// The files of a directory, smaller ones as likely as larger ones, the database's log more often
/// than all others.
fn files(dir: &Path) -> Vec<PathBuf> {
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

/// Damages one file of a directory, and says how.
fn damage(dir: &Path, random: &mut TestRng) -> String {
    let files = files(dir);
    let log = dir.join("store/db");
    let file = if random.below(4) > 0 { log } else { files[random.below(files.len() as u64) as usize].clone() };
    let mut bytes = fs::read(&file).unwrap();
    // Behind its end the log is zeroes; what is there is rarely looked at.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
    let place = random.below(used as u64) as usize;
    let how = match random.below(10) {
        0..7 => {
            let bit = random.below(8);
            bytes[place] ^= 1 << bit;
            format!("bit {bit} of byte {place}")
        }
        7 => {
            let sector = place / 512 * 512;
            let until = (sector + 512).min(bytes.len());
            bytes[sector..until].fill(0);
            format!("zeroes from {sector} to {until}")
        }
        _ => {
            bytes.truncate(place);
            format!("cut off at {place} of {used}")
        }
    };
    fs::write(&file, bytes).unwrap();
    format!("{}: {how}", file.strip_prefix(dir).unwrap().display())
}

#[test]
fn damage_is_refused_or_found_or_does_no_harm() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |number| number.parse().unwrap());
    let (times, seed) = (number("SEQUOR_DAMAGES", 1000), number("SEQUOR_DAMAGE_SEED", 1));
    let original = Original::new();
    let (next, known, harmless) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let time = next.fetch_add(1, Ordering::Relaxed);
                    if time >= times {
                        break;
                    }
                    let home = tempfile::tempdir().unwrap();
                    let dir = home.path().join("data");
                    copy_dir(&original.data(), &dir);
                    let how = damage(&dir, &mut TestRng(seed.wrapping_mul(1_000_003).wrapping_add(time)));
                    let judged = catch_unwind(AssertUnwindSafe(|| original.judge(&dir)));
                    match judged {
                        Ok(Ok(true)) => harmless.fetch_add(1, Ordering::Relaxed),
                        Ok(Ok(false)) => known.fetch_add(1, Ordering::Relaxed),
                        Ok(Err(wrong)) => panic!("damage {time}, {how}: {wrong}"),
                        Err(_) => panic!("damage {time}, {how}: a panic"),
                    };
                    if time % 50 == 7 {
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
                        assert_eq!(original.judge(&restored), Ok(true), "damage {time}, {how}");
                    }
                }
            });
        }
    });
    let (known, harmless) = (known.into_inner(), harmless.into_inner());
    assert_eq!(known + harmless, times);
    // Otherwise the damage falls where nothing is.
    assert!(known > times / 2, "{known} known, {harmless} harmless");
    println!("{known} known, {harmless} harmless");
}
