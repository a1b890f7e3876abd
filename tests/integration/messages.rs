//! The messages of the commands: wording, repetition and content.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::daemon::{DaemonHome, create_certificate, report_skipped, run_sequor, sequor_command, view_event, wait_for};

pub(crate) fn stderr_text(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_command_succeeds_if_the_reader_of_its_output_closes_the_pipe() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let database = home.data_dir();
    for arguments in [
        &["admin", "--url", daemon.admin_url(), "status"][..],
        &["export", "--url", daemon.admin_url()],
        &["export", "--data-dir", database.to_str().unwrap()],
    ] {
        if arguments.contains(&"--data-dir") {
            daemon.signal("KILL");
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = sequor_command().args(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), stderr_text(&output)), (Some(0), String::new()), "{arguments:?}");
    }
}

#[test]
fn a_host_name_is_an_address_to_listen_on() {
    let home = DaemonHome::new();
    let daemon = home.start(&["--listen=localhost:0", "--admin-listen=localhost:0"]);
    assert!(daemon.api_url().starts_with("http://127.0.0.1:"), "{}", daemon.api_url());
    daemon.assert_healthy();
    for (address, reason) in [
        ("8080", "write ADDRESS:PORT"),
        ("no-such-host.invalid:1", "the host name no-such-host.invalid cannot be resolved"),
    ] {
        let said = stderr_text(&run_sequor(&["serve", "--listen", address]));
        assert!(said.starts_with(&format!("sequor: server.listen = \"{address}\": {reason}")), "{said}");
    }
}

#[test]
fn a_variable_without_effect_is_reported() {
    let home = DaemonHome::new();
    let daemon = home.start(&["SEQUOR_SERVER_LISTEN=127.0.0.1:1", "SEQUOR_PORT=tcp://10.0.0.1:80"]);
    let log = daemon.read_log();
    let warning = "the environment variable SEQUOR_SERVER_LISTEN has no effect; did you mean SEQUOR_SERVER__LISTEN?";
    assert!(log.contains(warning) && !log.contains("SEQUOR_PORT"), "{log}");
    let output = sequor_command()
        .args(["key", "list", "--data-dir"])
        .arg(home.data_dir())
        .env("SEQUOR_KEYS", "x")
        .output()
        .unwrap();
    let said = stderr_text(&output);
    assert!(
        said.starts_with(
            "sequor: warning: the environment variable SEQUOR_KEYS has no effect; did you mean SEQUOR_KEY?\n"
        ),
        "{said}"
    );
    assert!(output.status.success());
}

#[test]
fn a_variable_that_is_not_utf_8_causes_no_panic() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let output = sequor_command()
        .args(["key", "list", "--data-dir", "/nonexistent"])
        .env("ODD", odd)
        .env("SEQUOR_LOG__LEVEL", odd)
        .output()
        .unwrap();
    let said = stderr_text(&output);
    assert!(said.starts_with("sequor: log.level = ") && output.status.code() == Some(1), "{said}");
}

#[test]
fn an_error_names_each_cause_once() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.toml");
    fs::write(&broken, "[server").unwrap();
    let broken = broken.to_str().unwrap();
    for (arguments, cause) in [
        (["serve", "--data-dir", "/dev/null/none"], "ot a directory"),
        (["serve", "--config", "/dev/null/none"], "ot a directory"),
        (["serve", "--config", broken], "TOML parse error"),
    ] {
        let said = stderr_text(&run_sequor(&arguments));
        assert_eq!(said.matches(cause).count(), 1, "{arguments:?}: {said}");
    }
}

