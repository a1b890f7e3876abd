//! Reads a topic of Kafka. The position of each partition is in a progress file.

use anyhow::{Context, ensure};
use clap::Args;
use futures_util::future::join_all;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::RecordAndOffset;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::access_flags::AccessFlags;
use super::kafka_client::{self, KafkaBrokers, SaslMechanism};
use super::queue_message::QueueMessage;
use crate::cli::progress_file::ProgressFile;
use crate::cli::rejects::RowLocation;

/// Size limit of the records of all partitions in one batch. A broker sends a larger record alone.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Bounds of the size of one partition's records in one batch.
const FETCH_BYTES: RangeInclusive<usize> = 64 * 1024..=1024 * 1024;
/// How long the broker waits for a first record, in milliseconds.
const FETCH_WAIT_MS: i32 = 200;

/// Flags of a topic of Kafka.
#[derive(Debug, Clone, Args)]
pub(super) struct KafkaFlags {
    /// Progress file of a Kafka topic [default: TOPIC.consume in the current folder].
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// How --credentials are checked by a Kafka broker (SASL).
    #[arg(long, value_name = "MECHANISM", default_value = "plain", requires = "credentials")]
    sasl: SaslMechanism,
}

impl KafkaFlags {
    /// The progress file of a topic.
    pub(super) fn progress_file(&self, topic: &str) -> ProgressFile {
        ProgressFile::for_file(Path::new(topic), ".consume", self.state.as_deref())
    }
}

/// Content of the progress file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KafkaProgress {
    /// The source that was read.
    source: String,
    /// The next offset of each partition.
    next_offsets: BTreeMap<i32, i64>,
}

/// One partition.
struct Partition {
    client: PartitionClient,
    next_offset: i64,
    /// The next offset, once the records that were read are acknowledged.
    read_through: i64,
    end_offset: i64,
}

/// A topic, and the positions in its partitions.
pub(super) struct KafkaSource {
    topic: String,
    partitions: Vec<Partition>,
    progress: KafkaProgress,
    file: ProgressFile,
}

impl KafkaSource {
    /// Connects to the brokers, and finds the positions of the partitions.
    pub(super) async fn open(
        brokers: &KafkaBrokers,
        topic: &str,
        flags: &KafkaFlags,
        access: &AccessFlags,
        answer_limit: Duration,
    ) -> anyhow::Result<Self> {
        // TLS does not change what is read.
        let source = format!("kafka://{}/{topic}", brokers.addresses);
        let file = flags.progress_file(topic);
        let mut progress: KafkaProgress = file.read_state()?.unwrap_or_default();
        ensure!(
            progress.source.is_empty() || progress.source == source,
            "{} is the progress file of {}; name another file with --state",
            file.path().display(),
            progress.source
        );
        progress.source.clone_from(&source);
        let client = kafka_client::connect(brokers, flags.sasl, access, answer_limit).await?;
        let brokers = &brokers.addresses;
        let topics = client.list_topics().await.with_context(|| format!("cannot list the topics of {brokers}"))?;
        let found = topics.into_iter().find(|found| found.name == topic);
        let found = found.with_context(|| format!("the topic {topic} does not exist on {brokers}"))?;
        let mut partitions = Vec::new();
        for number in found.partitions {
            let client = client.partition_client(topic, number, UnknownTopicHandling::Error).await?;
            let next_offset = match progress.next_offsets.get(&number) {
                Some(offset) => *offset,
                None => client.get_offset(OffsetAt::Earliest).await?,
            };
            partitions.push(Partition { client, next_offset, read_through: next_offset, end_offset: next_offset });
        }
        Ok(Self { topic: topic.to_owned(), partitions, progress, file })
    }

    /// Reads the next records of all partitions. If there are none, waits a short time.
    pub(super) async fn next_batch(&mut self) -> anyhow::Result<Vec<QueueMessage>> {
        let bytes = (MAX_BATCH_BYTES / self.partitions.len().max(1)).clamp(*FETCH_BYTES.start(), *FETCH_BYTES.end());
        let bytes = i32::try_from(bytes)?;
        let fetched = join_all(self.partitions.iter_mut().map(|partition| partition.fetch(bytes))).await;
        let mut messages = Vec::new();
        for (partition, records) in self.partitions.iter().zip(fetched) {
            let number = partition.client.partition();
            messages.extend(records?.into_iter().filter_map(|record| message_of(&self.topic, number, record)));
        }
        Ok(messages)
    }

    /// Stores the positions after the records that were read.
    pub(super) fn acknowledge(&mut self) -> anyhow::Result<()> {
        if self.partitions.iter().all(|partition| partition.next_offset == partition.read_through) {
            return Ok(());
        }
        for partition in &mut self.partitions {
            partition.next_offset = partition.read_through;
            self.progress.next_offsets.insert(partition.client.partition(), partition.next_offset);
        }
        self.file.write_state_synced(&self.progress)
    }

    /// The number of records that are not acknowledged, as of the last request.
    pub(super) fn lag(&self) -> u64 {
        let lags = self.partitions.iter().map(|partition| partition.end_offset.saturating_sub(partition.next_offset));
        lags.map(|lag| u64::try_from(lag).unwrap_or(0)).sum()
    }
}

impl Partition {
    /// Reads records from the position on. If the position does not exist any more, continues with
    /// the first record that exists.
    async fn fetch(&mut self, bytes: i32) -> anyhow::Result<Vec<RecordAndOffset>> {
        let fetched = self.client.fetch_records(self.read_through, 1..bytes, FETCH_WAIT_MS).await;
        let (records, end_offset) = match fetched {
            Ok(fetched) => fetched,
            Err(Error::ServerError { protocol_error: ProtocolError::OffsetOutOfRange, .. }) => {
                let earliest = self.client.get_offset(OffsetAt::Earliest).await?;
                eprintln!(
                    "partition {}: the offset {} does not exist; reading from {earliest}",
                    self.client.partition(),
                    self.read_through
                );
                self.read_through = earliest;
                self.client.fetch_records(earliest, 1..bytes, FETCH_WAIT_MS).await?
            }
            Err(error) => return Err(error.into()),
        };
        self.end_offset = end_offset;
        self.read_through = records.last().map_or(self.read_through, |last| last.offset + 1);
        Ok(records)
    }
}

/// The message of a record; `None` if the record has no value. The id contains the record's time, so
/// that the records of a topic that was created again have other ids.
fn message_of(topic: &str, partition: i32, record: RecordAndOffset) -> Option<QueueMessage> {
    let RecordAndOffset { record, offset } = record;
    let published_at = record.timestamp.timestamp_millis();
    Some(QueueMessage {
        location: RowLocation::Record(partition, offset),
        id: format!("kafka/{topic}/{partition}/{offset}@{published_at}"),
        published_at,
        payload: record.value?.into(),
    })
}
