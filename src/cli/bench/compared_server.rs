//! Another server that gets the same recommendation requests in the same run.

use anyhow::{Context, bail};
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::load_generator::{RecentVisitor, RequestMix};
use crate::cli::client_auth::ClientAuth;
use crate::cli::daemon_client::{ApiRequest, DaemonClient};
use crate::metrics::ProcessStats;

/// Flags that select the other server.
#[derive(Debug, Args)]
pub(super) struct CompareFlags {
    /// Send every recommendation request also to another server, as a GET request to this URL, in
    /// which {user} stands for the user and {item} for the user's latest item. The requests to the
    /// two servers alternate.
    #[arg(long, value_name = "URL")]
    compare: Option<String>,
    /// Process id of the other server on this machine. The report then contains its CPU time.
    #[arg(long, value_name = "PID", requires = "compare")]
    compare_pid: Option<u32>,
}

impl CompareFlags {
    /// Checks the flags, before a daemon starts.
    ///
    /// # Errors
    /// The URL is not an HTTP URL, the process does not exist, or the mix has no recommendation
    /// requests.
    pub(super) fn check(&self, mix: RequestMix) -> anyhow::Result<()> {
        let Some(url) = &self.compare else { return Ok(()) };
        if mix == RequestMix::Events {
            bail!("--compare needs recommendation requests; use --mix recommendations or --mix mixed");
        }
        if let Some(process_id) = self.compare_pid {
            ProcessStats::read_cpu_seconds_of(process_id)
                .with_context(|| format!("--compare-pid {process_id}: there is no such process on this machine"))?;
        }
        split_url(url).map(drop)
    }

    /// The other server, if the flags name one.
    ///
    /// # Errors
    /// As [`CompareFlags::check`].
    pub(super) fn server(&self, connections: usize) -> anyhow::Result<Option<ComparedServer>> {
        let Some(url) = &self.compare else { return Ok(None) };
        let (address, path) = split_url(url)?;
        // The other server gets no API key of the daemon.
        let client = DaemonClient::new(address, None, connections, &ClientAuth::default())?;
        Ok(Some(ComparedServer { client, path: path.to_owned(), process_id: self.compare_pid }))
    }
}

/// Splits a URL into the address and the path with the query.
fn split_url(url: &str) -> anyhow::Result<(&str, &str)> {
    let after_scheme = ["http://", "https://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
    let Some(after_scheme) = after_scheme.filter(|rest| !rest.is_empty() && !rest.starts_with('/')) else {
        bail!(
            "--compare {url}: give a URL that starts with http:// or https://, such as \
             'http://127.0.0.1:8081/v1/recommend?session_id={{user}}&item_id={{item}}'"
        );
    };
    let path = after_scheme.find('/').map_or(url.len(), |position| url.len() - after_scheme.len() + position);
    Ok(url.split_at(path))
}

/// The other server.
pub(super) struct ComparedServer {
    pub(super) client: DaemonClient,
    /// Path and query, with the placeholders.
    path: String,
    process_id: Option<u32>,
}

impl ComparedServer {
    /// The request for a visitor's recommendations.
    pub(super) fn request_for(&self, visitor: &RecentVisitor) -> ApiRequest {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let item = encoded(visitor.item.as_deref().unwrap_or_default());
        ApiRequest::get(&self.path.replace("{user}", &encoded(&visitor.user)).replace("{item}", &item))
    }

    /// CPU time of the server's process so far, in seconds, if the process is known.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        ProcessStats::read_cpu_seconds_of(self.process_id?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_before_the_path() {
        assert_eq!(split_url("http://h:81/a?b={user}").unwrap(), ("http://h:81", "/a?b={user}"));
        assert_eq!(split_url("https://h").unwrap(), ("https://h", ""));
        for invalid in ["h:81/a", "ftp://h/a", "http://", "http:///a", ""] {
            assert!(split_url(invalid).unwrap_err().to_string().contains("http://127.0.0.1"), "{invalid}");
        }
    }
}
