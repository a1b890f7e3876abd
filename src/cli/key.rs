//! `sequor key`: manages the API keys of a data directory.

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use super::flags::RuntimeFlags;
use crate::auth::{ApiKey, KeyFile, KeyId, Scopes, sign_user_token};
use crate::clock::Clock;
use crate::settings::Period;

/// Arguments of `sequor key`.
#[derive(Debug, Args)]
#[command(
    after_help = "Scopes:\n  write     send events (/v1/events, Segment calls, the browser beacon), merge users\n  read      get recommendations and other lists\n  items     change the catalog\n  \
    users     export and erase the data of users, set their consent\n  read-own  sign user tokens; a token gets the recommendations of one user\n  metrics   read /metrics\n  admin     use the admin endpoint\n\n\
    A running daemon applies changes within a second. The file keys.json in the data directory holds digests of the keys. A lost key cannot be shown again; revoke it and create another.\n\n\
    Examples:\n  sequor key create shop --scope write,read\n  sequor key create site --scope write --rate 50   for the beacon, whose key every visitor can read\n  \
    SEQUOR_KEY=sq_… sequor key token visitor-7 --expires-in 1h   for the browser of that visitor\n  \
    sequor key revoke 1a2b3c4d"
)]
pub(super) struct KeyCommand {
    #[command(subcommand)]
    request: KeyRequest,
}

#[derive(Debug, Subcommand)]
enum KeyRequest {
    /// Create a key and print it to standard output. The key is not shown again.
    Create {
        /// Name of the key, such as its owner or application.
        name: String,
        /// Scopes, separated by commas: write, read, items, users, metrics, admin,
        /// read-own.
        #[arg(long = "scope", value_name = "SCOPES")]
        scopes: Scopes,
        /// Limit of events and requests per second; 0: unlimited [default: server.rate_per_key].
        #[arg(long, value_name = "N")]
        rate: Option<u32>,
        #[command(flatten)]
        flags: RuntimeFlags,
    },
    /// List the keys with id, creation date, scopes, rate limit and name.
    List {
        #[command(flatten)]
        flags: RuntimeFlags,
    },
    /// Sign a user token and print it: a browser gets the recommendations of this user with it, and
    /// nothing else. No daemon and no data directory is needed.
    Token {
        /// The user id.
        user: String,
        /// A key with the scope read-own.
        #[arg(long, env = "SEQUOR_KEY", hide_env_values = true)]
        key: String,
        /// How long the token is valid.
        #[arg(long, value_name = "PERIOD", default_value = "1h")]
        expires_in: Period,
    },
    /// Revoke a key.
    Revoke {
        /// Id of the key: the 8 hexadecimal digits between its underscores.
        id: KeyId,
        #[command(flatten)]
        flags: RuntimeFlags,
    },
}

impl KeyCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.request {
            KeyRequest::Create { name, scopes, rate, flags } => {
                let dir = data_dir(&flags)?;
                let (key, secret) = KeyFile::in_dir(&dir).create(&name, scopes, rate, Clock::system().now())?;
                // Only the key goes to standard output, so that a script can redirect it without
                // displaying it.
                writeln!(stdout(), "{}", secret.reveal())?;
                eprintln!(
                    "created key {} for {} in {}; it is not shown again. A daemon with another --data-dir does not know it",
                    key.id,
                    key.name,
                    dir.display()
                );
            }
            KeyRequest::Token { user, key, expires_in } => {
                let period = expires_in.get().context("a user token must expire; name a period such as 1h")?;
                let expires = Clock::system().now() / 1000 + i64::try_from(period.as_secs())?;
                writeln!(stdout(), "{}", sign_user_token(&key, &user, expires)?)?;
            }
            KeyRequest::List { flags } => list_keys(&existing_data_dir(&flags)?)?,
            KeyRequest::Revoke { id, flags } => {
                let key = KeyFile::in_dir(&existing_data_dir(&flags)?).revoke(&id)?;
                eprintln!("revoked key {} of {}", key.id, key.name);
            }
        }
        Ok(())
    }
}

fn data_dir(flags: &RuntimeFlags) -> anyhow::Result<PathBuf> {
    Ok(flags.settings_layers(&[])?.validated_settings()?.store.data_dir.clone())
}

fn existing_data_dir(flags: &RuntimeFlags) -> anyhow::Result<PathBuf> {
    let dir = data_dir(flags)?;
    ensure!(dir.is_dir(), "the data directory {} does not exist; name it with --data-dir", dir.display());
    Ok(dir)
}

fn list_keys(dir: &Path) -> anyhow::Result<()> {
    let key_file = KeyFile::in_dir(dir).read_keys()?;
    let keys = key_file.all();
    if keys.is_empty() {
        eprintln!("no keys in {}", dir.display());
        return Ok(());
    }
    let created = |key: &ApiKey| {
        jiff::Timestamp::from_millisecond(key.created)
            .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d").to_string())
    };
    let rate = |key: &ApiKey| {
        key.rate.map_or_else(String::new, |rate| if rate == 0 { "unlimited".to_owned() } else { format!("{rate}/s") })
    };
    let rows =
        keys.iter().map(|key| [key.id.to_string(), created(key), key.scopes.to_string(), rate(key), key.name.clone()]);
    let rows: Vec<_> =
        std::iter::once(["ID", "CREATED", "SCOPES", "RATE", "NAME"].map(str::to_owned)).chain(rows).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default();
    let (scopes, rates) = (width(2), width(3));
    let mut out = stdout().lock();
    for [id, created, scope, rate, name] in &rows {
        writeln!(out, "{id:8}  {created:10}  {scope:scopes$}  {rate:rates$}  {name}")?;
    }
    Ok(())
}
