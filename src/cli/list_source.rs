//! The source of batch lists: a running daemon, or the data directory of a stopped one.

use actix::{Arbiter, SystemRunner};
use anyhow::{Context, bail};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

use super::batch_users::{users_of_daemon, users_of_store};
use super::client_auth::ClientAuth;
use super::daemon_client::{ApiRequest, DaemonClient};
use super::data_dir::{self, AdminClient};
use super::flags::{self, RuntimeFlags};
use super::session_refresh::refresh_sessions;
use super::user_list::UserList;
use crate::actors::system::System;
use crate::auth::KeyStore;
use crate::domain::Recommendation;
use crate::http::{LocalRecommendations, Problem};
use crate::metrics::Metrics;
use crate::settings::LiveSettings;
use crate::store::Store;

/// Number of users whose lists a worker thread computes in a row.
const USERS_PER_BATCH: usize = 64;
/// Time limit for the publication of a model that has learned the whole journal.
const PUBLICATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval at which the command checks the progress of learning.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Source of lists.
pub(super) enum ListSource {
    /// The API of a running daemon.
    Daemon(Box<DaemonListSource>),
    /// A data directory, which actors in this process read.
    Directory(Box<DirectoryListSource>),
}

/// The API of a running daemon.
pub(super) struct DaemonListSource {
    runner: SystemRunner,
    daemon: DaemonClient,
    placement: Option<String>,
    limit: Option<usize>,
}

/// An open data directory. The lock of its store keeps a daemon from serving it.
pub(super) struct DirectoryListSource {
    runner: SystemRunner,
    store: Store,
    recommendations: LocalRecommendations,
    /// One thread per processor, which compute lists in turn.
    workers: Vec<Arbiter>,
    next_worker: AtomicUsize,
}

impl ListSource {
    /// The daemon at `url`, with at most `connections` connections.
    pub(super) fn connect(
        url: &str,
        auth: &ClientAuth,
        connections: usize,
        placement: Option<String>,
        limit: Option<usize>,
    ) -> anyhow::Result<Self> {
        let runner = actix::System::new();
        let daemon = runner.block_on(async { DaemonClient::new(url, None, connections, auth) })?;
        Ok(Self::Daemon(Box::new(DaemonListSource { runner, daemon, placement, limit })))
    }

    /// All users. A daemon lists them on its admin endpoint.
    pub(super) fn all_users(&self, admin_url: &str, auth: &ClientAuth) -> anyhow::Result<BTreeSet<String>> {
        match self {
            Self::Daemon(_) => users_of_daemon(&AdminClient::new(admin_url, auth)?),
            Self::Directory(directory) => users_of_store(&directory.store),
        }
    }

    /// The runtime in which [`ListSource::lists_of_users`] must run.
    pub(super) fn runner(&self) -> &SystemRunner {
        match self {
            Self::Daemon(daemon) => &daemon.runner,
            Self::Directory(directory) => &directory.runner,
        }
    }

    /// Number of threads in this process that compute lists; `None` if a daemon computes them.
    pub(super) fn worker_count(&self) -> Option<usize> {
        match self {
            Self::Daemon(_) => None,
            Self::Directory(directory) => Some(directory.workers.len()),
        }
    }

    /// Number of users for whose lists [`ListSource::lists_of_users`] is called at once. A thread of
    /// this process computes many lists in a row; a daemon gets a request for each user.
    pub(super) fn batch_len(&self) -> usize {
        match self {
            Self::Daemon(_) => 1,
            Self::Directory(_) => USERS_PER_BATCH,
        }
    }

    /// The lists of users, in the order of the users. If the daemon is overloaded, repeats the
    /// requests.
    pub(super) async fn lists_of_users(&self, users: Vec<String>) -> Vec<anyhow::Result<UserList>> {
        match self {
            Self::Daemon(source) => join_all(users.into_iter().map(|user| source.list_of_user(user))).await,
            Self::Directory(directory) => {
                let lists = directory.lists_of_users(users).await;
                lists.unwrap_or_else(|error| vec![Err(error)])
            }
        }
    }
}

