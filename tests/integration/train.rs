//! `sequor train` and `sequor evaluate` on the command line, and a daemon that starts from a
//! trained network.

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

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK_SETTINGS, run_sequor, view_event};
use crate::random::random_visits;

const EVENT_COUNT: usize = 3000;

/// A folder with a recording in it.
fn write_recording(seed: u64) -> (TempDir, PathBuf) {
    let mut text = "user,item,event,timestamp\n".to_owned();
    for visit in random_visits(seed, EVENT_COUNT) {
        writeln!(text, "{},{},view,{}", visit.user, visit.item, visit.at).unwrap();
    }
    write_temp_file(&text)
}

fn write_temp_file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording.csv");
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// Trains a small network.
fn run_train(file: &Path, more: &[&str]) -> Output {
    let small = SMALL_NETWORK_SETTINGS.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<&str> =
        ["train", file.to_str().unwrap()].into_iter().chain(small).chain(more.iter().copied()).collect();
    run_sequor(&arguments)
}

/// Trains a small network to a checkpoint and expects success.
fn train_to_checkpoint(file: &Path, checkpoint: &Path, more: &[&str]) -> Output {
    let output = run_train(file, &[&["--checkpoint", checkpoint.to_str().unwrap()], more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Expects exit code 1 and returns the error output.
fn expect_error(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().last().is_some_and(|line| line.starts_with("sequor: ")), "{stderr}");
    stderr
}

fn read_json(json: &Path) -> Value {
    serde_json::from_slice(&fs::read(json).unwrap()).unwrap()
}

const METRIC_NAMES: [&str; 4] = ["evaluated_steps", "recall_at_20", "mrr_at_20", "ndcg_at_20"];

#[test]
fn evaluated_steps_follow_the_protocol_and_the_checkpoint_reproduces_the_metrics() {
    let (folder, file) = write_recording(11);
    let [checkpoint, json, evaluated, picture] =
        ["c", "train.json", "evaluate.json", "curves.svg"].map(|name| folder.path().join(name));
    let output = train_to_checkpoint(
        &file,
        &checkpoint,
        &["--epochs", "5", "--json", json.to_str().unwrap(), "--plot", picture.to_str().unwrap()],
    );
    let table = String::from_utf8(output.stdout).unwrap();
    for column in ["epoch", "loss", "Recall@20", "MRR@20", "NDCG@20", "examples/s", "skipped"] {
        assert!(table.contains(column), "{column} is not in\n{table}");
    }
    let figures = read_json(&json);
    // Builds the sessions in the order of their first events. From the last tenth of the sessions,
    // removes the items that occur in no other session, and then the sessions of one event.
    let mut sessions: Vec<Vec<String>> = Vec::new();
    let mut session_indexes = HashMap::new();
    for visit in random_visits(11, EVENT_COUNT) {
        let index = *session_indexes.entry(visit.user).or_insert_with(|| {
            sessions.push(Vec::new());
            sessions.len() - 1
        });
        sessions[index].push(visit.item);
    }
    let later = sessions.split_off(sessions.len() * 9 / 10);
    let known_items: HashSet<_> = sessions.iter().flatten().collect();
    let steps: usize = later
        .iter()
        .map(|session| session.iter().filter(|item| known_items.contains(item)).count().saturating_sub(1))
        .sum();
    assert_eq!(figures["evaluated_steps"], steps);
    assert!(figures["recall_at_20"].as_f64() > Some(0.6), "20 of 60 items at random would be 0.33: {figures}");
    assert_eq!(figures["epochs"].as_array().unwrap().len(), 5);
    assert!(fs::read_to_string(picture).unwrap().contains("Recall@20"));

    let checkpoint = checkpoint.to_str().unwrap();
    let output = run_sequor(&[
        "evaluate",
        file.to_str().unwrap(),
        "--checkpoint",
        checkpoint,
        "--json",
        evaluated.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let evaluated = read_json(&evaluated);
    for figure in METRIC_NAMES {
        assert_eq!(evaluated[figure], figures[figure], "{figure}");
    }
}

/// The values of a user are uniform around the bias of the item.
#[test]
fn the_interest_model_is_tested_on_the_same_split() {
    let mut text = "user,item,event,timestamp,value\n".to_owned();
    for (number, visit) in random_visits(18, EVENT_COUNT).into_iter().enumerate() {
        let bias = visit.item.bytes().map(u32::from).sum::<u32>() % 5;
        let value = f64::from(1 + bias) + (number * 7 % 11) as f64 / 10.0 - 0.5;
        writeln!(text, "{},{},rate,{},{value}", visit.user, visit.item, visit.at).unwrap();
    }
    let (folder, file) = write_temp_file(&text);
    let [checkpoint, json, evaluated] = ["c", "train.json", "evaluate.json"].map(|name| folder.path().join(name));
    let report = train_to_checkpoint(&file, &checkpoint, &["--epochs", "1", "--json", json.to_str().unwrap()]);
    let figures = read_json(&json)["interest"].clone();
    let [rate] = figures.as_array().unwrap().as_slice() else { panic!("{figures}") };
    let figure = |name: &str| rate[name].as_f64().unwrap();
    assert_eq!((&rate["kind"], &rate["scale"]), (&Value::from("rate"), &Value::from("linear")));
    assert!(figure("tests") > 100.0 && figure("mse") < figure("baseline_mse"), "{rate}");
    // The noise has the variance 0.1.
    assert!((0.09..0.13).contains(&figure("mse")), "{rate}");
    let text = String::from_utf8(report.stdout).unwrap();
    for part in ["values of rate", "mean + user bias + item bias alone", "RMSE / MAE", "calibration"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let arguments = ["--checkpoint", checkpoint.to_str().unwrap(), "--json", evaluated.to_str().unwrap()];
    let output = run_sequor(&[&["evaluate", file.to_str().unwrap()], &arguments[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(read_json(&evaluated)["interest"], figures);
    assert!(String::from_utf8(output.stdout).unwrap().contains("values of rate"));
}

#[test]
fn resumed_training_equals_an_uninterrupted_one() {
    let (folder, file) = write_recording(12);
    let checkpoint = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        train_to_checkpoint(&file, &path, more);
        fs::read(path).unwrap()
    };
    // The learning rate depends on the progress of the training, and the best epoch is not the
    // last.
    let settings =
        ["--validation", "0.1", "--patience", "9", "--set", "train.warmup=20", "--set", "train.decay=0.9", "--epochs"];
    let whole = checkpoint("whole", &[&settings[..], &["6"]].concat());
    assert_eq!(checkpoint("again", &[&settings[..], &["6"]].concat()), whole);
    assert_ne!(checkpoint("other", &[&settings[..], &["6", "--seed", "7"]].concat()), whole);
    assert_ne!(checkpoint("stopped", &[&settings[..], &["2"]].concat()), whole);
    assert_eq!(checkpoint("stopped", &["--resume", "--epochs", "6"]), whole);
    assert_eq!(checkpoint("stopped", &["--resume"]), whole, "the training is finished");
}

#[test]
fn invalid_checkpoints_are_rejected() {
    let (folder, file) = write_recording(13);
    let checkpoint = folder.path().join("c");
    train_to_checkpoint(&file, &checkpoint, &["--epochs", "1"]);
    let whole = fs::read(&checkpoint).unwrap();
    let path = checkpoint.to_str().unwrap();
    let evaluate = || expect_error(&run_sequor(&["evaluate", file.to_str().unwrap(), "--checkpoint", path]));

    for index in [0, 9, 40, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[index] ^= 4;
        fs::write(&checkpoint, &flipped).unwrap();
        let stderr = evaluate();
        assert!(stderr.contains(path), "{stderr}");
        expect_error(&run_train(&file, &["--resume", "--checkpoint", path]));
    }
    for length in [0, 20, whole.len() / 2, whole.len() - 1] {
        fs::write(&checkpoint, &whole[..length]).unwrap();
        let stderr = evaluate();
        assert!(stderr.contains(path), "{stderr}");
    }
    fs::write(&checkpoint, &whole).unwrap();

    let resume = |file: &Path, more: &[&str]| {
        expect_error(&run_train(file, &[&["--resume", "--checkpoint", path, "--epochs", "2"], more].concat()))
    };
    let stderr = resume(&file, &["--set", "network.hidden=16"]);
    assert!(stderr.contains("network.hidden = 16 (from the command line): the checkpoint was made with 8"), "{stderr}");
    let (_other, other) = write_recording(14);
    let stderr = resume(&other, &[]);
    assert!(stderr.contains("a different recording"), "{stderr}");
    assert_eq!(fs::read(&checkpoint).unwrap(), whole, "the checkpoint is unchanged");

    let stderr = expect_error(&run_train(&file, &["--checkpoint", "/nonexistent/c"]));
    assert!(stderr.contains("there is no folder /nonexistent"), "{stderr}");
    let absent = folder.path().join("absent");
    let stderr = expect_error(&run_train(&file, &["--resume", "--checkpoint", absent.to_str().unwrap()]));
    assert!(stderr.contains(absent.to_str().unwrap()), "{stderr}");
}

#[test]
fn recordings_with_nothing_to_learn_are_rejected() {
    let header = "user,item,event,timestamp\n";
    let rows = |row: fn(usize) -> String| header.to_owned() + &(0..50).map(row).collect::<String>();
    for (text, expected) in [
        (rows(|row| format!("u{},cup,view,160000{row:04}\n", row / 5)), "at least 2"),
        (rows(|row| format!("u{row},item{},view,160000{row:04}\n", row % 7)), "nothing to predict"),
        (rows(|row| format!("u{},item{},search,160000{row:04}\n", row / 5, row % 7)), "nothing to predict"),
        (header.to_owned(), "holds no event"),
    ] {
        let (_folder, file) = write_temp_file(&text);
        let stderr = expect_error(&run_train(&file, &[]));
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn diverging_training_names_the_learning_rate() {
    let (folder, file) = write_recording(15);
    let checkpoint = folder.path().join("c");
    // Cross-entropy has bounded gradients; this loss is quadratic.
    let diverging =
        ["network.optimiser=sgd", "network.learning_rate=10", "network.loss=bpr_max", "network.bpr_regularisation=100"];
    let diverging = diverging.iter().flat_map(|setting| ["--set", setting]);
    let more: Vec<&str> =
        ["--checkpoint", checkpoint.to_str().unwrap(), "--epochs", "50"].into_iter().chain(diverging).collect();
    let output = run_train(&file, &more);
    let stderr = expect_error(&output);
    assert!(stderr.contains("were skipped") && stderr.contains("`network.learning_rate` (now 10)"), "{stderr}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(!table.to_lowercase().contains("nan") && !table.contains("inf"), "{table}");
    // The state before the divergence is still readable.
    if checkpoint.exists() {
        assert!(
            run_sequor(&["evaluate", file.to_str().unwrap(), "--checkpoint", checkpoint.to_str().unwrap()])
                .status
                .success()
        );
    }
}

#[test]
fn without_test_sessions_nothing_is_evaluated() {
    let (folder, file) = write_recording(17);
    let checkpoint = folder.path().join("c");
    let output = train_to_checkpoint(&file, &checkpoint, &["--test", "0", "--validation", "0", "--epochs", "2"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("evaluated steps           none"), "{table}");
    let evaluate = ["evaluate", file.to_str().unwrap(), "--checkpoint", checkpoint.to_str().unwrap()];
    assert!(expect_error(&run_sequor(&evaluate)).contains("no session to test on"));
    assert!(run_sequor(&[&evaluate[..], &["--test", "0.5"]].concat()).status.success());
}

fn inline_recommendations(daemon: &Daemon, items: &[&str]) -> Vec<String> {
    daemon.post("/v1/recommendations", &json!({ "items": items, "limit": 60 }).to_string()).item_ids()
}

#[test]
fn daemon_starts_from_a_pretrained_network_after_every_restart() {
    let (folder, file) = write_recording(16);
    let [checkpoint, other] = ["c", "other"].map(|name| folder.path().join(name));
    train_to_checkpoint(&file, &checkpoint, &["--epochs", "20"]);
    train_to_checkpoint(&file, &other, &["--epochs", "1", "--seed", "7"]);
    let (home, unlearned) = (DaemonHome::new(), DaemonHome::new());
    let with_checkpoint = format!("--checkpoint={}", checkpoint.display());
    let with_other_checkpoint = format!("--checkpoint={}", other.display());

    let daemon = home.start(&[&with_checkpoint]);
    let list = inline_recommendations(&daemon, &["item7"]);
    assert!(!list.is_empty() && inline_recommendations(&unlearned.start(&[]), &["item7"]).is_empty());
    // The users walk around a ring of 60 items. A list of ten random items would contain three or
    // four that are within ten steps of item7.
    let near = |item: &String| {
        (0..60).any(|index: i32| {
            *item == format!("item{index}") && (index - 7).rem_euclid(60).min((7 - index).rem_euclid(60)) <= 10
        })
    };
    assert!(list.iter().take(10).filter(|item| near(item)).count() >= 8, "{list:?}");
    daemon.send_events(&[
        view_event("h1", "ann", "item7"),
        view_event("h2", "ann", "never seen before"),
        view_event("h3", "ann", "item9"),
    ]);
    daemon.wait_until_learned(3);
    let list = inline_recommendations(&daemon, &["item7", "item9"]);
    daemon.kill();

    // Restarts without the flag, or with the same checkpoint, give the same network. A different
    // checkpoint or different network settings are rejected.
    let daemon = home.start(&[]);
    daemon.wait_until_learned(3);
    assert_eq!(inline_recommendations(&daemon, &["item7", "item9"]), list);
    daemon.terminate();
    home.start(&[&with_checkpoint]).terminate();
    let stderr = expect_error(&home.start_expecting_failure(&[&with_other_checkpoint]));
    assert!(stderr.contains("started with a different pretrained network"), "{stderr}");
    let stderr = expect_error(&home.start_expecting_failure(&["network.layers=2"]));
    assert!(stderr.contains("network.layers = 2") && stderr.contains("the checkpoint was made with 1"), "{stderr}");

    // A data directory with events cannot start from a pretrained network.
    let daemon = unlearned.start(&[]);
    daemon.send_events(&[view_event("h1", "ann", "item7")]);
    daemon.terminate();
    let stderr = expect_error(&unlearned.start_expecting_failure(&[&with_checkpoint]));
    assert!(stderr.contains("already has 1 entries"), "{stderr}");
}

/// A recorded data set, if it is available.
fn recorded_data_set(name: &str) -> Option<PathBuf> {
    let folder = std::env::var("SEQUOR_DATA")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let file = folder.join(name);
    if !file.is_file() {
        // Bypasses the capture of test output, so that the message is visible.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED: training on {}: the file does not exist (set SEQUOR_DATA)", file.display()).unwrap();
    }
    file.is_file().then_some(file)
}

/// Published results on these recordings use these numbers of steps.
#[test]
fn recorded_data_sets_are_split_like_published_ones() {
    for (name, steps) in [
        ("yoochoose100k.csv.gz", 6_654),
        ("retailrocket_seq.csv.gz", 51_773),
        ("diginetica_seq.csv.gz", 76_336),
        ("30music10.csv.gz", 30_438),
    ] {
        let Some(file) = recorded_data_set(name) else { continue };
        let mut recording = Recording::new(i64::MAX);
        let rules = ValidationRules::default();
        for event in EventFileReader::open(&file, &rules, i64::MAX / 2).unwrap() {
            recording.add_event(&event.unwrap().unwrap().value, &rules.kinds);
        }
        let corpus = recording.into_corpus(&OfflineSettings::default());
        assert_eq!(corpus.test.iter().map(|session| session.len() - 1).sum::<usize>(), steps, "{name}");
    }
}

/// Two epochs with the offline settings, against a floor well below the usual results (0.709 /
/// 0.380).
#[test]
fn recorded_shop_is_learned() {
    let Some(file) = recorded_data_set("yoochoose100k.csv.gz") else { return };
    let json = tempfile::NamedTempFile::new().unwrap();
    let arguments = [
        "train",
        file.to_str().unwrap(),
        "--epochs",
        "2",
        "--set",
        "network.cell=gru",
        "--json",
        json.path().to_str().unwrap(),
    ];
    let output = run_sequor(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures = read_json(json.path());
    assert_eq!(figures["evaluated_steps"], 6_654);
    assert!(figures["recall_at_20"].as_f64() >= Some(0.69) && figures["mrr_at_20"].as_f64() >= Some(0.36), "{figures}");
}
