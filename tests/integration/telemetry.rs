//! OpenTelemetry spans, as received by a collector.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

use crate::api_keys::create_key;
use crate::daemon::{Daemon, DaemonHome, view_event, wait_for};

/// The trace id and parent span id that a client sends.
const CLIENT_TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN_ID: &str = "00f067aa0ba902b7";

/// A collector on a free local port that accepts every request.
struct Collector {
    endpoint: String,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::<Mutex<Vec<_>>>::default();
        let shared = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&shared);
                // Runs until the daemon closes the connection.
                thread::spawn(move || while read_request(&stream, &received).is_some() {});
            }
        });
        Self { endpoint, received }
    }

    /// The setting that directs spans to this collector.
    fn endpoint_setting(&self) -> String {
        format!("telemetry.endpoint={}", self.endpoint)
    }

    /// All received bytes.
    fn received_bytes(&self) -> Vec<u8> {
        self.received.lock().unwrap().concat()
    }

    fn received_spans(&self) -> Vec<ReceivedSpan> {
        self.received.lock().unwrap().iter().flat_map(|body| parse_spans(body)).collect()
    }
}

/// Reads one request and checks that its headers declare protobuf traces.
fn read_request(stream: &TcpStream, received: &Mutex<Vec<Vec<u8>>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_ascii_lowercase());
    }
    assert_eq!(lines[0], "post /v1/traces http/1.1");
    let header = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    assert_eq!(header("content-type"), Some("application/x-protobuf"));
    assert_eq!(header("x-collector-key"), Some("sesame"));
    let mut body = vec![0; header("content-length")?.parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    received.lock().unwrap().push(body);
    (&*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n").ok()
}

/// A protobuf field (<https://protobuf.dev/programming-guides/encoding/>).
enum ProtobufField<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

fn parse_fields(mut bytes: &[u8]) -> Vec<(u64, ProtobufField<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = read_varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, ProtobufField::Number(read_varint(&mut bytes))));
                continue;
            }
            1 => 8,
            2 => read_varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("unknown wire type {other}"),
        };
        let (value, rest) = bytes.split_at(length);
        found.push((key >> 3, ProtobufField::Bytes(value)));
        bytes = rest;
    }
    found
}

/// The sub-messages in the fields with a number.
fn sub_messages(bytes: &[u8], number: u64) -> Vec<&[u8]> {
    parse_fields(bytes)
        .into_iter()
        .filter_map(
            |(found, field)| {
                if let (true, ProtobufField::Bytes(value)) = (found == number, field) { Some(value) } else { None }
            },
        )
        .collect()
}

fn number_field(bytes: &[u8], number: u64) -> u64 {
    parse_fields(bytes)
        .into_iter()
        .find_map(
            |(found, field)| {
                if let (true, ProtobufField::Number(value)) = (found == number, field) { Some(value) } else { None }
            },
        )
        .unwrap_or_default()
}

fn text_field(bytes: &[u8], number: u64) -> String {
    sub_messages(bytes, number).first().map(|value| String::from_utf8(value.to_vec()).unwrap()).unwrap_or_default()
}

fn hexadecimal(bytes: &[u8], number: u64) -> String {
    sub_messages(bytes, number)
        .first()
        .into_iter()
        .flat_map(|value| value.iter())
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Attributes, each value as text.
fn parse_attributes(bytes: &[u8], number: u64) -> BTreeMap<String, String> {
    let pairs = sub_messages(bytes, number).into_iter().map(|pair| {
        let value = sub_messages(pair, 2)[0];
        let value = match &parse_fields(value)[0] {
            (1, ProtobufField::Bytes(text)) => String::from_utf8(text.to_vec()).unwrap(),
            (_, ProtobufField::Number(number)) => number.to_string(),
            _ => panic!("an attribute value is neither text nor a number"),
        };
        (text_field(pair, 1), value)
    });
    pairs.collect()
}

/// A span. The field numbers are those of opentelemetry/proto/trace/v1/trace.proto.
#[derive(Debug)]
struct ReceivedSpan {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u64,
    attributes: BTreeMap<String, String>,
    failed: bool,
    service: BTreeMap<String, String>,
    nanoseconds: (u64, u64),
}

fn parse_spans(body: &[u8]) -> Vec<ReceivedSpan> {
    let mut found = Vec::new();
    for resource_spans in sub_messages(body, 1) {
        for scope_spans in sub_messages(resource_spans, 2) {
            for span in sub_messages(scope_spans, 2) {
                let timestamp = |number| u64::from_le_bytes(sub_messages(span, number)[0].try_into().unwrap());
                found.push(ReceivedSpan {
                    trace: hexadecimal(span, 1),
                    id: hexadecimal(span, 2),
                    parent: hexadecimal(span, 4),
                    name: text_field(span, 5),
                    kind: number_field(span, 6),
                    attributes: parse_attributes(span, 9),
                    failed: sub_messages(span, 15).first().is_some_and(|status| number_field(status, 3) == 2),
                    service: parse_attributes(sub_messages(resource_spans, 1)[0], 1),
                    nanoseconds: (timestamp(7), timestamp(8)),
                });
            }
        }
    }
    found
}

/// Sends a request with headers and expects a status.
fn request_with_headers(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)], body: &str, status: u16) {
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", daemon.api_url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .build()
        .new_agent()
        .run(request.body(body.to_owned()).unwrap());
    assert_eq!(response.unwrap().status(), status, "{method} {path}");
}

