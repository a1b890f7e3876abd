//! `sequor tail`: the requests in web servers' access logs become events, each once.

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client_auth::ClientAuth;
use super::event_sender::EventSender;
use super::flags::{self, SettingFlags};
use super::log_follower::{LogFollower, LogLine, LogPosition, base_log_path};
use super::progress_display::ProgressDisplay;
use super::progress_file::ProgressFile;
use super::rejects::{RejectFlags, RejectReport, RowLocation};
use crate::clock::Clock;
use crate::domain::Entry;
use crate::ingest::{AccessLogOutcome, AccessLogParser, AccessLogSettings, KeyedDigest, SkipReason};

/// Arguments of `sequor tail`.
#[derive(Debug, Args)]
#[command(
    after_help = "A rule is KIND=REGEX on the request's path; the first that matches makes the event. Its groups item, user, value and query say more; a search may go without item.\n\
    A format of your own is a regular expression with the groups time, request (or method and path), status, and perhaps agent, address, cookie and others for --user field:NAME.\n\
    Where a request has no such cookie or field, the user is a pseudonym: address and agent under a key that FILE.sequor holds.\n\n\
    Each line counts once: FILE.sequor notes how far everything was acknowledged, and an event's id is made of the log's name, the line's place and the line. Rotated files \
    (FILE.1, FILE-20261124, FILE.2.gz) are read to their end before the log goes on.\n\n\
    Exit code: 0 if every line was read, 2 if some lines are not in the format and all others were taken (or if the command line is wrong), 1 if it broke off.\n\nExamples:\n  \
    sequor tail /var/log/nginx/access.log --rule 'view=^/product/(?P<item>[^/?]+)' --rule 'search=^/search\\?q=(?P<query>[^&]+)'\n  \
    sequor tail access.json --format json --field time=ts --user cookie:uid --rules rules.toml\n  \
    sequor tail --once access.log.*.gz access.log --rules rules.toml"
)]
pub(super) struct Tail {
    /// The logs; they need not be there yet.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The API of the running daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    /// `combined`, `json`, or a regular expression with named groups [default: combined].
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Under which name a JSON log has a field, such as time=ts; may be given more than once.
    #[arg(long = "field", value_name = "FIELD=NAME")]
    fields: Vec<String>,
    /// Which requests are events, such as `view=^/product/(?P<item>[^/?]+)`; may be given more than
    /// once.
    #[arg(long = "rule", value_name = "KIND=REGEX")]
    rules: Vec<String>,
    /// Who the user is: cookie:NAME, field:NAME or address [default: address].
    #[arg(long, value_name = "WHO")]
    user: Option<String>,
    /// How far consent goes: cookie:NAME or field:NAME holds none, session or full; what the
    /// settings say where it is absent.
    #[arg(long, value_name = "WHERE")]
    consent: Option<String>,
    /// The methods that count, separated by commas [default: GET].
    #[arg(long, value_name = "METHODS", value_delimiter = ',')]
    methods: Vec<String>,
    /// The statuses that count [default: 200-399].
    #[arg(long, value_name = "FROM-TO")]
    status: Option<String>,
    /// Robots count, too.
    #[arg(long)]
    keep_bots: bool,
    /// Formats and rules as TOML: format, user, consent, methods, status, keep_bots, rules =
    /// ["view=…"], and a table fields. Flags stand above it.
    #[arg(long = "rules", value_name = "FILE")]
    rules_file: Option<PathBuf>,
    /// Read to the end and stop.
    #[arg(long)]
    once: bool,
    /// Where it is noted how far a log was acknowledged; for one FILE [default: FILE.sequor].
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    reject_flags: RejectFlags,
    /// Kinds of your own ([events.kinds]) are read from the daemon's settings.
    #[command(flatten)]
    flags: SettingFlags,
}

/// What may stand in the file of rules.
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

/// How far a log was acknowledged, and under which key its users have their pseudonyms.
#[derive(Debug, Serialize, Deserialize)]
struct TailState {
    #[serde(rename = "place")]
    position: Option<LogPosition>,
    key: [u8; 16],
}

