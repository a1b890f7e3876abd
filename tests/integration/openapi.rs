//! Checks the API against its OpenAPI description.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::api_keys::create_key;
use crate::daemon::{DaemonHome, report_skipped, view_event};

#[test]
fn docs_page_loads_no_external_resources() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let page = daemon.get("/docs");
    assert_eq!((page.status, page.content_type.as_str()), (200, "text/html; charset=utf-8"));
    assert!(!page.body.contains("://"), "the page contains an external URL");
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert_eq!(daemon.get("/openapi.json").json()["openapi"], "3.1.0");
}

/// Schemathesis configuration: checks that do not apply to some operations, with the reason.
const SCHEMATHESIS_CONFIGURATION: &str = r#"
hooks = "known.py"

# A read with a `min_offset` that is not learned yet returns 503, as documented. No other 5xx is allowed.
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503"]

# Requests that violate the schema are rejected. Batches are an exception: valid records are accepted, and the validation endpoint always returns 200.
# A deleted item still has similar items, and an item batch may contain deletions.
[checks]
use_after_free.enabled = false
ensure_resource_availability.enabled = false

[checks.negative_data_rejection]
expected-statuses = ["400", "404", "405", "413", "414", "415", "503"]

[[operations]]
include-path = ["/v1/events", "/v1/events/validate", "/v1/items", "/v1/batch"]
checks.negative_data_rejection.enabled = false

# Some validation rules cannot be expressed in the schema: time bounds, configured event kinds, property depth, dependent parameters, filter syntax, known placements, times, distinct users in a merge, names of attributes, Segment's own message format.
[[operations]]
include-name = [
    "POST /v1/events", "POST /v1/items", "PUT /v1/items/{item}", "PATCH /v1/items/{item}", "PUT /v1/placements/{placement}", "PUT /v1/rules/{rule}", "POST /v1/recommendations", "POST /v1/predict", "POST /v1/rank", "POST /v1/impressions", "GET /v1/reports/attribution", "GET /v1/users/{user}/recommendations",
    "POST /v1/users/{user}/merge", "PATCH /v1/users/{user}", "POST /v1/batch", "POST /v1/track", "POST /v1/page", "POST /v1/screen", "POST /v1/identify", "POST /v1/alias",
]
checks.positive_data_acceptance.enabled = false
"#;

/// The HTTP library rejects URLs of more than 64 KiB with an empty 400 response, as documented.
const SCHEMATHESIS_HOOKS: &str = "
import schemathesis

@schemathesis.hook
def filter_failure(context, failure, case, response):
    return not (response.status_code == 400 and len(response.request.url) > 65_000)
";

/// Schemathesis generates valid and invalid requests, and sequences of them, from the description,
/// and checks every response against it.
#[test]
fn generated_requests_get_documented_responses() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/schemathesis/bin/schemathesis");
    if !tool.exists() {
        return report_skipped("OpenAPI request generation: schemathesis is not installed (run tests/run)");
    }
    let home = DaemonHome::new();
    let key = create_key(&home, "write,read,items,users");
    // Generated values of `min_offset` are never reached, so reads are configured not to wait for
    // them. A daemon on a public address requires keys, as documented.
    let daemon = home.start(&["server.read_wait=0s", "--listen=0.0.0.0:0"]);
    let events =
        json!([view_event("e1", "ann", "tea"), view_event("e2", "ann", "cup"), view_event("e3", "bob", "tea")]);
    assert_eq!(
        daemon
            .request_with_key("POST", &format!("{}/v1/events", daemon.api_url()), Some(&key), &events.to_string())
            .json()["accepted"],
        3
    );
    std::fs::write(home.dir().join("schemathesis.toml"), SCHEMATHESIS_CONFIGURATION).unwrap();
    std::fs::write(home.dir().join("known.py"), SCHEMATHESIS_HOOKS).unwrap();
    let examples = std::env::var("SEQUOR_MADE_UP_REQUESTS").unwrap_or_else(|_| "15".to_owned());
    let output = Command::new(tool)
        .arg("--config-file")
        .arg(home.dir().join("schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", daemon.api_url()), "--no-color", "--generation-deterministic"])
        .args(["--header", &format!("Authorization: Bearer {key}")])
        .args([
            "--max-examples",
            &examples,
            "--phases",
            "examples,coverage,fuzzing,stateful",
            "--request-timeout",
            "60",
        ])
        // A stream does not end, and an erasure with `unlearn` restarts the daemon on another free
        // port.
        .args([
            "--exclude-path",
            "/v1/users/{user}/recommendations/stream",
            "--exclude-name",
            "DELETE /v1/users/{user}",
        ])
        .current_dir(home.dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{} requests were generated", daemon.metric_sum("sequor_request_seconds_count"));
    assert_eq!(daemon.metric_sum("sequor_panics_total"), 0.0);
    assert_eq!(daemon.metric_value("sequor_commit_failures_total"), 0.0);
    daemon.assert_healthy();
}
