//! The progress file of an import, with the real binary: imports of corrected, longer and changed
//! files, and imports into other targets.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::daemon::{DaemonHome, SMALL_NETWORK_SETTINGS, run_sequor};

const CSV_HEADER: &str = "user,item,event,timestamp\n";

/// Imports a file. Returns the exit code, the summary and standard error.
fn run_import(file: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = run_sequor(&[&["import", file.to_str().unwrap(), "--json"], arguments].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}")), error)
}

/// The numbers of accepted, duplicate, skipped and rejected rows.
fn row_counts(summary: &Value) -> [u64; 4] {
    ["taken", "duplicates", "skipped", "faulty"].map(|name| summary[name].as_u64().unwrap())
}

/// Regression test: rejected rows counted as acknowledged. After a correction of the flags, the
/// same command imported nothing, with exit code 0.
#[test]
fn rejected_rows_are_sent_again_after_a_correction() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let file = home.dir().join("events.csv");
    fs::write(
        &file,
        format!("{CSV_HEADER}u,a,view,1600000000\nu,b,view,7\nu,c,view,2020-09-13 12:26:40\nu,d,view,1600000009\n"),
    )
    .unwrap();
    let (code, summary, error) = run_import(&file, &["--url", daemon.api_url()]);
    assert_eq!((code, row_counts(&summary)), (Some(2), [2, 0, 0, 2]), "{error}");
    assert!(error.contains("rows rejected: 2; rows accepted: 2"), "{error}");
    let (code, summary, error) = run_import(&file, &["--url", daemon.api_url(), "--time-zone", "UTC"]);
    assert_eq!((code, row_counts(&summary)), (Some(2), [1, 0, 2, 1]), "{error}");
    let (code, summary, error) = run_import(&file, &["--url", daemon.api_url(), "--time-unit", "s"]);
    assert_eq!((code, row_counts(&summary)), (Some(0), [1, 0, 3, 0]), "{error}");
    assert_eq!(daemon.next_offset(), 4);
}

#[test]
fn a_file_without_a_valid_row_is_reported() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let file = home.dir().join("relative.csv");
    fs::write(&file, format!("{CSV_HEADER}u,a,view,1\nu,b,view,2\nu,c,view,3\n")).unwrap();
    let (code, _, error) = run_import(&file, &["--url", daemon.api_url()]);
    assert!(
        code == Some(2) && error.contains("rows rejected: 3; rows accepted: 0") && !error.contains("other rows"),
        "{error}"
    );
    let (code, summary, error) = run_import(&file, &["--url", daemon.api_url(), "--time-unit", "s"]);
    assert_eq!((code, row_counts(&summary)), (Some(0), [3, 0, 0, 0]), "{error}");
}

/// Regression test: the import command rejected event kinds that only the daemon's settings define.
#[test]
fn import_accepts_the_custom_kinds_of_the_daemon() {
    let home = DaemonHome::new();
    let daemon = home.start(&["events.kinds.wishlist.value=2.0"]);
    let file = home.dir().join("events.csv");
    fs::write(&file, format!("{CSV_HEADER}u,a,wishlist,1600000000\nu,b,wish,1600000001\n")).unwrap();
    let (code, summary, error) = run_import(&file, &["--url", daemon.api_url()]);
    assert_eq!((code, row_counts(&summary)), (Some(2), [1, 0, 0, 1]), "{error}");
    assert!(error.contains("unknown event kind `wish`"), "{error}");
    let log = home.dir().join("access.log");
    fs::write(&log, "192.0.2.1 - - [10/Oct/2020:13:55:36 +0000] \"GET /wish/a HTTP/1.1\" 200 1 \"-\" \"Firefox\"\n")
        .unwrap();
    let tail =
        |rule: &str| run_sequor(&["tail", "--once", log.to_str().unwrap(), "--url", daemon.api_url(), "--rule", rule]);
    let output = tail("wishlist=^/wish/(?P<item>.+)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(daemon.next_offset(), 2);
    let output = tail("wish=^/wish/(?P<item>.+)");
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown event kind `wish`"));
}

/// Regression test: a file that had grown by ten rows was imported twice, because all ids changed.
#[test]
fn only_the_new_rows_of_a_grown_file_are_imported() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let rows = |count: usize| -> String {
        let rows = (0..count).map(|row| format!("u{},p{row},view,{}\n", row % 7, 1_600_000_000 + row));
        std::iter::once(CSV_HEADER.to_owned()).chain(rows).collect()
    };
    let file = home.dir().join("events.csv");
    for (count, expected) in [(40, [40, 0, 0, 0]), (50, [10, 0, 40, 0]), (60, [10, 0, 50, 0]), (60, [0, 0, 60, 0])] {
        fs::write(&file, rows(count)).unwrap();
        let (code, summary, error) = run_import(&file, &["--url", daemon.api_url()]);
        assert_eq!((code, row_counts(&summary)), (Some(0), expected), "{count}: {error}");
    }
    // The ids do not change as the file grows: without its progress file, all old rows are
    // duplicates.
    let compressed = home.dir().join("events.csv.zst");
    fs::write(&compressed, zstd::encode_all(rows(40).as_bytes(), 1).unwrap()).unwrap();
    let (code, summary, error) = run_import(&compressed, &["--url", daemon.api_url()]);
    assert_eq!((code, row_counts(&summary)), (Some(0), [0, 40, 0, 0]), "{error}");
}

