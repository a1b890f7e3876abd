//! `sequor cluster`: shows the nodes of a cluster, and removes a data directory from its cluster.

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::io::{Write, stdout};

use super::client_auth::ClientAuth;
use super::cluster_member;
use super::cluster_snapshots::{JoinFlags, SnapshotFlags};
use super::data_dir::{self, AdminClient};
use super::flags::{self, RuntimeFlags};
use crate::cluster::{JetStreamLog, leave_cluster};
use crate::settings::Settings;
use crate::store::Store;

/// Number of characters of a hash in the table.
const SHOWN_HASH_CHARS: usize = 12;

/// Arguments of `sequor cluster`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sequor cluster status\n  sequor cluster status --json --url http://10.0.0.5:9090\n  \
    sequor cluster snapshot --config /etc/sequor.toml\n  \
    sequor cluster join --config /etc/sequor.toml\n  sequor cluster leave --data-dir /var/lib/sequor"
)]
pub(super) struct ClusterCommand {
    #[command(subcommand)]
    request: ClusterRequest,
}

#[derive(Debug, Subcommand)]
enum ClusterRequest {
    /// Show the nodes of the cluster, as the node at the URL sees them.
    Status(StatusFlags),
    /// Store a backup of a running node in the servers' object store, keep the two newest ones, and
    /// remove the messages from the stream that both contain.
    Snapshot(SnapshotFlags),
    /// Load the newest snapshot into an empty data directory. Then the node can start.
    Join(JoinFlags),
    /// Let the journal of a stopped node continue in a new stream, after the servers have lost
    /// messages that the node has applied. Removes the old stream.
    RestartLog(DataDirFlags),
    /// Make the data directory of a stopped node that of a single node. The node cannot join the
    /// cluster again with it.
    Leave(DataDirFlags),
}

#[derive(Debug, Args)]
struct StatusFlags {
    /// URL of the admin endpoint of a node.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DataDirFlags {
    #[command(flatten)]
    flags: RuntimeFlags,
}

impl ClusterCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.request {
            ClusterRequest::Status(flags) => flags.run(),
            ClusterRequest::Snapshot(flags) => flags.run(),
            ClusterRequest::Join(flags) => flags.run(),
            ClusterRequest::RestartLog(flags) => flags.restart_log(),
            ClusterRequest::Leave(flags) => flags.leave(),
        }
    }
}

impl StatusFlags {
    fn run(self) -> anyhow::Result<()> {
        let admin = AdminClient::new(&self.url, &self.auth)?;
        let status: Value = admin.get_json("/admin/cluster")?;
        ensure!(status["cluster"].is_string(), admin.unexpected_response());
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
        } else {
            write!(out, "{}", to_table(&status))?;
        }
        Ok(out.flush()?)
    }
}

impl DataDirFlags {
    /// The settings, and the store. The open store shows that no daemon uses the data directory.
    fn open(&self) -> anyhow::Result<(Settings, Store)> {
        let settings = data_dir::load_settings(&self.flags)?.validated_settings()?.clone();
        let open = |dir: &std::path::Path, options: &_| Store::open_existing(dir, options);
        let store = data_dir::open_store(&settings, open, None)?;
        Ok((settings, store))
    }

    fn restart_log(&self) -> anyhow::Result<()> {
        let (settings, store) = self.open()?;
        let system = flags::system_settings(&settings, flags::learner_config(&settings));
        let rules = data_dir::checked_validation_rules(&settings, &store)?;
        let config = cluster_member::node_config(&settings, &system, &store, &rules)?;
        let stream = config.stream();
        let start = cluster_member::log_start(&store)?;
        let position = start.position.context("the journal is that of no node of a cluster")?;
        let removal = JetStreamLog::remove_lossy_stream(&config, &start);
        actix::System::new().block_on(removal).context("the journal cannot continue in a new stream")?;
        store.restart_log()?;
        writeln!(
            stdout(),
            "the journal continues after message {} in a new stream {stream} with message 1; start the node now",
            position.sequence
        )?;
        Ok(())
    }

