//! Restarts: everything acknowledged survives a restart, whether the daemon was stopped or killed.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, view_event, wait_for};
use crate::random::{TestRng, Visit, random_visits};

fn events_of_visits(visits: &[Visit]) -> Vec<Value> {
    let event = |(number, visit): (usize, &Visit)| json!({ "event_id": format!("v{number}"), "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
    visits.iter().enumerate().map(event).collect()
}

/// The checkpoint file that contains this many entries.
fn checkpoint_path(home: &DaemonHome, entries: usize) -> PathBuf {
    home.data_dir().join(format!("checkpoints/{entries:020}.checkpoint"))
}

/// Training boundaries are frequent, so that the weights change many times.
const FREQUENT_TRAINING_SETTINGS: [&str; 1] = ["learning.interval=16"];

/// Starts a daemon with all events and one list shown to ann, whose impression is journalled.
fn start_with_events(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&FREQUENT_TRAINING_SETTINGS);
    daemon.send_events(&other_events());
    daemon.send_events(&ann_events());
    daemon.wait_until_learned(153);
    daemon.recommended_items("ann");
    wait_for("the impression in the journal", || (daemon.next_offset() == 154).then_some(()));
    daemon
}

fn other_events() -> Vec<Value> {
    events_of_visits(&random_visits(1, 150))
}

fn ann_events() -> Vec<Value> {
    vec![ann_event(1), ann_event(2), ann_event(3)]
}

/// Ann's event at that second. The timestamp is fixed, because lists may depend on the age of
/// events.
fn ann_event(second: u64) -> Value {
    let mut event = view_event(&format!("h{second}"), "ann", &format!("item{}", 6 + second));
    event["timestamp"] = json!(1_700_000_200_000 + second * 1000);
    event
}

#[test]
fn kill_and_restart_give_the_same_recommendations() {
    let (home, undisturbed) = (DaemonHome::new(), DaemonHome::new());
    start_with_events(&home).kill();
    let (daemon, twin) = (home.start(&FREQUENT_TRAINING_SETTINGS), start_with_events(&undisturbed));
    for daemon in [&daemon, &twin] {
        daemon.wait_until_learned(154);
        assert_eq!(daemon.next_offset(), 154);
    }
    let list = daemon.recommended_items("ann");
    assert_eq!(list, twin.recommended_items("ann"));
    assert_eq!(daemon.send_events(&ann_events())["duplicates"], 3);
    assert_eq!(daemon.send_events(&other_events())["duplicates"], 150);
    // A step after the restart continues the session from before the restart.
    for daemon in [&daemon, &twin] {
        // Waits until both daemons have learned the impression.
        daemon.wait_until_learned(155);
        assert_eq!(daemon.send_events(&[ann_event(4)])["accepted"], 1);
        daemon.wait_until_learned(156);
    }
    let next_list = daemon.recommended_items("ann");
    assert_eq!(next_list, twin.recommended_items("ann"));
    assert_ne!(next_list, list);
}

/// The hidden state, the scored candidates and the list of each user, as JSON. Reading them does
/// not change the journal.
fn inspections(daemon: &Daemon, users: &[String]) -> Vec<String> {
    let parts = |user: &String| {
        let view = daemon.get_admin(&format!("/admin/sessions/{user}")).json();
        assert!(view["hidden"]["vectors"].as_array().is_some_and(|vectors| !vectors.is_empty()), "{view}");
        json!([user, view["sequence"], view["hidden"], view["ranking"], view["answer"]["items"]]).to_string()
    };
    users.iter().map(parts).collect()
}

/// Regression test: sessions kept the hidden state that older weights had computed at an event or
/// request. A restart recomputed the state under the current weights, so the lists of users without
/// new events changed.
#[test]
fn lists_of_quiet_users_follow_from_journal_and_weights_alone() {
    let visits = random_visits(5, 1_200);
    let mut users: Vec<String> = visits.iter().map(|visit| visit.user.clone()).collect();
    users.sort_unstable();
    users.dedup();
    let quiet: Vec<String> = users.into_iter().step_by(8).collect();
    let events = events_of_visits(&visits);
    let mut of_all = Vec::new();
    for settings in [["session.shards=1", "session.live_max=100"], ["session.shards=4", "session.live_max=1"]] {
        // A slow machine must not change the training share, which adds an entry to the journal.
        let constant_share = ["safety.training_share_min=1"];
        let settings = [settings.as_slice(), &FREQUENT_TRAINING_SETTINGS, &constant_share].concat();
        let home = DaemonHome::new();
        let daemon = home.start(&settings);
        for (number, chunk) in events.chunks(100).enumerate() {
            daemon.send_events(chunk);
            // The sessions answer under the weights of this moment.
            let entries = (number as u64 + 1) * 100 + (number * quiet.len()) as u64;
            daemon.wait_until_learned(entries);
            quiet.iter().for_each(|user| drop(daemon.recommended_items(user)));
            daemon.wait_until_learned(entries + quiet.len() as u64);
        }
        let before = (daemon.next_offset(), inspections(&daemon, &quiet));
        daemon.kill();
        let daemon = home.start(&settings);
        daemon.wait_until_learned(before.0);
        let after = (daemon.next_offset(), inspections(&daemon, &quiet));
        assert!(
            before == after,
            "{settings:?}: {} of {} users have the same lists",
            count_equal(&before.1, &after.1),
            quiet.len()
        );
        of_all.push(after);
    }
    assert!(
        of_all.windows(2).all(|pair| pair[0] == pair[1]),
        "the lists depend on the number of shards or on passivation"
    );
}

fn count_equal(left: &[String], right: &[String]) -> usize {
    left.iter().zip(right).filter(|(left, right)| left == right).count()
}

#[test]
fn clean_stop_writes_checkpoint_and_event_ids() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&events_of_visits(&random_visits(2, 100)));
    daemon.send_events(&[view_event("h1", "ann", "item7")]);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(checkpoint_path(&home, 101).is_file());
    assert!(home.data_dir().join("ids").is_file());

    let daemon = home.start(&[]);
    assert!(
        !home.data_dir().join("ids").exists(),
        "the saved ids end at the stop; after a crash they must be read from the journal"
    );
    let status = daemon.status();
    assert_eq!((&status["journal"]["next_offset"], &status["learning"]["next_offset"]), (&json!(101), &json!(101)));
    assert_eq!(
        daemon.send_events(&[view_event("h1", "ann", "item7"), view_event("h2", "ann", "item8")]),
        json!({ "accepted": 1, "duplicates": 1, "withheld": 0, "rejected": [], "offset": 102 })
    );
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn second_daemon_on_the_same_directory_fails_to_start() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let second = home.start_expecting_failure(&[]);
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("sequor: ")
            && stderr.contains(home.data_dir().to_str().unwrap())
            && stderr.contains("another process"),
        "{stderr}"
    );
    daemon.assert_healthy();
    assert_eq!(daemon.send_events(&[view_event("e1", "ann", "tea")])["accepted"], 1);
}

