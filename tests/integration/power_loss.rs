//! What is on the disk when an acknowledgement is sent: the system calls of the real binary are
//! traced, and the loss of power is played through on what they wrote.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::json;

use crate::daemon::{Daemon, DaemonHome, event};
use crate::journal_dump::{JournalDump, copy_dir};
use crate::random::TestRng;
use crate::syscall_trace::{SystemCall, is_strace_available, read_trace, strace_command};

/// The database's log, which holds the journal.
const LOG: &str = "/store/db";

/// Runs a traced daemon, lets `load` have its way with it, and kills it.
fn traced(home: &DaemonHome, load: impl FnOnce(&Daemon)) -> Vec<SystemCall> {
    let trace = home.path().join("trace");
    let daemon = home.start_under(&strace_command(&trace), &[]);
    load(&daemon);
    let process = daemon.process_id();
    daemon.kill();
    read_trace(&trace, process)
}

#[test]
fn no_acknowledgement_is_sent_before_the_sync_that_covers_it_has_returned() {
    if !is_strace_available() {
        return;
    }
    const EVENTS: u64 = 30;
    let home = DaemonHome::new();
    let calls = traced(&home, |daemon| {
        for number in 0..EVENTS {
            assert_eq!(daemon.send_events(&[event(&format!("<{number}>"), "ann", &format!("item{number}"))])["accepted"], 1);
        }
    });
    for number in 0..EVENTS {
        let id = format!("<{number}>");
        let asked = calls.iter().find(|call| call.path.contains("socket") && call.contains(&id)).unwrap();
        let answered =
            calls.iter().find(|call| call.start_line > asked.end_line && call.acknowledged_offset() == Some(number + 1)).unwrap();
        let between = |call: &&SystemCall| call.start_line > asked.end_line && call.end_line < answered.start_line;
        let written =
            calls.iter().filter(between).filter(|call| call.is_write_to(LOG) && call.contains(&id)).map(|call| call.end_line).max();
        let written = written.unwrap_or_else(|| panic!("event {number} was acknowledged before it was written"));
        let synced = calls.iter().filter(between).any(|call| call.name == "fdatasync" && call.syncs(LOG) && call.start_line > written);
        assert!(synced, "event {number} was acknowledged before a sync that began after it was written had returned");
    }
}

/// The log as a disk may hold it: what was synced, and what was written since.
#[derive(Default)]
struct Disk {
    synced: Vec<u8>,
    /// Line of the trace at which each was written, place, bytes.
    unsynced: Vec<(usize, u64, Vec<u8>)>,
}

fn put(image: &mut Vec<u8>, place: u64, bytes: &[u8]) {
    let (begin, end) = (place as usize, place as usize + bytes.len());
    image.resize(image.len().max(end), 0);
    image[begin..end].copy_from_slice(bytes);
}

impl Disk {
    fn take(&mut self, call: &SystemCall) {
        if call.is_write_to(LOG) {
            assert!(call.result == call.data.len() as i64 || call.end_line == usize::MAX, "a write that fell short");
            self.unsynced.push((call.end_line, call.offset, call.data.clone()));
        } else if call.name == "ftruncate" && call.path.ends_with(LOG) {
            assert!(call.offset as usize >= self.synced.len(), "the log was shortened, which this disk does not know");
        } else if call.syncs(LOG) {
            let (synced, since) = std::mem::take(&mut self.unsynced).into_iter().partition(|(ended, ..)| *ended < call.start_line);
            self.unsynced = since;
            let synced: Vec<(usize, u64, Vec<u8>)> = synced;
            synced.iter().for_each(|(_, place, bytes)| put(&mut self.synced, *place, bytes));
        }
    }

    /// The log after the loss of power. Of what was not synced, each sector is there or not, as it
    /// falls.
    fn after_loss(&self, chance: u64, random: &mut TestRng) -> Vec<u8> {
        const SECTOR: u64 = 512;
        let mut image = self.synced.clone();
        for (_, place, bytes) in &self.unsynced {
            let mut at = 0;
            while at < bytes.len() {
                let end = bytes.len().min(at + (SECTOR - (place + at as u64) % SECTOR) as usize);
                if random.below(100) < chance {
                    put(&mut image, place + at as u64, &bytes[at..end]);
                }
                at = end;
            }
        }
        image
    }
}

/// Sends batches and asks for lists, all at once.
fn busy(daemon: &Daemon) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for sender in 0..4 {
            let next = &next;
            scope.spawn(move || {
                let mut random = TestRng(sender);
                for _ in 0..40 {
                    let event = |random: &mut TestRng| {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        event(&format!("e{id}"), &format!("user{}", random.below(30)), &format!("item{}", id % 90))
                    };
                    let batch: Vec<_> = (0..=random.below(30)).map(|_| event(&mut random)).collect();
                    daemon.send_events(&batch);
                    if random.below(4) == 0 {
                        daemon.recommended_items(&format!("user{}", random.below(30)));
                        let price = json!({ "price": random.below(100) }).to_string();
                        assert_eq!(daemon.request("PUT", &format!("/v1/items/item{}", random.below(90)), &price).status, 200);
                    }
                }
            });
        }
    });
}

#[test]
fn whenever_the_power_fails_what_was_acknowledged_is_on_the_disk() {
    if !is_strace_available() {
        return;
    }
    let home = DaemonHome::new();
    let files = tempfile::tempdir().unwrap();
    let mut calls = traced(&home, |daemon| {
        // The database's other files are written and synced when it is opened.
        copy_dir(&home.data_dir().join("store"), files.path());
        busy(daemon);
    });
    let whole = JournalDump::read(&home.data_dir());
    let mut random = TestRng(3);
    let mut disk = Disk::default();
    let (mut receipts, mut played) = (0, 0);
    // An answer counts from where it is begun, whatever else from where it has ended.
    calls.sort_by_key(|call| if call.acknowledged_offset().is_some() { call.start_line } else { call.end_line });
    for call in &calls {
        let Some(offset) = call.acknowledged_offset() else {
            disk.take(call);
            continue;
        };
        receipts += 1;
        if random.below(6) > 0 {
            continue;
        }
        for chance in [0, 50, 100] {
            let found = powered_up(files.path(), &disk.after_loss(chance, &mut random));
            assert!(
                found.entries.len() as u64 >= offset,
                "{} entries are left, and {offset} were acknowledged; unsynced sectors written: {chance} %",
                found.entries.len()
            );
            assert!(whole.entries.starts_with(&found.entries), "what is left is not what was written");
            played += 1;
        }
    }
    assert!(receipts >= 160 && played > 30, "{receipts} receipts, {played} losses of power");
}

/// What a start finds where the log is this one.
fn powered_up(files: &Path, log: &[u8]) -> JournalDump {
    let data = tempfile::tempdir().unwrap();
    copy_dir(files, &data.path().join("store"));
    fs::write(data.path().join("store/db"), log).unwrap();
    JournalDump::read(data.path())
}
