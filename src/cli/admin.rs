//! `sequor admin`: calls the admin endpoint of a daemon.

use clap::{Args, Subcommand};
use jiff::civil::Date;
use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::net::IpAddr;

use super::client_auth::ClientAuth;
use super::data_dir::AdminClient;
use super::error_text::escape_in_output;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::nn::NetworkSettings;
use crate::settings::Period;

/// Arguments of `sequor admin`.
#[derive(Debug, Args)]
#[command(
    after_help = "The output is JSON, or CSV with `attribution --csv`. Commands that only read wait at most 60 seconds. Commands that change the learned state (rollback, pause, resume, learning-rate, recluster) are recorded in the journal, so that a rebuild gives the same state.\n\n\
    Examples:\n  sequor admin status\n  sequor admin rollback              to the newest checkpoint\n  \
    sequor admin rollback --to 40000   to the checkpoint at offset 40000; `sequor admin model` lists them\n  \
    SEQUOR_KEY=… sequor admin --url http://shop:9090 pause\n  \
    sequor admin placements put home '{\"type\":\"for-you\",\"limit\":8}'\n  \
    sequor admin rules delete sale\n  \
    sequor admin attribution --by placement --from 30d --csv"
)]
pub(super) struct AdminCommand {
    /// URL of the admin endpoint of the running daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090", global = true)]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    #[command(subcommand)]
    request: AdminRequest,
}

#[derive(Debug, Subcommand)]
enum AdminRequest {
    /// Show the status: learning, quality, journal, memory.
    Status,
    /// List API keys with events that the learner held back in the last 5 to 10 minutes. It holds
    /// back events that exceed the limits on the influence of one user or of new users, which fake
    /// events tend to do.
    Senders,
    /// List users with known sessions.
    Sessions {
        /// Only user ids that start with this prefix.
        #[arg(long, value_name = "PREFIX")]
        user: Option<String>,
        /// Maximum number of users.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show a session: sequence, hidden state, candidates and scores.
    Session {
        /// User id.
        user: String,
    },
    /// Show an item: attributes, counts and similar items.
    Item {
        /// Item id.
        item: String,
    },
    /// Show the model: learning rate, loss, checkpoints and changes.
    Model,
    /// Write a checkpoint now.
    Checkpoint,
    /// Roll the network, the ranker and the clusters back to a checkpoint, or forward again.
    Rollback {
        /// Offset of the checkpoint [default: the newest that no earlier rollback discarded].
        #[arg(long, value_name = "OFFSET")]
        to: Option<u64>,
    },
    /// Pause learning. Sessions and recommendations continue.
    Pause,
    /// Resume learning.
    Resume,
    /// Set the learning rate of the network.
    LearningRate {
        /// Above 0, at most 10. The initial value is network.learning_rate.
        #[arg(value_parser = parse_learning_rate)]
        value: f32,
    },
    /// Show the declared features and what they contribute to the ranking.
    Features,
    /// Show the candidate sources and the clusters.
    Recall,
    /// Cluster the items now.
    Recluster,
    /// Show the store: sizes, journal and checkpoints.
    Store,
    /// Compact the database to free unused disk space.
    Compact,
    /// List the quarantined journal entries: the learner or a session failed on them and skips
    /// them. The list has the reasons.
    Quarantine,
    /// Remove the events and merges of an API key or a client address, and learn again without
    /// them. Without --since and --until, all events and merges of the sender are removed.
    #[command(
        after_help = "Revoke the key first, so that no further events arrive: `sequor key revoke ID`. Then count with --dry-run, and then purge. The daemon removes the events from the journal, learns the journal again while it serves, and restarts on the new state. Until then, recommendations still reflect these events.\n\n\
        If both --from-key and --from-address are given, an event must come from both. The journal records the time of arrival in minutes. A minute that --since or --until divides is purged as a whole.\n\n\
        Examples:\n  sequor admin purge --from-key 1a2b3c4d --since 2h --dry-run\n  sequor admin purge --from-key 1a2b3c4d --since 2h\n  \
        sequor admin purge --from-address 203.0.113.7\n  sequor admin purge --status"
    )]
    Purge(PurgeFlags),
    /// List, put or delete placements: named places of the site, with the defaults of their lists.
    Placements {
        #[command(subcommand)]
        operation: TableOperation,
    },
    /// List, put or delete rules, which promote, boost, hide or require items in lists.
    Rules {
        #[command(subcommand)]
        operation: TableOperation,
    },
    /// Report what recommendations earn: impressions, clicks, conversions and revenue.
    Attribution(AttributionFlags),
    /// Show all effective settings and their origins.
    Settings,
    /// Reload the settings, as SIGHUP does.
    Reload,
    /// Set the log level until the next reload.
    LogLevel {
        /// Level of the log.
        #[arg(value_parser = ["error", "warn", "info", "debug", "trace"])]
        level: String,
    },
    /// Drain the daemon before a stop: it rejects writes and stores all state. Reads continue.
    Drain {
        /// End draining and accept writes again.
        #[arg(long)]
        off: bool,
    },
}