/// Short intervals, so that a few thousand events cross many training boundaries, clusterings and
/// checkpoints.
const SHORT_INTERVAL_SETTINGS: [&str; 5] = [
    "learning.interval=64",
    "clusters.every=512",
    "clusters.lag=128",
    "store.checkpoint_every=700",
    // On a slow machine, a change of the training share would be a further entry.
    "safety.training_share_min=1",
];

const EVENTS_PER_BATCH: usize = 40;

/// Stops the daemon and returns the checkpoint that it writes.
fn stop_and_read_checkpoint(home: &DaemonHome, daemon: Daemon, entries: usize) -> Vec<u8> {
    daemon.wait_until_learned(entries as u64);
    let status = daemon.status();
    assert!(
        status["learning"]["weights_version"].as_u64() > Some(10) && status["catalog"]["clusters"].as_u64() > Some(1),
        "too little was learned: {status}"
    );
    assert_eq!(daemon.terminate().code(), Some(0));
    fs::read(checkpoint_path(home, entries)).unwrap()
}

#[test]
fn learned_state_is_identical_despite_kills() {
    let events = events_of_visits(&random_visits(3, 3000));
    let undisturbed = DaemonHome::new();
    let daemon = undisturbed.start(&SHORT_INTERVAL_SETTINGS);
    for batch in events.chunks(EVENTS_PER_BATCH) {
        daemon.send_events(batch);
    }
    let expected = stop_and_read_checkpoint(&undisturbed, daemon, events.len());

    let home = DaemonHome::new();
    let mut daemon = home.start(&SHORT_INTERVAL_SETTINGS);
    let mut random = TestRng(4);
    let last = events.len() / EVENTS_PER_BATCH;
    let mut kills: Vec<usize> = (0..4).map(|_| random.number_below(last as u64) as usize).collect();
    for (number, batch) in events.chunks(EVENTS_PER_BATCH).enumerate() {
        if let Some(place) = kills.iter().position(|kill| *kill == number) {
            kills.remove(place);
            // The kill happens before, during or after the commit, at any stage of learning.
            let after = Duration::from_micros(random.number_below(10_000));
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(after);
                    daemon.signal("KILL");
                });
                let _ = daemon.try_post("/v1/events", &[], json!(batch).to_string().as_bytes());
            });
            daemon.kill();
            daemon = home.start(&SHORT_INTERVAL_SETTINGS);
        }
        // Events acknowledged before the kill are duplicates now; the others are accepted now.
        daemon.send_events(batch);
    }
    let found = stop_and_read_checkpoint(&home, daemon, events.len());
    assert!(found.len() > 10_000, "a checkpoint of {} bytes holds no weights", found.len());
    let differ = expected.iter().zip(&found).position(|(expected, found)| expected != found);
    assert_eq!((expected.len(), None), (found.len(), differ), "position of the first differing byte");
    // A corrupt checkpoint is skipped: the daemon loads the previous checkpoint and learns the
    // later entries again.
    let newest = checkpoint_path(&home, events.len());
    let mut corrupted = fs::read(&newest).unwrap();
    let middle = corrupted.len() / 2;
    corrupted[middle] ^= 1;
    fs::write(&newest, corrupted).unwrap();
    let daemon = home.start(&SHORT_INTERVAL_SETTINGS);
    assert!(stop_and_read_checkpoint(&home, daemon, events.len()) == expected);
}

