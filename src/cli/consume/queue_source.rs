//! The source of messages: a stream of NATS JetStream, or a topic of Kafka.

use anyhow::{Context, bail, ensure};
use std::time::Duration;

use super::access_flags::{AccessFlags, without_password};
use super::jetstream_source::{JetStreamFlags, JetStreamSource};
use super::kafka_client::KafkaBrokers;
use super::kafka_source::{KafkaFlags, KafkaSource};
use super::queue_message::QueueMessage;

/// The address of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceAddress {
    /// The address of a server, and the name of a stream.
    JetStream(String, String),
    /// The addresses of brokers, and the name of a topic.
    Kafka(KafkaBrokers, String),
}

impl SourceAddress {
    /// Parses an address such as `nats://host:4222/STREAM` or `kafka://host:9092/topic`.
    ///
    /// # Errors
    /// If the scheme is unknown, or a part is absent.
    pub(super) fn parse(address: &str) -> anyhow::Result<Self> {
        const EXPECTED: &str = "write nats://HOST:PORT/STREAM, tls://HOST:PORT/STREAM, kafka://HOST:PORT/TOPIC or \
            kafka+tls://HOST:PORT/TOPIC";
        ensure!(
            !(address.starts_with("kafka") && address.contains('@')),
            "the address of a broker has no user; write the line `user:password` to a file, and name it with --credentials"
        );
        let shown = without_password(address);
        let invalid = || format!("invalid source {shown}: {EXPECTED}");
        let (scheme, rest) = address.split_once("://").with_context(invalid)?;
        let (host, name) = rest.split_once('/').with_context(invalid)?;
        ensure!(!host.is_empty() && !name.is_empty() && !name.contains(['/', '*', '>', ' ']), "{}", invalid());
        match scheme {
            "nats" | "tls" if !name.contains('.') => Ok(Self::JetStream(format!("{scheme}://{host}"), name.to_owned())),
            "nats" | "tls" => bail!("{}", invalid()),
            "kafka" | "kafka+tls" => {
                let brokers = KafkaBrokers { addresses: host.to_owned(), uses_tls: scheme == "kafka+tls" };
                Ok(Self::Kafka(brokers, name.to_owned()))
            }
            _ => bail!("invalid source {shown}: unknown scheme `{scheme}`; {EXPECTED}"),
        }
    }

    /// The name of the stream or topic.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::JetStream(_, name) | Self::Kafka(_, name) => name,
        }
    }
}

/// A source, and how to reach it.
pub(super) struct SourceSettings {
    pub(super) address: SourceAddress,
    pub(super) access: AccessFlags,
    pub(super) jetstream: JetStreamFlags,
    pub(super) kafka: KafkaFlags,
    /// The longest time for an answer.
    pub(super) answer_limit: Duration,
}

impl SourceSettings {
    /// Connects to the server or the brokers, and finds the position in the source. Messages that
    /// were read and not acknowledged are read again.
    pub(super) async fn open(&self) -> anyhow::Result<QueueSource> {
        Ok(match &self.address {
            SourceAddress::JetStream(server, stream) => QueueSource::JetStream(Box::new(
                JetStreamSource::open(server, stream, &self.jetstream, &self.access).await?,
            )),
            SourceAddress::Kafka(brokers, topic) => QueueSource::Kafka(Box::new(
                KafkaSource::open(brokers, topic, &self.kafka, &self.access, self.answer_limit).await?,
            )),
        })
    }
}

/// An open source.
pub(super) enum QueueSource {
    JetStream(Box<JetStreamSource>),
    Kafka(Box<KafkaSource>),
}

impl QueueSource {
    /// Reads the next messages: up to `limit`, or of Kafka about a MiB for each partition. If there
    /// are none, waits a short time.
    pub(super) async fn next_batch(&mut self, limit: usize) -> anyhow::Result<Vec<QueueMessage>> {
        match self {
            Self::JetStream(source) => source.next_batch(limit).await,
            Self::Kafka(source) => source.next_batch().await,
        }
    }

    /// Acknowledges all messages that were read.
    pub(super) async fn acknowledge(&mut self) -> anyhow::Result<()> {
        match self {
            Self::JetStream(source) => source.acknowledge().await,
            Self::Kafka(source) => source.acknowledge(),
        }
    }

    /// The number of messages that are not acknowledged.
    pub(super) async fn lag(&self) -> anyhow::Result<u64> {
        match self {
            Self::JetStream(source) => source.lag().await,
            Self::Kafka(source) => Ok(source.lag()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_server_and_stream() {
        let parsed = SourceAddress::parse("nats://u:p@host:4222/EVENTS").unwrap();
        assert_eq!(parsed, SourceAddress::JetStream("nats://u:p@host:4222".to_owned(), "EVENTS".to_owned()));
        for (scheme, uses_tls) in [("kafka", false), ("kafka+tls", true)] {
            let parsed = SourceAddress::parse(&format!("{scheme}://a:9092,b:9092/shop.events")).unwrap();
            let brokers = KafkaBrokers { addresses: "a:9092,b:9092".to_owned(), uses_tls };
            assert_eq!(parsed, SourceAddress::Kafka(brokers, "shop.events".to_owned()));
        }
        for address in ["host:4222/EVENTS", "nats://host:4222", "nats://host/", "nats:///EVENTS", "nats://host/a.b"] {
            assert!(SourceAddress::parse(address).is_err(), "{address}");
        }
        let error = SourceAddress::parse("http://host/EVENTS").unwrap_err().to_string();
        assert!(error.contains("unknown scheme `http`"), "{error}");
        let error = SourceAddress::parse("kafka+tls://ann:secret@host:9093/shop").unwrap_err().to_string();
        assert!(error.contains("--credentials") && !error.contains("secret"), "{error}");
        for address in ["redis://ann:p@secret@host/S", "nats://ann:secret@host:4222", "nats://ann:secret@host/a.b"] {
            let error = SourceAddress::parse(address).unwrap_err().to_string();
            assert!(error.contains("://host") && !error.contains("secret"), "{error}");
        }
    }
}
