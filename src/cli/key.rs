//! `sequor key`: who may ask a daemon what.

use anyhow::ensure;
use clap::{Args, Subcommand};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use super::flags::RuntimeFlags;
use crate::auth::{ApiKey, KeyFile, KeyId, Scopes};
use crate::clock::Clock;

/// Arguments of `sequor key`.
#[derive(Debug, Args)]
#[command(
    after_help = "Scopes: write (telling what users do: events, Segment's calls, the beacon), read (lists), items (the catalog), users (what is known of a user), metrics (/metrics), \
    admin (the admin endpoint).\n\nA running daemon takes changes up within a second. Keys are in the file keys.json of the data directory, as digests: a key that is lost cannot be shown \
    again, only revoked.\n\nExamples:\n  sequor key create shop --scope write,read\n  sequor key create site --scope write --rate 50   for the beacon: every visitor of the page can read it\n  \
    sequor key revoke 1a2b3c4d"
)]
pub(super) struct KeyCommand {
    #[command(subcommand)]
    request: KeyRequest,
}

#[derive(Debug, Subcommand)]
enum KeyRequest {
    /// Make a key, and print it: this once.
    Create {
        /// What people call it: whose it is.
        name: String,
        /// What it opens, separated by commas: write, read, items, users, metrics, admin.
        #[arg(long = "scope", value_name = "SCOPES")]
        scopes: Scopes,
        /// How many events and questions a second it may bring, 0: any number [default: what
        /// server.rate_per_key says].
        #[arg(long, value_name = "N")]
        rate: Option<u32>,
        #[command(flatten)]
        flags: RuntimeFlags,
    },
    /// List the keys that there are.
    List {
        #[command(flatten)]
        flags: RuntimeFlags,
    },
    /// Take a key away.
    Revoke {
        /// The 8 digits between the underscores of the key.
        id: KeyId,
        #[command(flatten)]
        flags: RuntimeFlags,
    },
}

impl KeyCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.request {
            KeyRequest::Create { name, scopes, rate, flags } => {
                let (key, secret) = KeyFile::in_dir(&data_dir(&flags)?).create(&name, scopes, rate, Clock::system().now())?;
                // The key alone goes to standard output, so that it can be put where it belongs
                // without being seen.
                writeln!(stdout(), "{}", secret.reveal())?;
                eprintln!("key {} for {} was made; it is not shown again", key.id, key.name);
            }
            KeyRequest::List { flags } => list(&existing(&flags)?)?,
            KeyRequest::Revoke { id, flags } => {
                let key = KeyFile::in_dir(&existing(&flags)?).revoke(&id)?;
                eprintln!("key {} of {} is revoked", key.id, key.name);
            }
        }
        Ok(())
    }
}

fn data_dir(flags: &RuntimeFlags) -> anyhow::Result<PathBuf> {
    Ok(flags.layers(&[])?.validated()?.store.data_dir.clone())
}

fn existing(flags: &RuntimeFlags) -> anyhow::Result<PathBuf> {
    let dir = data_dir(flags)?;
    ensure!(dir.is_dir(), "there is no data directory {}; name it with --data-dir", dir.display());
    Ok(dir)
}

fn list(dir: &Path) -> anyhow::Result<()> {
    let ring = KeyFile::in_dir(dir).read()?;
    let keys = ring.all();
    if keys.is_empty() {
        eprintln!("there are no keys in {}", dir.display());
        return Ok(());
    }
    let made = |key: &ApiKey| {
        jiff::Timestamp::from_millisecond(key.created).map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d").to_string())
    };
    let rate = |key: &ApiKey| key.rate.map_or_else(String::new, |rate| if rate == 0 { "any".to_owned() } else { format!("{rate}/s") });
    let rows = keys.iter().map(|key| [key.id.to_string(), made(key), key.scopes.to_string(), rate(key), key.name.clone()]);
    let rows: Vec<_> = std::iter::once(["ID", "MADE", "SCOPES", "RATE", "NAME"].map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default();
    let (scopes, rates) = (width(2), width(3));
    let mut out = stdout().lock();
    for [id, made, scope, rate, name] in &rows {
        writeln!(out, "{id:8}  {made:10}  {scope:scopes$}  {rate:rates$}  {name}")?;
    }
    Ok(())
}