/// Regression test: checkpoints of earlier settings, which had more entries, displaced those of the
/// new settings. As a result, each start learned the whole journal again until it had caught up.
#[test]
fn checkpoints_of_new_settings_are_kept_despite_older_ones_with_more_entries() {
    let home = DaemonHome::new();
    let events = events_of_visits(&random_visits(4, 5_000));
    // With seed 2, only one checkpoint is due, at about 3,000. A later checkpoint could be written
    // at 5,000 and replace the checkpoint of seed 1.
    let every =
        |seed| if seed == "learning.seed=2" { "store.checkpoint_every=3000" } else { "store.checkpoint_every=300" };
    let settings = |seed| {
        let share = "safety.training_share_min=1";
        [seed, "learning.interval=64", every(seed), "store.checkpoints_kept=2", share]
    };
    let daemon = home.start(&settings("learning.seed=1"));
    events.chunks(500).for_each(|batch| drop(daemon.send_events(batch)));
    daemon.wait_until_learned(5_000);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(checkpoint_path(&home, 5_000).exists());
    let checkpoints = || {
        home.data_dir()
            .join("checkpoints")
            .read_dir()
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect::<HashSet<_>>()
    };
    let earlier_checkpoints = checkpoints();

    let tested = |daemon: &Daemon| {
        daemon.wait_until_learned(5_000);
        daemon.metric_value("sequor_evaluated_steps_total")
    };
    let daemon = home.start(&settings("learning.seed=2"));
    let all_steps = tested(&daemon);
    let unfinished = |name: &OsString| name.to_string_lossy().ends_with("unfinished");
    wait_for("a checkpoint", || {
        checkpoints().difference(&earlier_checkpoints).any(|name| !unfinished(name)).then_some(())
    });
    daemon.kill();
    for seed in ["learning.seed=2", "learning.seed=1"] {
        let daemon = home.start(&settings(seed));
        let repeated_steps = tested(&daemon);
        assert!(repeated_steps < all_steps, "{seed}: {repeated_steps} of {all_steps} steps were learned again");
        daemon.kill();
    }
}

#[test]
fn damaged_session_record_is_rebuilt_from_the_journal() {
    let home = DaemonHome::new();
    let daemon = home.start(&FREQUENT_TRAINING_SETTINGS);
    daemon.send_events(&other_events());
    daemon.send_events(&ann_events());
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
    let daemon = home.start(&FREQUENT_TRAINING_SETTINGS);
    assert_eq!(seen(&daemon), [true, true, true, false]);
    daemon.send_events(&[ann_event(4)]);
    assert_eq!(seen(&daemon), [true; 4]);
    assert_eq!(daemon.terminate().code(), Some(0));
    let daemon = home.start(&FREQUENT_TRAINING_SETTINGS);
    assert_eq!(seen(&daemon), [true; 4]);
    let log = fs::read_to_string(home.dir().join("log")).unwrap();
    assert_eq!(log.matches("the session is rebuilt from the journal").count(), 1, "{log}");
}
