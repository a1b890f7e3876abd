//! The sections that no other room defines.

use super::{OutOfRange, Period};
use crate::domain::{Consent, Kind, KindRule, Kinds};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Who must send a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhoNeedsKeys {
    /// Whoever comes to an address that another machine can reach.
    Auto,
    /// Everybody.
    Required,
}

/// The public API and the admin endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Where the public API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the admin endpoint listens; port 0 takes a free one.
    pub admin_listen: SocketAddr,
    /// Who must send a key: whoever comes to an address that is not a loopback one, or everybody.
    pub keys: WhoNeedsKeys,
    /// The certificate, and those that lead to a known authority, in PEM; empty: no TLS.
    pub tls_cert: PathBuf,
    /// The certificate's private key, in PEM; empty: no TLS.
    pub tls_key: PathBuf,
    /// Events and questions a second that one key may bring, 0..=1,000,000,000; 0: any number. A key may have a limit of its own.
    pub rate_per_key: u32,
    /// Events and questions a second that may come from one address, 0..=1,000,000,000; 0: any number.
    pub rate_per_address: u32,
    /// Names by which the admin endpoint may be asked for, beside localhost and addresses.
    pub admin_hosts: Vec<String>,
    /// The origins, such as `https://shop.example`, whose pages may ask the public API from a browser; `*`: any.
    pub cors_origins: Vec<String>,
    /// Threads that serve the public API, 0..=256; 0: one a processor.
    pub workers: usize,
    /// The most connections to the public API at once, 1..=1,000,000; further ones wait until one is closed.
    pub connections_max: usize,
    /// How long the head of a request may take, 100 ms..=1 h.
    pub head_timeout: Period,
    /// How long the body of a request may take, 100 ms..=1 h.
    pub body_timeout: Period,
    /// How long a connection stays open without a request, 100 ms..=1 h.
    pub idle_timeout: Period,
    /// The largest body of a request, in bytes, 1 KiB..=1 GiB, before and after it is unpacked.
    pub max_body_bytes: usize,
    /// The most events in one request, 1..=100,000.
    pub max_batch: usize,
    /// The most events taken in and not yet acknowledged, at least `max_batch` and at most 16,777,216; beyond it requests are told to come back later.
    pub max_in_flight_events: usize,
    /// How long a read waits at most until what it wants with `min_offset` is learned, 0 s..=30 s.
    pub read_wait: Period,
    /// The most streams of recommendations at once, 0..=100,000.
    pub streams_max: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            keys: WhoNeedsKeys::Auto,
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            rate_per_key: 0,
            rate_per_address: 0,
            admin_hosts: Vec::new(),
            cors_origins: Vec::new(),
            workers: 0,
            connections_max: 10_000,
            head_timeout: Period::seconds(5),
            body_timeout: Period::seconds(30),
            idle_timeout: Period::seconds(5),
            max_body_bytes: 1024 * 1024,
            max_batch: 1000,
            max_in_flight_events: 8192,
            read_wait: Period::seconds(1),
            streams_max: 1000,
        }
    }
}

impl ServerSettings {
    pub(super) fn check(&self) -> Result<(), OutOfRange> {
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            return Err(OutOfRange::new("server.admin_listen", self.admin_listen, "another address than server.listen"));
        }
        if let Some(origin) = self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(OutOfRange::new("server.cors_origins", origin, "a list of origins such as https://shop.example, or *"));
        }
        if self.tls_cert.as_os_str().is_empty() != self.tls_key.as_os_str().is_empty() {
            return Err(OutOfRange::new("server.tls_key", self.tls_key.display(), "set where server.tls_cert is, and only there"));
        }
        OutOfRange::unless_within("server.rate_per_key", self.rate_per_key, 0..=1_000_000_000)?;
        OutOfRange::unless_within("server.rate_per_address", self.rate_per_address, 0..=1_000_000_000)?;
        if let Some(host) = self.admin_hosts.iter().find(|host| !is_host(host)) {
            return Err(OutOfRange::new("server.admin_hosts", host, "a list of names such as sequor.example, without ports"));
        }
        OutOfRange::unless_within("server.connections_max", self.connections_max, 1..=1_000_000)?;
        for (key, timeout) in [
            ("server.head_timeout", self.head_timeout),
            ("server.body_timeout", self.body_timeout),
            ("server.idle_timeout", self.idle_timeout),
        ] {
            if !(100..=3_600_000).contains(&timeout.as_millis()) {
                return Err(OutOfRange::new(key, timeout, "100ms to 1h"));
            }
        }
        OutOfRange::unless_within("server.workers", self.workers, 0..=256)?;
        OutOfRange::unless_within("server.max_body_bytes", self.max_body_bytes, 1024..=1024 * 1024 * 1024)?;
        OutOfRange::unless_within("server.max_batch", self.max_batch, 1..=100_000)?;
        OutOfRange::unless_within("server.max_in_flight_events", self.max_in_flight_events, self.max_batch..=1 << 24)?;
        if self.read_wait.as_millis() > 30_000 {
            return Err(OutOfRange::new("server.read_wait", self.read_wait, "0s to 30s"));
        }
        OutOfRange::unless_within("server.streams_max", self.streams_max, 0..=100_000)
    }
}

