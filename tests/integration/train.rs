//! `sequor train` and `sequor evaluate` as their users see them, and the daemon that begins with
//! what was trained.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use sequor::ingest::{EventFileReader, ValidationRules};
use sequor::learner::{OfflineSettings, Recording};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK, event, run};
use crate::random::random_visits;

const EVENTS: usize = 3000;

/// A folder with a recording in it.
fn recording(seed: u64) -> (TempDir, PathBuf) {
    let mut text = "user,item,event,timestamp\n".to_owned();
    for visit in random_visits(seed, EVENTS) {
        writeln!(text, "{},{},view,{}", visit.user, visit.item, visit.at).unwrap();
    }
    file(&text)
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording.csv");
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// Trains a small network.
fn train(file: &Path, more: &[&str]) -> Output {
    let small = SMALL_NETWORK.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<&str> = ["train", file.to_str().unwrap()].into_iter().chain(small).chain(more.iter().copied()).collect();
    run(&arguments)
}

/// Trains a small network to a checkpoint, and expects that to end well.
fn trained(file: &Path, checkpoint: &Path, more: &[&str]) -> Output {
    let output = train(file, &[&["--checkpoint", checkpoint.to_str().unwrap()], more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Expects exit code 1, and returns what was said.
fn refused(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.starts_with("sequor: ")), "{said}");
    said
}

fn read(json: &Path) -> Value {
    serde_json::from_slice(&fs::read(json).unwrap()).unwrap()
}

const FIGURES: [&str; 5] = ["evaluated_steps", "recall_at_20", "mrr_at_20", "ndcg_at_20", "interest_mse"];

#[test]
fn the_steps_counted_are_those_of_the_protocol_and_the_checkpoint_gives_the_same_figures() {
    let (folder, file) = recording(11);
    let [checkpoint, json, again, picture] = ["c", "train.json", "evaluate.json", "curves.svg"].map(|name| folder.path().join(name));
    let output = trained(
        &file,
        &checkpoint,
        &["--epochs", "5", "--set", "network.interest_weight=0.1", "--json", json.to_str().unwrap(), "--plot", picture.to_str().unwrap()],
    );
    let table = String::from_utf8(output.stdout).unwrap();
    for column in ["epoch", "loss", "Recall@20", "MRR@20", "NDCG@20", "interest MSE", "examples/s", "skipped"] {
        assert!(table.contains(column), "{column} is not in\n{table}");
    }
    let figures = read(&json);
    // Sessions in the order of their first events; the last tenth loses what the others do not
    // name, and then sessions of one event.
    let mut sessions: Vec<Vec<String>> = Vec::new();
    let mut places = HashMap::new();
    for visit in random_visits(11, EVENTS) {
        let place = *places.entry(visit.user).or_insert_with(|| {
            sessions.push(Vec::new());
            sessions.len() - 1
        });
        sessions[place].push(visit.item);
    }
    let later = sessions.split_off(sessions.len() * 9 / 10);
    let known: HashSet<_> = sessions.iter().flatten().collect();
    let steps: usize = later.iter().map(|session| session.iter().filter(|item| known.contains(item)).count().saturating_sub(1)).sum();
    assert_eq!(figures["evaluated_steps"], steps);
    assert!(figures["recall_at_20"].as_f64() > Some(0.6), "20 of 60 items at random would be 0.33: {figures}");
    assert_eq!(figures["epochs"].as_array().unwrap().len(), 5);
    assert!(fs::read_to_string(picture).unwrap().contains("Recall@20"));

    let checkpoint = checkpoint.to_str().unwrap();
    let output = run(&["evaluate", file.to_str().unwrap(), "--checkpoint", checkpoint, "--json", again.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again = read(&again);
    for figure in FIGURES {
        assert_eq!(again[figure], figures[figure], "{figure}");
    }
    assert!(again["interest_mse"].is_number(), "{again}");
}

#[test]
fn a_training_ends_in_the_same_bytes_whether_or_not_it_was_stopped() {
    let (folder, file) = recording(12);
    let checkpoint = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        trained(&file, &path, more);
        fs::read(path).unwrap()
    };
    // The learning rate depends on how far the training has come, and the best epoch is not the
    // last.
    let settings = ["--validation", "0.1", "--patience", "9", "--set", "train.warmup=20", "--set", "train.decay=0.9", "--epochs"];
    let whole = checkpoint("whole", &[&settings[..], &["6"]].concat());
    assert_eq!(checkpoint("again", &[&settings[..], &["6"]].concat()), whole);
    assert_ne!(checkpoint("other", &[&settings[..], &["6", "--seed", "7"]].concat()), whole);
    assert_ne!(checkpoint("stopped", &[&settings[..], &["2"]].concat()), whole);
    assert_eq!(checkpoint("stopped", &["--resume", "--epochs", "6"]), whole);
    assert_eq!(checkpoint("stopped", &["--resume"]), whole, "it is finished");
}

#[test]
fn what_is_no_checkpoint_of_this_training_is_refused() {
    let (folder, file) = recording(13);
    let checkpoint = folder.path().join("c");
    trained(&file, &checkpoint, &["--epochs", "1"]);
    let whole = fs::read(&checkpoint).unwrap();
    let path = checkpoint.to_str().unwrap();
    let evaluate = || refused(&run(&["evaluate", file.to_str().unwrap(), "--checkpoint", path]));

    for place in [0, 9, 40, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[place] ^= 4;
        fs::write(&checkpoint, &flipped).unwrap();
        let said = evaluate();
        assert!(said.contains(path), "{said}");
        refused(&train(&file, &["--resume", "--checkpoint", path]));
    }
    for length in [0, 20, whole.len() / 2, whole.len() - 1] {
        fs::write(&checkpoint, &whole[..length]).unwrap();
        let said = evaluate();
        assert!(said.contains(path), "{said}");
    }
    fs::write(&checkpoint, &whole).unwrap();

    let resume = |file: &Path, more: &[&str]| refused(&train(file, &[&["--resume", "--checkpoint", path, "--epochs", "2"], more].concat()));
    let said = resume(&file, &["--set", "network.hidden=16"]);
    assert!(said.contains("network.hidden = 16 (from the command line): the checkpoint was made with 8"), "{said}");
    let (_other, other) = recording(14);
    let said = resume(&other, &[]);
    assert!(said.contains("a different recording"), "{said}");
    assert_eq!(fs::read(&checkpoint).unwrap(), whole, "nothing of it was touched");

    let said = refused(&train(&file, &["--checkpoint", "/nonexistent/c"]));
    assert!(said.contains("there is no folder /nonexistent"), "{said}");
    let absent = folder.path().join("absent");
    let said = refused(&train(&file, &["--resume", "--checkpoint", absent.to_str().unwrap()]));
    assert!(said.contains(absent.to_str().unwrap()), "{said}");
}

#[test]
fn a_recording_that_teaches_nothing_is_refused() {
    let header = "user,item,event,timestamp\n";
    let rows = |row: fn(usize) -> String| header.to_owned() + &(0..50).map(row).collect::<String>();
    for (text, expected) in [
        (rows(|row| format!("u{},cup,view,{row}\n", row / 5)), "at least 2"),
        (rows(|row| format!("u{row},item{},view,{row}\n", row % 7)), "nothing to predict"),
        (rows(|row| format!("u{},item{},search,{row}\n", row / 5, row % 7)), "nothing to predict"),
        (header.to_owned(), "holds no event"),
    ] {
        let (_folder, file) = file(&text);
        let said = refused(&train(&file, &[]));
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_learning_rate_that_diverges_is_named() {
    let (folder, file) = recording(15);
    let checkpoint = folder.path().join("c");
    // With cross-entropy the gradients would stay bounded, however wrong the weights: this loss is
    // quadratic.
    let reckless = ["network.optimiser=sgd", "network.learning_rate=10", "network.loss=bpr_max", "network.bpr_regularisation=100"];
    let reckless = reckless.iter().flat_map(|setting| ["--set", setting]);
    let more: Vec<&str> = ["--checkpoint", checkpoint.to_str().unwrap(), "--epochs", "50"].into_iter().chain(reckless).collect();
    let output = train(&file, &more);
    let said = refused(&output);
    assert!(said.contains("were skipped") && said.contains("`network.learning_rate` (now 10)"), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(!table.to_lowercase().contains("nan") && !table.contains("inf"), "{table}");
    // What was learned before it diverged can still be read.
    if checkpoint.exists() {
        assert!(run(&["evaluate", file.to_str().unwrap(), "--checkpoint", checkpoint.to_str().unwrap()]).status.success());
    }
}

#[test]
fn with_nothing_kept_back_there_is_nothing_to_test() {
    let (folder, file) = recording(17);
    let checkpoint = folder.path().join("c");
    let output = trained(&file, &checkpoint, &["--test", "0", "--validation", "0", "--epochs", "2"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("evaluated steps           none"), "{table}");
    let evaluate = ["evaluate", file.to_str().unwrap(), "--checkpoint", checkpoint.to_str().unwrap()];
    assert!(refused(&run(&evaluate)).contains("no session to test on"));
    assert!(run(&[&evaluate[..], &["--test", "0.5"]].concat()).status.success());
}

fn inline(daemon: &Daemon, items: &[&str]) -> Vec<String> {
    daemon.post("/v1/recommendations", &json!({ "items": items, "limit": 60 }).to_string()).item_ids()
}

#[test]
fn a_daemon_begins_with_what_was_trained_and_every_restart_does() {
    let (folder, file) = recording(16);
    let [checkpoint, other] = ["c", "other"].map(|name| folder.path().join(name));
    trained(&file, &checkpoint, &["--epochs", "20"]);
    trained(&file, &other, &["--epochs", "1", "--seed", "7"]);
    let (home, unlearned) = (DaemonHome::new(), DaemonHome::new());
    let begin = format!("--checkpoint={}", checkpoint.display());
    let begin_otherwise = format!("--checkpoint={}", other.display());

    let daemon = home.start(&[&begin]);
    let list = inline(&daemon, &["item7"]);
    assert!(!list.is_empty() && inline(&unlearned.start(&[]), &["item7"]).is_empty());
    // The walks go around a ring of 60 items: of any ten, three or four are within ten steps of
    // item7.
    let near = |item: &String| {
        (0..60).any(|place: i32| *item == format!("item{place}") && (place - 7).rem_euclid(60).min((7 - place).rem_euclid(60)) <= 10)
    };
    assert!(list.iter().take(10).filter(|item| near(item)).count() >= 8, "{list:?}");
    daemon.send_events(&[event("h1", "ann", "item7"), event("h2", "ann", "never seen before"), event("h3", "ann", "item9")]);
    daemon.wait_until_learned(3);
    let list = inline(&daemon, &["item7", "item9"]);
    daemon.kill();

    // Without the flag, and with the same, it is the same; another is refused, as are settings of
    // another network.
    let daemon = home.start(&[]);
    daemon.wait_until_learned(3);
    assert_eq!(inline(&daemon, &["item7", "item9"]), list);
    daemon.terminate();
    home.start(&[&begin]).terminate();
    let said = refused(&home.start_expecting_failure(&[&begin_otherwise]));
    assert!(said.contains("started with a different pretrained network"), "{said}");
    let said = refused(&home.start_expecting_failure(&["network.layers=2"]));
    assert!(said.contains("network.layers = 2") && said.contains("the checkpoint was made with 1"), "{said}");

    // Where there are events already, nothing can be begun with.
    let daemon = unlearned.start(&[]);
    daemon.send_events(&[event("h1", "ann", "item7")]);
    daemon.terminate();
    let said = refused(&unlearned.start_expecting_failure(&[&begin]));
    assert!(said.contains("already has 1 entries"), "{said}");
}

/// Recorded behaviour where there is some.
fn recorded(name: &str) -> Option<PathBuf> {
    let folder = std::env::var("SEQUOR_DATA").map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let file = folder.join(name);
    if !file.is_file() {
        // Written past the capture of the test's output, so that it is seen.
        let mut loud = std::io::stderr();
        writeln!(loud, "LEFT OUT: {} is not there, so nothing is learned from it (set SEQUOR_DATA)", file.display()).unwrap();
    }
    file.is_file().then_some(file)
}

/// Published figures on these recordings count so many steps.
#[test]
fn the_recorded_shops_and_songs_are_split_as_everybody_splits_them() {
    for (name, steps) in [
        ("yoochoose100k.csv.gz", 6_654),
        ("retailrocket_seq.csv.gz", 51_773),
        ("diginetica_seq.csv.gz", 76_336),
        ("30music10.csv.gz", 30_438),
    ] {
        let Some(file) = recorded(name) else { continue };
        let mut recording = Recording::new(i64::MAX);
        let rules = ValidationRules::default();
        for event in EventFileReader::open(&file, &rules, i64::MAX / 2).unwrap() {
            recording.add(&event.unwrap().unwrap().value, &rules.kinds);
        }
        let corpus = recording.into_corpus(&OfflineSettings::default());
        assert_eq!(corpus.test.iter().map(|session| session.len() - 1).sum::<usize>(), steps, "{name}");
    }
}

/// Two epochs with the offline settings, against a floor well below what they reach (0.709 /
/// 0.380).
#[test]
fn a_recorded_shop_is_learned() {
    let Some(file) = recorded("yoochoose100k.csv.gz") else { return };
    let json = tempfile::NamedTempFile::new().unwrap();
    let arguments =
        ["train", file.to_str().unwrap(), "--epochs", "2", "--set", "network.cell=gru", "--json", json.path().to_str().unwrap()];
    let output = run(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures = read(json.path());
    assert_eq!(figures["evaluated_steps"], 6_654);
    assert!(figures["recall_at_20"].as_f64() >= Some(0.69) && figures["mrr_at_20"].as_f64() >= Some(0.36), "{figures}");
}