/// An operation on the placements or rules.
#[derive(Debug, Subcommand)]
enum TableOperation {
    /// List all of them.
    List,
    /// Create or replace one.
    Put {
        /// Name of the placement, or id of the rule.
        name: String,
        /// The configuration in JSON, as in the body of `PUT /v1/placements/NAME` or `PUT /v1/rules/ID`.
        #[arg(value_name = "JSON", value_parser = parse_json)]
        body: Value,
    },
    /// Delete one.
    Delete {
        /// Name of the placement, or id of the rule.
        name: String,
    },
}

impl TableOperation {
    /// The request for the placements or rules at the path `table`.
    fn to_call(&self, table: &str) -> AdminCall {
        let entry = |name: &str| format!("{table}/{}", encode_path_segment(name));
        match self {
            Self::List => AdminCall::Get(table.to_owned()),
            Self::Put { name, body } => AdminCall::Put(entry(name), body.clone()),
            Self::Delete { name } => AdminCall::Delete(entry(name)),
        }
    }
}

fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))
}

/// A request to the admin endpoint.
#[derive(Debug, PartialEq)]
enum AdminCall {
    Get(String),
    /// A request whose response is not JSON.
    GetText(String),
    Post(String, Value),
    Put(String, Value),
    Delete(String),
}

/// Which events a purge removes.
#[derive(Debug, Args)]
struct PurgeFlags {
    /// Id or name of the API key that sent the events. A revoked key has only its id.
    #[arg(long, value_name = "ID|NAME", required_unless_present_any = ["from_address", "status"])]
    from_key: Option<String>,
    /// Address of the client that sent the events. For IPv6, the whole /64 network counts.
    #[arg(long, value_name = "IP")]
    from_address: Option<IpAddr>,
    /// Only events that arrived at this time or later: a duration before now, such as 2h or 1d, a
    /// time, such as 2026-01-31T08:00:00Z, or a date.
    #[arg(long, value_name = "TIME", value_parser = parse_past_time)]
    since: Option<Timestamp>,
    /// Only events that arrived before this time, in the same notation.
    #[arg(long, value_name = "TIME", value_parser = parse_past_time)]
    until: Option<Timestamp>,
    /// Only count the events, the merges and their users.
    #[arg(long)]
    dry_run: bool,
    /// Show the progress of purges instead.
    #[arg(long, conflicts_with_all = ["from_key", "from_address", "since", "until", "dry_run"])]
    status: bool,
}

impl PurgeFlags {
    fn to_call(&self) -> AdminCall {
        let Self { from_key, from_address, since, until, dry_run, status } = self;
        let body =
            json!({ "key": from_key, "address": from_address, "since": since, "until": until, "dry_run": dry_run });
        let path = "/admin/purge".to_owned();
        if *status { AdminCall::Get(path) } else { AdminCall::Post(path, body) }
    }
}

/// Which attribution report to show.
#[derive(Debug, Args)]
struct AttributionFlags {
    /// The groups of the report.
    #[arg(long, value_name = "GROUP", default_value = "day", value_parser = ["day", "placement", "variant", "source", "rule"])]
    by: String,
    /// Only lists of this placement.
    #[arg(long, value_name = "NAME")]
    placement: Option<String>,
    /// Only lists that were shown at this time or later: a duration before now, such as 2h or 30d,
    /// a time, such as 2026-01-31T08:00:00Z, or a date.
    #[arg(long, value_name = "TIME", value_parser = parse_past_time)]
    from: Option<Timestamp>,
    /// Only lists that were shown before this time, in the same notation.
    #[arg(long, value_name = "TIME", value_parser = parse_past_time)]
    to: Option<Timestamp>,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
}

impl AttributionFlags {
    fn to_call(&self) -> AdminCall {
        let Self { by, placement, from, to, csv } = self;
        let mut path = format!("/admin/reports/attribution?by={by}");
        let time = |time: &Timestamp| jiff::Timestamp::from_millisecond(*time).map(|time| time.to_string()).ok();
        let parameters = [
            ("placement", placement.clone()),
            ("from", from.as_ref().and_then(time)),
            ("to", to.as_ref().and_then(time)),
        ];
        for (name, value) in parameters {
            value.iter().for_each(|value| path += &format!("&{name}={}", encode_path_segment(value)));
        }
        if *csv { AdminCall::GetText(path + "&format=csv") } else { AdminCall::Get(path) }
    }
}

/// Parses a duration before now, a time in the format of RFC 3339, or a date, which begins at midnight
/// in UTC.
fn parse_past_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(before) = text.parse::<Period>()
        && before != Period::OFF
    {
        return Ok(Clock::system().now().saturating_sub(before.as_millis()));
    }
    let of_date = |_| format!("{}T00:00:00Z", text.parse::<Date>()?).parse();
    let time = text.parse::<jiff::Timestamp>().or_else(of_date).map(jiff::Timestamp::as_millisecond);
    time.map_err(|_| "must be a duration such as 2h or 1d, a time such as 2026-01-31T08:00:00Z, or a date".to_owned())
}