/// Whether a text is the name of a machine.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// Whether a text is `*`, or a scheme and a host, perhaps with a port, as browsers write them.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text == "*"
        || host.is_some_and(|host| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte)))
}

/// Which deaths an acknowledged event outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// That of the machine: each commit reaches the disk before it is acknowledged.
    PowerLoss,
    /// That of the process: each commit reaches the operating system before it is acknowledged.
    ProcessCrash,
}

/// The embedded store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// The folder that holds everything that is kept.
    pub data_dir: PathBuf,
    /// Which deaths an acknowledged event outlives.
    pub durability: Durability,
    /// Memory for the store's pages, in bytes, 16 MiB..=1 TiB.
    pub cache_bytes: u64,
    /// How many of the latest event ids are remembered, to tell a repetition, 0..=1,000,000,000.
    pub dedup_window: u64,
    /// Entries of the journal from one checkpoint to the next, 100..=1,000,000,000: what a restart has to replay at most.
    pub checkpoint_every: u64,
    /// How many checkpoints are kept, 2..=1000: the last must not be the only one.
    pub checkpoints_kept: usize,
    /// How many of the latest journal entries are kept at least, 0: all, else 1000..=1,000,000,000,000. Older ones go once everything derived from them is in a checkpoint.
    pub retain_entries: u64,
    /// How long a journal entry is kept at least, by its own timestamp against the last entry's, at least 1 min; `off`: by `retain_entries` alone. Where both are set an entry goes once
    /// both let it.
    pub retain_for: Period,
    /// How many times what is in it the database may take on the disk before it is written anew, 0: any, else 1.5..=100. Below 64 MiB it never is.
    pub compact_ratio: f64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./sequor-data"),
            durability: Durability::PowerLoss,
            cache_bytes: 128 * 1024 * 1024,
            dedup_window: 1_000_000,
            checkpoint_every: 20_000,
            checkpoints_kept: 3,
            retain_entries: 0,
            retain_for: Period::OFF,
            compact_ratio: 3.0,
        }
    }
}

impl StoreSettings {
    pub(super) fn check(&self) -> Result<(), OutOfRange> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(OutOfRange::new("store.data_dir", "\"\"", "a folder"));
        }
        OutOfRange::unless_within("store.cache_bytes", self.cache_bytes, 16 << 20..=1 << 40)?;
        OutOfRange::unless_within("store.dedup_window", self.dedup_window, 0..=1_000_000_000)?;
        OutOfRange::unless_within("store.checkpoint_every", self.checkpoint_every, 100..=1_000_000_000)?;
        OutOfRange::unless_within("store.checkpoints_kept", self.checkpoints_kept, 2..=1000)?;
        if self.retain_entries > 0 {
            OutOfRange::unless_within("store.retain_entries", self.retain_entries, 1000..=1_000_000_000_000)?;
        }
        at_least_a_minute("store.retain_for", self.retain_for)?;
        if self.compact_ratio == 0.0 { Ok(()) } else { OutOfRange::unless_within("store.compact_ratio", self.compact_ratio, 1.5..=100.0) }
    }
}

