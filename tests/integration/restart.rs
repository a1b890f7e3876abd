//! What a restart finds again: everything that was acknowledged, whatever ended the daemon.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, event, wait_for};
use crate::random::{TestRng, Visit, random_visits};

fn as_events(visits: &[Visit]) -> Vec<Value> {
    let event = |(number, visit): (usize, &Visit)| json!({ "event_id": format!("v{number}"), "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
    visits.iter().enumerate().map(event).collect()
}

/// The file of the checkpoint that contains so many entries.
fn checkpoint(home: &DaemonHome, entries: usize) -> PathBuf {
    home.data_dir().join(format!("checkpoints/{entries:020}.checkpoint"))
}

/// No border, so no other weights: what a hidden state is made of depends on which weights were
/// published when an event came.
const UNTRAINED: [&str; 1] = ["learning.interval=1024"];

/// A daemon that has taken everybody's events and shown ann one list, which stands in the journal.
fn with_ann(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&UNTRAINED);
    daemon.send_events(&others());
    daemon.send_events(&hers());
    daemon.wait_until_learned(153);
    daemon.recommended_items("ann");
    wait_for("the impression in the journal", || (daemon.next_offset() == 154).then_some(()));
    daemon
}

fn others() -> Vec<Value> {
    as_events(&random_visits(1, 150))
}

fn hers() -> Vec<Value> {
    vec![hers_at(1), hers_at(2), hers_at(3)]
}

/// Ann's event of that second: what she is shown may depend on how long ago she did what.
fn hers_at(second: u64) -> Value {
    let mut event = event(&format!("h{second}"), "ann", &format!("item{}", 6 + second));
    event["timestamp"] = json!(1_700_000_200_000 + second * 1000);
    event
}

#[test]
fn after_kill_nine_it_goes_on_as_if_it_had_never_died() {
    let (home, undisturbed) = (DaemonHome::new(), DaemonHome::new());
    with_ann(&home).kill();
    let (daemon, twin) = (home.start(&UNTRAINED), with_ann(&undisturbed));
    for daemon in [&daemon, &twin] {
        daemon.wait_until_learned(154);
        assert_eq!(daemon.next_offset(), 154);
    }
    let list = daemon.recommended_items("ann");
    assert_eq!(list, twin.recommended_items("ann"));
    assert_eq!(daemon.send_events(&hers())["duplicates"], 3);
    assert_eq!(daemon.send_events(&others())["duplicates"], 150);
    // A step after the restart continues the session from before it.
    for daemon in [&daemon, &twin] {
        // Behind what was shown, in the one as in the other.
        daemon.wait_until_learned(155);
        assert_eq!(daemon.send_events(&[hers_at(4)])["accepted"], 1);
        daemon.wait_until_learned(156);
    }
    let moved = daemon.recommended_items("ann");
    assert_eq!(moved, twin.recommended_items("ann"));
    assert_ne!(moved, list);
}

#[test]
fn asked_to_stop_it_leaves_everything_in_order() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&as_events(&random_visits(2, 100)));
    daemon.send_events(&[event("h1", "ann", "item7")]);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(checkpoint(&home, 101).is_file());
    assert!(home.data_dir().join("ids").is_file());

    let daemon = home.start(&[]);
    assert!(
        !home.data_dir().join("ids").exists(),
        "they are those of the entries up to the stop: if it is killed, the journal has to be read"
    );
    let status = daemon.status();
    assert_eq!((&status["journal"]["next_offset"], &status["learning"]["next_offset"]), (&json!(101), &json!(101)));
    assert_eq!(
        daemon.send_events(&[event("h1", "ann", "item7"), event("h2", "ann", "item8")]),
        json!({ "accepted": 1, "duplicates": 1, "withheld": 0, "rejected": [], "offset": 102 })
    );
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let second = home.start_expecting_failure(&[]);
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.starts_with("sequor: ") && said.contains(home.data_dir().to_str().unwrap()) && said.contains("another process"), "{said}");
    daemon.assert_healthy();
    assert_eq!(daemon.send_events(&[event("e1", "ann", "tea")])["accepted"], 1);
}

/// Small strides, so that a few thousand events cross many borders, clusterings and checkpoints.
const STRIDES: [&str; 4] = ["learning.interval=64", "clusters.every=512", "clusters.lag=128", "store.checkpoint_every=700"];

const BATCH: usize = 40;

/// What was learned of all of it, as the checkpoint that a daemon writes when asked to stop.
fn learned(home: &DaemonHome, daemon: Daemon, entries: usize) -> Vec<u8> {
    daemon.wait_until_learned(entries as u64);
    let status = daemon.status();
    assert!(
        status["learning"]["weights_version"].as_u64() > Some(10) && status["catalog"]["clusters"].as_u64() > Some(1),
        "too little was learned: {status}"
    );
    assert_eq!(daemon.terminate().code(), Some(0));
    fs::read(checkpoint(home, entries)).unwrap()
}

