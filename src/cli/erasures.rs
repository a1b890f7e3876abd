//! `sequor erasures`: lists the erased users, so that a restored backup can erase them again.

use anyhow::{Context, bail};
use clap::Args;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;

use super::client_auth::ClientAuth;
use super::data_dir::{self, AdminClient};
use super::flags::RuntimeFlags;
use crate::domain::{Entry, Timestamp, UserErasure};
use crate::store::{Committer, CommitterSettings, Durability, ErasedUserDigest, Store};

/// Arguments of `sequor erasures`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each line of JSON holds the SHA-256 digest of an erased user id and the time of the request. A backup from before the erasure still contains the user's data. Keep the \
    list apart from the backups, and pass it to `sequor restore --erasures`.\n\nExample:\n  sequor erasures --url http://127.0.0.1:9090 > erasures.ndjson\n  \
    sequor restore monday.tar.gz --data-dir sequor-data --erasures erasures.ndjson"
)]
pub(super) struct ListErasures {
    #[command(flatten)]
    flags: RuntimeFlags,
    #[command(flatten)]
    auth: ClientAuth,
    /// URL of the admin endpoint of a running daemon, such as http://127.0.0.1:9090. Without it,
    /// the command reads the data directory of a stopped daemon.
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    url: Option<String>,
}

impl ListErasures {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        if let Some(url) = &self.url {
            let mut lines = AdminClient::new(url, &self.auth)?.get_lines("/admin/erasures")?;
            while let Some(line) = lines.next_line()? {
                out.write_all(line)?;
            }
        } else {
            let layers = data_dir::load_settings(&self.flags)?;
            let store = data_dir::open_store(
                layers.validated_settings()?,
                |dir, options| Store::open_existing(dir, options),
                Some("sequor erasures"),
            )?;
            for (erased, asked) in store.erasures().erased_users()? {
                writeln!(out, "{}", serde_json::to_string(&ErasureLine { asked, erased: erased.to_hex() })?)?;
            }
        }
        Ok(out.flush()?)
    }
}

/// A line of the erasure list: when the erasure was requested, and the digest of the user id.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErasureLine {
    asked: Timestamp,
    erased: String,
}

/// Reads an erasure list from a file.
pub(super) fn read_erasure_list(file: &Path) -> anyhow::Result<Vec<(ErasedUserDigest, Timestamp)>> {
    let source = std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut list = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(source).lines()) {
        let place = || format!("{}, line {number}", file.display());
        let ErasureLine { asked, erased } = serde_json::from_str(&line.with_context(place)?).with_context(place)?;
        let Some(erased) = ErasedUserDigest::from_hex(&erased) else {
            bail!("{}: {erased:?} is not a SHA-256 digest in hexadecimal digits", place())
        };
        list.push((erased, asked));
    }
    Ok(list)
}

/// Appends an erasure to the journal for each listed user who occurs in it. Erasures that the store
/// has already recorded are left out. The daemon performs the erasures at its next start. Returns
/// the number of appended erasures.
pub(super) fn apply_erasure_list(store: &Store, list: &[(ErasedUserDigest, Timestamp)]) -> anyhow::Result<usize> {
    let mut asked: FxHashMap<_, _> = list.iter().copied().collect();
    for (erased, recorded) in store.erasures().erased_users()? {
        if asked.get(&erased).is_some_and(|asked| *asked <= recorded) {
            asked.remove(&erased);
        }
    }
    let (mut checked, mut requests) = (FxHashSet::default(), Vec::new());
    for entry in store.journal().entries(store.journal().first_offset()?)? {
        let (_, entry) = entry?;
        for user in entry.user_ids() {
            if checked.insert(user.to_owned())
                && let Some(timestamp) = asked.get(&ErasedUserDigest::from_user_id(user))
            {
                requests.push(Entry::Erase(UserErasure {
                    user_id: user.to_owned(),
                    unlearn: false,
                    timestamp: *timestamp,
                }));
            }
        }
    }
    let count = requests.len();
    if count > 0 {
        Committer::open(store.clone(), CommitterSettings::default())?.commit(vec![requests])?;
    }
    store.erasures().record_erased_users(list)?;
    store.sync(Durability::PowerLoss)?;
    Ok(count)
}
