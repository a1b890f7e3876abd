//! `sequor tail`: converts requests in access logs to events, each line once.

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client_auth::ClientAuth;
use super::event_sender::{EventSender, RetryFlags};
use super::flags::{self, SettingFlags};
use super::log_follower::{LogFollower, LogLine, LogPosition, base_log_path};
use super::progress_display::ProgressDisplay;
use super::progress_file::ProgressFile;
use super::rejects::{RejectFlags, RejectReport, RowLocation};
use crate::clock::Clock;
use crate::domain::{Entry, describe_type_error};
use crate::ingest::{AccessLogError, AccessLogOutcome, AccessLogParser, AccessLogSettings, KeyedDigest, SkipReason};

/// Arguments of `sequor tail`.
#[derive(Debug, Args)]
#[command(
    after_help = "A rule KIND=REGEX is matched against the path of a request; the first matching rule determines the kind of the event. The named groups item, user, value and query of the rule set the \
    fields of the event. Only a search needs no item.\n\n\
    A custom format is a regular expression with the named groups time, request (or method and path) and status. Further groups, such as agent, address and cookie, are available to \
    --user field:NAME. If a request lacks the cookie or field, the user is a pseudonym of address and agent under a random key in FILE.sequor.\n\n\
    Each line is sent once: the event id consists of the log's name, the line's byte offset and the line. The progress file FILE.sequor records the acknowledged position. Rotated files \
    (FILE.1, FILE-20261124, FILE.2.gz) are read to their end before the next file.\n\n\
    Exit codes: 0, all lines were read; 2, some lines do not match the format and all others were sent (or the command line is invalid); 1, the command failed.\n\nExamples:\n  \
    sequor tail /var/log/nginx/access.log --rule 'view=^/product/(?P<item>[^/?]+)' --rule 'search=^/search\\?q=(?P<query>[^&]+)'\n  \
    sequor tail access.json --format json --field time=ts --user cookie:uid --rules rules.toml\n  \
    sequor tail --once access.log.*.gz access.log --rules rules.toml"
)]
pub(super) struct Tail {
    /// Log files to follow. A file need not exist yet.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// URL of the API of the running daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    #[command(flatten)]
    retry: RetryFlags,
    /// Log format: `combined`, `json`, or a regular expression with named groups [default:
    /// combined].
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Name of a field in a JSON log, such as time=ts. Can be repeated.
    #[arg(long = "field", value_name = "FIELD=NAME")]
    fields: Vec<String>,
    /// Rule that converts requests to events, such as `view=^/product/(?P<item>[^/?]+)`. Can be
    /// repeated.
    #[arg(long = "rule", value_name = "KIND=REGEX")]
    rules: Vec<String>,
    /// Source of the user id: cookie:NAME, field:NAME or address [default: address].
    #[arg(long, value_name = "WHO")]
    user: Option<String>,
    /// Source of the consent level (none, session or full): cookie:NAME or field:NAME. If it is
    /// absent, privacy.consent of the daemon applies.
    #[arg(long, value_name = "WHERE")]
    consent: Option<String>,
    /// Methods of requests to convert, separated by commas [default: GET].
    #[arg(long, value_name = "METHODS", value_delimiter = ',')]
    methods: Vec<String>,
    /// Range of response statuses to convert [default: 200-399].
    #[arg(long, value_name = "FROM-TO")]
    status: Option<String>,
    /// Also convert requests of bots.
    #[arg(long)]
    keep_bots: bool,
    /// TOML file with the keys format, user, consent, methods, status, keep_bots, rules =
    /// ["view=…"] and the table fields. Flags override it.
    #[arg(long = "rules", value_name = "FILE")]
    rules_file: Option<PathBuf>,
    /// Read all files to their end and exit.
    #[arg(long)]
    once: bool,
    /// Progress file, for a single FILE [default: FILE.sequor].
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    reject_flags: RejectFlags,
    /// Custom kinds ([events.kinds]) come from these settings and from the daemon.
    #[command(flatten)]
    flags: SettingFlags,
}

/// Content of the file of `--rules`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TailRulesFile {
    format: Option<String>,
    fields: BTreeMap<String, String>,
    rules: Vec<String>,
    user: Option<String>,
    consent: Option<String>,
    methods: Vec<String>,
    status: Option<String>,
    keep_bots: bool,
}

/// The error of an invalid rules file, with the line of the error.
fn invalid_rules_error(file: &Path, text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    anyhow!("invalid rules file {}, line {line}: {}", file.display(), describe_type_error(error.message(), "a table"))
}

/// Content of a progress file: the position up to which events are acknowledged, and the key of the
/// user pseudonyms.
#[derive(Debug, Serialize, Deserialize)]
struct TailState {
    #[serde(rename = "place")]
    position: Option<LogPosition>,
    key: [u8; 16],
}

/// Maximum lines per request.
const MAX_BATCH_LINES: usize = 500;
/// Poll interval at the end of a log.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A log that is followed.
struct TailedLog {
    /// Name of the log. The event ids of its lines contain it.
    name: Vec<u8>,
    follower: LogFollower,
    parser: AccessLogParser,
    key: [u8; 16],
    progress_file: ProgressFile,
    /// Whether `--once` is set and the end of the log was reached.
    is_finished: bool,
}

