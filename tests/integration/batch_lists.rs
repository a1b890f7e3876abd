//! `sequor recommend` with the real binary: lists of many users, from a daemon and from a data
//! directory.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[cfg(feature = "parquet")]
use parquet::file::reader::{FileReader, SerializedFileReader};
#[cfg(feature = "parquet")]
use parquet::record::{Row, RowAccessor};
use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK_SETTINGS, event_of_kind, run_sequor};

/// A way to a daemon that ends after a number of requests.
struct Way {
    url: String,
    remaining: Arc<AtomicUsize>,
}

impl Way {
    /// Forwards connections to the daemon's API until the tests end.
    fn to(daemon: &Daemon) -> Self {
        let target = daemon.api_url().trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let remaining = Arc::new(AtomicUsize::new(0));
        let allowed = Arc::clone(&remaining);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
                let (mut requests, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (mut answers, mut to_client, allowed) = (server, client, Arc::clone(&allowed));
                thread::spawn(move || std::io::copy(&mut answers, &mut to_client));
                thread::spawn(move || {
                    let mut request = [0; 4096];
                    // Each request arrives as one piece.
                    while let Ok(length @ 1..) = requests.read(&mut request) {
                        let take = |left: usize| left.checked_sub(1);
                        if allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                            break;
                        }
                        to_server.write_all(&request[..length]).unwrap();
                    }
                    let _ = requests.shutdown(Shutdown::Both);
                });
            }
        });
        Self { url, remaining }
    }

    fn allow(&self, requests: usize) {
        self.remaining.store(requests, Ordering::Relaxed);
    }
}

/// More than a thread of the command handles in a row.
const USERS: usize = 90;

/// Starts a daemon with views of each user.
fn start_with_users(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&[]);
    let mut events = Vec::new();
    for number in 0..USERS * 8 {
        let (user, item) = (number % USERS, (number / USERS + number % USERS) % 9);
        let mut event = event_of_kind(&format!("e{number}"), &format!("u{user:02}"), &format!("i{item}"), "view");
        event["timestamp"] = json!(1_700_000_000_000_u64 + number as u64 * 1_000);
        events.push(event);
    }
    events.chunks(40).for_each(|batch| drop(daemon.send_events(batch)));
    daemon.wait_until_learned(events.len() as u64);
    daemon
}

fn run_recommend(output: &Path, arguments: &[&str]) -> (bool, String) {
    let output = output.to_str().unwrap();
    let run = run_sequor(&[&["recommend", "--output", output], arguments].concat());
    (run.status.success(), String::from_utf8_lossy(&run.stderr).into_owned())
}

fn lists(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn item_ids(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["item_id"].as_str().unwrap()).collect()
}

#[test]
fn a_daemon_and_its_data_directory_give_the_same_lists_without_impressions() {
    let home = DaemonHome::new();
    let daemon = start_with_users(&home);
    let (from_daemon, from_directory) = (home.dir().join("daemon.ndjson"), home.dir().join("directory.ndjson"));
    let offset = daemon.next_offset();
    let urls = ["--url", daemon.api_url(), "--admin-url", daemon.admin_url()];
    let (succeeded, errors) = run_recommend(&from_daemon, &[&["--all", "--limit", "3"], &urls[..]].concat());
    assert!(succeeded, "{errors}");
    assert_eq!(daemon.next_offset(), offset, "the journal records no impression");
    let expected: Vec<_> = (0..USERS).map(|user| format!("u{user:02}")).collect();
    let written = lists(&from_daemon);
    let users: Vec<_> = written.iter().map(|list| list["user_id"].as_str().unwrap()).collect();
    assert_eq!(users, expected);
    for list in &written {
        let user = list["user_id"].as_str().unwrap();
        let answer = daemon.get(&format!("/v1/users/{user}/recommendations?consent=session&limit=3"));
        assert_eq!(item_ids(list), answer.item_ids());
    }

    assert!(daemon.terminate().success());
    let data_dir = home.data_dir();
    let settings = SMALL_NETWORK_SETTINGS.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<_> =
        ["--all", "--limit", "3", "--data-dir", data_dir.to_str().unwrap()].into_iter().chain(settings).collect();
    let (succeeded, errors) = run_recommend(&from_directory, &arguments);
    assert!(succeeded, "{errors}");
    let items = |lists: &[Value]| lists.iter().map(|list| item_ids(list).join(",")).collect::<Vec<_>>();
    assert_eq!(items(&lists(&from_directory)), items(&written));
}

