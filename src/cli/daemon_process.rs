//! A temporary daemon: a child process that runs the same executable and ends with the command.

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

/// Time limit for the start of a daemon.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Interval at which the command checks whether the daemon is ready or has exited.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// An error message quotes this many of the last log lines.
const LOG_TAIL_LINES: usize = 5;

/// A running daemon. Dropping it stops the daemon and waits for its exit.
pub(super) struct DaemonProcess {
    process: process::Child,
    /// The public API's address, as `http://host:port`.
    pub(super) api: String,
    /// The admin endpoint's address, as `http://host:port`.
    pub(super) admin: String,
    /// The log file of the daemon.
    log: PathBuf,
    /// The temporary data directory, removed once the daemon has stopped.
    _temp_dir: Option<TempDir>,
}

impl DaemonProcess {
    /// Starts a daemon and waits until it is ready. The settings in `overrides` take precedence
    /// over `flags`. Without `--data-dir`, the daemon uses a temporary directory.
    ///
    /// # Errors
    /// If the directory is not empty or the daemon does not start. The error contains the last
    /// lines of the log.
    pub(super) fn start(flags: &RuntimeFlags, overrides: &[(&str, String)]) -> anyhow::Result<Self> {
        // Validates the settings before creating any file.
        let settings = flags.settings_layers(&[])?.validated_settings()?.clone();
        let (dir, temp_dir) = if flags.has_data_dir() {
            (settings.store.data_dir, None)
        } else {
            let created = tempfile::Builder::new()
                .prefix("sequor-")
                .tempdir()
                .context("cannot create a temporary directory; name a directory with --data-dir")?;
            (created.path().to_owned(), Some(created))
        };
        if fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!(
                "{} is not empty, and simulated events must not mix with real data; name an empty directory with --data-dir",
                dir.display()
            );
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let log = dir.join("daemon.log");
        let log_file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let executable = std::env::current_exe().context("cannot find the path of this executable")?;
        let mut command = Command::new(executable);
        command.arg("serve").args(flags.to_settings_arguments()).arg("--data-dir").arg(&dir);
        for (key, value) in overrides {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        // Errors may quote the log, so it must contain no escape sequences.
        command.env("NO_COLOR", "1");
        // Ctrl-C must reach only this process. The daemon stops when its standard input closes. The
        // operating system closes that input when this process ends, even if it is killed.
        command.arg("--until-eof").process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log_file);
        let process = command.spawn().context("cannot start the daemon")?;
        let mut child = Self { process, api: String::new(), admin: String::new(), log, _temp_dir: temp_dir };
        child.wait_until_ready(&dir)?;
        Ok(child)
    }

    fn wait_until_ready(&mut self, dir: &Path) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < START_TIMEOUT {
            if let Some(status) = self.process.try_wait()? {
                bail!("the daemon did not start ({status}){}", self.log_tail());
            }
            // A file that is only partly written does not parse; the next round of this loop reads
            // it again.
            if let Some((api, admin)) = daemon_addresses(dir)
                && AdminClient::new(&admin, &ClientAuth::default()).and_then(|admin| admin.get("/readyz")).is_ok()
            {
                (self.api, self.admin) = (api, admin);
                return Ok(());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        bail!("the daemon is not ready after {} s{}", START_TIMEOUT.as_secs(), self.log_tail());
    }

    /// Returns `result`. Adds the exit status and the last log lines to an error, if the daemon has
    /// exited.
    pub(super) fn add_exit_context<T>(&mut self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        result.map_err(|error| match self.process.try_wait() {
            Ok(Some(status)) => error.context(format!("the daemon exited ({status}){}", self.log_tail())),
            _ => error,
        })
    }

    /// The last lines of the log, formatted as the end of an error message.
    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n");
        if tail.is_empty() { String::new() } else { format!("; its last log lines:\n{tail}\n") }
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // Either the daemon has already exited, or it exits after it has stored all accepted
        // events.
        let _ = self.process.wait();
    }
}