    fn leave(&self) -> anyhow::Result<()> {
        let (_, store) = self.open()?;
        let dir = store.dir().display().to_string();
        if leave_cluster(store.dir()).with_context(|| format!("cannot change {dir}"))? {
            writeln!(stdout(), "{dir} is the data directory of a single node now")?;
        } else {
            writeln!(stdout(), "{dir} belongs to no cluster")?;
        }
        Ok(())
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// The digest of the last learned state that a node reports, and its offset.
fn last_state(node: &Value) -> String {
    let states = node.get("states").and_then(Value::as_array);
    states.and_then(|states| states.last()).map_or_else(String::new, |state| {
        let digest: String = text(state, "digest").chars().take(SHOWN_HASH_CHARS).collect();
        format!("{digest} at {}", number(state, "offset"))
    })
}

/// The status as a table with one row per node.
fn to_table(status: &Value) -> String {
    let no_nodes = Vec::new();
    let nodes = status.get("nodes").and_then(Value::as_array).unwrap_or(&no_nodes);
    let furthest = nodes.iter().map(|node| number(node, "offset")).max().unwrap_or_default();
    let header = ["node", "role", "offset", "lag", "sequence", "chain", "learned state", "version", "problem"];
    let mut rows = vec![header.map(str::to_owned)];
    for node in nodes {
        let offset = number(node, "offset");
        rows.push([
            text(node, "node").to_owned(),
            text(node, "role").to_owned(),
            offset.to_string(),
            furthest.saturating_sub(offset).to_string(),
            number(node, "sequence").to_string(),
            text(node, "chain").chars().take(SHOWN_HASH_CHARS).collect(),
            last_state(node),
            text(node, "version").to_owned(),
            text(node, "problem").to_owned(),
        ]);
    }
    let mut widths = [0; 9];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    let is_cut_off = status.get("is_cut_off").and_then(Value::as_bool).unwrap_or_default();
    let state = if is_cut_off { "cut off from the servers" } else { "connected" };
    let mut table = format!("cluster {}, seen from node {} ({state})\n", text(status, "cluster"), text(status, "node"));
    for row in rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        table.push_str(cells.join("  ").trim_end());
        table.push('\n');
    }
    let (last_removal, erased) = (number(status, "last_removal"), number(status, "erased_through"));
    if last_removal > erased {
        table.push_str(&format!(
            "erasures and expiries before offset {last_removal} have reached the nodes and servers up to offset {erased}\n"
        ));
    }
    if let Some(problem) = status.get("problem").and_then(Value::as_str) {
        table.push_str(&format!("this node is not ready: {problem}\n"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_per_node() {
        let node = |name: &str, role: &str, offset: u64, problem: &str| {
            let state = serde_json::json!({ "offset": 100, "digest": "fedcba9876543210" });
            let states = if role == "learner" { vec![state] } else { vec![] };
            serde_json::json!({
                "node": name, "role": role, "offset": offset, "sequence": 7, "chain": "0123456789abcdef",
                "states": states, "version": "0.1.0", "problem": problem,
            })
        };
        let status = serde_json::json!({
            "cluster": "shop", "node": "a", "is_cut_off": false, "problem": null, "last_removal": 90,
            "erased_through": 80,
            "nodes": [node("a", "learner", 120, ""), node("node-b", "replica", 95, "different")],
        });
        let expected = "cluster shop, seen from node a (connected)\n\
            node    role     offset  lag  sequence  chain         learned state        version  problem\n\
            a       learner  120     0    7         0123456789ab  fedcba987654 at 100  0.1.0\n\
            node-b  replica  95      25   7         0123456789ab                       0.1.0    different\n\
            erasures and expiries before offset 90 have reached the nodes and servers up to offset 80\n";
        assert_eq!(to_table(&status), expected);
    }
}
