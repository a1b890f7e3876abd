//! The admin pages, the beacon, the widget and the demo's shop, in a real Chromium.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::daemon::{DaemonHome, SMALL_NETWORK_SETTINGS, run_sequor, sequor_command, wait_for};
use crate::random::random_visits;

/// The folder of the browser driver that `tests/run` downloads, and of the screenshots.
fn browser_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser")
}

/// Whether a browser, its driver and node are installed.
fn is_browser_available() -> bool {
    let fetched = browser_dir().join("../tools/usr/lib/chromium/chromium-headless-shell").exists();
    let is_installed = |program: &str| Command::new(program).arg("--version").output().is_ok();
    browser_dir().join("node_modules/axe-core").exists()
        && is_installed("node")
        && (fetched || is_installed("chromium") || is_installed("chromium-headless-shell"))
}

/// Runs a browser script with these arguments.
fn run_script(script: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
    let output =
        Command::new("node").arg(script).arg(browser_dir()).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The first events of a recorded shop, or generated ones if the recording is missing.
fn shop_events(count: usize) -> Vec<Value> {
    let data = std::env::var_os("SEQUOR_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let Ok(file) = std::fs::File::open(data.join("yoochoose100k.csv.gz")) else {
        let one = |visit: crate::random::Visit| json!({ "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
        return random_visits(7, count).into_iter().map(one).collect();
    };
    let text = std::io::read_to_string(GzDecoder::new(file)).unwrap();
    let one = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        let at = fields[3].parse::<i64>().unwrap() * 1000;
        json!({ "user_id": fields[0], "item_id": fields[1], "type": fields[2], "timestamp": at })
    };
    text.lines().skip(1).take(count).map(one).collect()
}

#[test]
fn admin_pages_work_and_are_accessible() {
    if !is_browser_available() {
        // Bypasses the capture of test output, so that the message is visible.
        writeln!(
            std::io::stderr(),
            "SKIPPED: admin pages, beacon, widget and shop: Chromium, node or the browser driver is not installed (run tests/run)"
        )
        .unwrap();
        return;
    }
    let home = DaemonHome::new();
    let daemon =
        home.start(&["learning.interval=128", "clusters.every=512", "clusters.lag=128", "store.checkpoint_every=1000"]);
    let events = shop_events(2500);
    for batch in events.chunks(500) {
        daemon.send_events(batch);
    }
    daemon.wait_until_learned(events.len() as u64);
    let user = events[events.len() - 1]["user_id"].as_str().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/pages.mjs");
    let output = Command::new("node")
        .arg(script)
        .arg(browser_dir())
        .args([daemon.admin_url(), daemon.api_url(), user])
        .arg(home.dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    stdout
        .lines()
        .filter(|line| line.starts_with("SKIPPED"))
        .for_each(|line| writeln!(std::io::stderr(), "{line}").unwrap());
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
}

/// Regression test: one event over 64 KiB blocked every later event, and a single-page application
/// reported only its first item.
#[test]
fn the_beacon_sends_in_parts_and_follows_a_single_page_application() {
    run_in_simulated_page(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/routes/capture.js"));
}

/// The daemon shortens the script.
#[test]
fn the_served_beacon_works_like_its_source() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let served = home.dir().join("capture.js");
    std::fs::write(&served, daemon.get("/v1/capture.js").body).unwrap();
    run_in_simulated_page(&served);
}

fn run_in_simulated_page(beacon: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/beacon_script.mjs");
    let output = Command::new("node").arg(script).arg(beacon).stdin(Stdio::null()).output();
    let Ok(output) = output else {
        return crate::daemon::report_skipped("the beacon's script is not tested, because node is not installed");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn beacon_sends_each_event_once_and_respects_opt_outs() {
    if !is_browser_available() {
        // The test above reports a missing browser.
        return;
    }
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    run_script("beacon.mjs", &[daemon.admin_url(), daemon.api_url()]);
}

#[test]
fn documented_web_page_snippet_works() {
    if !is_browser_available() {
        return;
    }
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    run_script("readme.mjs", &[daemon.admin_url(), daemon.api_url(), &crate::readme::page_with_beacon()]);
}

/// Creates a key in a data directory.
fn create_key(home: &DaemonHome, scopes: &str) -> String {
    let data_dir = home.data_dir();
    let output = run_sequor(&["key", "create", "k", "--scope", scopes, "--data-dir", data_dir.to_str().unwrap()]);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn widget_shows_lists_on_pages_of_other_origins() {
    if !is_browser_available() {
        return;
    }
    let (home, keyed_home) = (DaemonHome::new(), DaemonHome::new());
    let keys = ["write,read,items", "write", "read-own"].map(|scopes| create_key(&keyed_home, scopes));
    create_key(&keyed_home, "admin");
    let token = run_sequor(&["key", "token", "ann", "--key", &keys[2]]);
    let token = String::from_utf8(token.stdout).unwrap();
    let origins = "server.cors_origins=[\"http://shop.example\"]";
    let daemon = home.start(&[origins]);
    let keyed = keyed_home.start(&[origins, "server.keys=required"]);
    run_script(
        "widget.mjs",
        &[daemon.admin_url(), daemon.api_url(), keyed.api_url(), &keys[0], &keys[1], token.trim()],
    );
}

#[test]
fn newcomers_can_use_the_shop_of_the_demo() {
    if !is_browser_available() {
        return;
    }
    let mut command = sequor_command();
    command.args(["demo", "--rate", "60", "--items", "120"]);
    for setting in SMALL_NETWORK_SETTINGS {
        command.args(["--set", setting]);
    }
    let mut demo = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut address = |name: &str| {
        let line = lines.find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().trim_end_matches('/').to_owned()
    };
    let (shop, api) = (address("shop"), address("API"));
    // The model knows popular and related products after some visits.
    let events = |line: &str| line.split_once("events")?.1.split_whitespace().next()?.parse::<u64>().ok();
    lines.find(|line| events(line) >= Some(500)).unwrap();
    let reader = std::thread::spawn(move || lines.count());
    run_script("shop.mjs", &[&shop, &api]);
    assert!(Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap().success());
    assert!(wait_for("the demo to exit", || demo.try_wait().unwrap()).success());
    reader.join().unwrap();
}
