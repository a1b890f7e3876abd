//! `sequor replay` on the command line: metrics, files, exit codes, messages.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use flate2::Compression;
use flate2::write::GzEncoder;
use sequor::simulation::{ShopSettings, ShopSimulator};
use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::{SMALL_NETWORK_SETTINGS, run_sequor};
use crate::random::random_visits;

const EVENT_COUNT: usize = 2000;

fn recording_csv(visits: usize) -> String {
    let mut text = "user,item,event,timestamp\n".to_owned();
    for visit in random_visits(6, visits) {
        writeln!(text, "{},{},view,{}", visit.user, visit.item, visit.at).unwrap();
    }
    text
}

fn gzip_compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with one file in it.
pub(crate) fn write_temp_file(name: &str, bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Replays a file with a small network that learns often.
fn run_replay(file: &Path, more: &[&str]) -> Output {
    let mut arguments = vec![
        "replay",
        file.to_str().unwrap(),
        "--set",
        "learning.interval=64",
        "--set",
        "clusters.every=512",
        "--set",
        "clusters.lag=128",
    ];
    for setting in SMALL_NETWORK_SETTINGS {
        arguments.extend(["--set", setting]);
    }
    arguments.extend(more);
    run_sequor(&arguments)
}

/// The metrics of a successful replay.
pub(crate) fn replay_metrics(file: &Path, more: &[&str]) -> Value {
    let json = tempfile::NamedTempFile::new().unwrap();
    let output = run_replay(file, &[more, &["--json", json.path().to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&fs::read(json.path()).unwrap()).unwrap()
}

/// Expects exit code 1 and returns the error output.
fn expect_error(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().last().is_some_and(|line| line.starts_with("sequor: ")), "{stderr}");
    stderr
}

#[test]
fn replay_is_deterministic() {
    let (_folder, file) = write_temp_file("walks.csv", recording_csv(EVENT_COUNT));
    let learned = |more: &[&str]| {
        let mut metrics_of = replay_metrics(&file, more);
        for cost in ["events_per_second", "elapsed_seconds", "cpu_seconds", "peak_rss_bytes", "journal_bytes"] {
            assert!(
                metrics_of.as_object_mut().unwrap().remove(cost).is_some_and(|cost| cost.as_f64() > Some(0.0)),
                "{cost}"
            );
        }
        metrics_of
    };
    let first = learned(&[]);
    // The result does not depend on the number of shards.
    for shards in ["1", "5"] {
        assert_eq!(learned(&["--set", &format!("session.shards={shards}")]), first);
    }
    assert!(first["training_batches"].as_u64() > Some(10) && first["recall_at_20"].as_f64() > Some(0.1), "{first}");
    assert_ne!(learned(&["--set", "learning.seed=43"])["ndcg_at_20"], first["ndcg_at_20"]);
}

#[test]
fn evaluated_steps_follow_the_protocol() {
    let (_folder, file) = write_temp_file("walks.csv", recording_csv(EVENT_COUNT));
    let metrics_of = replay_metrics(&file, &[]);
    // Events of the second half whose user has an earlier event.
    let mut seen = HashSet::new();
    let steps = random_visits(6, EVENT_COUNT)
        .into_iter()
        .enumerate()
        .filter(|(number, visit)| !seen.insert(visit.user.clone()) && *number >= EVENT_COUNT / 2)
        .count();
    assert_eq!(
        (&metrics_of["events"], &metrics_of["rejected"], &metrics_of["evaluated_steps"]),
        (&EVENT_COUNT.into(), &0.into(), &steps.into())
    );
    for figure in ["recall_at_20", "mrr_at_20", "ndcg_at_20"] {
        assert!((0.0..=1.0).contains(&metrics_of[figure].as_f64().unwrap()), "{figure}");
    }
}

#[test]
fn evaluated_range_is_configurable() {
    let (_folder, file) = write_temp_file("walks.csv", recording_csv(400));
    let steps = |from: &str| replay_metrics(&file, &["--evaluate-from", from])["evaluated_steps"].as_u64().unwrap();
    let all = steps("0");
    assert_eq!((all, steps("0.0"), steps("1.0")), (all, all, 0));
    assert_eq!(steps("300"), steps("0.75"));
    let stderr = expect_error(&run_replay(&file, &["--evaluate-from", "1.5"]));
    assert!(stderr.contains("--evaluate-from 1.5: give a fraction from 0.0 to 1.0, or an event's number"), "{stderr}");
}

#[test]
fn table_and_plot_show_the_metrics() {
    let (folder, file) = write_temp_file("walks.csv.gz", gzip_compress(recording_csv(600).as_bytes()));
    let picture = folder.path().join("curve.svg");
    let output = run_replay(&file, &["--plot", picture.to_str().unwrap()]);
    let table = String::from_utf8(output.stdout).unwrap();
    for row in [
        "events                     600   (0 rejected)",
        "evaluated steps",
        "Recall@20",
        "MRR@20",
        "NDCG@20",
        "events/s",
        "peak RSS",
        "on disk",
    ] {
        assert!(table.contains(row), "{row} is not in\n{table}");
    }
    let picture = fs::read_to_string(picture).unwrap();
    assert!(
        picture.starts_with("<svg")
            && picture.trim_end().ends_with("</svg>")
            && picture.contains("Recall@20")
            && picture.contains("<polyline")
    );
}

#[test]
fn ndjson_and_csv_replays_are_equal() {
    let (_folder, rows) = write_temp_file("walks.csv", recording_csv(500));
    let json: String = random_visits(6, 500)
        .iter()
        .map(|visit| {
            format!(
                "{{\"user_id\":\"{}\",\"type\":\"view\",\"item_id\":\"{}\",\"timestamp\":{}}}\n",
                visit.user, visit.item, visit.at
            )
        })
        .collect();
    let (_folder, lines) = write_temp_file("walks.ndjson.gz", gzip_compress(json.as_bytes()));
    let of = |file: &Path| replay_metrics(file, &[])["ndcg_at_20"].as_f64();
    assert_eq!(of(&rows), of(&lines));
}

#[test]
fn candidate_source_can_be_disabled() {
    let (_folder, file) = write_temp_file("walks.csv", recording_csv(EVENT_COUNT));
    assert_eq!(replay_metrics(&file, &["--without", "network"])["training_batches"], 0);
    let without = replay_metrics(&file, &["--without", "transitions", "--without", "neighbours"]);
    assert_ne!(without["ndcg_at_20"], replay_metrics(&file, &[])["ndcg_at_20"]);
    let unknown = run_replay(&file, &["--without", "magic"]);
    let stderr = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        unknown.status.code() == Some(2)
            && stderr.contains("there is no such source; there are network, clusters, transitions"),
        "{stderr}"
    );
}

#[test]
fn unreadable_files_are_reported_with_the_line() {
    let whole = gzip_compress(recording_csv(3000).as_bytes());
    for (name, bytes, expected) in [
        (
            "truncated.csv.gz",
            &whole[..whole.len() - 4],
            "truncated.csv.gz:3002: the compressed stream ends too early; the file is truncated",
        ),
        ("column.csv", b"user,item,event\nu,i,view\n", "column.csv:1: the header lacks the column `timestamp`"),
        ("twice.csv", b"user,item,event,timestamp,item\n", "twice.csv:1: the header names the column `item` twice"),
        ("empty.csv", b"", "empty.csv:1: the file is empty"),
        ("empty.ndjson", b"\n", "empty.ndjson holds no event"),
        ("header.csv", b"user,item,event,timestamp\n", "header.csv holds no event"),
    ] {
        let (_folder, path) = write_temp_file(name, bytes);
        let stderr = expect_error(&run_replay(&path, &[]));
        assert!(stderr.contains(expected), "{name}: {stderr}");
    }
    let stderr = expect_error(&run_replay(Path::new("/nonexistent/walks.csv"), &[]));
    assert!(stderr.contains("/nonexistent/walks.csv: cannot be opened: No such file or directory"), "{stderr}");
}

#[test]
fn invalid_rows_are_reported_by_line_and_the_rest_is_replayed() {
    let mut rows = recording_csv(100);
    rows.push_str("u,i,view\nu,i,glance,1700000000\nu,i,view,1700000000\n");
    let (_folder, file) = write_temp_file("rows.csv", rows);
    let output = run_replay(&file, &[]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("rows.csv: line 102: the row has 3 columns; the header has 4"), "{stderr}");
    assert!(stderr.contains("rows.csv: line 103: unknown event kind `glance` in `type`"), "{stderr}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("101   (2 rejected)"));
}

#[test]
fn replay_cleans_up_and_keeps_existing_journals() {
    let (folder, file) = write_temp_file("walks.csv", recording_csv(200));
    let temporary = folder.path().join("tmp");
    // Directories of a killed replay, of a running one, and of one that is just starting.
    for name in ["killed/store", "running/store", "beginning"] {
        fs::create_dir_all(temporary.join(format!("sequor-replay-{name}"))).unwrap();
    }
    let lock = |name: &str| File::create(temporary.join(format!("sequor-replay-{name}/lock"))).unwrap();
    let (_, running, _) = (lock("killed"), lock("running"), lock("beginning"));
    running.lock().unwrap();
    let mut command = crate::daemon::sequor_command();
    let output =
        command.args(["replay"]).arg(&file).current_dir(folder.path()).env("TMPDIR", &temporary).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left: BTreeSet<_> =
        fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let others = ["sequor-replay-beginning", "sequor-replay-running"].map(str::to_owned);
    assert_eq!(left, others.into(), "the replay removes its own directory and that of the killed one");
    assert!(!folder.path().join("sequor-data").exists(), "the default data directory is not created");

    let kept = folder.path().join("kept");
    let named = ["--data-dir", kept.to_str().unwrap()];
    assert!(run_replay(&file, &named).status.success());
    let stderr = expect_error(&run_replay(&file, &named));
    assert!(stderr.contains("already holds a journal; give the replay an empty directory with --data-dir"), "{stderr}");
}

/// One pass over a recorded shop, against minimum metrics of the whole system.
#[test]
fn recorded_shop_is_predicted() {
    let folder = std::env::var("SEQUOR_DATA")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let file = folder.join("yoochoose100k.csv.gz");
    if !file.is_file() {
        // Bypasses the capture of test output, so that the message is visible.
        writeln!(std::io::stderr(), "SKIPPED: replay of {}: the file does not exist (set SEQUOR_DATA)", file.display())
            .unwrap();
        return;
    }
    let json = tempfile::NamedTempFile::new().unwrap();
    let output = run_sequor(&["replay", file.to_str().unwrap(), "--json", json.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metrics_of: Value = serde_json::from_slice(&fs::read(json.path()).unwrap()).unwrap();
    assert_eq!((&metrics_of["events"], &metrics_of["evaluated_steps"]), (&83_291.into(), &31_260.into()));
    assert!(
        metrics_of["recall_at_20"].as_f64() >= Some(0.62) && metrics_of["mrr_at_20"].as_f64() >= Some(0.32),
        "{metrics_of}"
    );
}

/// The first `events` events of a simulated shop with returning customers.
pub(crate) fn simulated_shop_csv(events: usize) -> String {
    let settings = ShopSettings { items: 1_000, customers: 300, opens_at: 1_700_000_000_000, ..Default::default() };
    let mut text = "user,item,event,timestamp\n".to_owned();
    let entries = ShopSimulator::new(settings).unwrap();
    for event in entries.filter_map(|entry| entry.as_event().cloned()).take(events) {
        let item = event.item_id.as_deref().unwrap_or_default();
        writeln!(text, "{},{item},{},{}", event.user_id, event.kind.name(), event.timestamp).unwrap();
    }
    text
}

/// The ranker combines the sources, so it must not lose against one of them, also if learning is
/// frozen and the sources stand still.
#[test]
fn the_ranking_is_not_worse_than_its_best_source() {
    /// Above the standard error of a difference of two metrics over 18,000 tests, about 0.003.
    const TOLERANCE: f64 = 0.01;
    let (_folder, file) = write_temp_file("shop.csv", simulated_shop_csv(40_000));
    for more in [&["--evaluate-from", "20000"][..], &["--evaluate-from", "20000", "--freeze-from", "20000"]] {
        let report = replay_metrics(&file, &[more, &["--idle-gap", "30m"]].concat());
        assert!(report["evaluated_steps"].as_u64().unwrap() > 15_000, "{report}");
        for metric in ["recall_at_20", "mrr_at_20"] {
            let ranking = report[metric].as_f64().unwrap();
            for source in report["sources"].as_array().unwrap() {
                let alone = source[metric].as_f64().unwrap();
                assert!(ranking > alone - TOLERANCE, "{more:?}, {metric} {ranking}: {source}");
            }
        }
    }
}
