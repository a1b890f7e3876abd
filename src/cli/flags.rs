//! Command-line flags for settings, logging setup, and the mapping of settings to the parameters of
//! each module.

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, reload};

use super::pseudonym_secret;
use crate::actors::jobs::retention::RetentionPolicy;
use crate::actors::learner::CheckpointPolicy;
use crate::actors::system::{NodeSettings, SystemSettings};
use crate::domain::{EventKind, PlaceholderIds};
use crate::http::{OriginRecorder, RateLimitSettings, ServerOptions, TlsFiles};
use crate::ingest::{SegmentEventMapping, ValidationRules};
use crate::learner::{HiddenItems, LearnerConfig, SequenceParams};
use crate::metrics::Metrics;
use crate::settings::{
    ApiKeyPolicy, CommitDurability, LogFormat, LogLevel, LogSettings, Period, PropertiesPolicy, SettingOrigin,
    Settings, SettingsLayers, TelemetrySettings, UnknownVariable, unknown_variables,
};
use crate::store::{self, CommitterSettings, JournalRetention, StoreOptions};
use crate::telemetry::{SPAN_TARGET, SpanLayer, TelemetryExporter};

/// Flags that override settings. Flags take precedence over the environment
/// (`SEQUOR_SERVER__LISTEN`), which takes precedence over the file.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct SettingFlags {
    /// Settings file (TOML). Environment variables such as SEQUOR_SERVER__LISTEN override it; flags
    /// override both.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any setting by its key, such as `network.hidden=64`. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// The settings that a command's own flags set: pairs of setting key and value.
type FlagOverrides<'a> = &'a [(&'a str, Option<String>)];

impl SettingFlags {
    /// The effective settings. `defaults` are the defaults of this command, where they differ from
    /// the general ones.
    pub(super) fn settings_layers(
        &self,
        defaults: &[(&str, &str)],
        overrides: FlagOverrides<'_>,
    ) -> anyhow::Result<SettingsLayers<Settings>> {
        let mut layers = SettingsLayers::<Settings>::new()?.override_defaults(defaults)?;
        if let Some(file) = &self.config {
            layers = layers.add_file(file)?;
        }
        layers = layers.add_environment(environment_variables())?;
        for pair in &self.set {
            let (key, value) = pair.split_once('=').with_context(|| format!("--set {pair}: write KEY=VALUE"))?;
            layers = layers.add_flag(key.trim(), value.trim())?;
        }
        for (key, value) in overrides {
            if let Some(value) = value {
                layers = layers.add_flag(key, value)?;
            }
        }
        layers.validated_settings()?;
        Ok(layers)
    }
}

/// Flags of every command that opens a data directory.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct RuntimeFlags {
    #[command(flatten)]
    settings: SettingFlags,
    /// Data directory [default: ./sequor-data; replay, demo and bench use a temporary one].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl RuntimeFlags {
    /// Whether the command line names a data directory.
    pub(super) fn has_data_dir(&self) -> bool {
        self.data_dir.is_some()
    }

    /// The settings flags as arguments for a child process.
    pub(super) fn to_settings_arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if let Some(file) = &self.settings.config {
            arguments.extend(["--config".into(), file.into()]);
        }
        for pair in &self.settings.set {
            arguments.extend(["--set".into(), pair.into()]);
        }
        arguments
    }

    /// The data directory from the command line.
    pub(super) fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// The effective settings. `overrides` are the settings that the command's own flags set.
    pub(super) fn settings_layers(&self, overrides: FlagOverrides<'_>) -> anyhow::Result<SettingsLayers<Settings>> {
        let folder = self.data_dir.as_ref().map(|folder| folder.to_string_lossy().into_owned());
        self.settings.settings_layers(&[], &[overrides, &[("store.data_dir", folder)]].concat())
    }
}

/// Checks the settings of a section against the settings of a checkpoint. An explicitly set value
/// must match the checkpoint. A default may differ, because the checkpoint's value replaces it.
pub(super) fn ensure_compatible<T: Serialize>(
    layers: &SettingsLayers<Settings>,
    section: &str,
    configured: &T,
    stored: &T,
    except: &[&str],
) -> anyhow::Result<()> {
    let (configured, stored) = (toml::Table::try_from(configured)?, toml::Table::try_from(stored)?);
    for (name, value) in configured.iter().filter(|(name, _)| !except.contains(&name.as_str())) {
        let key = format!("{section}.{name}");
        let origin = layers.origin_of_key(&key);
        if let Some(other) = stored.get(name).filter(|other| *other != value && origin != SettingOrigin::Default) {
            bail!("{key} = {value} (from {origin}): the checkpoint was made with {other}");
        }
    }
    Ok(())
}

