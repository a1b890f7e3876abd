//! Tailing logs and importing files with the real binary into a real daemon: each line and each row
//! counts exactly once, despite crashes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK, report_skipped, sequor, wait_for};

const RULE: &str = "view=^/product/(?P<item>[^/?]+)";

/// A process that dies with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tail(log: &Path, url: &str) -> Running {
    let mut command = sequor();
    command.arg("tail").arg(log).args(["--url", url, "--keep-bots", "--rule", RULE]);
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn run(arguments: &[&str]) -> Output {
    sequor().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The items of the journal's events, in its order.
fn items(daemon: &Daemon) -> Vec<String> {
    let output = run(&["export", "--url", daemon.admin_address(), "--only", "event"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["item_id"].as_str().unwrap().to_owned()).collect()
}

fn arrived(daemon: &Daemon, count: usize) {
    wait_for(&format!("{count} events"), || (daemon.next_offset() >= count as u64).then_some(()));
}

/// Each of so many items once.
fn assert_each_once(daemon: &Daemon, count: usize) {
    let mut found = items(daemon);
    found.sort();
    let mut expected: Vec<_> = (0..count).map(|number| format!("p{number}")).collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// Appends requests for the products of these numbers.
fn visit(log: &Path, numbers: std::ops::Range<usize>) {
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
fn a_log_is_followed_through_rotations_and_restarts() {
    let home = DaemonHome::new();
    let log = home.path().join("access.log");
    let mut daemon = home.start(&[]);
    let address = daemon.api().to_owned();
    visit(&log, 0..20);
    let mut follower = tail(&log, &address);
    arrived(&daemon, 20);
    // Renamed, and written on for a while under its new name.
    fs::rename(&log, home.path().join("access.log.1")).unwrap();
    visit(&home.path().join("access.log.1"), 20..30);
    visit(&log, 30..40);
    arrived(&daemon, 40);
    // The tail dies; meanwhile the log is copied and emptied.
    drop(follower);
    visit(&log, 40..50);
    fs::copy(&log, home.path().join("access.log.0")).unwrap();
    File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    visit(&log, 50..60);
    follower = tail(&log, &address);
    arrived(&daemon, 60);
    // The daemon dies while the log goes on, and comes back at the same address.
    daemon.kill();
    visit(&log, 60..70);
    daemon = home.start(&[&format!("--listen={}", address.trim_start_matches("http://"))]);
    arrived(&daemon, 70);
    drop(follower);
    // The note of the place is lost: everything is sent again, and nothing counts again.
    fs::remove_file(home.path().join("access.log.sequor")).unwrap();
    let again = run(&["tail", "--once", log.to_str().unwrap(), "--url", &address, "--keep-bots", "--rule", RULE]);
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success() && said.contains("duplicates"), "{said}{}", String::from_utf8_lossy(&again.stderr));
    assert_each_once(&daemon, 70);
}

#[test]
fn a_real_web_servers_log_is_followed() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/sbin/nginx");
    let nginx = if tools.exists() { tools } else { PathBuf::from("nginx") };
    if Command::new(&nginx).arg("-v").output().is_err() {
        report_skipped("no log of a real web server is followed, since nginx is not installed");
        return;
    }
    let home = DaemonHome::new();
    let path = |name: &str| home.path().join(name);
    fs::create_dir_all(path("shop/product")).unwrap();
    for number in 0..60 {
        fs::write(path("shop/product").join(format!("p{number}")), "a product").unwrap();
    }
    let root = home.path().display();
    // A socket of its own needs no port, and one process dies as a whole.
    let config = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log; events {{}}\n\
         http {{ access_log {root}/access.log combined; client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; \
         uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5; server {{ listen unix:{root}/socket; root {root}/shop; }} }}"
    );
    fs::write(path("nginx.conf"), config).unwrap();
    let server = Command::new(&nginx)
        .arg("-c")
        .arg(path("nginx.conf"))
        .args(["-p", home.path().to_str().unwrap(), "-e"])
        .arg(path("error.log"))
        .spawn()
        .unwrap();
    let server = Running(server);
    let socket = path("socket");
    wait_for("nginx", || std::os::unix::net::UnixStream::connect(&socket).ok().map(drop));
    let visit = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            let request = format!("GET /product/p{number} HTTP/1.0\r\nHost: shop\r\nUser-Agent: Firefox\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    };
    let daemon = home.start(&[]);
    let address = daemon.api().to_owned();
    // Over its socket nginx has no address to tell: `unix:` stands there.
    let log = path("access.log");
    let follower = tail(&log, &address);
    visit(0..20);
    arrived(&daemon, 20);
    fs::rename(&log, path("access.log.1")).unwrap();
    visit(20..30);
    assert!(Command::new("sh").args(["-c", &format!("kill -USR1 {}", server.0.id())]).status().unwrap().success());
    wait_for("the new log", || log.exists().then_some(()));
    visit(30..40);
    arrived(&daemon, 40);
    drop(follower);
    daemon.kill();
    visit(40..60);
    let daemon = home.start(&[&format!("--listen={}", address.trim_start_matches("http://"))]);
    let follower = tail(&log, &address);
    arrived(&daemon, 60);
    drop(follower);
    assert_each_once(&daemon, 60);
}

#[test]
fn bad_rows_are_told_by_line_and_the_rest_is_taken() {
    let home = DaemonHome::new();
    let path = |name: &str| home.path().join(name);
    let daemon = home.start(&[]);
    let bad = b"user,item,event,timestamp\nu,p0,view,1\nu,view,1\nu,\xff,view,1\nu,p1,view,soon\nu,p1,view,2\n";
    fs::write(path("bad.csv"), bad).unwrap();
    let (csv, told) = (path("bad.csv"), path("faults.ndjson"));
    let arguments = ["import", csv.to_str().unwrap(), "--url", daemon.api(), "--show", "1", "--faults", told.to_str().unwrap()];
    let output = run(&arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("bad.csv:3: the row has 3 columns") && !said.contains("bad.csv:4"), "{said}");
    let expected = [(3, "missing"), (4, "not_utf8"), (5, "bad_timestamp")].map(|(line, code)| (line, code.to_owned()));
    assert_eq!(faults(&told), expected);
    assert_each_once(&daemon, 2);
    fs::write(path("catalog.csv"), "sku,categories,price\np0,hot|green,4.5\np1,,dear\n").unwrap();
    let catalog = path("catalog.csv");
    let output = run(&["import", "--items", catalog.to_str().unwrap(), "--map", "item=sku", "--url", daemon.api()]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(daemon.get("/v1/items/p0").json()["categories"], serde_json::json!(["hot", "green"]));
    // The same rows into a directory that no daemon serves.
    let data = path("stopped");
    let output = run(&["import", csv.to_str().unwrap(), "--data-dir", data.to_str().unwrap(), "--set", "network.hidden=8", "--json"]);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &summary["taken"]), (Some(2), &Value::from(2)), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Imports this file with these arguments, and says how it ended, what was done and what it said of
/// it.
fn import(file: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = run(&[&["import", file.to_str().unwrap(), "--json"], arguments].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}")), said)
}

/// The faults that an import wrote down: where, and which.
fn faults(file: &Path) -> Vec<(u64, String)> {
    let told = fs::read_to_string(file).unwrap();
    let told = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    told.map(|fault| (fault["line"].as_u64().unwrap(), fault["code"].as_str().unwrap().to_owned())).collect()
}

/// An import is killed in the middle of its file and started again; `arguments` say where to. It
/// cannot get beyond the middle before: there stand faulty rows, and it waits for somebody to read
/// what it says of them.
fn import_killed_half_way(home: &DaemonHome, arguments: &[&str]) {
    const HALF: usize = 2_000;
    const FAULTY: usize = 2_000;
    let file = home.path().join("events.csv");
    let mut rows = "ts,visitorid,itemid\n".to_owned();
    for row in 0..2 * HALF {
        if row == HALF {
            rows.push_str(&"soon,u,p\n".repeat(FAULTY));
        }
        // Unsorted within some seconds.
        rows.push_str(&format!("{},u{},p{row}\n", 1_600_000_000 + row + row % 5 * 3, row % 50));
    }
    fs::write(&file, rows).unwrap();
    let common = ["--map", "user=visitorid,item=itemid,time=ts", "--type", "view", "--time-unit", "s", "--window", "20s", "--batch", "100"];
    let arguments = [&common[..], arguments].concat();
    let mut command = sequor();
    command.arg("import").arg(&file).args(&arguments).args(["--show", "1000000"]);
    let mut killed = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let place = home.path().join("events.csv.import");
    let through = || serde_json::from_str::<Value>(&fs::read_to_string(&place).ok()?).ok()?["through"].as_u64();
    wait_for("the middle", || through().filter(|through| *through as usize > HALF / 2));
    assert_eq!(killed.0.try_wait().unwrap(), None, "it was over before it could be killed");
    drop(killed);
    assert!((through().unwrap() as usize) < HALF + FAULTY, "it was to be killed half-way");
    let (code, summary, said) = import(&file, &arguments);
    assert_eq!((code, &summary["faulty"]), (Some(2), &Value::from(FAULTY)), "{said}");
    let count = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!(count("taken") + count("duplicates") + count("skipped"), 2 * HALF as u64, "{summary}");
    assert!(count("skipped") > HALF as u64 / 4 && count("taken") >= HALF as u64, "{summary}");
    let (code, again, _) = import(&file, &arguments);
    assert_eq!((code, &again["skipped"], &again["taken"]), (Some(2), &Value::from(2 * HALF), &Value::from(0)));
    // Without its place it sends everything once more, and nothing counts once more.
    fs::remove_file(place).unwrap();
    let (_, again, _) = import(&file, &arguments);
    assert_eq!((&again["duplicates"], &again["taken"]), (&Value::from(2 * HALF), &Value::from(0)));
}

#[test]
fn an_import_that_was_killed_goes_on_and_each_row_counts_once() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    import_killed_half_way(&home, &["--url", daemon.api()]);
    assert_each_once(&daemon, 4_000);
}

#[test]
fn an_import_into_a_directory_that_was_killed_goes_on_and_each_row_counts_once() {
    let home = DaemonHome::new();
    let data = home.data_dir();
    import_killed_half_way(&home, &["--data-dir", data.to_str().unwrap(), "--set", SMALL_NETWORK[0], "--set", SMALL_NETWORK[1]]);
    assert_each_once(&home.start(&[]), 4_000);
}

#[test]
fn unsorted_rows_are_placed_by_their_time_and_late_ones_are_counted() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let file = home.path().join("events.csv");
    // Minutes; the window is an hour. That of minute 10 comes 140 minutes late.
    let minutes = [60, 30, 45, 90, 31, 150, 100, 10, 151];
    let rows = minutes.iter().map(|minute| format!("ann,p{minute},view,{}\n", 1_600_000_000 + minute * 60));
    fs::write(&file, std::iter::once("user,item,event,timestamp\n".to_owned()).chain(rows).collect::<String>()).unwrap();
    let (code, summary, said) = import(&file, &["--url", daemon.api()]);
    assert_eq!((code, &summary["taken"], &summary["late"]), (Some(0), &Value::from(9), &Value::from(1)), "{said}");
    assert_eq!(items(&daemon), ["p30", "p31", "p45", "p60", "p90", "p10", "p100", "p150", "p151"]);
    // As they come, if that is wished: all that is before another is late then.
    fs::write(&file, "user,item,event,timestamp\nbob,p2,view,2\nbob,p1,view,1\nbob,p3,view,3\n").unwrap();
    let (code, summary, said) = import(&file, &["--url", daemon.api(), "--window", "0s"]);
    assert_eq!((code, &summary["taken"], &summary["late"]), (Some(0), &Value::from(3), &Value::from(1)), "{said}");
    assert_eq!(items(&daemon)[9..], ["p2", "p1", "p3"]);
}

#[test]
fn a_torn_file_gives_the_rows_before_the_tear() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let bad = |row: usize| match row {
        10 => Some((b"u,view,1\n".to_vec(), "missing")),
        20 => Some((b"u,\xff,view,1\n".to_vec(), "not_utf8")),
        _ => None,
    };
    let mut rows = b"user,item,event,timestamp\n".to_vec();
    // What repeats itself would be packed into one block, and torn it would give nothing.
    let mut random = crate::random::TestRng(3);
    for row in 0..20_000 {
        let good = || format!("u{},p{row},view,{}\n", random.next(), 1_600_000_000 + row).into_bytes();
        rows.extend(bad(row).map_or_else(good, |(bad, _)| bad));
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&rows).unwrap();
    let (gzip, zstd) = (gzip.finish().unwrap(), zstd::encode_all(&rows[..], 1).unwrap());
    let mut most = 0;
    for (name, packed) in [("torn.csv.gz", gzip), ("torn.csv.zst", zstd)] {
        let (file, told) = (home.path().join(name), home.path().join("faults.ndjson"));
        fs::write(&file, &packed[..packed.len() * 2 / 3]).unwrap();
        let (code, summary, said) = import(&file, &["--url", daemon.api(), "--map", "id=item", "--faults", told.to_str().unwrap()]);
        let taken = (summary["taken"].as_u64().unwrap() + summary["duplicates"].as_u64().unwrap()) as usize;
        assert!(code == Some(2) && taken > 1_000, "{name}: {said}");
        // The header, the rows that were taken, two that are faulty, and the one that is torn.
        let torn = taken as u64 + 4;
        let expected = [(12, "missing"), (22, "not_utf8"), (torn, "truncated")].map(|(line, code)| (line, code.to_owned()));
        assert_eq!(faults(&told), expected, "{said}");
        assert!(said.contains(&format!("{name}:{torn}: the compressed stream ends too early; the file is truncated")), "{said}");
        most = most.max(taken);
    }
    let mut found = items(&daemon);
    found.sort();
    let mut expected: Vec<_> = (0..most + 2).filter(|row| bad(*row).is_none()).map(|row| format!("p{row}")).collect();
    expected.sort();
    assert_eq!(found, expected);
    // The same of objects, one a line.
    let file = home.path().join("bad.ndjson");
    let good = |id: &str| format!("{{\"user_id\":\"u\",\"type\":\"view\",\"item_id\":\"q\",\"event_id\":\"{id}\"}}\n").into_bytes();
    fs::write(&file, [good("j1"), b"{\"user_id\":\"u\"}\n{\"user_id\":\"\xff\"}\n{\"user_id\":\n".to_vec(), good("j2")].concat()).unwrap();
    let told = home.path().join("faults.ndjson");
    let (code, summary, said) = import(&file, &["--url", daemon.api(), "--faults", told.to_str().unwrap()]);
    assert_eq!((code, &summary["taken"], &summary["faulty"]), (Some(2), &Value::from(2), &Value::from(3)), "{said}");
    let expected = [(2, "missing"), (3, "not_utf8"), (4, "syntax")].map(|(line, code)| (line, code.to_owned()));
    assert_eq!(faults(&told), expected);
}
