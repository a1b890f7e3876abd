//! Durability: traces the system calls of the real binary, and simulates power loss on its writes.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::json;

use crate::daemon::{Daemon, DaemonHome, view_event};
use crate::journal_dump::{JournalDump, copy_dir};
use crate::random::TestRng;
use crate::syscall_trace::{SystemCall, is_strace_available, read_trace, strace_command};

/// The commit log, which a commit syncs.
const COMMIT_LOG: &str = "/store/commits";
/// The files that hold the journal: the database's log, and the commit log with the newest records.
const JOURNAL_FILES: [&str; 2] = ["/store/db", COMMIT_LOG];

/// Runs a traced daemon under `load`, kills it and returns its system calls.
fn trace_daemon(home: &DaemonHome, load: impl FnOnce(&Daemon)) -> Vec<SystemCall> {
    let trace = home.dir().join("trace");
    let daemon = home.start_under_wrapper(&strace_command(&trace), &[]);
    load(&daemon);
    let process = daemon.process_id();
    daemon.kill();
    read_trace(&trace, process)
}

#[test]
fn acknowledgement_is_sent_after_the_sync_of_its_events() {
    if !is_strace_available() {
        return;
    }
    const EVENT_COUNT: u64 = 30;
    let home = DaemonHome::new();
    let calls = trace_daemon(&home, |daemon| {
        for number in 0..EVENT_COUNT {
            assert_eq!(
                daemon.send_events(&[view_event(&format!("<{number}>"), "ann", &format!("item{number}"))])["accepted"],
                1
            );
        }
    });
    for number in 0..EVENT_COUNT {
        let id = format!("<{number}>");
        let request = calls.iter().find(|call| call.path.contains("socket") && call.data_contains(&id)).unwrap();
        let receipt = calls
            .iter()
            .find(|call| call.start_line > request.end_line && call.acknowledged_offset() == Some(number + 1))
            .unwrap();
        let between = |call: &&SystemCall| call.start_line > request.end_line && call.end_line < receipt.start_line;
        let written = calls
            .iter()
            .filter(between)
            .filter(|call| call.is_write_to(COMMIT_LOG) && call.data_contains(&id))
            .map(|call| call.end_line)
            .max();
        let written = written.unwrap_or_else(|| panic!("event {number} was acknowledged before it was written"));
        let synced = calls
            .iter()
            .filter(between)
            .any(|call| call.name == "fdatasync" && call.is_sync_of(COMMIT_LOG) && call.start_line > written);
        assert!(synced, "event {number} was acknowledged before it was synced");
    }
}

/// A change of a file: the bytes written at a position, or the file's new length.
enum FileChange {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// A file on a simulated disk: the synced bytes and the later changes.
struct SimulatedFile {
    name: &'static str,
    synced: Vec<u8>,
    /// The trace line at which the call ended, and the change.
    unsynced: Vec<(usize, FileChange)>,
}

fn write_at(image: &mut Vec<u8>, position: u64, bytes: &[u8]) {
    let (begin, end) = (position as usize, position as usize + bytes.len());
    image.resize(image.len().max(end), 0);
    image[begin..end].copy_from_slice(bytes);
}

impl SimulatedFile {
    fn new(name: &'static str) -> Self {
        Self { name, synced: Vec::new(), unsynced: Vec::new() }
    }

    fn apply_call(&mut self, call: &SystemCall) {
        if call.is_write_to(self.name) {
            assert!(call.result == call.data.len() as i64 || call.end_line == usize::MAX, "a partial write");
            self.unsynced.push((call.end_line, FileChange::Write(call.offset, call.data.clone())));
        } else if call.name == "ftruncate" && call.path.ends_with(self.name) {
            self.unsynced.push((call.end_line, FileChange::Truncate(call.offset)));
        } else if call.is_sync_of(self.name) {
            let (synced, unsynced): (Vec<_>, _) =
                std::mem::take(&mut self.unsynced).into_iter().partition(|(ended, _)| *ended < call.start_line);
            self.unsynced = unsynced;
            for (_, change) in synced {
                match change {
                    FileChange::Write(position, bytes) => write_at(&mut self.synced, position, &bytes),
                    FileChange::Truncate(length) => self.synced.resize(length as usize, 0),
                }
            }
        }
    }