#[test]
fn unchanged_rows_of_a_changed_file_are_recognised_if_the_ids_come_from_the_rows() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let before = format!("{CSV_HEADER}u,a,view,1600000000\nu,b,view,1600000001\nu,b,view,1600000001\n");
    let after = format!("{CSV_HEADER}u,new,view,1600000009\nu,b,view,1600000001\nu,a,view,1600000000\n");
    let with_column =
        "item,user,event,timestamp,more\nnew,u,view,1600000009,x\nb,u,view,1600000001000,y\na,u,view,1600000000,z\n";
    let file = home.dir().join("rows.csv");
    fs::write(&file, &before).unwrap();
    let (_, summary, error) = run_import(&file, &["--url", daemon.api_url(), "--id-from", "row"]);
    assert_eq!(row_counts(&summary), [2, 1, 0, 0], "{error}");
    fs::write(&file, &after).unwrap();
    let (_, summary, error) = run_import(&file, &["--url", daemon.api_url(), "--id-from", "row"]);
    assert!(row_counts(&summary) == [1, 2, 0, 0] && !error.contains("warning"), "{summary} {error}");
    let file = home.dir().join("columns.csv");
    fs::write(&file, &before).unwrap();
    let (_, summary, error) = run_import(&file, &["--url", daemon.api_url(), "--id-from", "columns"]);
    assert_eq!(row_counts(&summary), [2, 1, 0, 0], "{error}");
    fs::write(&file, with_column).unwrap();
    let (_, summary, error) = run_import(&file, &["--url", daemon.api_url(), "--id-from", "columns"]);
    assert_eq!(row_counts(&summary), [1, 2, 0, 0], "{error}");
    // Ids that are derived from the content of the file change with any change of the file. The
    // import warns.
    let file = home.dir().join("content.csv");
    fs::write(&file, &before).unwrap();
    let (_, summary, error) = run_import(&file, &["--url", daemon.api_url()]);
    assert!(row_counts(&summary) == [3, 0, 0, 0] && !error.contains("warning"), "{summary} {error}");
    fs::write(&file, &after).unwrap();
    let (_, summary, error) = run_import(&file, &["--url", daemon.api_url()]);
    assert!(row_counts(&summary) == [3, 0, 0, 0] && error.contains("--id-from row"), "{summary} {error}");
}

/// Regression test: the progress file identified its target by the URL alone. If another journal was
/// behind the same URL, the import took all rows for already sent.
#[test]
fn another_journal_behind_the_same_address_gets_every_row() {
    let home = DaemonHome::new();
    let file = home.dir().join("events.csv");
    fs::write(&file, format!("{CSV_HEADER}u,a,view,1600000000\nu,b,view,1600000001\n")).unwrap();
    let daemon = home.start(&[]);
    let (api, listen) =
        (daemon.api_url().to_owned(), format!("--listen={}", daemon.api_url().trim_start_matches("http://")));
    assert_eq!(row_counts(&run_import(&file, &["--url", &api]).1), [2, 0, 0, 0]);
    daemon.kill();
    // The daemon has the same journal after a restart.
    let daemon = home.start(&[&listen]);
    assert_eq!(row_counts(&run_import(&file, &["--url", &api]).1), [0, 0, 2, 0]);
    daemon.kill();
    fs::rename(home.data_dir(), home.dir().join("first")).unwrap();
    let daemon = home.start(&[&listen]);
    assert_eq!(row_counts(&run_import(&file, &["--url", &api]).1), [2, 0, 0, 0]);
    daemon.kill();
    // Directories, in turn. The progress file remembers each target.
    let data = home.dir().join("directory");
    let arguments =
        ["--data-dir", data.to_str().unwrap(), "--set", SMALL_NETWORK_SETTINGS[0], "--set", SMALL_NETWORK_SETTINGS[1]];
    assert_eq!(row_counts(&run_import(&file, &arguments).1), [2, 0, 0, 0]);
    assert_eq!(row_counts(&run_import(&file, &arguments).1), [0, 0, 2, 0]);
    fs::remove_dir_all(home.data_dir()).unwrap();
    fs::rename(home.dir().join("first"), home.data_dir()).unwrap();
    let _daemon = home.start(&[&listen]);
    assert_eq!(row_counts(&run_import(&file, &["--url", &api]).1), [0, 0, 2, 0]);
    fs::remove_dir_all(&data).unwrap();
    assert_eq!(row_counts(&run_import(&file, &arguments).1), [2, 0, 0, 0]);
}