#[test]
fn what_is_learned_is_the_same_bytes_however_often_the_daemon_was_killed() {
    let events = as_events(&random_visits(3, 3000));
    let undisturbed = DaemonHome::new();
    let daemon = undisturbed.start(&STRIDES);
    for batch in events.chunks(BATCH) {
        daemon.send_events(batch);
    }
    let expected = learned(&undisturbed, daemon, events.len());

    let home = DaemonHome::new();
    let mut daemon = home.start(&STRIDES);
    let mut random = TestRng(4);
    let last = events.len() / BATCH;
    let mut kills: Vec<usize> = (0..4).map(|_| random.below(last as u64) as usize).collect();
    for (number, batch) in events.chunks(BATCH).enumerate() {
        if let Some(place) = kills.iter().position(|kill| *kill == number) {
            kills.remove(place);
            // Falls before, into or after the commit, and into whatever learning is at by then.
            let after = Duration::from_micros(random.below(10_000));
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(after);
                    daemon.signal("KILL");
                });
                let _ = daemon.try_post("/v1/events", &[], json!(batch).to_string().as_bytes());
            });
            daemon.kill();
            daemon = home.start(&STRIDES);
        }
        // What was acknowledged before the kill is a duplicate now; what was not is taken now.
        daemon.send_events(batch);
    }
    let found = learned(&home, daemon, events.len());
    assert!(found.len() > 10_000, "a checkpoint of {} bytes holds no weights", found.len());
    let differ = expected.iter().zip(&found).position(|(expected, found)| expected != found);
    assert_eq!((expected.len(), None), (found.len(), differ), "the first byte that differs");
    // A checkpoint that the disk has spoilt is passed over for the one before it, and the rest is
    // learned again.
    let newest = checkpoint(&home, events.len());
    let mut spoilt = fs::read(&newest).unwrap();
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 1;
    fs::write(&newest, spoilt).unwrap();
    let daemon = home.start(&STRIDES);
    assert!(learned(&home, daemon, events.len()) == expected);
}

/// Checkpoints that were further pushed out those of a fold that began anew under other settings:
/// until it had come as far, each start learned the whole journal again.
#[test]
fn learning_begun_anew_under_other_settings_is_gone_on_with_though_the_former_was_further() {
    let home = DaemonHome::new();
    let events = as_events(&random_visits(4, 5_000));
    // With seed 2 only one checkpoint is due, at about 3,000. A later one could be written at 5,000
    // and replace that of seed 1.
    let every = |seed| if seed == "learning.seed=2" { "store.checkpoint_every=3000" } else { "store.checkpoint_every=300" };
    let settings = |seed| [seed, "learning.interval=64", every(seed), "store.checkpoints_kept=2"];
    let daemon = home.start(&settings("learning.seed=1"));
    events.chunks(500).for_each(|batch| drop(daemon.send_events(batch)));
    daemon.wait_until_learned(5_000);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(checkpoint(&home, 5_000).exists());
    let checkpoints =
        || home.data_dir().join("checkpoints").read_dir().unwrap().map(|file| file.unwrap().file_name()).collect::<HashSet<_>>();
    let former = checkpoints();

    let tested = |daemon: &Daemon| {
        daemon.wait_until_learned(5_000);
        daemon.metric("sequor_evaluated_steps_total")
    };
    let daemon = home.start(&settings("learning.seed=2"));
    let anew = tested(&daemon);
    let unfinished = |name: &OsString| name.to_string_lossy().ends_with("unfinished");
    wait_for("a checkpoint", || checkpoints().difference(&former).any(|name| !unfinished(name)).then_some(()));
    daemon.kill();
    for seed in ["learning.seed=2", "learning.seed=1"] {
        let daemon = home.start(&settings(seed));
        let again = tested(&daemon);
        assert!(again < anew, "{seed}: {again} steps were tested again, of {anew}");
        daemon.kill();
    }
}

#[test]
fn a_damaged_session_record_is_folded_anew() {
    let home = DaemonHome::new();
    let daemon = home.start(&UNTRAINED);
    daemon.send_events(&others());
    daemon.send_events(&hers());
    daemon.wait_until_learned(153);
    assert_eq!(daemon.terminate().code(), Some(0));
    {
        let database = sled::open(home.data_dir().join("store")).unwrap();
        let sessions = database.open_tree("sessions").unwrap();
        let mut record = sessions.get("uann").unwrap().unwrap().to_vec();
        record[20] ^= 4;
        sessions.insert("uann", record).unwrap();
    }
    let seen = |daemon: &Daemon| {
        let list = daemon.get("/v1/users/ann/recommendations?exclude_seen=true&limit=1000").item_ids();
        ["item7", "item8", "item9", "item10"].map(|item| !list.contains(&item.to_owned()))
    };
    let daemon = home.start(&UNTRAINED);
    assert_eq!(seen(&daemon), [true, true, true, false]);
    daemon.send_events(&[hers_at(4)]);
    assert_eq!(seen(&daemon), [true; 4]);
    assert_eq!(daemon.terminate().code(), Some(0));
    let daemon = home.start(&UNTRAINED);
    assert_eq!(seen(&daemon), [true; 4]);
    let log = fs::read_to_string(home.path().join("log")).unwrap();
    assert_eq!(log.matches("the session is rebuilt from the journal").count(), 1, "{log}");
}