/// The borders and the life of sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// More than this without an event, at least 1 s, and the next one begins a new session; `off`: only a new `session_id` does.
    pub idle_gap: Period,
    /// Event loops that the session actors are spread over, 0..=256; 0: one a processor.
    pub shards: usize,
    /// After this without an event or a question, at least 1 s, a session leaves the memory for the store; `off`: never.
    pub passivate_after: Period,
    /// How many sessions stay in memory, 1..=100,000,000, about 3 KB each; beyond it those unused longest leave it first, whatever `passivate_after` says.
    pub live_max: usize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { idle_gap: Period::minutes(30), shards: 0, passivate_after: Period::minutes(10), live_max: 100_000 }
    }
}

impl SessionSettings {
    pub(super) fn check(&self) -> Result<(), OutOfRange> {
        for (key, period) in [("session.idle_gap", self.idle_gap), ("session.passivate_after", self.passivate_after)] {
            if period.as_millis() < 1000 {
                return Err(OutOfRange::new(key, period, "at least 1s, or off"));
            }
        }
        OutOfRange::unless_within("session.live_max", self.live_max, 1..=100_000_000)?;
        OutOfRange::unless_within("session.shards", self.shards, 0..=256)
    }
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsSettings {
    /// By name: a built-in kind whose meaning is changed, or a kind of the site's own. The kinds of the site's own are numbered in the order of their names.
    pub kinds: BTreeMap<String, KindSettings>,
    /// For how long it is kept what was recommended, at least 1 min; `off`: as long as events are.
    pub retain_impressions: Period,
}

impl Default for EventsSettings {
    fn default() -> Self {
        Self { kinds: BTreeMap::new(), retain_impressions: Period::OFF }
    }
}

/// What a kind of event means; what is left out stays as it is built in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KindSettings {
    /// Whether something was chosen: the event is a target to predict. A kind of the site's own is one unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<bool>,
    /// What such an event is worth when it carries no value of its own, -1000..=1000. A kind of the site's own is worth 1 unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
    /// For how long such events are kept, at least 1 min; `off`, and left out: as long as others are. Older ones go from the journal, from sessions and from what learning remembers one by one;
    /// what was counted and trained stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_for: Option<Period>,
}

impl EventsSettings {
    /// The table of kinds in force.
    #[must_use]
    pub fn kinds(&self) -> Kinds {
        let mut kinds = Kinds::default();
        for (name, settings) in &self.kinds {
            let kind = Kind::from_name(name);
            let rule = kinds.id(&kind).map_or(KindRule { target: true, value: 1.0 }, |id| kinds.rule(id));
            let rule = KindRule { target: settings.target.unwrap_or(rule.target), value: settings.value.unwrap_or(rule.value) };
            // A full table is refused by `check`.
            kinds.set(kind, rule);
        }
        kinds
    }

    pub(super) fn check(&self) -> Result<(), OutOfRange> {
        for (name, settings) in &self.kinds {
            let key = || format!("events.kinds.{name}");
            if name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) {
                return Err(OutOfRange::new(key(), name, "a name of 1 to 64 letters, digits, _, - or ."));
            }
            if let Some(value) = settings.value {
                OutOfRange::unless_within(&format!("{}.value", key()), value, -1000.0..=1000.0)?;
            }
            at_least_a_minute(&format!("{}.retain_for", key()), settings.retain_for.unwrap_or(Period::OFF))?;
        }
        at_least_a_minute("events.retain_impressions", self.retain_impressions)?;
        let kinds = self.kinds();
        match self.kinds.keys().find(|name| kinds.id(&Kind::from_name(name)).is_none()) {
            Some(name) => Err(OutOfRange::new(format!("events.kinds.{name}"), name, format!("one of at most {} kinds", Kinds::MAX))),
            None => Ok(()),
        }
    }
}

fn at_least_a_minute(key: &str, period: Period) -> Result<(), OutOfRange> {
    if period.as_millis() < 60_000 { Err(OutOfRange::new(key, period, "at least 1m, or off")) } else { Ok(()) }
}

/// What is taken of messages in the shape of Segment's API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentSettings {
    /// By the name of an event, upper and lower case being the same: the kind of event that it is, or `ignore`. The calls `page` and `screen` go by `Page` and `Screen`. Names that are not
    /// here mean what they do in Segment's specifications.
    pub events: BTreeMap<String, String>,
    /// By the name of a category in `context.consent.categoryPreferences`: how far consent goes at most where the category is refused. Other categories say nothing here.
    pub consent: BTreeMap<String, Consent>,
}

