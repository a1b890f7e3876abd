//! Backups of unusual but sound stores restore, damaged or crafted ones are refused, and killed
//! commands leave nothing that gets in the way.

use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK, event, sequor};

/// Runs a command on a data directory, with the settings of the tests' daemons.
fn on(data: &Path, arguments: &[&str]) -> Output {
    let mut command = sequor();
    command.args(arguments).arg("--data-dir").arg(data);
    for setting in SMALL_NETWORK {
        command.args(["--set", setting]);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn succeeds(output: &Output, step: &str) -> String {
    assert_eq!(output.status.code(), Some(0), "{step}: {}", text(output));
    text(output)
}

/// A sign-up merges the visitor's id into the account's before either has an event. The session
/// record of the account is then empty and not stored, but `verify` asked for it, so that `restore`
/// refused every backup. Every kind of entry is tried on users that the store has never seen.
#[test]
fn every_kind_of_entry_on_unseen_users_can_be_backed_up_and_restored() {
    let home = DaemonHome::new();
    let merge = |into: &str, from: &str| ("POST", format!("/v1/users/{into}/merge"), json!({ "from": from }).to_string());
    let consent = |user: &str, level: &str| ("PUT", format!("/v1/users/{user}/consent"), json!({ "consent": level }).to_string());
    let steps = [
        ("merge", merge("account", "visitor")),
        ("identify", ("POST", "/v1/identify".to_owned(), json!({ "userId": "member", "anonymousId": "device-1" }).to_string())),
        ("alias", ("POST", "/v1/alias".to_owned(), json!({ "userId": "member-2", "previousId": "member" }).to_string())),
        ("chained merge", merge("person", "account")),
        ("consent", consent("quiet", "none")),
        ("consent, then merge", merge("quiet-2", "quiet")),
        ("erasure", ("DELETE", "/v1/users/nobody".to_owned(), String::new())),
        ("erasure of a merged user", ("DELETE", "/v1/users/person".to_owned(), String::new())),
        ("item", ("PUT", "/v1/items/tea".to_owned(), json!({ "price": 4.5 }).to_string())),
        ("item removal", ("DELETE", "/v1/items/never".to_owned(), String::new())),
        ("event of a merged user", ("POST", "/v1/events".to_owned(), json!([event("e1", "visitor", "tea")]).to_string())),
        ("merge of an unseen user into a seen one", merge("visitor", "stranger")),
        ("merge of a seen user into an unseen one", merge("stranger-2", "visitor")),
        ("impression", ("GET", "/v1/users/unseen/recommendations".to_owned(), String::new())),
    ];
    for (number, (step, (method, path, body))) in steps.iter().enumerate() {
        let daemon = home.start(&[]);
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
        let answer = daemon.send(method, path, headers, body.as_bytes()).unwrap();
        assert!([200, 202, 204, 404].contains(&answer.status), "{step}: {}", answer.body);
        let stop = |daemon: Daemon| assert_eq!(daemon.terminate().code(), Some(0));
        stop(daemon);
        succeeds(&on(&home.data_dir(), &["verify"]), step);
        let (backup, restored) = (home.path().join(format!("backup{number}.tar.gz")), home.path().join(format!("restored{number}")));
        succeeds(&on(&home.data_dir(), &["backup", backup.to_str().unwrap()]), step);
        let report = succeeds(&on(&restored, &["restore", backup.to_str().unwrap()]), step);
        assert!(report.contains("damages                      0"), "{step}: {report}");
    }
    succeeds(&on(&home.data_dir(), &["rebuild"]), "rebuild");
}