#[test]
fn a_second_run_continues_after_the_last_complete_line() {
    let home = DaemonHome::new();
    let daemon = start_with_users(&home);
    let (users, output) = (home.dir().join("users.txt"), home.dir().join("lists.csv"));
    fs::write(&users, "u05\nu03\nu01\n").unwrap();
    let way = Way::to(&daemon);
    let arguments = ["--users", users.to_str().unwrap(), "--url", &way.url, "--in-flight", "1"];
    way.allow(2);
    let (succeeded, errors) = run_recommend(&output, &arguments);
    assert!(!succeeded && errors.contains("no list for the user `u01`"), "{errors}");
    way.allow(100);
    let unfinished = home.dir().join("lists.csv.unfinished");
    assert_eq!(fs::read_to_string(&unfinished).unwrap().lines().count(), 3, "the header and two lists");
    assert!(!output.exists());

    let other = [&arguments[..], &["--limit", "2"]].concat();
    let (succeeded, errors) = run_recommend(&output, &other);
    assert!(!succeeded && errors.contains("other arguments"), "{errors}");

    let (succeeded, errors) = run_recommend(&output, &arguments);
    assert!(succeeded && errors.contains("continuing after 2 lists"), "{errors}");
    let text = fs::read_to_string(&output).unwrap();
    let first_fields: Vec<_> = text.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(first_fields, ["user_id", "u05", "u03", "u01"]);
    assert!(text.lines().skip(1).all(|line| line.split(',').nth(1).unwrap().split('|').count() == 9), "{text}");
    assert!(!unfinished.exists());
}

#[cfg(feature = "parquet")]
/// The rows of a Parquet file: user, position, item and score.
fn parquet_rows(file: &Path) -> Vec<(String, i32, String, f32)> {
    let reader = SerializedFileReader::new(fs::File::open(file).unwrap()).unwrap();
    let row = |row: parquet::errors::Result<Row>| {
        let row = row.unwrap();
        let text = |column| row.get_string(column).unwrap().clone();
        assert!(!text(4).is_empty() && !text(5).is_empty(), "{row:?}");
        (text(0), row.get_int(1).unwrap(), text(2), row.get_float(3).unwrap())
    };
    reader.get_row_iter(None).unwrap().map(row).collect()
}

#[cfg(feature = "parquet")]
#[test]
fn an_interrupted_parquet_file_is_continued_and_has_the_rows_of_the_lists() {
    let home = DaemonHome::new();
    let daemon = start_with_users(&home);
    let (users, output) = (home.dir().join("users.txt"), home.dir().join("lists.parquet"));
    fs::write(&users, "u05\nu01\n").unwrap();
    let way = Way::to(&daemon);
    let arguments = ["--users", users.to_str().unwrap(), "--url", &way.url, "--in-flight", "1", "--limit", "4"];
    way.allow(1);
    let (succeeded, errors) = run_recommend(&output, &arguments);
    assert!(!succeeded && !output.exists(), "{errors}");
    way.allow(100);
    let unfinished = home.dir().join("lists.parquet.unfinished");
    assert_eq!(lists(&unfinished).len(), 1);

    let (succeeded, errors) = run_recommend(&output, &arguments);
    assert!(succeeded && errors.contains("continuing after 1 lists"), "{errors}");
    assert!(!unfinished.exists() && !home.dir().join("lists.parquet.progress").exists());
    let as_lines = home.dir().join("lists.ndjson");
    let (succeeded, errors) = run_recommend(&as_lines, &arguments);
    assert!(succeeded, "{errors}");
    let mut expected = Vec::new();
    for list in lists(&as_lines) {
        let user = list["user_id"].as_str().unwrap();
        for (position, item) in (1..).zip(list["items"].as_array().unwrap()) {
            let score = item["score"].as_f64().unwrap() as f32;
            expected.push((user.to_owned(), position, item["item_id"].as_str().unwrap().to_owned(), score));
        }
    }
    assert_eq!(parquet_rows(&output), expected);
    assert_eq!(expected.len(), 8);
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_build_without_parquet_names_the_ways_out() {
    let folder = tempfile::tempdir().unwrap();
    let (succeeded, errors) = run_recommend(&folder.path().join("lists.parquet"), &["--all"]);
    assert!(!succeeded && errors.contains("`--features parquet`, or write an .ndjson or .csv file"), "{errors}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn wrong_arguments_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (succeeded, errors) = run_recommend(&folder.path().join("lists.xlsx"), &["--all"]);
    assert!(!succeeded && errors.contains(".ndjson, .jsonl, .csv or .parquet"), "{errors}");
    let (succeeded, errors) = run_recommend(&folder.path().join("lists.csv"), &[]);
    assert!(!succeeded && errors.contains("--users") && errors.contains("--all"), "{errors}");
}
