//! The admin pages, in a real Chromium.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::daemon::DaemonHome;
use crate::random::random_visits;

/// What `tests/run` fetches the browser's driver into, and where the pictures go.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser")
}

/// Whether there are a browser, its driver and node.
fn browsable() -> bool {
    let fetched = tools().join("../tools/usr/lib/chromium/chromium-headless-shell").exists();
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    tools().join("node_modules/axe-core").exists() && there("node") && (fetched || there("chromium") || there("chromium-headless-shell"))
}

/// Runs a script in the browser, with these arguments behind the tools.
fn play(script: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
    let output = Command::new("node").arg(script).arg(tools()).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// The first events of a shop, or made ones where those are absent.
fn events(count: usize) -> Vec<Value> {
    let data = std::env::var_os("SEQUOR_DATA").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let Ok(file) = std::fs::File::open(data.join("yoochoose100k.csv.gz")) else {
        let one =
            |visit: crate::random::Visit| json!({ "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
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
fn the_pages_show_and_act_and_are_usable_by_all() {
    if !browsable() {
        // Written past the capture of the test's output, so that it is seen.
        writeln!(
            std::io::stderr(),
            "LEFT OUT: the admin pages and the beacon are not looked at, since Chromium, node or what drives them is not there (tests/run)"
        )
        .unwrap();
        return;
    }
    let home = DaemonHome::new();
    let daemon = home.start(&["learning.interval=128", "clusters.every=512", "clusters.lag=128", "store.checkpoint_every=1000"]);
    let events = events(2500);
    for batch in events.chunks(500) {
        daemon.send_events(batch);
    }
    daemon.wait_until_learned(events.len() as u64);
    let user = events[events.len() - 1]["user_id"].as_str().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/pages.mjs");
    let output = Command::new("node")
        .arg(script)
        .arg(tools())
        .args([daemon.admin_address(), daemon.api(), user])
        .arg(home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().filter(|line| line.starts_with("LEFT OUT")).for_each(|line| writeln!(std::io::stderr(), "{line}").unwrap());
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_beacon_tells_everything_once_and_nothing_of_who_does_not_want_it() {
    if !browsable() {
        // Said by the test above.
        return;
    }
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    play("beacon.mjs", &[daemon.admin_address(), daemon.api()]);
}

#[test]
fn the_readmes_lines_for_a_web_page_work_as_they_are_written() {
    if !browsable() {
        return;
    }
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    play("readme.mjs", &[daemon.admin_address(), daemon.api(), &crate::readme::page_with_beacon()]);
}
