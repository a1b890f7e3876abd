//! `sequor erasures`: who was erased, so that a restored backup forgets them, too.

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
    after_help = "Each line stands for an id that was erased, by its SHA-256, with when that was asked. A backup made before still holds what was erased: keep this list apart from it, and give it to \
    the restoring.\n\nExample:\n  sequor erasures --url http://127.0.0.1:9090 > erasures.ndjson\n  sequor restore monday.tar.gz --data-dir sequor-data --erasures erasures.ndjson"
)]
pub(super) struct ListErasures {
    #[command(flatten)]
    flags: RuntimeFlags,
    #[command(flatten)]
    auth: ClientAuth,
    /// The admin endpoint of the running daemon, such as http://127.0.0.1:9090.
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    url: Option<String>,
}

impl ListErasures {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        if let Some(url) = &self.url {
            let mut lines = AdminClient::new(url, &self.auth)?.get("/admin/erasures")?.into_reader();
            std::io::copy(&mut lines, &mut out)?;
        } else {
            let layers = data_dir::load_settings(&self.flags)?;
            let store =
                data_dir::open_store(layers.validated()?, |dir, options| Store::open_existing(dir, options), Some("sequor erasures"))?;
            for (erased, asked) in store.erasures().erased_users()? {
                writeln!(out, "{}", serde_json::to_string(&ErasureLine { asked, erased: erased.to_hex() })?)?;
            }
        }
        Ok(out.flush()?)
    }
}

/// A line of the list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErasureLine {
    asked: Timestamp,
    erased: String,
}

/// The list in a file.
pub(super) fn read_list(file: &Path) -> anyhow::Result<Vec<(ErasedUserDigest, Timestamp)>> {
    let opened = std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut list = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(opened).lines()) {
        let place = || format!("{}, line {number}", file.display());
        let ErasureLine { asked, erased } = serde_json::from_str(&line.with_context(place)?).with_context(place)?;
        let Some(erased) = ErasedUserDigest::from_hex(&erased) else {
            bail!("{}: {erased:?} is no SHA-256 in hexadecimal digits", place())
        };
        list.push((erased, asked));
    }
    Ok(list)
}

/// Asks a store to forget whom the list names, unless it did so itself when that was asked. The
/// daemon's first start carries it out. Says how many ids were found.
pub(super) fn apply_list(store: &Store, list: &[(ErasedUserDigest, Timestamp)]) -> anyhow::Result<usize> {
    let mut asked: FxHashMap<_, _> = list.iter().copied().collect();
    for (erased, then) in store.erasures().erased_users()? {
        if asked.get(&erased).is_some_and(|asked| *asked <= then) {
            asked.remove(&erased);
        }
    }
    let (mut looked_at, mut found) = (FxHashSet::default(), Vec::new());
    for read in store.journal().entries(store.journal().first_offset()?)? {
        let (_, entry) = read?;
        for user in entry.users() {
            if looked_at.insert(user.to_owned())
                && let Some(timestamp) = asked.get(&ErasedUserDigest::from_user_id(user))
            {
                found.push(Entry::Erase(UserErasure { user_id: user.to_owned(), unlearn: false, timestamp: *timestamp }));
            }
        }
    }
    let count = found.len();
    if count > 0 {
        Committer::open(store.clone(), CommitterSettings::default())?.commit(vec![found])?;
    }
    store.erasures().record_erased(list)?;
    store.sync(Durability::PowerLoss)?;
    Ok(count)
}