/// Lines sent at a time.
const BATCH_LINES: usize = 500;
/// How often a log is looked at that has come to its end.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A log under way.
struct TailedLog {
    /// Under which name its lines are told apart from those of other logs.
    name: Vec<u8>,
    follower: LogFollower,
    parser: AccessLogParser,
    key: [u8; 16],
    progress_file: ProgressFile,
    /// It was read to its end, and is not to be followed further.
    is_finished: bool,
}

/// What became of the lines.
#[derive(Debug, Default)]
struct TailSummary {
    accepted: u64,
    duplicates: u64,
    withheld: u64,
    skipped: BTreeMap<SkipReason, u64>,
}

impl Tail {
    pub(super) fn run(self) -> anyhow::Result<()> {
        ensure!(self.state.is_none() || self.files.len() == 1, "--state notes the place in one log; give one FILE, or leave it out");
        let settings = self.access()?;
        let rules = flags::client_validation_rules(self.flags.layers(&[], &[])?.validated()?);
        let sender = EventSender::new(&self.url, &self.auth)?;
        let mut faults = RejectReport::new(&self.reject_flags)?;
        let mut summary = TailSummary::default();
        let mut logs = Vec::new();
        for file in &self.files {
            let file = std::path::absolute(file)?;
            ensure!(!self.once || file.exists(), "{} is not there", file.display());
            let state = ProgressFile::for_file(&file, ".sequor", self.state.as_deref());
            let earlier = state.read::<TailState>()?;
            let key = earlier.as_ref().map_or_else(new_key, |state| state.key);
            let (followed, found) = LogFollower::new(&file, earlier.and_then(|state| state.position).as_ref())
                .with_context(|| format!("{} cannot be read", file.display()))?;
            if !found {
                eprintln!(
                    "{}: what {} says was read last is not there any more; going on from the log's beginning",
                    file.display(),
                    state.path().display()
                );
            }
            let access = AccessLogParser::new(&settings, key, rules.clone())?;
            let name = base_log_path(&file).into_os_string().into_encoded_bytes();
            let log = TailedLog { name, follower: followed, parser: access, key, progress_file: state, is_finished: false };
            // Before anybody gets a pseudonym under it the key is written down.
            log.note()?;
            logs.push(log);
        }
        let total = self.files.iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum();
        let progress = self.once.then(|| ProgressDisplay::new(total, "bytes read"));
        loop {
            let mut idle = true;
            for log in &mut logs {
                idle &= !log.step(self.once, &sender, &mut faults, &mut summary)?;
            }
            if let Some(progress) = &progress {
                progress.update(logs.iter().map(|log| log.follower.bytes_read()).sum());
            }
            if self.once && logs.iter().all(|log| log.is_finished) {
                break;
            }
            if idle {
                faults.flush()?;
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        if let Some(progress) = progress {
            progress.finish();
        }
        summary.show(faults.count())?;
        faults.finish()
    }

    /// What flags and file say together.
    fn access(&self) -> anyhow::Result<AccessLogSettings> {
        let file = match &self.rules_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                toml::from_str(&text).with_context(|| format!("{} is no file of rules", file.display()))?
            }
            None => TailRulesFile::default(),
        };
        let given = |flags: &[String], file: Vec<String>| if flags.is_empty() { file } else { flags.to_vec() };
        let status = self.status.clone().or(file.status).unwrap_or_else(|| "200-399".to_owned());
        let range = status.split_once('-').and_then(|(from, to)| Some(from.trim().parse().ok()?..=to.trim().parse().ok()?));
        let mut fields: Vec<_> = file.fields.into_iter().collect();
        for pair in &self.fields {
            let (field, name) = pair.split_once('=').with_context(|| format!("--field {pair}: write FIELD=NAME"))?;
            fields.insert(0, (field.to_owned(), name.to_owned()));
        }
        let methods = given(&self.methods, file.methods);
        Ok(AccessLogSettings {
            format: self.format.clone().or(file.format).unwrap_or_else(|| "combined".to_owned()),
            fields,
            rules: given(&self.rules, file.rules),
            user: self.user.clone().or(file.user).unwrap_or_else(|| "address".to_owned()),
            methods: if methods.is_empty() { vec!["GET".to_owned()] } else { methods },
            statuses: range.with_context(|| format!("--status {status}: write FROM-TO, such as 200-399"))?,
            keep_bots: self.keep_bots || file.keep_bots,
            consent: self.consent.clone().or(file.consent),
        })
    }
}

