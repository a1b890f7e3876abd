//! Runs all commands of `docs/first-hour.md` in their order, in one folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{fenced_blocks, project_root, read_file};
use crate::daemon::{DaemonHome, report_skipped, wait_for};

pub(super) const PAGE: &str = "docs/first-hour.md";

/// A command `sequor` that uses free ports: the daemon picks them, and the other commands get its
/// addresses from the files that [`Tutorial::connect`] writes.
const WRAPPER: &str = r#"#!/bin/sh
case "$1" in
serve) set -- "$@" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 ;;
import) set -- "$@" --url "$(cat "$CURL_HOME/api")" ;;
admin | health) set -- "$@" --url "$(cat "$CURL_HOME/admin")" ;;
backup) set -- "$1" "$2" --url "$(cat "$CURL_HOME/admin")" ;;
esac
exec BINARY "$@"
"#;

/// The folder in which the commands run, and the daemon that one of them starts.
struct Tutorial {
    home: DaemonHome,
    daemon: Option<Child>,
}

impl Tutorial {
    fn new() -> Self {
        let home = DaemonHome::new();
        let wrapper = home.dir().join("sequor");
        fs::write(&wrapper, WRAPPER.replace("BINARY", env!("CARGO_BIN_EXE_sequor"))).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        // The commands write progress files beside the sample.
        let sample = home.dir().join("examples/first-hour");
        fs::create_dir_all(&sample).unwrap();
        for name in ["catalog.csv", "events.csv.gz"] {
            fs::copy(project_root().join("examples/first-hour").join(name), sample.join(name)).unwrap();
        }
        Self { home, daemon: None }
    }

    fn command(&self, lines: &str) -> Command {
        let dir = self.home.dir();
        let mut command = Command::new("sh");
        command.args(["-ec", lines]).current_dir(dir).env("CURL_HOME", dir).stdin(Stdio::null());
        command.env("PATH", format!("{}:{}", dir.display(), std::env::var("PATH").unwrap()));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SEQUOR_")) {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, lines: &str) -> String {
        let output = self.command(lines).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{lines}\n{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
        stdout
    }

    /// Starts the daemon and lets the later commands reach it at the documented ports.
    fn start(&mut self, line: &str) {
        let mut command = self.command(&format!("exec {line}"));
        self.daemon = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let addresses = self.home.dir().join("shop-data/addresses.json");
        let found: Value = wait_for("the daemon", || serde_json::from_str(&fs::read_to_string(&addresses).ok()?).ok());
        let mut curl = String::new();
        for (name, port) in [("api", 8080), ("admin", 9090)] {
            let url = found[name].as_str().unwrap();
            fs::write(self.home.dir().join(name), url).unwrap();
            curl += &format!("connect-to = localhost:{port}:{}\n", url.trim_start_matches("http://"));
        }
        fs::write(self.home.dir().join(".curlrc"), curl).unwrap();
    }
}

impl Drop for Tutorial {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// The figure after a name in the output of a replay.
fn figure(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn first_hour_works_as_written() {
    if Command::new("curl").arg("--version").output().is_err() {
        return report_skipped("the tutorial: curl is not installed");
    }
    let page = read_file(PAGE);
    let [columns, replay] = fenced_blocks(&page, "text")[..] else { panic!("two outputs are shown") };
    let mut tutorial = Tutorial::new();
    let mut printed = Vec::new();
    for block in fenced_blocks(&page, "sh") {
        // The binary under test takes the place of the build.
        if block.starts_with("cargo build --release\n") {
            continue;
        }
        match block.trim().strip_prefix("sequor serve") {
            Some(_) => tutorial.start(block.trim()),
            None => printed.push(tutorial.run(block)),
        }
    }
    let [shown_columns, figures, import, status, lists, list_after_event, key, watch] = &printed[..] else {
        panic!("{} blocks ran", printed.len())
    };
    assert_eq!(shown_columns, columns);
    assert_eq!(figure(figures, "events"), figure(replay, "events"));
    for name in ["Recall@20", "MRR@20"] {
        let (found, shown) = (figure(figures, name), figure(replay, name));
        assert!((found - shown).abs() < 0.02, "{name} is {found}, but the page shows {shown}");
    }
    assert_eq!(figure(import.split("accepted").nth(2).unwrap(), ""), figure(replay, "events"));
    assert!(status.contains("\"lag_entries\""), "{status}");
    assert_eq!(lists.matches("\"item_id\"").count(), 9, "{lists}");
    assert!(list_after_event.contains("\"accepted\":1") && list_after_event.contains("\"recommendation_id\""));
    assert!(key.starts_with("sq_"), "{key}");
    assert!(watch.contains("is ready\n") && watch.contains("\nsequor_live_recall_at_20 "), "{watch}");
    assert!(tutorial.home.dir().join("shop-backup.tar.gz").is_file());
}
