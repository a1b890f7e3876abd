//! Creates the stream of a cluster, and checks an existing one against the settings and the journal.

use super::connection::describe;
use crate::cluster::config::{NodeConfig, SharedSettings};
use crate::cluster::error::JoinError;
use crate::cluster::node_report::{from_hex, to_hex};
use crate::cluster::shared_log::LogError;
use crate::domain::Offset;
use crate::store::SharedLogPosition;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// The time within which the servers store a message with the same id once. A node repeats a
/// message for some seconds only.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Metadata of the stream: the number of journal entries with which the cluster started.
const START_KEY: &str = "sequor-start";
/// Metadata of the stream: the running hash of the journal with which the cluster started.
const START_CHAIN_KEY: &str = "sequor-start-chain";
/// Metadata of the stream: the settings that must be equal on all nodes.
const SETTINGS_KEY: &str = "sequor-settings";
/// Metadata of the stream: the key with which the nodes hash the senders of entries.
const ORIGIN_KEY: &str = "sequor-origin-key";
/// The pause and the number of attempts while the servers elect a leader.
const RETRIES: (Duration, u32) = (Duration::from_secs(1), 10);

/// The state of the journal with which a node starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStart {
    /// The data directory.
    pub dir: PathBuf,
    /// The number of entries of the journal.
    pub entries: Offset,
    /// The position of the journal in the stream, if it has one.
    pub position: Option<SharedLogPosition>,
    /// The key with which the node hashes the senders of entries.
    pub origin_key: [u8; 16],
}

/// What a node needs to know of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamIdentity {
    /// A text that differs from those of other streams, also of the same name.
    pub id: String,
    /// The key with which the nodes hash the senders of entries.
    pub origin_key: [u8; 16],
}

/// A text that identifies a stream: the time of its creation.
pub(super) fn stream_id(info: &Info) -> String {
    info.created.to_string()
}

/// Opens the stream, or creates it.
///
/// # Errors
/// [`JoinError`] if the servers cannot store the stream, or if it does not fit.
pub(super) async fn open_stream(
    context: &Context,
    config: &NodeConfig,
    start: &LogStart,
) -> Result<StreamIdentity, JoinError> {
    let (pause, attempts) = RETRIES;
    for _ in 1..attempts {
        match try_open_stream(context, config, start).await {
            // The servers may still be starting.
            Err(JoinError::Log(LogError::Unreachable(reason)) | JoinError::TooFewServers { reason, .. }) => {
                tracing::info!(reason, "waiting for the cluster's stream");
                tokio::time::sleep(pause).await;
            }
            opened => return opened,
        }
    }
    try_open_stream(context, config, start).await
}

async fn try_open_stream(
    context: &Context,
    config: &NodeConfig,
    start: &LogStart,
) -> Result<StreamIdentity, JoinError> {
    let found = match context.get_stream(config.stream()).await {
        Ok(stream) => stream.cached_info().clone(),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(reply) if reply.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                create_stream(context, config, start).await?
            }
            GetStreamErrorKind::JetStream(reply) => return Err(refusal(config, reply.error_code(), &error)),
            _ => return Err(LogError::Unreachable(describe(&error)).into()),
        },
    };
    check_stream(&found, config)?;
    check_start(&found, config, start)?;
    let origin_key = found.config.metadata.get(ORIGIN_KEY).and_then(|text| from_hex(text));
    Ok(StreamIdentity { id: stream_id(&found), origin_key: origin_key.unwrap_or(start.origin_key) })
}

/// The reason why the servers refuse a request about the stream.
fn refusal(config: &NodeConfig, code: ErrorCode, error: &dyn std::error::Error) -> JoinError {
    const FEW_SERVERS: [ErrorCode; 3] =
        [ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED, ErrorCode::CLUSTER_NO_PEERS, ErrorCode::INSUFFICIENT_RESOURCES];
    const DISABLED: [ErrorCode; 2] = [ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT];
    let reason = describe(error);
    if FEW_SERVERS.contains(&code) {
        JoinError::TooFewServers { replicas: config.replicas, reason }
    } else if DISABLED.contains(&code) {
        JoinError::NoJetStream { reason }
    } else {
        LogError::Unreachable(reason).into()
    }
}

