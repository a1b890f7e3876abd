//! The API held against its own description.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::{Home, event, left_out};

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let home = Home::new();
    let daemon = home.start(&[]);
    let page = daemon.get("/docs");
    assert_eq!((page.status, page.content_type.as_str()), (200, "text/html; charset=utf-8"));
    assert!(!page.body.contains("://"), "it names an address elsewhere");
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert_eq!(daemon.get("/openapi.json").json()["openapi"], "3.1.0");
}

/// Schemathesis makes up requests, sound and unsound, from the description, and holds every answer against it. That what breaks no schema is taken, and what breaks one refused, it is
/// not asked: rules such as an id's length in bytes have no schema, and of many events the good ones are taken.
#[test]
fn requests_made_up_from_the_description_are_answered_as_it_says() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/schemathesis/bin/schemathesis");
    if !tool.exists() {
        return left_out("no requests are made up from the API's description, since schemathesis is not there (tests/run)");
    }
    let home = Home::new();
    // What is to be learned first is not waited for: no made-up offset is ever reached.
    let daemon = home.start(&["server.read_wait=0s"]);
    daemon.send(&[event("e1", "ann", "tea"), event("e2", "ann", "cup"), event("e3", "bob", "tea")]);
    // A read whose offset is not learned yet is told to come back, as the description says: the only 5xx that may be.
    std::fs::write(
        home.path().join("schemathesis.toml"),
        "[checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", \"503\"]\n",
    )
    .unwrap();
    let examples = std::env::var("SEQUOR_MADE_UP_REQUESTS").unwrap_or_else(|_| "15".to_owned());
    let output = Command::new(tool)
        .arg("--config-file")
        .arg(home.path().join("schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", daemon.api()), "--no-color", "--generation-deterministic"])
        .args(["--max-examples", &examples, "--phases", "examples,coverage,fuzzing", "--request-timeout", "60"])
        // A stream does not end.
        .args(["--exclude-path", "/v1/users/{user}/recommendations/stream"])
        .args(["--exclude-checks", "positive_data_acceptance,negative_data_rejection"])
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(daemon.metric("sequor_commit_failures_total"), 0.0);
    daemon.assert_healthy();
}
