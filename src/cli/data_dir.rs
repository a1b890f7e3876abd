//! The data directory of a command that looks after it.

use anyhow::{Context, anyhow};
use std::path::Path;
use std::time::Duration;

use super::client_auth::ClientAuth;
use super::flags::{self, RuntimeFlags};
use crate::actors::pretrained::read_pretrained;
use crate::ingest::ValidationRules;
use crate::settings::{Settings, SettingsLayers};
use crate::store::{Store, StoreError, StoreOptions};

/// The settings in force, with the log started.
pub(super) fn load_settings(flags: &RuntimeFlags) -> anyhow::Result<SettingsLayers<Settings>> {
    let layers = flags.layers(&[])?;
    drop(flags::init_logging(&layers.validated()?.log)?);
    Ok(layers)
}

/// Opens the store that the settings name, by `open_store`. If a daemon holds it, the error says how to
/// go through the daemon with `command`, which may be no way for it.
pub(super) fn open_store(
    settings: &Settings,
    open: impl FnOnce(&Path, &StoreOptions) -> Result<Store, StoreError>,
    command: Option<&str>,
) -> anyhow::Result<Store> {
    let dir = &settings.store.data_dir;
    open(dir, &flags::store_options(settings)).map_err(|error| match (error, command) {
        (StoreError::Locked { dir }, Some(command)) => {
            let admin = admin_address(&dir).unwrap_or_else(|| "http://127.0.0.1:9090".to_owned());
            anyhow!(
                "the data directory {} is held by another process; if that is a daemon, go through it: `{command} --url {admin}`",
                dir.display()
            )
        }
        (error, _) => error.into(),
    })
}

/// Lets the network that a data directory began with stand for the settings of one, unless they
/// were set to something else.
pub(super) fn apply_pretrained_network(layers: &SettingsLayers<Settings>, settings: &mut Settings, store: &Store) -> anyhow::Result<()> {
    if let Some(pretrained) = read_pretrained(store)? {
        flags::ensure_compatible(layers, "network", &settings.network, pretrained.network_settings(), &[])?;
        settings.network = pretrained.network_settings().clone();
    }
    Ok(())
}

/// Opens the door of a store: the rules with its pseudonyms, if the settings ask for those and the
/// store knows users by them.
pub(super) fn checked_validation_rules(settings: &Settings, store: &Store) -> anyhow::Result<ValidationRules> {
    let rules = flags::server_validation_rules(settings)?;
    store.check_pseudonym_secret(rules.pseudonymiser.as_ref().map(|pseudonyms| pseudonyms.fingerprint()))?;
    Ok(rules)
}

/// The admin endpoint of the daemon that serves a directory, as it wrote it down.
fn admin_address(dir: &Path) -> Option<String> {
    daemon_addresses(dir).map(|(_, admin)| admin)
}

/// The API and the admin endpoint of the daemon that serves a directory, as it wrote them down.
pub(super) fn daemon_addresses(dir: &Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(dir.join("addresses.json")).ok()?;
    let addresses: serde_json::Value = serde_json::from_str(&text).ok()?;
    let address = |name: &str| Some(addresses.get(name)?.as_str()?.to_owned());
    Some((address("api")?, address("admin")?))
}

/// Says no word of the database's panics on damaged files: they are caught, and told as what they
/// are.
pub(super) fn silence_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
}

/// A running daemon's admin endpoint.
pub(super) struct AdminClient<'u> {
    url: &'u str,
    agent: ureq::Agent,
    /// What is sent as `Authorization`; empty: nothing.
    authorization: String,
}

impl<'u> AdminClient<'u> {
    pub(super) fn new(url: &'u str, knock: &ClientAuth) -> anyhow::Result<Self> {
        // Without a bound for the whole: what it is asked for takes as long as the data is large.
        Self::bounded(url, knock, Duration::from_secs(10), None)
    }

    /// One whose answers may take so long, and no longer.
    pub(super) fn with_timeout(url: &'u str, knock: &ClientAuth, patience: Duration) -> anyhow::Result<Self> {
        Self::bounded(url, knock, patience, Some(patience))
    }

    fn bounded(url: &'u str, knock: &ClientAuth, connect: Duration, whole: Option<Duration>) -> anyhow::Result<Self> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_connect(Some(connect)).timeout_global(whole);
        let agent = agent.tls_config(knock.ureq_tls_config()?).build();
        Ok(Self { url: url.trim_end_matches('/'), agent: agent.into(), authorization: knock.authorization_header().unwrap_or_default() })
    }

    pub(super) fn post(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<ureq::Body> {
        self.answered(self.agent.post(format!("{}{path}", self.url)).header("Authorization", &self.authorization).send_json(body))
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<ureq::Body> {
        self.answered(self.agent.get(format!("{}{path}", self.url)).header("Authorization", &self.authorization).call())
    }

    /// The body of a good answer; of another, what it says.
    fn answered(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> anyhow::Result<ureq::Body> {
        let mut answer = answer.with_context(|| format!("{} does not answer; is it the address of an admin endpoint?", self.url))?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        let status = answer.status();
        let body = answer.body_mut().read_to_string().unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let said = problem.get("detail").and_then(serde_json::Value::as_str).unwrap_or("no reason given");
        Err(anyhow!("{} refused ({status}): {said}", self.url))
    }
}