/// Starts a daemon that sends spans to the collector, with settings that soon cause checkpoints and
/// clusterings.
fn start_daemon(home: &DaemonHome, collector: &Collector, settings: &[&str]) -> Daemon {
    let usual = [
        "store.checkpoint_every=100",
        "clusters.every=64",
        "clusters.lag=16",
        "learning.interval=16",
        "log.level=trace",
    ];
    let endpoint_setting = [collector.endpoint_setting()];
    home.start(
        &[&usual[..], &[endpoint_setting[0].as_str(), "OTEL_EXPORTER_OTLP_HEADERS=x-collector-key=sesame"], settings]
            .concat(),
    )
}

#[test]
fn trace_context_propagates_and_spans_contain_no_personal_data() {
    let (home, collector) = (DaemonHome::new(), Collector::start());
    let key = create_key(&home, "write,read");
    let daemon = start_daemon(&home, &collector, &["--listen=0.0.0.0:0"]);
    let bearer = format!("Bearer {key}");
    let traceparent = format!("00-{CLIENT_TRACE_ID}-{CLIENT_SPAN_ID}-01");
    let headers = [
        ("authorization", bearer.as_str()),
        ("traceparent", &traceparent),
        ("tracestate", "whois=whois-ann"),
        ("x-request-id", "r-1"),
    ];
    let events: Vec<_> = (0..130)
        .map(|number| view_event(&format!("whois-e{number}"), "whois-ann", &format!("item{}", number % 20)))
        .collect();
    request_with_headers(&daemon, "POST", "/v1/events", &headers, &json!(events).to_string(), 200);
    request_with_headers(&daemon, "GET", "/v1/users/whois-ann/recommendations?limit=3", &headers[..2], "", 200);
    request_with_headers(&daemon, "POST", &format!("/v1/events?key={key}"), &headers[1..2], "whois-ann", 400);
    request_with_headers(&daemon, "WHOIS-ANN", "/v1/users/whois-ann/nowhere", &headers[..2], "", 404);
    assert!(daemon.terminate().success());

    let (spans, bytes) = (collector.received_spans(), collector.received_bytes());
    for secret in ["whois", "WHOIS", &key, key.rsplit('_').next().unwrap(), "sesame"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "a span contains {secret}");
    }
    let request_span = |name: &str, status: &str| {
        let found: Vec<_> = spans
            .iter()
            .filter(|span| span.name == name && span.attributes["http.response.status_code"] == status)
            .collect();
        assert_eq!(found.len(), 1, "{name}: {spans:#?}");
        // Kind 2 is SERVER.
        assert_eq!(
            (found[0].trace.as_str(), found[0].parent.as_str(), found[0].kind, found[0].failed),
            (CLIENT_TRACE_ID, CLIENT_SPAN_ID, 2, false)
        );
        found[0]
    };
    let child_of = |span: &ReceivedSpan, name: &str| {
        let found = spans.iter().find(|child| child.name == name && child.parent == span.id);
        let found = found.unwrap_or_else(|| panic!("{span:?} has no child {name} in {spans:#?}"));
        assert_eq!(found.trace, span.trace);
        assert!(
            span.nanoseconds.0 <= found.nanoseconds.0 && found.nanoseconds.0 <= found.nanoseconds.1,
            "{found:?} of {span:?}"
        );
        found
    };
    let post_span = request_span("POST /v1/events", "200");
    let attribute = |span: &ReceivedSpan, name: &str| span.attributes.get(name).cloned().unwrap_or_default();
    assert_eq!(
        (attribute(post_span, "http.request.method"), attribute(post_span, "http.route")),
        ("POST".to_owned(), "/v1/events".to_owned())
    );
    assert_eq!(
        (attribute(post_span, "sequor.request_id").as_str(), post_span.service["service.name"].as_str()),
        ("r-1", "sequor")
    );
    assert_eq!(post_span.service["service.version"], env!("CARGO_PKG_VERSION"));
    child_of(post_span, "capture");
    assert_eq!(child_of(post_span, "commit").attributes["sequor.entries"], "130");
    let get_span = request_span("GET /v1/users/{user}/recommendations", "200");
    child_of(child_of(get_span, "recommend"), "answer");
    child_of(request_span("POST /v1/events", "400"), "capture");
    let unknown_method_span = spans.iter().find(|span| span.name == "HTTP").unwrap();
    assert_eq!(
        (
            unknown_method_span.attributes["http.request.method"].as_str(),
            unknown_method_span.attributes.get("http.route")
        ),
        ("_OTHER", None)
    );
    // Background work belongs to no request.
    for name in ["checkpoint", "training", "clustering"] {
        let found = spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
        assert!(found.parent.is_empty() && found.trace != CLIENT_TRACE_ID, "{found:?}");
    }
    // The readiness check sent no trace context, so it started its own trace.
    assert!(spans.iter().any(|span| span.name == "GET /readyz" && span.parent.is_empty()));
}

