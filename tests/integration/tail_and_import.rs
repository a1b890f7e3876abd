//! `sequor tail` and `sequor import` with a real daemon: each line and row counts exactly once,
//! despite crashes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK_SETTINGS, report_skipped, sequor_command, wait_for};

/// A value of `--rule`: a request for a product is a view event of the item in the path.
const PRODUCT_VIEW_RULE: &str = "view=^/product/(?P<item>[^/?]+)";

/// A process that is killed on drop.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_tail(log: &Path, url: &str) -> KillOnDrop {
    let mut command = sequor_command();
    command.arg("tail").arg(log).args(["--url", url, "--keep-bots", "--rule", PRODUCT_VIEW_RULE]);
    KillOnDrop(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn run_command(arguments: &[&str]) -> Output {
    sequor_command().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The items of the journal's events, in journal order.
fn journal_items(daemon: &Daemon) -> Vec<String> {
    let output = run_command(&["export", "--url", daemon.admin_url(), "--only", "event"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["item_id"].as_str().unwrap().to_owned())
        .collect()
}

fn wait_for_events(daemon: &Daemon, count: usize) {
    wait_for(&format!("{count} events"), || (daemon.next_offset() >= count as u64).then_some(()));
}

/// Asserts that each of `count` items occurs exactly once.
fn assert_each_once(daemon: &Daemon, count: usize) {
    let mut found = journal_items(daemon);
    found.sort();
    let mut expected: Vec<_> = (0..count).map(|number| format!("p{number}")).collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// Appends requests for the products with these numbers.
fn append_requests(log: &Path, numbers: std::ops::Range<usize>) {
    let mut file = File::options().create(true).append(true).open(log).unwrap();
    for number in numbers {
        let line = format!(
            "192.0.2.{} - - [10/Oct/2020:13:55:36 +0000] \"GET /product/p{number} HTTP/1.1\" 200 12 \"-\" \"Firefox\"\n",
            number % 7
        );
        file.write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn tail_survives_rotations_and_restarts() {
    let home = DaemonHome::new();
    let log = home.dir().join("access.log");
    let mut daemon = home.start(&[]);
    let address = daemon.api_url().to_owned();
    append_requests(&log, 0..20);
    let mut follower = start_tail(&log, &address);
    wait_for_events(&daemon, 20);
    // Rotation by renaming; the server still writes to the old file for a while.
    fs::rename(&log, home.dir().join("access.log.1")).unwrap();
    append_requests(&home.dir().join("access.log.1"), 20..30);
    append_requests(&log, 30..40);
    wait_for_events(&daemon, 40);
    // Rotation by copying and truncating, while tail is not running.
    drop(follower);
    append_requests(&log, 40..50);
    fs::copy(&log, home.dir().join("access.log.0")).unwrap();
    File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    append_requests(&log, 50..60);
    follower = start_tail(&log, &address);
    wait_for_events(&daemon, 60);
    // The daemon is killed, and restarts at the same address after more requests.
    daemon.kill();
    append_requests(&log, 60..70);
    daemon = home.start(&[&format!("--listen={}", address.trim_start_matches("http://"))]);
    wait_for_events(&daemon, 70);
    drop(follower);
    // Without the progress file, all rows are sent again, and the daemon counts them as duplicates.
    fs::remove_file(home.dir().join("access.log.sequor")).unwrap();
    let second_run = run_command(&[
        "tail",
        "--once",
        log.to_str().unwrap(),
        "--url",
        &address,
        "--keep-bots",
        "--rule",
        PRODUCT_VIEW_RULE,
    ]);
    let stderr = String::from_utf8_lossy(&second_run.stdout).into_owned();
    assert!(
        second_run.status.success() && stderr.contains("duplicates"),
        "{stderr}{}",
        String::from_utf8_lossy(&second_run.stderr)
    );
    assert_each_once(&daemon, 70);
}

#[test]
fn tail_follows_a_real_nginx_log() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/sbin/nginx");
    let nginx = if tools.exists() { tools } else { PathBuf::from("nginx") };
    if Command::new(&nginx).arg("-v").output().is_err() {
        report_skipped("tail of a real web server's log: nginx is not installed");
        return;
    }
    let home = DaemonHome::new();
    let path = |name: &str| home.dir().join(name);
    fs::create_dir_all(path("shop/product")).unwrap();
    for number in 0..60 {
        fs::write(path("shop/product").join(format!("p{number}")), "a product").unwrap();
    }
    let root = home.dir().display();
    // A Unix socket needs no port, and a single process is killed as a whole.
    let config = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log; events {{}}\n\
         http {{ access_log {root}/access.log combined; client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; \
         uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5; server {{ listen unix:{root}/socket; root {root}/shop; }} }}"
    );
    fs::write(path("nginx.conf"), config).unwrap();
    let server = Command::new(&nginx)
        .arg("-c")
        .arg(path("nginx.conf"))
        .args(["-p", home.dir().to_str().unwrap(), "-e"])
        .arg(path("error.log"))
        .spawn()
        .unwrap();
    let server = KillOnDrop(server);
    let socket = path("socket");
    wait_for("nginx", || std::os::unix::net::UnixStream::connect(&socket).ok().map(drop));
    let append_requests = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            let request = format!("GET /product/p{number} HTTP/1.0\r\nHost: shop\r\nUser-Agent: Firefox\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            std::io::Read::read_to_string(&mut stream, &mut response).unwrap();
            assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        }
    };
    let daemon = home.start(&[]);
    let address = daemon.api_url().to_owned();
    // Over a Unix socket, nginx logs `unix:` as the client address.
    let log = path("access.log");
    let follower = start_tail(&log, &address);
    append_requests(0..20);
    wait_for_events(&daemon, 20);
    fs::rename(&log, path("access.log.1")).unwrap();
    append_requests(20..30);
    assert!(Command::new("sh").args(["-c", &format!("kill -USR1 {}", server.0.id())]).status().unwrap().success());
    wait_for("the new log", || log.exists().then_some(()));
    append_requests(30..40);
    wait_for_events(&daemon, 40);
    drop(follower);
    daemon.kill();
    append_requests(40..60);
    let daemon = home.start(&[&format!("--listen={}", address.trim_start_matches("http://"))]);
    let follower = start_tail(&log, &address);
    wait_for_events(&daemon, 60);
    drop(follower);
    assert_each_once(&daemon, 60);
}

#[test]
fn invalid_rows_are_reported_by_line_and_the_rest_is_imported() {
    let home = DaemonHome::new();
    let path = |name: &str| home.dir().join(name);
    let daemon = home.start(&[]);
    let invalid_rows = b"user,item,event,timestamp\nu,p0,view,1600000001\nu,view,1\nu,\xff,view,1\nu,p1,view,soon\nu,p1,view,1600000002\n";
    fs::write(path("bad.csv"), invalid_rows).unwrap();
    let (csv, faults_file) = (path("bad.csv"), path("faults.ndjson"));
    let arguments = [
        "import",
        csv.to_str().unwrap(),
        "--url",
        daemon.api_url(),
        "--show",
        "1",
        "--faults",
        faults_file.to_str().unwrap(),
    ];
    let output = run_command(&arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("bad.csv:3: the row has 3 columns") && !stderr.contains("bad.csv:4"), "{stderr}");
    let expected = [(3, "missing"), (4, "not_utf8"), (5, "bad_timestamp")].map(|(line, code)| (line, code.to_owned()));
    assert_eq!(reported_faults(&faults_file), expected);
    assert_each_once(&daemon, 2);
    fs::write(path("catalog.csv"), "sku,categories,price\np0,hot|green,4.5\np1,,dear\n").unwrap();
    let catalog = path("catalog.csv");
    let output =
        run_command(&["import", "--items", catalog.to_str().unwrap(), "--map", "item=sku", "--url", daemon.api_url()]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(daemon.get("/v1/items/p0").json()["categories"], serde_json::json!(["hot", "green"]));
    // Imports the same rows into a data directory that no daemon uses.
    let data = path("stopped");
    let output = run_command(&[
        "import",
        csv.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
        "--set",
        "network.hidden=8",
        "--json",
    ]);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &summary["taken"]),
        (Some(2), &Value::from(2)),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs an import and returns the exit code, the summary and the error output.
fn run_import(file: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = run_command(&[&["import", file.to_str().unwrap(), "--json"], arguments].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    (
        output.status.code(),
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}")),
        stderr,
    )
}

/// The line and code of each fault that an import reported.
fn reported_faults(file: &Path) -> Vec<(u64, String)> {
    let faults_file = fs::read_to_string(file).unwrap();
    let faults_file = faults_file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    faults_file.map(|fault| (fault["line"].as_u64().unwrap(), fault["code"].as_str().unwrap().to_owned())).collect()
}

/// Kills an import in the middle of its file and starts it again; `arguments` set the target.
/// Faulty rows in the middle stop the import there: it blocks while it writes error messages that
/// nobody reads.
fn import_with_kill(home: &DaemonHome, arguments: &[&str]) {
    const HALF_ROWS: usize = 2_000;
    const FAULTY_ROWS: usize = 2_000;
    let file = home.dir().join("events.csv");
    let mut rows = "ts,visitorid,itemid\n".to_owned();
    for row in 0..2 * HALF_ROWS {
        if row == HALF_ROWS {
            rows.push_str(&"soon,u,p\n".repeat(FAULTY_ROWS));
        }
        // Out of order by a few seconds.
        rows.push_str(&format!("{},u{},p{row}\n", 1_600_000_000 + row + row % 5 * 3, row % 50));
    }
    fs::write(&file, rows).unwrap();
    let common = [
        "--map",
        "user=visitorid,item=itemid,time=ts",
        "--type",
        "view",
        "--time-unit",
        "s",
        "--window",
        "20s",
        "--batch",
        "100",
    ];
    let arguments = [&common[..], arguments].concat();
    let mut command = sequor_command();
    command.arg("import").arg(&file).args(&arguments).args(["--show", "1000000"]);
    let mut killed =
        KillOnDrop(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let progress_file = home.dir().join("events.csv.import");
    let through = || {
        serde_json::from_str::<Value>(&fs::read_to_string(&progress_file).ok()?).ok()?["targets"][0]["through"].as_u64()
    };
    wait_for("the middle of the file", || through().filter(|through| *through as usize > HALF_ROWS / 2));
    assert_eq!(killed.0.try_wait().unwrap(), None, "the import ended before it could be killed");
    drop(killed);
    assert!(
        (through().unwrap() as usize) < HALF_ROWS + FAULTY_ROWS,
        "the import got past the middle before it was killed"
    );
    let (code, summary, stderr) = run_import(&file, &arguments);
    assert_eq!((code, &summary["faulty"]), (Some(2), &Value::from(FAULTY_ROWS)), "{stderr}");
    let count = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!(count("taken") + count("duplicates") + count("skipped"), 2 * HALF_ROWS as u64, "{summary}");
    assert!(count("skipped") > HALF_ROWS as u64 / 4 && count("taken") >= HALF_ROWS as u64, "{summary}");
    let (code, second_run, _) = run_import(&file, &arguments);
    assert_eq!(
        (code, &second_run["skipped"], &second_run["taken"]),
        (Some(2), &Value::from(2 * HALF_ROWS), &Value::from(0))
    );
    // Without the progress file, all rows are sent again, and the daemon counts them as duplicates.
    fs::remove_file(progress_file).unwrap();
    let (_, second_run, _) = run_import(&file, &arguments);
    assert_eq!((&second_run["duplicates"], &second_run["taken"]), (&Value::from(2 * HALF_ROWS), &Value::from(0)));
}

#[test]
fn killed_import_resumes_and_each_row_counts_once() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    import_with_kill(&home, &["--url", daemon.api_url()]);
    assert_each_once(&daemon, 4_000);
}

#[test]
fn killed_offline_import_resumes_and_each_row_counts_once() {
    let home = DaemonHome::new();
    let data = home.data_dir();
    import_with_kill(
        &home,
        &["--data-dir", data.to_str().unwrap(), "--set", SMALL_NETWORK_SETTINGS[0], "--set", SMALL_NETWORK_SETTINGS[1]],
    );
    assert_each_once(&home.start(&[]), 4_000);
}

#[test]
fn unsorted_rows_are_sorted_within_the_window_and_late_rows_are_counted() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let file = home.dir().join("events.csv");
    // The times are in minutes; the default window is one hour. The event of minute 10 is 140
    // minutes late.
    let minutes = [60, 30, 45, 90, 31, 150, 100, 10, 151];
    let rows = minutes.iter().map(|minute| format!("ann,p{minute},view,{}\n", 1_600_000_000 + minute * 60));
    fs::write(&file, std::iter::once("user,item,event,timestamp\n".to_owned()).chain(rows).collect::<String>())
        .unwrap();
    let (code, summary, stderr) = run_import(&file, &["--url", daemon.api_url()]);
    assert_eq!((code, &summary["taken"], &summary["late"]), (Some(0), &Value::from(9), &Value::from(1)), "{stderr}");
    assert_eq!(journal_items(&daemon), ["p30", "p31", "p45", "p60", "p90", "p10", "p100", "p150", "p151"]);
    // With a window of 0, rows keep the file's order. Every row that is older than a row before it
    // counts as late.
    fs::write(
        &file,
        "user,item,event,timestamp\nbob,p2,view,1700000002\nbob,p1,view,1700000001\nbob,p3,view,1700000003\n",
    )
    .unwrap();
    let (code, summary, stderr) = run_import(&file, &["--url", daemon.api_url(), "--window", "0s"]);
    assert_eq!((code, &summary["taken"], &summary["late"]), (Some(0), &Value::from(3), &Value::from(1)), "{stderr}");
    assert_eq!(journal_items(&daemon)[9..], ["p2", "p1", "p3"]);
}

/// Regression test: a truncated download was imported up to the truncation, with exit code 2 and
/// the message "everything else was taken". These rows had ids of the truncated file, so an import
/// of the complete file duplicated them.
#[test]
fn a_truncated_file_is_named_and_nothing_of_it_is_imported() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let mut rows = "user,item,event,timestamp\n".to_owned();
    // The user ids are random, so that the data compresses badly and the compressed file has more
    // than one block.
    let mut random = crate::random::TestRng(3);
    for row in 0..20_000 {
        rows.push_str(&format!("u{},p{row},view,{}\n", random.next_u64(), 1_600_000_000 + row));
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(rows.as_bytes()).unwrap();
    let complete = home.dir().join("complete.csv");
    fs::write(&complete, "user,item,event,timestamp\nu,p0,view,1600000000\n").unwrap();
    let complete = complete.to_str().unwrap();
    for (name, packed) in
        [("cut.csv.gz", gzip.finish().unwrap()), ("cut.csv.zst", zstd::encode_all(rows.as_bytes(), 1).unwrap())]
    {
        let file = home.dir().join(name);
        for end in [packed.len() * 2 / 5, packed.len() - 3] {
            fs::write(&file, &packed[..end]).unwrap();
            let name = file.to_str().unwrap();
            for arguments in
                [&["import", complete, name, "--url", daemon.api_url()][..], &["replay", name], &["train", name]]
            {
                let output = run_command(arguments);
                let error = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
                assert!(
                    error.contains("the compressed stream ends too early; the file is truncated"),
                    "{arguments:?}: {error}"
                );
                assert!(!error.contains("accepted"), "{error}");
            }
            assert!(!home.dir().join(format!("{name}.import")).exists());
        }
    }
    assert_eq!(daemon.next_offset(), 0);
    // The complete file is imported, once.
    let file = home.dir().join("cut.csv.zst");
    fs::write(&file, zstd::encode_all(rows.as_bytes(), 1).unwrap()).unwrap();
    let (code, summary, error) = run_import(&file, &["--url", daemon.api_url()]);
    assert_eq!((code, &summary["taken"]), (Some(0), &Value::from(20_000)), "{error}");
}

#[test]
fn bad_json_lines_are_rejected_by_line() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let file = home.dir().join("bad.ndjson");
    let good = |id: &str| {
        format!("{{\"user_id\":\"u\",\"type\":\"view\",\"item_id\":\"q\",\"event_id\":\"{id}\"}}\n").into_bytes()
    };
    fs::write(
        &file,
        [good("j1"), b"{\"user_id\":\"u\"}\n{\"user_id\":\"\xff\"}\n{\"user_id\":\n".to_vec(), good("j2")].concat(),
    )
    .unwrap();
    let faults_file = home.dir().join("faults.ndjson");
    let (code, summary, stderr) =
        run_import(&file, &["--url", daemon.api_url(), "--faults", faults_file.to_str().unwrap()]);
    assert_eq!((code, &summary["taken"], &summary["faulty"]), (Some(2), &Value::from(2), &Value::from(3)), "{stderr}");
    let expected = [(2, "missing"), (3, "not_utf8"), (4, "syntax")].map(|(line, code)| (line, code.to_owned()));
    assert_eq!(reported_faults(&faults_file), expected);
}