/// Counts of the processed lines.
#[derive(Debug, Default)]
struct TailSummary {
    accepted: u64,
    duplicates: u64,
    withheld: u64,
    skipped: BTreeMap<SkipReason, u64>,
}

impl Tail {
    pub(super) fn run(self) -> anyhow::Result<()> {
        ensure!(
            self.state.is_none() || self.files.len() == 1,
            "--state applies to one log: name a single FILE, or omit --state"
        );
        let settings = self.access_log_settings()?;
        let mut rules = flags::client_validation_rules(self.flags.settings_layers(&[], &[])?.validated_settings()?);
        let sender = EventSender::new(&self.url, &self.auth, self.retry)?;
        // The daemon may know more kinds than the settings of this command.
        if let Err(AccessLogError::UnknownKind { .. }) = AccessLogParser::new(&settings, [0; 16], rules.clone())
            && let Some(info) = sender.ingest_info()?
        {
            info.add_kinds(&mut rules.kinds);
        }
        for file in &self.files {
            let state = ProgressFile::for_file(file, ".sequor", self.state.as_deref());
            self.reject_flags
                .ensure_not_read([file.as_path(), state.path()].into_iter().chain(self.rules_file.as_deref()))?;
        }
        let mut rejects = RejectReport::new(&self.reject_flags)?;
        let mut summary = TailSummary::default();
        let mut logs = Vec::new();
        for file in &self.files {
            let file = std::path::absolute(file)?;
            ensure!(!self.once || file.exists(), "{} does not exist", file.display());
            let state = ProgressFile::for_file(&file, ".sequor", self.state.as_deref());
            let previous = state.read_state::<TailState>()?;
            let key = previous.as_ref().map_or_else(random_key, |state| state.key);
            let (follower, found) = LogFollower::new(&file, previous.and_then(|state| state.position).as_ref())
                .with_context(|| format!("cannot read {}", file.display()))?;
            if !found {
                eprintln!(
                    "{}: the position in {} no longer exists; reading from the beginning of the log",
                    file.display(),
                    state.path().display()
                );
            }
            let parser = AccessLogParser::new(&settings, key, rules.clone())?;
            let name = base_log_path(&file).into_os_string().into_encoded_bytes();
            let log = TailedLog { name, follower, parser, key, progress_file: state, is_finished: false };
            // Stores the key before it is used: pseudonyms under a lost key could not be created
            // again.
            log.save_progress()?;
            logs.push(log);
        }
        let total = self.files.iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum();
        let progress = self.once.then(|| ProgressDisplay::new(total, "bytes read"));
        let mut has_warned = false;
        loop {
            let mut idle = true;
            for log in &mut logs {
                idle &= !log.read_and_send_batch(self.once, &sender, &mut rejects, &mut summary)?;
            }
            if let Some(progress) = &progress {
                progress.update(logs.iter().map(|log| log.follower.bytes_read()).sum());
            }
            if self.once && logs.iter().all(|log| log.is_finished) {
                break;
            }
            if idle {
                if !has_warned && summary.lacks_request_fields() {
                    eprintln!("{OTHER_FIELDS_MESSAGE}: {}", AccessLogParser::expected_json_fields());
                    has_warned = true;
                }
                rejects.flush()?;
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        if let Some(progress) = progress {
            progress.finish();
        }
        summary.print_table(rejects.rejected_count())?;
        rejects.ensure_no_rejects(summary.accepted + summary.duplicates + summary.withheld)
    }

    /// Merges the flags and the file of `--rules`.
    fn access_log_settings(&self) -> anyhow::Result<AccessLogSettings> {
        let file = match &self.rules_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                toml::from_str(&text).map_err(|error| invalid_rules_error(file, &text, &error))?
            }
            None => TailRulesFile::default(),
        };
        let prefer_flags = |flags: &[String], file: Vec<String>| if flags.is_empty() { file } else { flags.to_vec() };
        let status = self.status.clone().or(file.status).unwrap_or_else(|| "200-399".to_owned());
        let range =
            status.split_once('-').and_then(|(from, to)| Some(from.trim().parse().ok()?..=to.trim().parse().ok()?));
        let mut fields: Vec<_> = file.fields.into_iter().collect();
        for pair in &self.fields {
            let (field, name) =
                pair.split_once('=').with_context(|| format!("invalid --field {pair}: write FIELD=NAME"))?;
            fields.insert(0, (field.to_owned(), name.to_owned()));
        }
        let methods = prefer_flags(&self.methods, file.methods);
        Ok(AccessLogSettings {
            format: self.format.clone().or(file.format).unwrap_or_else(|| "combined".to_owned()),
            fields,
            rules: prefer_flags(&self.rules, file.rules),
            user: self.user.clone().or(file.user).unwrap_or_else(|| "address".to_owned()),
            methods: if methods.is_empty() { vec!["GET".to_owned()] } else { methods },
            statuses: range.with_context(|| format!("invalid --status {status}: write FROM-TO, such as 200-399"))?,
            keep_bots: self.keep_bots || file.keep_bots,
            consent: self.consent.clone().or(file.consent),
        })
    }
}

