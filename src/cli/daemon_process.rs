//! A daemon of a command's own: another process of the same executable, on a directory of its own,
//! that ends with the command.

use anyhow::{Context, bail};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

use super::client_auth::ClientAuth;
use super::data_dir::{AdminClient, daemon_addresses};
use super::flags::RuntimeFlags;

/// A start that takes longer has failed.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How often it is looked whether the daemon is there, or has gone.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of the log that are shown of a daemon that did not start.
const LOG_TAIL_LINES: usize = 5;

/// A running daemon; asked to stop, and waited for, when dropped.
pub(super) struct DaemonProcess {
    process: process::Child,
    /// The public API's address, as `http://host:port`.
    pub(super) api: String,
    /// The admin endpoint's address, as `http://host:port`.
    pub(super) admin: String,
    /// Where it logs.
    log: PathBuf,
    /// Removed once the daemon has stopped.
    _temp_dir: Option<TempDir>,
}

impl DaemonProcess {
    /// Starts a daemon and waits until it is ready. `more` are settings that stand above those of
    /// the flags. Without a data directory it gets one that is removed at the end.
    ///
    /// # Errors
    /// If the directory holds something already, or the daemon does not start; the last lines of
    /// its log say why.
    pub(super) fn start(flags: &RuntimeFlags, more: &[(&str, String)]) -> anyhow::Result<Self> {
        // Wrong settings are told before anything is made.
        let settings = flags.layers(&[])?.validated()?.clone();
        let (dir, rehearsal) = if flags.has_data_dir() {
            (settings.store.data_dir, None)
        } else {
            let made = tempfile::Builder::new().prefix("sequor-").tempdir().context("cannot make a directory; name one with --data-dir")?;
            (made.path().to_owned(), Some(made))
        };
        if fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!(
                "{} is not empty, and what is made up does not belong among real data; name an empty directory with --data-dir",
                dir.display()
            );
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let log = dir.join("daemon.log");
        let written = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let executable = std::env::current_exe().context("cannot tell where this executable is")?;
        let mut command = Command::new(executable);
        command.arg("serve").args(flags.to_settings_arguments()).arg("--data-dir").arg(&dir);
        for (key, value) in more {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        // What it says may be shown in an error.
        command.env("NO_COLOR", "1");
        // Ctrl-C is for this process; the daemon hears of the end by its standard input, however
        // this process ends.
        command.arg("--until-eof").process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(written);
        let process = command.spawn().context("cannot start a daemon")?;
        let mut child = Self { process, api: String::new(), admin: String::new(), log, _temp_dir: rehearsal };
        child.wait(&dir)?;
        Ok(child)
    }

    fn wait(&mut self, dir: &Path) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < START_TIMEOUT {
            if let Some(status) = self.process.try_wait()? {
                bail!("the daemon did not start ({status}){}", self.last_words());
            }
            // While it is being written it is no JSON yet.
            if let Some((api, admin)) = daemon_addresses(dir)
                && AdminClient::new(&admin, &ClientAuth::default()).and_then(|admin| admin.get("/readyz")).is_ok()
            {
                (self.api, self.admin) = (api, admin);
                return Ok(());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        bail!("the daemon is not ready after {} s{}", START_TIMEOUT.as_secs(), self.last_words());
    }

    /// What came of talking to it; if that failed since it has ended, with what it said last.
    pub(super) fn add_exit_context<T>(&mut self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        result.map_err(|error| match self.process.try_wait() {
            Ok(Some(status)) => error.context(format!("the daemon has ended ({status}){}", self.last_words())),
            _ => error,
        })
    }

    /// What it said last, to be put after a sentence.
    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n");
        if last.is_empty() { String::new() } else { format!("; it said last:\n{last}\n") }
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It is not there any more, or it ends: what it has taken it puts away first.
        let _ = self.process.wait();
    }
}