impl DaemonListSource {
    /// The list of a user. If the daemon is overloaded, repeats the request.
    async fn list_of_user(&self, user: String) -> anyhow::Result<UserList> {
        let request = ApiRequest::batch_list_request(&user, self.placement.as_deref(), self.limit);
        let response = self.daemon.request_until_accepted(request).await;
        let response = response.with_context(|| format!("no list for the user `{user}`"))?;
        UserList::from_response(user, &response)
            .with_context(|| format!("{} is not the API of a Sequor daemon; check the URL", self.daemon.api()))
    }
}

impl DirectoryListSource {
    /// Opens an existing data directory, and learns the entries of the journal that its checkpoint
    /// does not contain.
    pub(super) fn open(flags: &RuntimeFlags, placement: Option<String>, limit: Option<usize>) -> anyhow::Result<Self> {
        let layers = data_dir::load_settings(flags)?;
        let mut settings = layers.validated_settings()?.clone();
        let metrics = Arc::new(Metrics::new(&settings.events.resolved_kinds())?);
        let open = |dir: &std::path::Path, options: &_| Store::open_existing(dir, options);
        let store = data_dir::open_store(&settings, open, None)?;
        store.check_journal_end()?;
        let rules = data_dir::checked_validation_rules(&settings, &store)?;
        data_dir::apply_pretrained_network(&layers, &mut settings, &store)?;
        refresh_sessions(&store, &settings)?;
        let keys = KeyStore::open(store.dir())?;
        let reload = {
            let flags = flags.clone();
            Box::new(move || flags.settings_layers(&[]).map_err(Into::into))
        };
        let live = LiveSettings::new(&layers, &settings, reload, Box::new(|_| {}));
        let mut system_settings = flags::system_settings(&settings, flags::learner_config(&settings));
        // No request is refused because it waits, and no checkpoint is written.
        system_settings.queue_wait = None;
        system_settings.checkpoints.interval = 0;
        let options = flags::server_options(&settings);
        let (runner, opened) = (actix::System::new(), store.clone());
        let recommendations = runner.block_on(async {
            let system = System::start(opened, system_settings, metrics)?;
            wait_until_learned(&system).await?;
            anyhow::Ok(LocalRecommendations::new(system, rules, &options, live, keys, placement, limit))
        })?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = runner.block_on(async { (0..threads).map(|_| Arbiter::new()).collect() });
        Ok(Self { runner, store, recommendations, workers, next_worker: AtomicUsize::new(0) })
    }

    /// Computes the lists of users on a worker thread.
    async fn lists_of_users(&self, users: Vec<String>) -> anyhow::Result<Vec<anyhow::Result<UserList>>> {
        let number = self.next_worker.fetch_add(1, Ordering::Relaxed) % self.workers.len().max(1);
        let worker = self.workers.get(number).context("there is no worker thread")?;
        let (reply, lists) = oneshot::channel();
        let recommendations = self.recommendations.clone();
        worker.spawn_fn(move || {
            actix::spawn(async move {
                let lists = recommendations.recommend_to_all(&users).await;
                let to_list = |(user, list): (String, Result<Recommendation, Problem>)| match list {
                    Ok(list) => Ok(UserList::from_recommendation(user, list)),
                    Err(problem) => Err(problem).with_context(|| format!("no list for the user `{user}`")),
                };
                let _ = reply.send(users.into_iter().zip(lists).map(to_list).collect());
            });
        });
        lists.await.context("a worker thread panicked; its message is on standard error")
    }
}

/// Waits until the published snapshot contains the whole journal.
async fn wait_until_learned(system: &System) -> anyhow::Result<()> {
    let end = system.store.journal().next_offset()?;
    loop {
        let status = system.model.status();
        if status.has_failed {
            bail!("learning stopped at entry {}; see the log", status.next_offset);
        }
        if status.next_offset >= end {
            break;
        }
        actix::clock::sleep(POLL_INTERVAL).await;
    }
    Ok(system.recommender.wait_for_offset(end, PUBLICATION_TIMEOUT).await?)
}
