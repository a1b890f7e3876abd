//! `sequor demo` and `sequor bench`, which start a real daemon and send HTTP requests to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::daemon::{DaemonHome, SMALL_NETWORK_SETTINGS, run_sequor, sequor_command, wait_for};

/// Runs a command with settings that make learning cheap.
fn run_with_small_network(command: &str, more: &[&str]) -> Output {
    let settings: Vec<_> = SMALL_NETWORK_SETTINGS.iter().flat_map(|setting| ["--set", *setting]).collect();
    run_sequor(&[&[command], &settings[..], more].concat())
}

fn utf8_text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Parses the JSON output of a successful command.
fn json_output(output: &Output) -> Value {
    assert!(output.status.success(), "{}", utf8_text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", utf8_text(&output.stdout)))
}

#[test]
fn bench_of_its_own_daemon_reports_metrics_without_errors() {
    let home = DaemonHome::new();
    let plot = home.dir().join("latency.svg");
    let flags = [
        "--duration",
        "2s",
        "--warm-up",
        "200ms",
        "--rate",
        "50",
        "--history",
        "300",
        "--items",
        "100",
        "--json",
        "--plot",
    ];
    let figures = json_output(&run_with_small_network("bench", &[&flags[..], &[plot.to_str().unwrap()]].concat()));
    let keys: Vec<_> = figures.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "achieved_rate",
        "errors",
        "latency_ms",
        "requests",
        "server_cpu_us_per_request",
        "server_cpu_us_per_request_by_role",
        "server_peak_rss_bytes",
        "target_rate",
    ];
    assert_eq!(keys, expected);
    // 50 requests per second for 2 s, independent of the actual duration.
    assert_eq!(
        (&figures["target_rate"], &figures["requests"], &figures["errors"]),
        (&json!(50.0), &json!(100), &json!(0))
    );
    let number = |value: &Value| value.as_f64().unwrap();
    let roles = figures["server_cpu_us_per_request_by_role"].as_object().unwrap();
    assert!(number(&roles["api"]) > 0.0 && number(&roles["learner"]) > 0.0, "{figures}");
    assert!(number(&figures["achieved_rate"]) > 0.0 && number(&figures["achieved_rate"]) <= 50.0, "{figures}");
    let latencies: Vec<_> = ["p50", "p90", "p99", "p999"].map(|name| number(&figures["latency_ms"][name])).to_vec();
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{figures}");
    assert_eq!(figures["latency_ms"].as_object().unwrap().len(), 4);
    assert!(
        number(&figures["server_cpu_us_per_request"]) > 0.0 && number(&figures["server_peak_rss_bytes"]) > 1e6,
        "{figures}"
    );
    let drawn = fs::read_to_string(plot).unwrap();
    assert!(drawn.contains("<svg") && drawn.contains("recommendations"), "{drawn}");
}

#[test]
fn bench_of_a_running_daemon_sends_the_reported_load() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let bench = |mix: &str, more: &[&str]| {
        let flags = [
            "bench",
            "--url",
            daemon.api_url(),
            "--mix",
            mix,
            "--items",
            "60",
            "--history",
            "40",
            "--warm-up",
            "0s",
            "--rate",
            "100",
        ];
        let output = run_sequor(&[&flags, &["--duration", "500ms", "--batch", "3"][..], more].concat());
        assert!(output.status.success(), "{}", utf8_text(&output.stderr));
        utf8_text(&output.stdout)
    };
    let table = bench("events", &["--admin-url", daemon.admin_url()]);
    for word in [
        "events: 100 requests/s for 500ms, 64 connections, 3 events per request",
        "p99.99",
        "max",
        "of 100 requests/s",
        "µs of CPU",
    ] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    // 60 items, 40 warm-up events, 50 requests of 3 events.
    assert_eq!(daemon.next_offset(), 60 + 40 + 50 * 3);
    assert!(!bench("recommendations", &[]).contains("CPU"), "without the admin endpoint there are no CPU metrics");
    // The items again, 40 more events, and 50 impressions.
    wait_for("the impressions", || (daemon.next_offset() == 250 + 60 + 40 + 50).then_some(()));
}