async fn create_stream(context: &Context, config: &NodeConfig, start: &LogStart) -> Result<Info, JoinError> {
    if let Some(position) = start.position.filter(|position| position.sequence > 0) {
        let found = "the stream does not exist".to_owned();
        return Err(LogError::Lost { applied: position.sequence, found }.into());
    }
    let created = context.create_stream(stream_config(config, start)).await;
    match created {
        Ok(stream) => {
            tracing::info!(stream = config.stream(), replicas = config.replicas, "created the cluster's stream");
            Ok(stream.cached_info().clone())
        }
        Err(error) => Err(match error.kind() {
            // Another node has created it; the next attempt opens it.
            CreateStreamErrorKind::JetStream(reply) => refusal(config, reply.error_code(), &error),
            _ => LogError::Unreachable(describe(&error)).into(),
        }),
    }
}

fn stream_config(config: &NodeConfig, start: &LogStart) -> Config {
    let metadata = [
        (START_KEY, start.entries.to_string()),
        (START_CHAIN_KEY, start_chain(start)),
        (SETTINGS_KEY, shared_settings(config)),
        (ORIGIN_KEY, to_hex(&start.origin_key)),
    ];
    Config {
        name: config.stream(),
        description: Some("the journal of a Sequor cluster".to_owned()),
        subjects: vec![config.subject()],
        retention: RetentionPolicy::Limits,
        // Without limits, the servers remove no message by themselves.
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: config.replicas,
        duplicate_window: DUPLICATE_WINDOW,
        metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<HashMap<_, _>>(),
        ..Config::default()
    }
}

/// The settings that must be equal on all nodes, as text.
fn shared_settings(config: &NodeConfig) -> String {
    let SharedSettings { dedup_window, default_consent, pseudonym_secret } = config.shared;
    let secret = pseudonym_secret.map_or_else(|| "none".to_owned(), |fingerprint| to_hex(&fingerprint));
    format!(
        "store.dedup_window = {dedup_window}, privacy.consent = {:?}, fingerprint of the pseudonym secret = {secret}",
        default_consent.name()
    )
}

fn check_stream(found: &Info, config: &NodeConfig) -> Result<(), JoinError> {
    let differs =
        |found: String, expected: String| Err(JoinError::StreamDiffers { stream: config.stream(), found, expected });
    if found.config.num_replicas != config.replicas {
        return differs(
            format!("{} replicas", found.config.num_replicas),
            format!(
                "cluster.replicas = {}; change the setting, or the stream with `nats stream update --replicas`",
                config.replicas
            ),
        );
    }
    if found.config.storage != StorageType::File || found.config.subjects != [config.subject()] {
        return differs("other subjects or memory storage".to_owned(), "the stream that it would create".to_owned());
    }
    let (settings, expected) = (found.config.metadata.get(SETTINGS_KEY), shared_settings(config));
    match settings {
        Some(settings) if *settings != expected => {
            differs(settings.clone(), format!("{expected}; these settings must be equal on all nodes"))
        }
        _ => Ok(()),
    }
}

/// The running hash of a journal that has applied no message of the stream.
fn start_chain(start: &LogStart) -> String {
    to_hex(&start.position.unwrap_or_default().chain)
}

/// Checks that a journal that has applied no message is the one with which the stream starts.
fn check_start(found: &Info, config: &NodeConfig, start: &LogStart) -> Result<(), JoinError> {
    let has_applied = start.position.is_some_and(|position| position.sequence > 0);
    if has_applied { Ok(()) } else { check_new_stream(found, config, start) }
}

/// Checks that a stream starts with this journal.
pub(super) fn check_new_stream(found: &Info, config: &NodeConfig, start: &LogStart) -> Result<(), JoinError> {
    if starts_with(found, start) {
        return Ok(());
    }
    let LogStart { dir, entries, .. } = start.clone();
    Err(JoinError::OtherJournal { dir, entries, stream: config.stream(), start: start_entries(found) })
}

fn start_entries(found: &Info) -> Offset {
    found.config.metadata.get(START_KEY).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether a stream starts with this journal.
fn starts_with(found: &Info, start: &LogStart) -> bool {
    start.entries == start_entries(found) && found.config.metadata.get(START_CHAIN_KEY) == Some(&start_chain(start))
}