#[test]
fn a_type_error_contains_no_rust_type_names() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    fs::write(&rules, "user = \"address\"\nrules = 3\n").unwrap();
    let log = folder.path().join("access.log");
    fs::write(&log, "").unwrap();
    fs::write(folder.path().join("keys.json"), r#"{"format":1,"keys":[3]}"#).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let said = [
        run_sequor(&["serve", "--set", "events.kinds.like=3"]),
        run_sequor(&["serve", "--set", "server.max_batch=many"]),
        run_sequor(&["serve", "--set", "network.learning_rate=fast"]),
        run_sequor(&["serve", "--set", "server.cors_origins=1"]),
        run_sequor(&["tail", &path(&log), "--rules", &path(&rules), "--once"]),
        run_sequor(&["key", "list", "--data-dir", &path(folder.path())]),
    ]
    .map(|output| stderr_text(&output));
    for (said, expected) in said.iter().zip([
        "events.kinds.like = 3: invalid type: integer `3`, expected a table (from the command line)",
        "server.max_batch = \"many\": invalid type: string \"many\", expected a whole number of at least 0",
        "network.learning_rate = \"fast\": invalid type: string \"fast\", expected a number",
        "server.cors_origins = 1: invalid type: integer `1`, expected a list",
        "rules.toml, line 2: invalid type: integer `3`, expected a list",
        "invalid type: integer `3`, expected an object at line 1 column",
    ]) {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_tls_error_is_described_in_words() {
    let home = DaemonHome::new();
    let Some([cert, key]) = create_certificate(home.dir(), "ca", 2, true) else {
        return report_skipped("TLS errors are not tested, because openssl is not installed");
    };
    let daemon =
        home.start(&[&format!("server.tls_cert={}", cert.display()), &format!("server.tls_key={}", key.display())]);
    let said = stderr_text(
        &sequor_command().args(["health", "--url", daemon.admin_url(), "--ca"]).arg(&cert).output().unwrap(),
    );
    let words =
        "the daemon presents a CA certificate as its own; create a server certificate (basicConstraints = CA:FALSE)";
    assert!(said.contains(words) && !said.contains("Other"), "{said}");
    let said = stderr_text(&run_sequor(&["health", "--url", daemon.admin_url()]));
    assert!(said.contains("CA certificate") && !said.contains("Issuer"), "{said}");
    // A command that normally retries exits at once, because a retry cannot help here.
    let events = home.dir().join("events.ndjson");
    fs::write(&events, view_event("e1", "ann", "tea").to_string()).unwrap();
    let import = sequor_command()
        .args(["import", "--url", daemon.api_url(), "--give-up-after", "off", "--ca"])
        .arg(&cert)
        .arg(&events)
        .output()
        .unwrap();
    let said = stderr_text(&import);
    assert!(said.contains(words) && !said.contains("retrying") && import.status.code() == Some(1), "{said}");
}

#[test]
fn a_log_outside_a_terminal_has_no_colours() {
    let home = DaemonHome::new();
    let daemon = home.start(&["log.level=debug"]);
    daemon.send_events(&[view_event("e1", "ann", "tea")]);
    let log =
        wait_for("a log line", || Some(daemon.read_log()).filter(|log| log.contains("DEBUG") || log.contains("INFO")));
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_backup_name_with_another_archive_ending_is_refused() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&[view_event("e1", "ann", "tea")]);
    let target = |name: &str| home.dir().join(name).to_str().unwrap().to_owned();
    let over_http =
        |name: &str| daemon.admin_request("POST", "/admin/backup", &json!({ "target": target(name) }).to_string());
    let refused = over_http("bk.zip");
    assert!(refused.status == 409 && refused.body.contains("ends in .zip"), "{}", refused.body);
    assert_eq!(over_http("bk.v1").status, 200, "any other name is a directory");
    assert!(daemon.terminate().success());
    let back_up = |name: &str| run_sequor(&["backup", &target(name), "--data-dir", home.data_dir().to_str().unwrap()]);
    for name in ["bk.zip", "bk.TAR", "bk.tgz", "bk.tar.zst"] {
        let output = back_up(name);
        assert!(
            !output.status.success() && stderr_text(&output).contains("choose a name that ends in .tar.gz"),
            "{}",
            stderr_text(&output)
        );
        assert!(!home.dir().join(name).exists(), "{name}");
    }
    assert!(back_up("bk.tar.gz").status.success() && home.dir().join("bk.tar.gz").is_file());
}

#[test]
fn the_learning_rate_has_the_range_of_its_setting() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let set = |rate: &str| run_sequor(&["admin", "--url", daemon.admin_url(), "learning-rate", rate]);
    for rate in ["99", "10.5", "0", "NaN"] {
        let output = set(rate);
        assert!(
            !output.status.success() && stderr_text(&output).contains("above 0 and at most 10"),
            "{rate}: {}",
            stderr_text(&output)
        );
    }
    assert!(set("0.05").status.success());
}

