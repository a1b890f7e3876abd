//! `sequor admin`: what the admin endpoint can do, from the command line.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{Write, stdout};

use super::client_auth::ClientAuth;
use super::data_dir::AdminClient;

/// Arguments of `sequor admin`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every answer is JSON. What changes what is learned (rollback, pause, resume, learning-rate, recluster) is written to the journal, so that a rebuild from it \
    ends where the daemon stands.\n\nExamples:\n  sequor admin status\n  sequor admin rollback            back to the newest checkpoint\n  \
    sequor admin rollback --to 40000 back, or forward, to that one; `sequor admin model` lists them\n  \
    SEQUOR_KEY=… sequor admin --url http://shop:9090 pause"
)]
pub(super) struct AdminCommand {
    /// The admin endpoint of the running daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090", global = true)]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    #[command(subcommand)]
    request: AdminRequest,
}

#[derive(Debug, Subcommand)]
enum AdminRequest {
    /// How everything stands.
    Status,
    /// The users whose sessions are known.
    Sessions {
        /// Only those that begin so.
        #[arg(long, value_name = "PREFIX")]
        user: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// A session looked through: sequence, hidden state, candidates, scores.
    Session {
        /// Whose.
        user: String,
    },
    /// What is known of an item.
    Item {
        /// Which.
        item: String,
    },
    /// The model: learning rate, loss, checkpoints, what was done to it.
    Model,
    /// Write a checkpoint now.
    Checkpoint,
    /// Take network, ranker and clusters back, or forward again, to a checkpoint.
    Rollback {
        /// The checkpoint's offset; without it the newest that was not itself rolled back.
        #[arg(long, value_name = "OFFSET")]
        to: Option<u64>,
    },
    /// Learn nothing, while sessions and answers go on.
    Pause,
    /// Learn again.
    Resume,
    /// Set the network's step size.
    LearningRate {
        /// Above 0 and at most 1000; network.learning_rate is what it was to begin with.
        value: f32,
    },
    /// The candidate sources and the clusters.
    Recall,
    /// Cluster the items now.
    Recluster,
    /// The store: sizes, journal, checkpoints.
    Store,
    /// Give back the disk space that holds nothing any more.
    Compact,
    /// The entries that somebody passes over, and why.
    Quarantine,
    /// Every setting in force, and where it came from.
    Settings,
    /// Read the settings again, as SIGHUP does.
    Reload,
    /// Set the least severity that is logged, until the next reload.
    LogLevel {
        /// error, warn, info, debug or trace.
        level: String,
    },
    /// Take nothing any more and bring everything to the disk; answers go on.
    Drain {
        /// Take everything again.
        #[arg(long)]
        off: bool,
    },
}

impl AdminRequest {
    /// The path, and the body of what is posted there.
    fn path_and_body(&self) -> (String, Option<Value>) {
        let get = |path: &str| (path.to_owned(), None);
        let post = |path: &str, body: Value| (path.to_owned(), Some(body));
        match self {
            Self::Status => get("/admin/status"),
            Self::Sessions { user: None, limit } => get(&format!("/admin/sessions?limit={limit}")),
            Self::Sessions { user: Some(user), limit } => get(&format!("/admin/sessions?limit={limit}&user={}", segment(user))),
            Self::Session { user } => get(&format!("/admin/sessions/{}", segment(user))),
            Self::Item { item } => get(&format!("/admin/items/{}", segment(item))),
            Self::Model => get("/admin/model"),
            Self::Checkpoint => post("/admin/model/checkpoint", json!({})),
            Self::Rollback { to } => post("/admin/model/rollback", to.map_or_else(|| json!({}), |to| json!({ "to": to }))),
            Self::Pause => post("/admin/model/pause", json!({})),
            Self::Resume => post("/admin/model/resume", json!({})),
            Self::LearningRate { value } => post("/admin/model/learning-rate", json!({ "value": value })),
            Self::Recall => get("/admin/recall"),
            Self::Recluster => post("/admin/recall/recluster", json!({})),
            Self::Store => get("/admin/store"),
            Self::Compact => post("/admin/store/compact", json!({})),
            Self::Quarantine => get("/admin/quarantine"),
            Self::Settings => get("/admin/settings"),
            Self::Reload => post("/admin/settings/reload", json!({})),
            Self::LogLevel { level } => post("/admin/log-level", json!({ "level": level })),
            Self::Drain { off } => post("/admin/drain", json!({ "on": !off })),
        }
    }
}

/// A name as a part of a URL [RFC 3986, 2.1].
fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl AdminCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let admin = AdminClient::new(&self.url, &self.auth)?;
        let mut answer = match self.request.path_and_body() {
            (path, Some(body)) => admin.post(&path, &body)?,
            (path, None) => admin.get(&path)?,
        };
        let answer: Value = answer.read_json()?;
        writeln!(stdout(), "{}", serde_json::to_string_pretty(&answer)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        assert_eq!(AdminRequest::Session { user: "a/b ü".to_owned() }.path_and_body().0, "/admin/sessions/a%2Fb%20%C3%BC");
    }
}