#[test]
fn bench_repeats_a_recording() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("visits.csv");
    // Ten users view two items each.
    let rows = (0..20).map(|row| format!("visitor-{},view,item-{},{}\n", row / 2, row % 7, 1_700_000_000 + row * 60));
    fs::write(&file, "user,event,item,timestamp\nann,view,,1700000000\n".to_owned() + &rows.collect::<String>())
        .unwrap();
    let flags = ["bench", "--url", daemon.api_url(), "--file", file.to_str().unwrap(), "--history", "50"];
    let load = ["--mix", "events", "--rate", "100", "--duration", "500ms", "--warm-up", "0s"];
    let output = run_sequor(&[&flags[..], &load[..]].concat());
    assert!(output.status.success(), "{}", utf8_text(&output.stderr));
    assert!(utf8_text(&output.stdout).contains("64 connections; visits.csv"), "{}", utf8_text(&output.stdout));
    let messages = utf8_text(&output.stderr);
    assert!(messages.contains("left out: 1; the first: ") && messages.contains("line 2"), "{messages}");
    // 50 events before the measurement, and 50 requests of one event. The rows repeat under new event ids.
    assert_eq!(daemon.next_offset(), 100);
    daemon.wait_until_learned(100);
    let users = (0..10).filter(|user| !daemon.recommended_items(&format!("visitor-{user}")).is_empty());
    assert_eq!(users.count(), 10, "users and items are those of the file");
    let empty = run_sequor(&["bench", "--url", daemon.api_url(), "--file", "/dev/null"]);
    assert!(utf8_text(&empty.stderr).contains("/dev/null"), "{}", utf8_text(&empty.stderr));
    let both = run_sequor(&["bench", "--catalog", "42k", "--items", "100"]);
    assert!(utf8_text(&both.stderr).contains("cannot be used with"), "{}", utf8_text(&both.stderr));
}

#[test]
fn bench_sends_the_same_recommendation_requests_to_a_compared_server() {
    let (home, other_home) = (DaemonHome::new(), DaemonHome::new());
    let (daemon, other) = (home.start(&[]), other_home.start(&[]));
    let url = format!("{}/v1/users/{{user}}/recommendations?limit=20&exclude={{item}}", other.api_url());
    let load = ["--items", "60", "--history", "40", "--warm-up", "0s", "--rate", "100", "--duration", "500ms"];
    let bench = |mix: &str, compare: &[&str]| {
        run_sequor(&[&["bench", "--url", daemon.api_url(), "--mix", mix], &load[..], compare].concat())
    };
    let process = other.process_id().to_string();
    let output = bench("recommendations", &["--json", "--compare", &url, "--compare-pid", &process]);
    let figures = json_output(&output);
    let compared = &figures["compared"];
    assert_eq!((&figures["requests"], &compared["requests"], &compared["errors"]), (&json!(50), &json!(50), &json!(0)));
    assert!(compared["latency_ms"]["p50"].as_f64().unwrap() > 0.0 && compared["cpu_us_per_request"].is_number());
    let table = utf8_text(&bench("mixed", &["--compare", &url]).stdout);
    assert!(table.contains("compared server") && !table.contains("  compared  "), "{table}");
    for (mix, flags, message) in [
        ("events", ["--compare", url.as_str()].as_slice(), "--mix recommendations"),
        ("mixed", &["--compare", "localhost:80"], "starts with http://"),
        ("mixed", &["--compare-pid", "1"], "--compare <URL>"),
        ("mixed", &["--compare", &url, "--compare-pid", "4294967295"], "no such process"),
    ] {
        let error = utf8_text(&bench(mix, flags).stderr);
        assert!(error.contains(message), "{flags:?}: {error}");
    }
}

/// Regression test: without `--file`, these flags had no effect, and the simulated shop was used.
#[test]
fn flags_of_a_recording_require_the_recording() {
    let flags = [
        ["--map", "user=uid"],
        ["--type", "view"],
        ["--kind", "buy=purchase"],
        ["--delimiter", ";"],
        ["--columns", "user,item"],
        ["--time-unit", "s"],
        ["--time-zone", "UTC"],
    ];
    for (command, flag) in ["bench", "demo"].iter().flat_map(|command| flags.iter().map(move |flag| (*command, flag))) {
        let output = run_sequor(&[command, flag[0], flag[1]]);
        let message = utf8_text(&output.stderr);
        assert!(output.status.code() == Some(2) && message.contains("--file <FILE>"), "{command} {flag:?}: {message}");
    }
}