/// A key that nobody knows, from the randomness by which the standard library keys its maps.
fn new_key() -> [u8; 16] {
    let half = || RandomState::new().build_hasher().finish().to_le_bytes();
    let mut key = [0; 16];
    for (byte, random) in key.iter_mut().zip(half().into_iter().chain(half())) {
        *byte = random;
    }
    key
}

impl TailedLog {
    /// Reads and sends what there is, at most a batch; `false` if there was nothing.
    fn step(&mut self, once: bool, sender: &EventSender, faults: &mut RejectReport, summary: &mut TailSummary) -> anyhow::Result<bool> {
        if self.is_finished {
            return Ok(false);
        }
        let file = self.follower.current_file().to_owned();
        let unreadable = || format!("{} cannot be read", file.display());
        if !self.follower.recover_from_truncation().with_context(unreadable)? {
            eprintln!("{} was emptied and no copy of it is there; it is read from its beginning", file.display());
        }
        let file = self.follower.current_file().to_owned();
        let lines = self.follower.read_lines(BATCH_LINES).with_context(unreadable)?;
        if !lines.is_empty() {
            self.send(&file, lines, sender, faults, summary)?;
            return Ok(true);
        }
        let (turned, last) = self.follower.advance_to_next_file(!once).with_context(unreadable)?;
        let last = if once && !turned {
            self.is_finished = true;
            self.follower.take_unterminated_line()
        } else {
            last
        };
        if let Some(last) = last {
            self.send(&file, vec![last], sender, faults, summary)?;
        }
        Ok(turned)
    }

    /// Sends the events of some lines and, once they are acknowledged, writes down the place behind
    /// them.
    fn send(
        &self,
        file: &Path,
        lines: Vec<LogLine>,
        sender: &EventSender,
        faults: &mut RejectReport,
        summary: &mut TailSummary,
    ) -> anyhow::Result<()> {
        let now = Clock::system().now();
        let (mut entries, mut places) = (Vec::new(), Vec::new());
        for line in lines {
            let spot = RowLocation::Byte(line.offset);
            let Some(text) = line.text else {
                faults.record_too_long(file, spot)?;
                continue;
            };
            if text.is_empty() {
                continue;
            }
            let id = KeyedDigest::of_parts(&[0; 16], &[&self.name, &line.offset.to_le_bytes(), &text]);
            match self.parser.parse_line(&text, &id, now) {
                Ok(AccessLogOutcome::Event(event)) => {
                    entries.push(event.map(Entry::Event));
                    places.push(spot);
                }
                Ok(AccessLogOutcome::Skipped(other)) => *summary.skipped.entry(other).or_default() += 1,
                Err(fault) => faults.record_invalid(file, spot, &fault)?,
            }
        }
        let told = sender.send(&entries)?;
        summary.accepted += told.accepted;
        summary.duplicates += told.duplicates;
        summary.withheld += told.withheld;
        for rejected in &told.rejected {
            let Some(spot) = places.get(rejected.index) else { bail!("the daemon refused a line that was not sent: {}", rejected.reason) };
            faults.record_rejected(file, *spot, rejected)?;
        }
        self.note()
    }

    fn note(&self) -> anyhow::Result<()> {
        self.progress_file.write(&TailState { position: self.follower.position(), key: self.key })
    }
}

impl TailSummary {
    fn show(&self, faulty: u64) -> anyhow::Result<()> {
        let others = self.skipped.iter().map(|(other, count)| (format!("no event: {}", other.as_str()), *count));
        let rows = [
            ("taken".to_owned(), self.accepted),
            ("known already".to_owned(), self.duplicates),
            ("withheld for want of consent".to_owned(), self.withheld),
        ];
        for (what, count) in rows.into_iter().chain(others).chain([("faulty".to_owned(), faulty)]) {
            writeln!(stdout(), "  {what:<44}{count:>12}")?;
        }
        Ok(())
    }
}