/// Changes the log level.
pub(super) type LogLevelControl = Box<dyn Fn(LogLevel) + Send + Sync>;

/// Starts the exporter of trace spans, if the settings name a collector.
pub(super) fn start_span_exporter(
    layers: &SettingsLayers<Settings>,
    metrics: &Metrics,
) -> anyhow::Result<Option<TelemetryExporter>> {
    let TelemetrySettings { endpoint, sample } = &layers.validated_settings()?.telemetry;
    if endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = TelemetryExporter::start(endpoint, *sample, metrics.spans.clone());
    let error_context =
        || format!("telemetry.endpoint = {endpoint:?} (from {})", layers.origin_of_key("telemetry.endpoint"));
    exporter.with_context(error_context).map(Some)
}

/// Starts logging to standard error. Returns a control for the level.
pub(super) fn init_logging(settings: &LogSettings) -> anyhow::Result<LogLevelControl> {
    init_logging_with_spans(settings, None)
}

/// Starts logging to standard error, and starts the layer that exports `spans`.
pub(super) fn init_logging_with_spans(
    settings: &LogSettings,
    spans: Option<SpanLayer>,
) -> anyhow::Result<LogLevelControl> {
    // The configured level applies to Sequor's own lines. Libraries log only warnings and errors,
    // because at lower levels they may log whole requests with keys and user ids. actix_http logs
    // malformed requests as errors, which lets any client fill the log. Spans for a collector do
    // not belong in the log.
    let filter = |level: LogLevel| {
        let own = level_filter(level);
        Targets::new().with_default(own.min(LevelFilter::WARN)).with_targets([
            ("actix_http", LevelFilter::OFF),
            (SPAN_TARGET, LevelFilter::OFF),
            ("sequor", own),
        ])
    };
    let (level, handle) = reload::Layer::new(filter(settings.level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(wants_colours());
    let lines = match settings.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // The level filter applies to the log layer only, not to the spans.
    let started = tracing_subscriber::registry().with(spans).with(lines.with_filter(level)).try_init();
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    Ok(Box::new(move |level| {
        if let Err(error) = handle.reload(filter(level)) {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot change the log level; it is unchanged");
        }
    }))
}

/// The filter that accepts lines of a level and of all more severe levels.
fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Whether log lines are coloured: only on a terminal, and not if `NO_COLOR` is set
/// [<https://no-color.org>].
fn wants_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The environment. If a variable is not UTF-8, its invalid bytes become replacement characters, so
/// that the error message can show it.
fn environment_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Warnings about environment variables that look like settings but have no effect.
pub(super) fn environment_warnings() -> Vec<UnknownVariable> {
    unknown_variables(environment_variables().map(|(name, _)| name))
}

/// Parameters of the learner.
pub(super) fn learner_config(settings: &Settings) -> LearnerConfig {
    LearnerConfig {
        learning: settings.learning.clone(),
        network: settings.network.clone(),
        clusters: settings.clusters.clone(),
        kinds: settings.events.resolved_kinds(),
        sequence: SequenceParams {
            idle_gap_ms: settings.session.idle_gap.as_millis(),
            window: settings.learning.window,
            refresh_after: settings.learning.refresh_after,
        },
        candidates: settings.recall.clone(),
        evaluate_from: 0,
        evaluate_sources: false,
        freeze_from: None,
        interest: settings.interest,
        profiles: settings.profiles,
        features: settings.features.declarations(),
    }
}

/// Parameters of the store.
pub(super) fn store_options(settings: &Settings) -> StoreOptions {
    StoreOptions { cache_bytes: settings.store.cache_bytes }
}

/// Parameters of the actors.
pub(super) fn system_settings(settings: &Settings, learner: LearnerConfig) -> SystemSettings {
    let durability = match settings.store.durability {
        CommitDurability::PowerLoss => store::Durability::PowerLoss,
        CommitDurability::ProcessCrash => store::Durability::ProcessCrash,
    };
    SystemSettings {
        learner,
        committer: CommitterSettings {
            durability,
            dedup_window: settings.store.dedup_window as usize,
            default_consent: settings.privacy.consent,
        },
        max_in_flight: settings.server.max_in_flight_events,
        max_lag: settings.server.max_lag_events,
        queue_wait: settings.server.queue_wait.get(),
        shards: or_processor_count_if_zero(settings.session.shards),
        max_live_sessions: settings.session.live_max,
        idle_timeout: settings.session.passivate_after.get().unwrap_or(Duration::MAX),
        checkpoints: CheckpointPolicy {
            interval: settings.store.checkpoint_every,
            keep: settings.store.checkpoints_kept,
            forget_after: settings.learning.users_kept,
            // When the daemon starts, it reads the event ids of the deduplication window from the
            // journal. So these entries must stay in the journal.
            journal_retention: (settings.store.retain_entries > 0 || settings.store.retain_for != Period::OFF).then(
                || JournalRetention {
                    entries: settings.store.retain_entries.max(settings.store.dedup_window),
                    period_ms: (settings.store.retain_for != Period::OFF)
                        .then(|| settings.store.retain_for.as_millis()),
                },
            ),
            compact_ratio: settings.store.compact_ratio,
        },
        node: NodeSettings {
            compare_every: settings.cluster.compare_every,
            role: settings.cluster.role,
            train_after: settings.cluster.train_after.get().unwrap_or_default(),
        },
    }
}

/// Retention periods of events and impressions.
pub(super) fn retention_policy(settings: &Settings) -> RetentionPolicy {
    let retention_ms = |period: Period| (period != Period::OFF).then(|| period.as_millis());
    let events = settings.events.kinds.iter();
    let events =
        events.filter_map(|(name, kind)| Some((EventKind::from_name(name), retention_ms(kind.retain_for?)?))).collect();
    RetentionPolicy { events, impressions_ms: retention_ms(settings.events.retain_impressions) }
}

/// Parameters of the HTTP servers.
pub(super) fn server_options(settings: &Settings) -> ServerOptions {
    ServerOptions {
        listen: settings.server.listen,
        admin_listen: settings.server.admin_listen,
        workers: or_processor_count_if_zero(settings.server.workers),
        hidden_items: HiddenItems {
            dismissed_for_ms: settings.session.dismissed_for.as_millis(),
            purchased_for_ms: settings.session.purchased_for.as_millis(),
            purchase: settings.events.resolved_kinds().id_of(&EventKind::Purchase),
        },
        max_body_bytes: settings.server.max_body_bytes,
        read_wait: settings.server.read_wait.get().unwrap_or_default(),
        max_streams: settings.server.streams_max,
        tls: (!settings.server.tls_cert.as_os_str().is_empty())
            .then(|| TlsFiles { cert: settings.server.tls_cert.clone(), key: settings.server.tls_key.clone() }),
        rate_limits: RateLimitSettings {
            per_key: settings.server.rate_per_key,
            per_address: settings.server.rate_per_address,
            burst: u32::try_from(settings.server.max_batch).unwrap_or(u32::MAX),
        },
        allowed_api_hosts: settings.server.api_hosts.clone(),
        allowed_admin_hosts: settings.server.admin_hosts.clone(),
        max_connections: settings.server.connections_max,
        max_connections_per_address: match settings.server.connections_per_address {
            0 => settings.server.connections_max.div_ceil(2),
            set => set,
        },
        max_http2_streams: settings.server.http2_streams_max,
        queue_wait: settings.server.queue_wait.get(),
        write_timeout: settings.server.write_timeout.get().unwrap_or_default(),
        head_timeout: settings.server.head_timeout.get().unwrap_or_default(),
        body_timeout: settings.server.body_timeout.get().unwrap_or_default(),
        idle_timeout: settings.server.idle_timeout.get().unwrap_or_default(),
        requires_key: settings.server.keys == ApiKeyPolicy::Required,
        cors_origins: settings.server.cors_origins.clone(),
        event_origins: OriginRecorder::disabled(),
    }
}

/// Validation rules for events that go into a data directory. If the settings enable pseudonyms,
/// these rules replace the ids.
pub(super) fn server_validation_rules(settings: &Settings) -> anyhow::Result<ValidationRules> {
    let drop_properties = settings.privacy.properties == PropertiesPolicy::Drop;
    Ok(ValidationRules {
        pseudonymiser: pseudonym_secret::load_pseudonymiser(&settings.privacy)?,
        drop_properties,
        ..client_validation_rules(settings)
    })
}

/// Validation rules for events that are sent to a daemon, which assigns the pseudonyms itself.
pub(super) fn client_validation_rules(settings: &Settings) -> ValidationRules {
    let segment_events = SegmentEventMapping::with_overrides(settings.segment.event_overrides());
    ValidationRules {
        kinds: settings.events.resolved_kinds(),
        max_events: settings.server.max_batch,
        segment_events,
        consent_if_refused: settings.segment.consent.clone(),
        placeholder_ids: PlaceholderIds::new(settings.events.placeholder_ids.iter().map(String::as_str)),
        ..ValidationRules::default()
    }
}

fn or_processor_count_if_zero(count: usize) -> usize {
    if count > 0 { count } else { std::thread::available_parallelism().map_or(1, usize::from) }
}