#[test]
fn only_one_of_pause_and_resume_is_enabled() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let is_disabled = |button: &str| {
        let page = daemon.get_admin("/console/model").body;
        let at = page.find(&format!(">{button}<")).unwrap();
        let tag = page[..at].rfind("<button").unwrap();
        page[tag..at].contains(" disabled")
    };
    assert!(!is_disabled("Pause learning") && is_disabled("Resume learning"));
    assert_eq!(daemon.admin_request("POST", "/admin/model/pause", "{}").status, 200);
    wait_for("the pause", || (daemon.status()["learning"]["paused"] == true).then_some(()));
    assert!(is_disabled("Pause learning") && !is_disabled("Resume learning"));
}

#[test]
fn a_time_zone_offset_of_more_than_a_day_is_rejected() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (offset, status) in [("+23:59", 200), ("+25:00", 400), ("-24:00", 400)] {
        let mut sent = view_event(offset, "ann", "tea");
        sent["timestamp"] = json!(format!("2024-05-01T12:00:00{offset}"));
        let response = daemon.post("/v1/events", &sent.to_string());
        assert_eq!(response.status, status, "{offset}: {}", response.body);
        assert!(status == 200 || response.body.contains("bad_timestamp"), "{}", response.body);
    }
}

#[test]
fn an_inline_session_needs_no_content_type() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&[view_event("e1", "ann", "tea"), view_event("e2", "ann", "cup")]);
    daemon.wait_until_learned(2);
    for headers in [&[][..], &[("content-type", "text/plain")], &[("content-type", "application/json")]] {
        let response = daemon.try_post("/v1/recommendations", headers, br#"{"items":["tea"]}"#).unwrap();
        assert_eq!(response.item_ids().len(), 2, "{headers:?}");
    }
    let wrong = daemon.post("/v1/recommendations", r#"{"item":["tea"]}"#);
    assert!(wrong.status == 400 && wrong.body.contains("unknown field `item`"), "{}", wrong.body);
}

#[test]
fn a_list_without_rules_is_never_filtered_out() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&[
        view_event("e1", "ann", "tea"),
        view_event("e2", "ann", "cup"),
        view_event("e3", "ann", "pot"),
    ]);
    daemon.wait_until_learned(3);
    let list = |query: &str| daemon.get(&format!("/v1/users/ann/recommendations{query}")).json();
    let change = |item: &str| {
        assert_eq!(daemon.request("PUT", &format!("/v1/items/{item}"), r#"{"available":false}"#).status, 200)
    };
    assert_eq!(list("")["fallback"], "none");
    change("tea");
    assert_eq!((&list("")["fallback"], &list("?limit=2")["fallback"]), (&json!("unavailable"), &json!("none")));
    assert_eq!(list("?exclude=cup")["fallback"], "filtered_out");
    ["cup", "pot"].into_iter().for_each(change);
    let empty = list("");
    assert_eq!((&empty["fallback"], &empty["items"]), (&json!("unavailable"), &json!([])));
}

#[test]
fn a_directory_that_cannot_be_opened_is_not_called_damaged() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&[view_event("e1", "ann", "tea")]);
    assert!(daemon.terminate().success());
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    fs::set_permissions(home.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(home.data_dir(), fs::Permissions::from_mode(0o555)).unwrap();
    for part in ["lock", "end"] {
        let _ = fs::set_permissions(home.data_dir().join(part), fs::Permissions::from_mode(0o444));
    }
    let mut command = sequor_command();
    command.args(["verify", "--data-dir"]).arg(home.data_dir());
    if is_root {
        command.uid(65534);
    }
    let Ok(output) = command.output() else {
        return report_skipped("verify without access: the binary cannot be run as another user");
    };
    fs::set_permissions(home.data_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let said = stderr_text(&output);
    assert!(
        output.status.code() == Some(1) && said.contains("cannot verify") && said.contains("ermission denied"),
        "{said}"
    );
    assert!(!said.contains("damaged") && !String::from_utf8_lossy(&output.stdout).contains("damages"), "{said}");
}

#[test]
fn an_unreachable_daemon_is_reported_at_once_and_retries_end() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.ndjson");
    fs::write(&events, view_event("e1", "ann", "tea").to_string()).unwrap();
    let log = folder.path().join("access.log");
    fs::write(&log, "1.2.3.4 - - [10/Oct/2023:13:55:36 +0000] \"GET /p/tea HTTP/1.1\" 200 1 \"-\" \"Mozilla\"\n")
        .unwrap();
    let closed = "http://127.0.0.1:1";
    let import = ["import", events.to_str().unwrap(), "--url", closed, "--give-up-after", "1s"];
    let tail = [
        "tail",
        log.to_str().unwrap(),
        "--rule",
        "view=^/p/(?P<item>.+)",
        "--url",
        closed,
        "--once",
        "--give-up-after",
        "1s",
    ];
    for arguments in [&import[..], &tail] {
        let output = run_sequor(arguments);
        let said = stderr_text(&output);
        let mut lines = said.lines();
        let first = lines.next().unwrap_or_default();
        assert!(first.starts_with("http://127.0.0.1:1 does not answer: Connection refused"), "{said}");
        assert!(first.ends_with("retrying for 1s (--give-up-after)"), "{said}");
        assert!(
            lines
                .next()
                .unwrap_or_default()
                .starts_with("sequor: gave up after 1s (--give-up-after): http://127.0.0.1:1"),
            "{said}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_json_log_with_other_field_names_is_reported() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let log = home.dir().join("caddy.log");
    let caddy = r#"{"level":"info","ts":1696946136.5,"request":{"remote_ip":"1.2.3.4","method":"GET","uri":"/p/tea","headers":{"User-Agent":["Mozilla"]}},"status":200}"#;
    fs::write(&log, format!("{caddy}\n")).unwrap();
    let tail = |fields: &[&str]| {
        let log = log.to_str().unwrap();
        let arguments =
            ["tail", log, "--format", "json", "--rule", "view=^/p/(?P<item>.+)", "--url", daemon.api_url(), "--once"];
        run_sequor(&[&arguments[..], fields].concat())
    };
    let output = tail(&[]);
    assert!(output.status.success() && stderr_text(&output).is_empty(), "{}", stderr_text(&output));
    assert!(daemon.get_admin("/admin/journal").body.contains("\"item_id\":\"tea\""));
    fs::remove_file(home.dir().join("caddy.log.sequor")).unwrap();
    fs::write(&log, "{\"at\":1696946136,\"http\":{\"verb\":\"GET\",\"url\":\"/p/cup\",\"code\":200}}\n").unwrap();
    let output = tail(&[]);
    let said = stderr_text(&output);
    assert!(said.starts_with("no line has the fields of a request; name them with --field"), "{said}");
    assert!(said.contains("path (path, request_uri, uri, url, request.uri)"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("skipped: fields of a request missing"));
    fs::remove_file(home.dir().join("caddy.log.sequor")).unwrap();
    let named = [
        "--field",
        "time=at",
        "--field",
        "method=http.verb",
        "--field",
        "path=http.url",
        "--field",
        "status=http.code",
    ];
    let output = tail(&[&named[..], &["--field", "address=http.url"]].concat());
    assert!(output.status.success() && stderr_text(&output).is_empty(), "{}", stderr_text(&output));
    assert!(daemon.get_admin("/admin/journal").body.contains("\"item_id\":\"cup\""));
}

#[test]
fn an_item_without_a_finite_price_is_rejected() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let items = home.dir().join("items.csv");
    fs::write(&items, "item_id,price\ntea,NaN\ncup,inf\npot,3\n").unwrap();
    let output = run_sequor(&["import", "--items", items.to_str().unwrap(), "--url", daemon.api_url()]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr_text(&output));
    assert_eq!(stderr_text(&output).matches("`price` is not a finite number").count(), 2, "{}", stderr_text(&output));
    assert!(daemon.get("/v1/items/pot").status == 200 && daemon.get("/v1/items/tea").status == 404);
}