    /// The file after a power loss. Each sector of the unsynced writes, and each unsynced
    /// truncation, is present with a probability of `chance` per cent.
    fn after_power_loss(&self, chance: u64, random: &mut TestRng) -> Vec<u8> {
        const SECTOR_BYTES: u64 = 512;
        let mut image = self.synced.clone();
        for (_, change) in &self.unsynced {
            match change {
                FileChange::Truncate(length) if random.number_below(100) < chance => image.resize(*length as usize, 0),
                FileChange::Truncate(_) => {}
                FileChange::Write(position, bytes) => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let to_sector_end = SECTOR_BYTES - (position + at as u64) % SECTOR_BYTES;
                        let end = bytes.len().min(at + to_sector_end as usize);
                        if random.number_below(100) < chance {
                            write_at(&mut image, position + at as u64, &bytes[at..end]);
                        }
                        at = end;
                    }
                }
            }
        }
        image
    }
}

/// Sends batches and requests lists from several threads.
fn generate_load(daemon: &Daemon) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for sender in 0..4 {
            let next = &next;
            scope.spawn(move || {
                let mut random = TestRng(sender);
                for _ in 0..40 {
                    let event = |random: &mut TestRng| {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        view_event(
                            &format!("e{id}"),
                            &format!("user{}", random.number_below(30)),
                            &format!("item{}", id % 90),
                        )
                    };
                    let batch: Vec<_> = (0..=random.number_below(30)).map(|_| event(&mut random)).collect();
                    daemon.send_events(&batch);
                    if random.number_below(4) == 0 {
                        daemon.recommended_items(&format!("user{}", random.number_below(30)));
                        let price = json!({ "price": random.number_below(100) }).to_string();
                        assert_eq!(
                            daemon.request("PUT", &format!("/v1/items/item{}", random.number_below(90)), &price).status,
                            200
                        );
                    }
                }
            });
        }
    });
}

#[test]
fn acknowledged_events_survive_power_loss() {
    if !is_strace_available() {
        return;
    }
    let home = DaemonHome::new();
    let files = tempfile::tempdir().unwrap();
    let mut calls = trace_daemon(&home, |daemon| {
        // The other files of the database are written and synced at opening.
        copy_dir(&home.data_dir().join("store"), files.path());
        generate_load(daemon);
    });
    let final_journal = JournalDump::read_from_copy(&home.data_dir());
    let mut random = TestRng(3);
    let mut disk = JOURNAL_FILES.map(SimulatedFile::new);
    let (mut receipts, mut simulated) = (0, 0);
    // A receipt takes effect when its system call starts; every other call takes effect when it
    // ends.
    calls.sort_by_key(|call| if call.acknowledged_offset().is_some() { call.start_line } else { call.end_line });
    for call in &calls {
        let Some(offset) = call.acknowledged_offset() else {
            disk.iter_mut().for_each(|file| file.apply_call(call));
            continue;
        };
        receipts += 1;
        if random.number_below(6) > 0 {
            continue;
        }
        for chance in [0, 50, 100] {
            let found = journal_after_restart(files.path(), &disk, chance, &mut random);
            assert!(
                found.entries.len() as u64 >= offset,
                "{} entries remain, but {offset} were acknowledged; unsynced sectors written: {chance} %",
                found.entries.len()
            );
            assert!(
                final_journal.entries.starts_with(&found.entries),
                "the remaining entries differ from the written ones"
            );
            simulated += 1;
        }
    }
    assert!(receipts >= 160 && simulated > 30, "{receipts} receipts, {simulated} power losses");
}

/// The journal that a start would find after a power loss.
fn journal_after_restart(files: &Path, disk: &[SimulatedFile], chance: u64, random: &mut TestRng) -> JournalDump {
    let data = tempfile::tempdir().unwrap();
    copy_dir(files, &data.path().join("store"));
    for file in disk {
        fs::write(data.path().join(file.name.trim_start_matches('/')), file.after_power_loss(chance, random)).unwrap();
    }
    JournalDump::read_from_copy(data.path())
}
