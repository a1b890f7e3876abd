//! `sequor consume` with brokers of Kafka that require TLS and SASL, or that do not answer.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rskafka::client::partition::Compression;
use rskafka::client::{ClientBuilder, Credentials, SaslConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::consume::{
    KafkaBroker, KillOnDrop, assert_each_once, consume_all, event, free_port, start_consumer, start_kafka_process,
    texts,
};
use crate::daemon::{DaemonHome, create_certificate, report_skipped, run_sequor, wait_for};

/// A broker behind a gateway that requires TLS, a certificate, and SASL.
struct SecuredBroker {
    broker: KafkaBroker,
    gateway: KillOnDrop,
    cert: String,
    key: String,
    credentials: String,
}

/// Clients with the only user of the gateway, and with the certificate that it trusts.
fn secured_clients(port: u16, cert: &Path, key: &Path) -> ClientBuilder {
    let certificate = CertificateDer::from_pem_file(cert).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let config = config.with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_file(key).unwrap()).unwrap();
    let credentials = Credentials::new("ann".to_owned(), "a:secret".to_owned());
    let builder = ClientBuilder::new(vec![format!("localhost:{port}")]);
    builder.tls_config(Arc::new(config)).sasl_config(SaslConfig::Plain(credentials))
}

impl SecuredBroker {
    /// Starts the broker and its gateway. `None` if a program is not installed; reports the skipped
    /// check.
    fn start(dir: &Path) -> Option<Self> {
        let Some([cert, key]) = create_certificate(dir, "kafka", 30, false) else {
            report_skipped("TLS of Kafka: openssl is not installed");
            return None;
        };
        let (broker_port, port) = (free_port(), free_port());
        let process = start_kafka_process(dir, broker_port, port)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/kafka_gateway.py");
        let mut command = Command::new("python3");
        command.arg(script).args([port.to_string(), broker_port.to_string()]).args([&cert, &key]);
        command
            .args(["ann", "a:secret"])
            .stdin(Stdio::null())
            .stderr(fs::File::create(dir.join("gateway.log")).unwrap());
        let gateway = KillOnDrop(command.stdout(Stdio::null()).spawn().unwrap());
        wait_for("the gateway", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let source = format!("kafka+tls://localhost:{port}/shop");
        let broker = KafkaBroker::create_topic(process, secured_clients(port, &cert, &key), source, 1);
        let credentials = dir.join("credentials");
        fs::write(&credentials, "ann:a:secret\n").unwrap();
        let [cert, key, credentials] = [cert, key, credentials].map(|file| file.to_str().unwrap().to_owned());
        Some(Self { broker, gateway, cert, key, credentials })
    }

    /// The flags of a client that may read the topic.
    fn flags(&self) -> Vec<&str> {
        let files = ["--tls-ca", &self.cert, "--tls-cert", &self.cert, "--tls-key", &self.key];
        [files.as_slice(), &["--credentials", &self.credentials]].concat()
    }
}

#[test]
fn kafka_is_read_with_tls_and_each_mechanism_of_sasl() {
    let home = DaemonHome::new();
    let Some(secured) = SecuredBroker::start(home.dir()) else { return };
    let daemon = home.start(&[]);
    let state = home.dir().join("state").to_str().unwrap().to_owned();
    for (number, mechanism) in ["plain", "scram-sha-256", "scram-sha-512"].into_iter().enumerate() {
        secured.broker.publish(0, [Some(event(number))], Compression::NoCompression);
        let flags = [secured.flags(), vec!["--sasl", mechanism, "--state", &state]].concat();
        let (stdout, stderr) = texts(&consume_all(&secured.broker.source, &daemon, &flags));
        assert!(stdout.contains("  messages                                 1"), "{stdout}{stderr}");
        assert!(!stderr.contains("warning"), "{stderr}");
    }
    assert_each_once(&daemon, 3);
}

#[test]
fn refusals_of_a_kafka_broker_name_the_flag_that_helps() {
    let home = DaemonHome::new();
    let Some(secured) = SecuredBroker::start(home.dir()) else { return };
    let daemon = home.start(&[]);
    let wrong = home.dir().join("wrong").to_str().unwrap().to_owned();
    fs::write(&wrong, "ann:wrong-secret").unwrap();
    let all = secured.flags();
    let (trusted, identified) = (&all[..2], &all[..6]);
    let cases: [(&[&str], &str); 6] = [
        (&[], "certificate is not trusted; name its CA certificate with --tls-ca"),
        (trusted, "may require --tls-cert"),
        (identified, "may require --tls-cert or --credentials"),
        (&[identified, &["--credentials", &wrong]].concat(), "refuses the user or the password"),
        (&[identified, &["--credentials", &wrong, "--sasl", "scram-sha-512"]].concat(), "refuses the user or the pass"),
        (&[identified, &["--credentials", &secured.cert]].concat(), "must contain one line `user:password`"),
    ];
    for (flags, expected) in cases {
        let output = consume_all(&secured.broker.source, &daemon, &[flags, &["--give-up-after", "4s"]].concat());
        let (_, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected), "{flags:?}: {stderr}");
        assert!(!stderr.contains("secret"), "{stderr}");
    }
    let plain = secured.broker.source.replace("kafka+tls", "kafka");
    let (_, stderr) = texts(&consume_all(&plain, &daemon, &["--give-up-after", "4s"]));
    assert!(stderr.contains("may require TLS (kafka+tls://)"), "{stderr}");
    let (_, stderr) = texts(&consume_all(&plain, &daemon, trusted));
    assert!(stderr.contains("--tls-ca and --tls-cert need an address with kafka+tls://"), "{stderr}");
}

#[test]
fn connections_that_hang_are_replaced() {
    let home = DaemonHome::new();
    let Some(mut secured) = SecuredBroker::start(home.dir()) else { return };
    let daemon = home.start(&[]);
    let state = home.dir().join("state").to_str().unwrap().to_owned();
    let flags = [secured.flags(), vec!["--give-up-after", "2s", "--state", &state]].concat();
    secured.broker.publish(0, [Some(event(0))], Compression::NoCompression);
    let _consumer = start_consumer(&secured.broker.source, &daemon, &flags);
    wait_for("the first event", || (daemon.next_offset() >= 1).then_some(()));
    let gateway = secured.gateway.0.id().to_string();
    assert!(Command::new("kill").args(["-USR1", &gateway]).status().unwrap().success());
    let port = secured.broker.source.split([':', '/']).nth(4).unwrap().parse().unwrap();
    let clients = secured_clients(port, Path::new(&secured.cert), Path::new(&secured.key));
    secured.broker.reconnect(clients);
    secured.broker.publish(0, [Some(event(1))], Compression::NoCompression);
    wait_for("the second event", || (daemon.next_offset() >= 2).then_some(()));
    assert_each_once(&daemon, 2);
}

#[test]
fn brokers_that_never_answer_end_the_command() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    // The system accepts the connections.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for scheme in ["kafka", "kafka+tls", "nats", "tls"] {
        let source = format!("{scheme}://{}/shop", silent.local_addr().unwrap());
        let arguments = ["consume", &source, "--url", daemon.api_url(), "--give-up-after", "1s"];
        let output = run_sequor(&arguments);
        let (_, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("no answer within 1s; check the address"), "{scheme}: {stderr}");
    }
}