impl AdminRequest {
    /// The request to the admin endpoint.
    fn to_call(&self) -> AdminCall {
        let get = |path: &str| AdminCall::Get(path.to_owned());
        let post = |path: &str, body: Value| AdminCall::Post(path.to_owned(), body);
        match self {
            Self::Status => get("/admin/status"),
            Self::Senders => get("/admin/senders"),
            Self::Sessions { user: None, limit } => get(&format!("/admin/sessions?limit={limit}")),
            Self::Sessions { user: Some(user), limit } => {
                get(&format!("/admin/sessions?limit={limit}&user={}", encode_path_segment(user)))
            }
            Self::Session { user } => get(&format!("/admin/sessions/{}", encode_path_segment(user))),
            Self::Item { item } => get(&format!("/admin/items/{}", encode_path_segment(item))),
            Self::Model => get("/admin/model"),
            Self::Checkpoint => post("/admin/model/checkpoint", json!({})),
            Self::Rollback { to } => {
                post("/admin/model/rollback", to.map_or_else(|| json!({}), |to| json!({ "to": to })))
            }
            Self::Pause => post("/admin/model/pause", json!({})),
            Self::Resume => post("/admin/model/resume", json!({})),
            Self::LearningRate { value } => post("/admin/model/learning-rate", json!({ "value": value })),
            Self::Features => get("/admin/features"),
            Self::Recall => get("/admin/recall"),
            Self::Recluster => post("/admin/recall/recluster", json!({})),
            Self::Store => get("/admin/store"),
            Self::Compact => post("/admin/store/compact", json!({})),
            Self::Quarantine => get("/admin/quarantine"),
            Self::Purge(flags) => flags.to_call(),
            Self::Attribution(flags) => flags.to_call(),
            Self::Placements { operation } => operation.to_call("/admin/placements"),
            Self::Rules { operation } => operation.to_call("/admin/rules"),
            Self::Settings => get("/admin/settings"),
            Self::Reload => post("/admin/settings/reload", json!({})),
            Self::LogLevel { level } => post("/admin/log-level", json!({ "level": level })),
            Self::Drain { off } => post("/admin/drain", json!({ "on": !off })),
        }
    }
}

fn parse_learning_rate(text: &str) -> Result<f32, String> {
    let rate = text.parse().ok().filter(|rate| NetworkSettings::is_allowed_learning_rate(*rate));
    rate.ok_or_else(|| format!("must be {}", NetworkSettings::ALLOWED_LEARNING_RATES))
}

/// Percent-encodes a path segment [RFC 3986, 2.1].
fn encode_path_segment(name: &str) -> String {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes()
        .map(|byte| if is_unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

impl AdminCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let reader = || AdminClient::new(&self.url, &self.auth);
        // Some changes are answered after long work, such as a compaction.
        let writer = || AdminClient::for_long_work(&self.url, &self.auth);
        let response: Value = match self.request.to_call() {
            AdminCall::Get(path) => reader()?.get_json(&path)?,
            AdminCall::GetText(path) => {
                let text = reader()?.get(&path)?.bytes()?;
                write!(stdout(), "{}", escape_in_output(&String::from_utf8_lossy(&text)))?;
                return Ok(());
            }
            AdminCall::Post(path, body) => writer()?.post(&path, &body)?.json()?,
            AdminCall::Put(path, body) => writer()?.put(&path, &body)?.json()?,
            AdminCall::Delete(path) => writer()?.delete(&path)?.json()?,
        };
        writeln!(stdout(), "{}", escape_in_output(&serde_json::to_string_pretty(&response)?))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_purge_are_durations_or_timestamps() {
        let parsed = parse_past_time("1h").unwrap();
        let hour = Clock::system().now() - parsed;
        assert!((3_600_000..3_660_000).contains(&hour), "{hour}");
        assert_eq!(parse_past_time("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(parse_past_time("2023-11-14"), Ok(1_699_920_000_000));
        assert!(["", "off", "yesterday", "2"].iter().all(|text| parse_past_time(text).is_err()));
    }

    #[test]
    fn an_attribution_report_has_the_parameters_of_the_flags() {
        let flags = |csv| AttributionFlags {
            by: "day".to_owned(),
            placement: Some("home".to_owned()),
            from: Some(1_700_000_000_000),
            to: None,
            csv,
        };
        let path = "/admin/reports/attribution?by=day&placement=home&from=2023-11-14T22%3A13%3A20Z";
        assert_eq!(flags(false).to_call(), AdminCall::Get(path.to_owned()));
        assert_eq!(flags(true).to_call(), AdminCall::GetText(format!("{path}&format=csv")));
    }

    #[test]
    fn path_segments_are_percent_encoded() {
        assert_eq!(
            AdminRequest::Session { user: "a/b ü".to_owned() }.to_call(),
            AdminCall::Get("/admin/sessions/a%2Fb%20%C3%BC".to_owned())
        );
        let operation = TableOperation::Delete { name: "a/b".to_owned() };
        assert_eq!(AdminRequest::Rules { operation }.to_call(), AdminCall::Delete("/admin/rules/a%2Fb".to_owned()));
    }
}
