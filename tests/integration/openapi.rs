//! The API held against its own description.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::api_keys::create_key;
use crate::daemon::{DaemonHome, event, report_skipped};

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let page = daemon.get("/docs");
    assert_eq!((page.status, page.content_type.as_str()), (200, "text/html; charset=utf-8"));
    assert!(!page.body.contains("://"), "it names an address elsewhere");
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert_eq!(daemon.get("/openapi.json").json()["openapi"], "3.1.0");
}

/// What Schemathesis is not to hold against the API, operation by operation, and why.
const KNOWN: &str = r#"
hooks = "known.py"

# A read whose offset is not learned yet is told to come back, as the description says: the only 5xx that may be.
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503"]

# That what breaks a schema is refused, be it for its length: of many records the good ones are taken, and the validation endpoint answers 200 also for faulty records.
# What is deleted can be asked for what is like it, and what is sent to where items are made may be their deletion.
[checks]
use_after_free.enabled = false
ensure_resource_availability.enabled = false

[checks.negative_data_rejection]
expected-statuses = ["400", "404", "405", "413", "414", "415", "503"]

[[operations]]
include-path = ["/v1/events", "/v1/events/validate", "/v1/items", "/v1/batch"]
checks.negative_data_rejection.enabled = false

# That what breaks none is taken: there are rules that have no schema. Moments lie within bounds, kinds are known by the settings, properties have a depth, of some parameters one
# wants another, a filter is an expression, two users are not one and the same, and Segment's messages have a specification of their own.
[[operations]]
include-name = [
    "POST /v1/events", "POST /v1/items", "PUT /v1/items/{item}", "PATCH /v1/items/{item}", "POST /v1/recommendations", "GET /v1/users/{user}/recommendations",
    "POST /v1/users/{user}/merge", "POST /v1/batch", "POST /v1/track", "POST /v1/page", "POST /v1/screen", "POST /v1/identify", "POST /v1/alias",
]
checks.positive_data_acceptance.enabled = false
"#;

/// An address of more than 64 KiB is none to the library that reads requests: it gets a bare 400,
/// as the README says.
const BARE: &str = "
import schemathesis

@schemathesis.hook
def filter_failure(context, failure, case, response):
    return not (response.status_code == 400 and len(response.request.url) > 65_000)
";

/// Schemathesis makes up requests, sound and unsound, and chains of them, from the description, and
/// holds every answer against it.
#[test]
fn requests_made_up_from_the_description_are_answered_as_it_says() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/schemathesis/bin/schemathesis");
    if !tool.exists() {
        return report_skipped("no requests are made up from the API's description, since schemathesis is not there (tests/run)");
    }
    let home = DaemonHome::new();
    let key = create_key(&home, "write,read,items,users");
    // What is to be learned first is not waited for: no made-up offset is ever reached. Where other
    // machines could ask, a key is asked for, as the description says.
    let daemon = home.start(&["server.read_wait=0s", "--listen=0.0.0.0:0"]);
    let events = json!([event("e1", "ann", "tea"), event("e2", "ann", "cup"), event("e3", "bob", "tea")]);
    assert_eq!(
        daemon.request_with_key("POST", &format!("{}/v1/events", daemon.api()), Some(&key), &events.to_string()).json()["accepted"],
        3
    );
    std::fs::write(home.path().join("schemathesis.toml"), KNOWN).unwrap();
    std::fs::write(home.path().join("known.py"), BARE).unwrap();
    let examples = std::env::var("SEQUOR_MADE_UP_REQUESTS").unwrap_or_else(|_| "15".to_owned());
    let output = Command::new(tool)
        .arg("--config-file")
        .arg(home.path().join("schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", daemon.api()), "--no-color", "--generation-deterministic"])
        .args(["--header", &format!("Authorization: Bearer {key}")])
        .args(["--max-examples", &examples, "--phases", "examples,coverage,fuzzing,stateful", "--request-timeout", "60"])
        // A stream does not end, and an erasure that is to be unlearned ends in a restart, at
        // another free port here.
        .args(["--exclude-path", "/v1/users/{user}/recommendations/stream", "--exclude-name", "DELETE /v1/users/{user}"])
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{} requests were made up", daemon.metric_sum("sequor_request_seconds_count"));
    assert_eq!(daemon.metric_sum("sequor_panics_total"), 0.0);
    assert_eq!(daemon.metric("sequor_commit_failures_total"), 0.0);
    daemon.assert_healthy();
}
