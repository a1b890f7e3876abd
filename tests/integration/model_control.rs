//! Model operations at run time: they are journalled and reproducible, and the watchdog rolls back
//! a degraded model.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, run_sequor, sequor_command, wait_for};
use crate::random::random_visits;

const DAEMON_SETTINGS: [&str; 3] = ["learning.interval=16", "store.checkpoint_every=1000", "store.checkpoints_kept=50"];

fn view_events(seed: u64, events: usize) -> Vec<Value> {
    let as_event = |(number, visit): (usize, crate::random::Visit)| json!({ "event_id": format!("{seed}-{number}"), "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
    random_visits(seed, events).into_iter().enumerate().map(as_event).collect()
}

/// Sends events and waits until they are learned.
fn send_and_learn(daemon: &Daemon, events: &[Value]) {
    events.chunks(100).for_each(|batch| drop(daemon.send_events(batch)));
    daemon.wait_until_learned(0);
}

fn post_admin(daemon: &Daemon, path: &str, body: &Value) -> Value {
    let response = daemon.admin_request("POST", path, &body.to_string());
    assert_eq!(response.status, 200, "{path}: {}", response.body);
    response.json()
}

fn get_model_status(daemon: &Daemon) -> Value {
    daemon.get_admin("/admin/model").json()
}

/// Runs `sequor admin …` against a daemon.
fn run_admin_command(daemon: &Daemon, arguments: &[&str]) -> Value {
    let output = run_sequor(&[&["admin", "--url", daemon.admin_url()], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Stops a daemon that has learned everything, and returns the journal's end and the checkpoint.
fn stop_and_read_checkpoint(home: &DaemonHome, daemon: Daemon) -> (u64, Vec<u8>) {
    daemon.wait_until_learned(0);
    let end = daemon.next_offset();
    assert_eq!(daemon.terminate().code(), Some(0));
    (end, read_checkpoint(&home.data_dir(), end))
}

fn read_checkpoint(data: &Path, end: u64) -> Vec<u8> {
    fs::read(data.join(format!("checkpoints/{end:020}.checkpoint"))).unwrap()
}

/// Rebuilds from the journal and returns the checkpoint.
fn rebuild_checkpoint(home: &DaemonHome, settings: &[&str], end: u64) -> Vec<u8> {
    let mut command = sequor_command();
    command.arg("rebuild").arg("--data-dir").arg(home.data_dir());
    for setting in crate::daemon::SMALL_NETWORK_SETTINGS.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read_checkpoint(&home.data_dir(), end)
}

#[test]
fn rollbacks_back_and_forward_restore_the_same_weights() {
    let (home, events) = (DaemonHome::new(), view_events(5, 1_200));
    let daemon = home.start(&DAEMON_SETTINGS);
    send_and_learn(&daemon, &events[..400]);
    let early = post_admin(&daemon, "/admin/model/checkpoint", &json!({}))["offset"].as_u64().unwrap();
    send_and_learn(&daemon, &events[400..800]);
    let late = run_admin_command(&daemon, &["checkpoint"])["offset"].as_u64().unwrap();
    assert_eq!((early, late), (400, 800));

    // Equal lists show equal weights, since nothing else changes.
    let lists = |daemon: &Daemon| {
        let similar =
            |event: &Value| daemon.get(&format!("/v1/items/{}/similar", event["item_id"].as_str().unwrap())).item_ids();
        events[..8].iter().map(similar).collect::<Vec<_>>()
    };
    let before = lists(&daemon);
    let back = post_admin(&daemon, "/admin/model/rollback", &json!({ "to": early }));
    assert_eq!(back, json!({ "offset": 800, "to": 400 }));
    let model_status = get_model_status(&daemon);
    assert_eq!(
        (&model_status["acts"][0]["act"], &model_status["acts"][0]["to"], &model_status["acts"][0]["reason"]),
        (&json!("rollback"), &json!(400), &json!("operator"))
    );
    let discarded: Vec<_> = model_status["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kept| (&kept["offset"], &kept["discarded"]))
        .collect();
    assert_eq!(discarded, [(&json!(400), &json!(false)), (&json!(800), &json!(true))]);
    let forward = run_admin_command(&daemon, &["rollback", "--to", "800"]);
    assert_eq!(forward, json!({ "offset": 801, "to": 800 }));
    assert_eq!(lists(&daemon), before);
    assert_eq!(
        run_admin_command(&daemon, &["rollback"])["to"],
        json!(400),
        "the newest checkpoint that was not rolled back"
    );
    run_admin_command(&daemon, &["rollback", "--to", "800"]);

    assert_eq!(post_admin(&daemon, "/admin/model/learning-rate", &json!({ "value": 0.02 })), json!({ "offset": 804 }));
    assert_eq!(get_model_status(&daemon)["learning_rate"].as_f64().map(|rate| (rate * 1e6).round()), Some(20_000.0));
    run_admin_command(&daemon, &["recluster"]);
    send_and_learn(&daemon, &events[800..1_000]);
    run_admin_command(&daemon, &["pause"]);
    send_and_learn(&daemon, &events[1_000..1_050]);
    assert_eq!(get_model_status(&daemon)["paused"], json!(true));
    run_admin_command(&daemon, &["resume"]);
    // After a kill, the operations are applied again from a checkpoint and the journal.
    daemon.kill();
    let daemon = home.start(&DAEMON_SETTINGS);
    send_and_learn(&daemon, &events[1_050..]);
    let metrics = daemon.get_admin("/metrics").body;
    assert!(
        metrics.contains("sequor_learning_paused 0\n")
            && metrics.contains("sequor_rollbacks_total{reason=\"operator\"} 0\n")
    );
    let (end, checkpoint) = stop_and_read_checkpoint(&home, daemon);
    assert!(rebuild_checkpoint(&home, &DAEMON_SETTINGS, end) == checkpoint, "a rebuild gives an identical checkpoint");
}

#[test]
fn invalid_operations_are_rejected_with_a_reason() {
    let home = DaemonHome::new();
    let daemon = home.start(&DAEMON_SETTINGS);
    send_and_learn(&daemon, &view_events(6, 50));
    let post = |path: &str, body: &str| {
        let response = daemon.admin_request("POST", path, body);
        (response.status, response.json()["detail"].as_str().unwrap_or_default().to_owned())
    };
    let (status, detail) = post("/admin/model/rollback", r#"{"to": 7}"#);
    assert!(status == 409 && detail.contains("offset 7"), "{detail}");
    assert_eq!(post("/admin/model/rollback", "{}").0, 409);
    assert_eq!(post("/admin/model/learning-rate", r#"{"value": 0}"#).0, 400);
    assert_eq!(post("/admin/model/pause", "").0, 400);
    assert_eq!(daemon.admin_request("GET", "/admin/model/pause", "").status, 405);
    // An HTML form of another site cannot send the JSON content type.
    let form =
        ureq::post(format!("{}/admin/model/pause", daemon.admin_url())).config().http_status_as_error(false).build();
    assert_eq!(form.header("content-type", "text/plain").send("{}").unwrap().status(), 415);
    assert_eq!(get_model_status(&daemon)["acts"], json!([]));
}

#[test]
fn degraded_model_is_rolled_back_while_serving_continues() {
    let (home, events) = (DaemonHome::new(), view_events(7, 6_000));
    // The normalised softmax bounds the logits, so that it survives almost any learning rate.
    let settings = [&DAEMON_SETTINGS[..], &["safety.warm_up=100", "network.loss=cross_entropy"]].concat();
    let daemon = home.start(&settings);
    send_and_learn(&daemon, &events[..2_000]);
    post_admin(&daemon, "/admin/model/checkpoint", &json!({}));
    send_and_learn(&daemon, &events[2_000..3_000]);
    post_admin(&daemon, "/admin/model/learning-rate", &json!({ "value": 10.0 }));
    let mut sent = 3_000;
    let rolled_back = |daemon: &Daemon| {
        get_model_status(daemon)["acts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|post_admin| post_admin["act"] == "rollback")
            .cloned()
    };
    let rollback = wait_for("the rollback", || {
        if sent < events.len() {
            send_and_learn(&daemon, &events[sent..sent + 100]);
            sent += 100;
        }
        assert_eq!(daemon.recommended_items("user1").len(), 20, "recommendations are still served");
        rolled_back(&daemon)
    });
    assert!(
        rollback["to"].as_u64().unwrap() < 3_000 && ["loss", "quality"].contains(&rollback["reason"].as_str().unwrap()),
        "{rollback}"
    );
    let model_status = get_model_status(&daemon);
    assert!(
        model_status["learning_rate"].as_f64().unwrap() < 1.0,
        "the rollback restores the learning rate: {model_status}"
    );
    let series = format!("sequor_rollbacks_total{{reason={}}} 1\n", rollback["reason"]);
    wait_for("the alert's metric", || daemon.get_admin("/metrics").body.contains(&series).then_some(()));
    send_and_learn(&daemon, &events[sent..]);
    let (end, checkpoint) = stop_and_read_checkpoint(&home, daemon);
    assert!(
        rebuild_checkpoint(&home, &settings, end) == checkpoint,
        "a rebuild gives an identical checkpoint without running the watchdog"
    );
}

#[test]
fn settings_are_listed_and_reloaded() {
    let home = DaemonHome::new();
    let file = home.dir().join("sequor.toml");
    fs::write(&file, "[log]\nlevel = \"info\"\n[safety]\nloss_rise = 4.0\n").unwrap();
    let daemon = home.start(&[&format!("--config={}", file.display())]);
    let row = |key: &str| {
        let rows = run_admin_command(&daemon, &["settings"])["settings"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["key"] == key).unwrap()
    };
    assert_eq!(
        row("safety.loss_rise"),
        json!({ "key": "safety.loss_rise", "value": "4.0", "source": { "file": file }, "reloadable": true })
    );
    assert_eq!(row("network.hidden")["source"], json!("flag"));
    fs::write(&file, "[log]\nlevel = \"debug\"\n[safety]\nloss_rise = 5.0\n[server]\nmax_batch = 5\n").unwrap();
    daemon.signal("HUP");
    wait_for("the reload", || (row("safety.loss_rise")["value"] == "5.0").then_some(()));
    assert_eq!(
        (row("log.level")["value"].as_str(), row("server.max_batch")["value"].as_str()),
        (Some("\"debug\""), Some("1000"))
    );
    assert_eq!(run_admin_command(&daemon, &["reload"]), json!({ "changed": [], "waiting": ["server.max_batch"] }));
    fs::write(&file, "[safety]\nloss_rise = 0.5\n").unwrap();
    let output = run_sequor(&["admin", "--url", daemon.admin_url(), "reload"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("safety.loss_rise"));
    assert_eq!(run_admin_command(&daemon, &["log-level", "warn"]), json!({ "level": "warn" }));
    assert_eq!(row("log.level")["value"], json!("\"warn\""));
}

#[test]
fn drained_daemon_serves_reads_and_rejects_writes() {
    let (home, events) = (DaemonHome::new(), view_events(8, 60));
    let daemon = home.start(&DAEMON_SETTINGS);
    send_and_learn(&daemon, &events);
    assert_eq!(run_admin_command(&daemon, &["drain"]), json!({ "draining": true, "offset": 60 }));
    assert_eq!(daemon.get_admin("/readyz").status, 503);
    let post = daemon.post("/v1/events", &json!([events[0]]).to_string());
    assert_eq!(post.status, 503);
    assert!(post.headers.contains_key("retry-after"));
    assert!(!daemon.recommended_items("user1").is_empty());
    run_admin_command(&daemon, &["drain", "--off"]);
    assert_eq!(daemon.get_admin("/readyz").status, 200);
    daemon.send_events(&events[..1]);
}

#[test]
fn admin_endpoint_accepts_keys_from_browsers_and_commands() {
    let home = DaemonHome::new();
    let dir = home.data_dir();
    let key = run_sequor(&["key", "create", "me", "--scope", "admin,read", "--data-dir", dir.to_str().unwrap()]);
    let key = String::from_utf8(key.stdout).unwrap().trim().to_owned();
    let daemon = home.start(&["server.keys=required"]);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(daemon.get_admin(path).status, 200);
    }
    for path in ["/metrics", "/admin/status", "/admin/settings", "/console", "/nowhere"] {
        let unauthorized = daemon.get_admin(path);
        assert_eq!(
            (unauthorized.status, unauthorized.headers.get_all("www-authenticate").iter().count()),
            (401, 2),
            "{path}"
        );
    }
    assert_eq!(daemon.admin_request("POST", "/admin/model/pause", "{}").status, 401);
    let status = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(arguments)
            .arg(format!("{}/metrics", daemon.admin_url()))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let header = |credentials: &str| status(&["-H", &format!("Authorization: {credentials}")]);
    assert_eq!(
        (header(&format!("Bearer {key}")), header("Bearer another"), header("nonsense")),
        ("200".into(), "401".into(), "401".into())
    );
    // Browsers send the key as the password, Segment's libraries as the user name.
    assert_eq!(
        (status(&["-u", &format!("me:{key}")]), status(&["-u", &format!("{key}:")])),
        ("200".into(), "200".into())
    );
    let output =
        sequor_command().args(["admin", "--url", daemon.admin_url(), "--key", &key, "settings"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !shown.contains(&key) && shown.contains("server.keys"));
    assert!(!run_sequor(&["admin", "--url", daemon.admin_url(), "status"]).status.success());
}
