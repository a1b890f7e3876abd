//! Logs followed and files imported by the real binary into a real daemon: each line and each row exactly once, whoever dies meanwhile.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::daemon::{Daemon, Home, left_out, sequor, until};

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
    until(&format!("{count} events"), || (daemon.next_offset() >= count as u64).then_some(()));
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
    let home = Home::new();
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
    assert!(again.status.success() && said.contains("known already"), "{said}{}", String::from_utf8_lossy(&again.stderr));
    assert_each_once(&daemon, 70);
}

#[test]
fn a_real_web_servers_log_is_followed() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/sbin/nginx");
    let nginx = if tools.exists() { tools } else { PathBuf::from("nginx") };
    if Command::new(&nginx).arg("-v").output().is_err() {
        left_out("no log of a real web server is followed, since nginx is not installed");
        return;
    }
    let home = Home::new();
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
    until("nginx", || std::os::unix::net::UnixStream::connect(&socket).ok().map(drop));
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
    until("the new log", || log.exists().then_some(()));
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
    let home = Home::new();
    let path = |name: &str| home.path().join(name);
    let daemon = home.start(&[]);
    let bad = b"user,item,event,timestamp\nu,p0,view,1\nu,view,1\nu,\xff,view,1\nu,p1,view,soon\nu,p1,view,2\n";
    fs::write(path("bad.csv"), bad).unwrap();
    let (csv, faults) = (path("bad.csv"), path("faults.ndjson"));
    let arguments = ["import", csv.to_str().unwrap(), "--url", daemon.api(), "--show", "1", "--faults", faults.to_str().unwrap()];
    let output = run(&arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("bad.csv:3: the row has 3 columns") && !said.contains("bad.csv:4"), "{said}");
    let told = fs::read_to_string(faults).unwrap();
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let places: Vec<_> = told.iter().map(|fault| (fault["line"].as_u64().unwrap(), fault["code"].as_str().unwrap())).collect();
    assert_eq!(places, [(3, "missing"), (4, "not_utf8"), (5, "bad_timestamp")]);
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