/// Creates a random key. Its source is the random state of the standard library's hash maps.
fn random_key() -> [u8; 16] {
    let half = || RandomState::new().build_hasher().finish().to_le_bytes();
    let mut key = [0; 16];
    for (byte, random) in key.iter_mut().zip(half().into_iter().chain(half())) {
        *byte = random;
    }
    key
}

impl TailedLog {
    /// Reads and sends at most one batch. Returns `false` if there was nothing to read.
    fn read_and_send_batch(
        &mut self,
        once: bool,
        sender: &EventSender,
        rejects: &mut RejectReport,
        summary: &mut TailSummary,
    ) -> anyhow::Result<bool> {
        if self.is_finished {
            return Ok(false);
        }
        let file = self.follower.current_file().to_owned();
        let error_context = || format!("cannot read {}", file.display());
        if !self.follower.recover_from_truncation().with_context(error_context)? {
            eprintln!("{} was truncated and has no rotated copy; reading from its beginning", file.display());
        }
        let file = self.follower.current_file().to_owned();
        let lines = self.follower.read_lines(MAX_BATCH_LINES).with_context(error_context)?;
        if !lines.is_empty() {
            self.send_lines(&file, lines, sender, rejects, summary)?;
            return Ok(true);
        }
        let (has_moved, last) = self.follower.advance_to_next_file(!once).with_context(error_context)?;
        let last = if once && !has_moved {
            self.is_finished = true;
            self.follower.take_unterminated_line()
        } else {
            last
        };
        if let Some(last) = last {
            self.send_lines(&file, vec![last], sender, rejects, summary)?;
        }
        Ok(has_moved)
    }

    /// Sends the events of some lines. Once they are acknowledged, saves the position after them.
    fn send_lines(
        &self,
        file: &Path,
        lines: Vec<LogLine>,
        sender: &EventSender,
        rejects: &mut RejectReport,
        summary: &mut TailSummary,
    ) -> anyhow::Result<()> {
        let now = Clock::system().now();
        let (mut entries, mut locations) = (Vec::new(), Vec::new());
        for line in lines {
            let location = RowLocation::Byte(line.offset);
            let Some(text) = line.text else {
                rejects.record_too_long(file, location)?;
                continue;
            };
            if text.is_empty() {
                continue;
            }
            let id = KeyedDigest::hex_digest_of_parts(&[0; 16], &[&self.name, &line.offset.to_le_bytes(), &text]);
            match self.parser.parse_line(&text, &id, now) {
                Ok(AccessLogOutcome::Event(event)) => {
                    entries.push(event.map(Entry::Event));
                    locations.push(location);
                }
                Ok(AccessLogOutcome::Skipped(reason)) => *summary.skipped.entry(reason).or_default() += 1,
                Err(error) => rejects.record_invalid(file, location, &error)?,
            }
        }
        let receipt = sender.send_batch(&entries)?;
        summary.accepted += receipt.accepted;
        summary.duplicates += receipt.duplicates;
        summary.withheld += receipt.withheld;
        for rejected in &receipt.rejected {
            let Some(location) = locations.get(rejected.index) else {
                bail!("the daemon rejected a line that was not sent: {}", rejected.reason)
            };
            rejects.record_rejected(file, *location, rejected)?;
        }
        self.save_progress()
    }

    fn save_progress(&self) -> anyhow::Result<()> {
        self.progress_file.write_state(&TailState { position: self.follower.position(), key: self.key })
    }
}

impl TailSummary {
    fn print_table(&self, rejected: u64) -> anyhow::Result<()> {
        let skipped = self.skipped.iter().map(|(reason, count)| (format!("skipped: {}", reason.as_str()), *count));
        let rows = [
            ("accepted".to_owned(), self.accepted),
            ("duplicates".to_owned(), self.duplicates),
            ("withheld (no consent)".to_owned(), self.withheld),
        ];
        for (label, count) in rows.into_iter().chain(skipped).chain([("rejected".to_owned(), rejected)]) {
            writeln!(stdout(), "  {label:<44}{count:>12}")?;
        }
        if self.lacks_request_fields() {
            eprintln!("{OTHER_FIELDS_MESSAGE}: {}", AccessLogParser::expected_json_fields());
        }
        Ok(())
    }

    /// Whether some lines were read, and none of them has the required fields of a request.
    fn lacks_request_fields(&self) -> bool {
        let others = self.skipped.keys().any(|reason| *reason != SkipReason::MissingFields);
        self.skipped.contains_key(&SkipReason::MissingFields)
            && !others
            && self.accepted + self.duplicates + self.withheld == 0
    }
}

/// The beginning of the message about a JSON log with other field names.
const OTHER_FIELDS_MESSAGE: &str =
    "no line has the fields of a request; name them with --field, such as --field path=http.url. Expected fields";
