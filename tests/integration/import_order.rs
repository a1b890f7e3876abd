//! Imports of files that are not sorted by time, with the real binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::daemon::{Daemon, DaemonHome, run_sequor, sequor_command, wait_for};

const ROW_COUNT: u64 = 3_000;

/// A file whose rows are shuffled over many days.
fn shuffled_file(home: &DaemonHome) -> PathBuf {
    let row =
        |number: u64| format!("u{},p{number},view,{}\n", number % 50, 1_600_000_000 + number * 7_919 % ROW_COUNT * 600);
    let file = home.dir().join("shuffled.csv");
    fs::write(&file, "user,item,event,timestamp\n".to_owned() + &(0..ROW_COUNT).map(row).collect::<String>()).unwrap();
    file
}

/// Imports a file. Returns the exit code, the summary, if there is one, and standard error.
fn run_import(file: &Path, daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output =
        run_sequor(&[&["import", file.to_str().unwrap(), "--json", "--url", daemon.api_url()], arguments].concat());
    let summary = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), summary, String::from_utf8(output.stderr).unwrap())
}

/// The timestamps in the journal, in its order.
fn journal_timestamps(daemon: &Daemon) -> Vec<u64> {
    let output = run_sequor(&["export", "--url", daemon.admin_url(), "--only", "event"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["timestamp"].as_u64().unwrap()).collect()
}

/// Regression test: an unsorted file was imported in file order, with exit code 0 and without
/// advice.
#[test]
fn an_unsorted_file_is_refused_with_advice_and_can_be_sorted() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let file = shuffled_file(&home);
    let (code, _, error) = run_import(&file, &daemon, &[]);
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains("nothing was imported")
            && error.contains("is not sorted by time")
            && error.contains("Add --sort"),
        "{error}"
    );
    assert_eq!(daemon.next_offset(), 0);
    let (code, summary, error) = run_import(&file, &daemon, &["--sort"]);
    assert_eq!(
        (code, &summary["taken"], &summary["late"]),
        (Some(0), &Value::from(ROW_COUNT), &Value::from(0)),
        "{error}"
    );
    let sorted = journal_timestamps(&daemon);
    assert!(sorted.len() as u64 == ROW_COUNT && sorted.is_sorted());
    let (code, summary, error) = run_import(&file, &daemon, &["--sort"]);
    assert_eq!(
        (code, &summary["skipped"], &summary["taken"]),
        (Some(0), &Value::from(ROW_COUNT), &Value::from(0)),
        "{error}"
    );
    // `--window 0s` imports the rows in the order of the file.
    let copy = home.dir().join("copy.csv");
    fs::write(&copy, fs::read_to_string(&file).unwrap().replace(",p", ",q")).unwrap();
    let (code, summary, error) = run_import(&copy, &daemon, &["--window", "0s"]);
    assert_eq!((code, &summary["taken"]), (Some(0), &Value::from(ROW_COUNT)), "{error}");
    assert!(
        summary["late"].as_u64().unwrap() > ROW_COUNT / 2 && error.contains("--sort sorts a whole file"),
        "{summary} {error}"
    );
}

#[test]
fn a_killed_sorted_import_resumes() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let file = shuffled_file(&home);
    let mut command = sequor_command();
    command.arg("import").arg(&file).args(["--url", daemon.api_url(), "--sort", "--batch", "1"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let progress = home.dir().join("shuffled.csv.import");
    let sorted =
        || serde_json::from_str::<Value>(&fs::read_to_string(&progress).ok()?).ok()?["targets"][0]["sorted"].as_u64();
    wait_for("some rows", || sorted().filter(|sorted| *sorted > 100));
    assert_eq!(child.try_wait().unwrap(), None, "the import ended before it could be killed");
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, _, error) = run_import(&file, &daemon, &[]);
    assert!(code == Some(1) && error.contains("add --sort to go on"), "{error}");
    let (code, summary, error) = run_import(&file, &daemon, &["--sort"]);
    let count = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!((code, count("taken") + count("duplicates") + count("skipped")), (Some(0), ROW_COUNT), "{error}");
    assert!(count("skipped") > 100 && count("taken") > 0, "{summary}");
    let sorted = journal_timestamps(&daemon);
    assert!(sorted.len() as u64 == ROW_COUNT && sorted.is_sorted());
}
