//! Files that a command reads and writes: the wrong kind, the same file twice, leftovers.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use crate::daemon::{DaemonHome, run_sequor, sequor_command, wait_for};
use crate::messages::stderr_text;

const EVENTS: &str = "user,event,item,timestamp\nann,view,tea,2026-01-01T00:00:00Z\n";

#[test]
fn no_command_overwrites_what_it_reads() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let path = |name: &str| home.dir().join(name).to_str().unwrap().to_owned();
    let (events, users, log) = (path("events.csv"), path("users.csv"), path("access.log"));
    fs::write(&events, EVENTS).unwrap();
    fs::write(&users, "ann\n").unwrap();
    fs::write(&log, "not a log line\n").unwrap();
    let link = path("link.csv");
    std::os::unix::fs::symlink(&events, &link).unwrap();
    let progress = format!("{events}.import");
    let url = ["--url", daemon.api_url()];
    let tail = ["tail", "--once", &log, "--rule", "view=^/p/(?P<item>.+)", "--faults", &log];
    for command in [
        &["import", &events, "--faults", &events][..],
        &["import", &events, "--faults", &events, "--dry-run"],
        &["import", &events, "--faults", &link],
        &["import", &events, "--faults", &progress],
        &["recommend", "--users", &users, "--output", &users],
        &tail,
        &["consume", "kafka://127.0.0.1:1/shop", "--credentials", &users, "--faults", &users],
    ] {
        let output = run_sequor(&[command, &url].concat());
        let said = stderr_text(&output);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("the command reads this file, so it must not write it"), "{command:?}: {said}");
    }
    let texts = [&events, &users, &log].map(|file| fs::read_to_string(file).unwrap());
    assert_eq!(texts, [EVENTS, "ann\n", "not a log line\n"]);
}

#[test]
fn an_import_needs_regular_files_and_their_right_names() {
    let home = DaemonHome::new();
    let write = |name: &str, content: &[u8]| {
        let file = home.dir().join(name);
        fs::write(&file, content).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let zipped = |name: &str, program: &str| {
        let mut child =
            std::process::Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(EVENTS.as_bytes()).unwrap();
        write(name, &child.wait_with_output().unwrap().stdout)
    };
    let pipe = home.dir().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (file, reason) in [
        (pipe.to_str().unwrap().to_owned(), "is not a regular file"),
        (home.dir().to_str().unwrap().to_owned(), "is not a regular file"),
        (zipped("zipped.csv", "gzip"), "it is compressed with gzip; its name must end in .gz"),
        (write("mac.csv", EVENTS.replace('\n', "\r").as_bytes()), "the lines end with carriage returns only"),
        (write("other.csv", b"visitor,event,item,timestamp\n"), "or --map must name others"),
        (write("twice.csv", EVENTS.as_bytes()), "an earlier --map says user=visitor"),
    ] {
        let maps: &[&str] = if file.contains("twice") { &["--map", "user=visitor,user=uid"] } else { &[] };
        let output = run_sequor(&[&["import", &file, "--dry-run"], maps].concat());
        let said = stderr_text(&output);
        assert_eq!(output.status.code(), Some(1), "{file}: {said}");
        assert!(said.contains(reason), "{file}: {said}");
    }
}

#[test]
fn an_invalid_user_is_named_by_its_line_before_any_list() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let (users, lists) = (home.dir().join("users.txt"), home.dir().join("lists.csv"));
    fs::write(&users, "\u{feff}ann\nbo\u{7}b\n").unwrap();
    let command = [
        "recommend",
        "--users",
        users.to_str().unwrap(),
        "--output",
        lists.to_str().unwrap(),
        "--url",
        daemon.api_url(),
    ];
    let output = run_sequor(&command);
    let said = stderr_text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("users.txt: line 2: "), "{said}");
    assert_eq!(fs::read_dir(home.dir()).unwrap().filter(|entry| is_left_behind(entry.as_ref().unwrap())).count(), 0);
    fs::write(&users, "\u{feff}ann\n").unwrap();
    // A link stays, and its target is replaced.
    let target = home.dir().join("target.csv");
    std::os::unix::fs::symlink(&target, &lists).unwrap();
    let said = stderr_text(&run_sequor(&command));
    assert!(said.contains("it is a link to a file that does not exist"), "{said}");
    fs::write(&target, "old").unwrap();
    assert!(run_sequor(&command).status.success());
    assert!(lists.is_symlink() && fs::read_to_string(&target).unwrap().contains("\nann,"));
}

fn is_left_behind(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    [".unfinished", ".progress"].iter().any(|end| name.to_string_lossy().ends_with(end))
}

#[test]
fn an_export_appends_to_the_standard_output_and_removes_leftovers() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&[json!({ "user_id": "ann", "type": "view", "item_id": "tea" })]);
    let target = home.dir().join("all.ndjson");
    fs::write(&target, "first\n").unwrap();
    for name in ["-", "/dev/stdout"] {
        let appended = fs::File::options().append(true).open(&target).unwrap();
        let mut command = sequor_command();
        command.args(["export", name, "--url", daemon.admin_url(), "--only", "event"]);
        assert!(command.stdin(Stdio::null()).stdout(appended).status().unwrap().success());
    }
    let text = fs::read_to_string(&target).unwrap();
    assert!(text.starts_with("first\n") && text.lines().count() == 3, "{text}");
    // A killed export leaves its file, and the next one removes it. The file of a running one stays.
    let leftover = home.dir().join(".all.ndjson.AbCdEf.unfinished");
    let running = home.dir().join(".all.ndjson.GhIjKl.unfinished");
    fs::write(&leftover, "{}").unwrap();
    let lock = fs::File::create(&running).unwrap();
    lock.lock().unwrap();
    let output = run_sequor(&["export", target.to_str().unwrap(), "--url", daemon.admin_url(), "--only", "event"]);
    assert!(output.status.success(), "{}", stderr_text(&output));
    assert_eq!((leftover.exists(), running.exists()), (false, true));
    assert_eq!(fs::read_to_string(&target).unwrap().lines().count(), 1);
    wait_for("the end of the export", || {
        fs::read_dir(home.dir())
            .ok()?
            .flatten()
            .all(|entry| entry.path() == running || !is_left_behind(&entry))
            .then_some(())
    });
}