#[test]
fn sampling_follows_the_client_or_the_configured_share() {
    let (home, collector) = (DaemonHome::new(), Collector::start());
    let daemon = start_daemon(&home, &collector, &["telemetry.sample=0"]);
    let with = |flags: &str, path: &str| {
        request_with_headers(
            &daemon,
            "GET",
            path,
            &[("traceparent", &format!("00-{CLIENT_TRACE_ID}-{CLIENT_SPAN_ID}-{flags}"))],
            "",
            200,
        )
    };
    with("01", "/v1/trending");
    with("00", "/openapi.json");
    // Malformed headers are ignored.
    let zeros = "0".repeat(32);
    for unknown_method_span in [
        "",
        "00",
        "ann",
        "00-none-none-01",
        &format!("00-{zeros}-{CLIENT_SPAN_ID}-01"),
        &format!("ff-{CLIENT_TRACE_ID}-{CLIENT_SPAN_ID}-01"),
        &format!("00-{CLIENT_TRACE_ID}-{CLIENT_SPAN_ID}-01-01"),
    ] {
        request_with_headers(&daemon, "GET", "/docs", &[("traceparent", unknown_method_span)], "", 200);
    }
    assert!(daemon.terminate().success());
    let requests: Vec<_> =
        collector.received_spans().into_iter().filter(|span| span.kind == 2).map(|span| span.name).collect();
    assert_eq!(requests, ["GET /v1/trending"]);
}

#[test]
fn unavailable_collector_does_not_block_the_daemon() {
    // One collector accepts connections but never responds. The other collector does not exist:
    // nothing listens on port 1.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging =
        Collector { endpoint: format!("http://{}", listener.local_addr().unwrap()), received: Arc::default() };
    let unreachable = Collector { endpoint: "http://127.0.0.1:1".to_owned(), received: Arc::default() };
    for (collector, spans, outcome) in [(hanging, 2600, "dropped"), (unreachable, 600, "failed")] {
        let home = DaemonHome::new();
        let daemon = start_daemon(&home, &collector, &["log.level=info"]);
        for _ in 0..spans {
            assert_eq!(daemon.get("/v1/trending").status, 200);
        }
        let series = format!("sequor_spans_total{{outcome=\"{outcome}\"}} ");
        wait_for("spans to be counted", || {
            let text = daemon.get_admin("/metrics").body;
            let count = text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse::<f64>().unwrap();
            (count > 0.0).then_some(())
        });
        if outcome == "failed" {
            assert_eq!(
                daemon.read_log().matches("the collector does not accept spans").count(),
                1,
                "it is logged once"
            );
        }
        let start_time = std::time::Instant::now();
        assert!(daemon.terminate().success());
        // When the daemon stops, it waits three seconds for the collector. The limit is longer, to
        // leave a margin for a busy machine.
        assert!(start_time.elapsed().as_secs() < 30);
    }
}