#[test]
fn demo_ends_with_a_summary() {
    let output =
        run_with_small_network("demo", &["--for", "5s", "--json", "--seed", "7", "--rate", "200", "--items", "200"]);
    let summary = json_output(&output);
    let seen = utf8_text(&output.stderr);
    assert!(seen.starts_with("admin page  http://127.0.0.1:") && seen.contains("Recall@20"), "{seen}");
    let count = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} in {summary}"));
    let events = count(&summary["events"]);
    // A slow machine sends fewer events, never more.
    assert!(events > 0 && events <= 1_000, "{summary}");
    assert!(count(&summary["steps"]) > 0 && count(&summary["steps"]) < events, "{summary}");
    assert_eq!(count(&summary["new_items"]["arrived"]), events / 200, "one in 200 events brings a new item");
    let share = summary["new_items"]["share_of_recommended"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&share), "{summary}");
    assert!(count(&summary["recommendations"]["answered"]) > 0, "{summary}");
    let recall = |tenth: &str| summary[tenth]["recall_at_20"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&recall("first_tenth")) && (0.0..=1.0).contains(&recall("last_tenth")), "{summary}");
    // The quality depends on the number of events.
    assert!(events < 800 || recall("last_tenth") > recall("first_tenth"), "{summary}");
    assert!(events < 400 || summary["trends"][0]["since_event"].as_u64().is_some_and(|since| since > 0), "{summary}");
}

#[test]
fn demo_replays_a_recording() {
    let home = DaemonHome::new();
    let (file, data) = (home.dir().join("recorded.csv"), home.data_dir());
    let rows: Vec<_> =
        (0..90).map(|row| format!("u{},i{},view,{}\n", row % 7, row % 13, 1_400_000_000 + row * 60)).collect();
    fs::write(&file, format!("user,item,event,timestamp\n{}", rows.concat())).unwrap();
    let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    // The demo replays a recording of 90 minutes in a tenth of a second.
    let summary = json_output(&run_with_small_network(
        "demo",
        &["--file", file, "--speed", "54000", "--data-dir", data, "--json"],
    ));
    assert_eq!(
        (&summary["events"], &summary["trends"], &summary["new_items"]["arrived"]),
        (&json!(90), &json!([]), &json!(0))
    );
    let exported = run_sequor(&["export", "--data-dir", data, "--only", "event"]);
    assert_eq!(
        utf8_text(&exported.stdout).lines().count(),
        90,
        "the daemon journalled the events: {}",
        utf8_text(&exported.stderr)
    );

    let rejected = run_with_small_network("demo", &["--data-dir", data, "--for", "1s"]);
    assert!(
        !rejected.status.success() && utf8_text(&rejected.stderr).contains("is not empty"),
        "{}",
        utf8_text(&rejected.stderr)
    );
}

#[test]
fn ctrl_c_ends_the_demo_with_a_summary() {
    let mut demo = sequor_command();
    demo.args([
        "demo",
        "--rate",
        "50",
        "--items",
        "60",
        "--set",
        SMALL_NETWORK_SETTINGS[0],
        "--set",
        SMALL_NETWORK_SETTINGS[1],
    ])
    .stdin(Stdio::null());
    let mut demo = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("admin page  http://"));
    lines.find(|line| line.contains("Recall@20")).unwrap();
    assert!(Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap().success());
    assert!(lines.any(|line| line.contains("events in ")), "no summary");
    assert!(wait_for("the demo to exit", || demo.try_wait().unwrap()).success());
}

#[test]
fn daemon_with_until_eof_exits_at_end_of_input() {
    // The input of this daemon is empty.
    let output = DaemonHome::new().start_expecting_failure(&["--until-eof"]);
    assert!(output.status.success() && utf8_text(&output.stderr).contains("stopped"), "{}", utf8_text(&output.stderr));
}