impl SegmentSettings {
    /// What stands for a kind where nothing is to be taken of an event.
    pub const IGNORE: &'static str = "ignore";

    /// What each name of an event is said to mean; `None`: nothing is taken of it.
    pub fn names(&self) -> impl Iterator<Item = (&str, Option<Kind>)> {
        self.events.iter().map(|(name, kind)| (name.as_str(), (kind != Self::IGNORE).then(|| Kind::from_name(kind))))
    }

    pub(super) fn check(&self, kinds: &Kinds) -> Result<(), OutOfRange> {
        match self.events.iter().find(|(_, kind)| *kind != Self::IGNORE && kinds.id(&Kind::from_name(kind)).is_none()) {
            Some((name, kind)) => Err(OutOfRange::new(
                format!("segment.events.{name}"),
                kind,
                format!("{}, or {}", kinds.names().collect::<Vec<_>>().join(", "), Self::IGNORE),
            )),
            None => Ok(()),
        }
    }
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// The least severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may fail soon.
    Warn,
    /// And what an operator likes to know.
    Info,
    /// And what a developer looks for.
    Debug,
    /// And everything else.
    Trace,
}

impl LogLevel {
    /// The name, as log filters write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// How a line is written.
    pub format: LogFormat,
    /// The least severity that is logged.
    pub level: LogLevel,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Checked, Settings};

    #[test]
    fn what_is_out_of_range_is_named() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert_eq!(refused(|s| s.server.max_batch = 0), "server.max_batch = 0: must be 1 to 100000");
        assert_eq!(refused(|s| s.server.max_in_flight_events = 10), "server.max_in_flight_events = 10: must be 1000 to 16777216");
        assert!(refused(|s| s.server.admin_listen = s.server.listen).starts_with("server.admin_listen = 127.0.0.1:8080"));
        assert_eq!(refused(|s| s.store.checkpoints_kept = 1), "store.checkpoints_kept = 1: must be 2 to 1000");
        assert_eq!(refused(|s| s.store.retain_for = Period::seconds(3)), "store.retain_for = 3s: must be at least 1m, or off");
        assert_eq!(refused(|s| s.store.compact_ratio = 1.2), "store.compact_ratio = 1.2: must be 1.5 to 100");
        assert!(refused(|s| s.store.compact_ratio = f64::NAN).starts_with("store.compact_ratio = NaN"));
        assert_eq!(refused(|s| s.session.idle_gap = Period::milliseconds(5)), "session.idle_gap = 5ms: must be at least 1s, or off");
        let kind = |value| KindSettings { value: Some(value), ..KindSettings::default() };
        let mut settings = Settings::default();
        settings.events.kinds.insert("wish list".to_owned(), kind(1.0));
        assert_eq!(settings.check().unwrap_err().key, "events.kinds.wish list");
        settings.events.kinds = [("wishlist".to_owned(), kind(f32::NAN))].into();
        assert_eq!(settings.check().unwrap_err().key, "events.kinds.wishlist.value");
        settings.events.kinds = (0..60).map(|number| (format!("kind{number}"), kind(1.0))).collect();
        assert!(settings.check().unwrap_err().allowed.contains("at most 64 kinds"));
    }

    #[test]
    fn kinds_are_changed_and_added() {
        let settings = EventsSettings {
            kinds: [
                ("view".to_owned(), KindSettings { value: Some(0.5), ..KindSettings::default() }),
                ("dismiss".to_owned(), KindSettings { target: Some(true), ..KindSettings::default() }),
                ("wishlist".to_owned(), KindSettings::default()),
            ]
            .into(),
            ..EventsSettings::default()
        };
        let kinds = settings.kinds();
        let rule = |name: &str| kinds.rule(kinds.id(&Kind::from_name(name)).unwrap());
        assert_eq!(rule("view"), KindRule { target: true, value: 0.5 });
        assert_eq!(rule("dismiss"), KindRule { target: true, value: -1.0 });
        assert_eq!(rule("wishlist"), KindRule { target: true, value: 1.0 });
        assert_eq!(rule("cart"), KindRule { target: true, value: 3.0 });
    }
}
