//! `sequor import`: imports events or a catalog from files into a daemon or a data directory, each
//! row once.

use anyhow::{Context, ensure};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use std::fs::File;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use super::client_auth::ClientAuth;
use super::event_sender::{EventSender, RetryFlags};
use super::file_flags::FileFlags;
use super::flags::{self, RuntimeFlags};
use super::import_dry_run::DryRun;
use super::import_ids::IdSource;
use super::import_progress::{FileHistory, ImportProgress};
use super::import_rows::ImportKind;
use super::import_run::{ImportOptions, ImportRun, ImportSummary};
use super::import_target::{DirectoryTarget, ImportTarget};
use super::progress_file::ProgressFile;
use super::rejects::{RejectFlags, RejectReport};
use crate::ingest::{Preset, STANDARD_INPUT_NAME, ValidationRules};
use crate::settings::Period;

/// Arguments of `sequor import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Files are CSV (RFC 4180; the separator is detected), or NDJSON (.ndjson, .jsonl), optionally compressed (.gz, .zst). A build with `--features parquet` also reads Parquet, \
    whose rows count as lines and whose columns have the names of JSON or CSV.\n\n\
    Each row is imported once: its event id consists of the digest of the file's content and the line number (see --id-from). The progress file FILE.import records the acknowledged lines \
    for each target. To resume a killed import, or to send rejected rows again after a correction, run the same command again. If lines were appended to the file, only these are imported. To import \
    a file again, remove FILE.import. The daemon still recognises the ids of its last store.dedup_window entries as duplicates.\n\n\
    Exit codes: 0, all rows were accepted; 2, some rows were rejected and all others accepted (or the command line is invalid); 1, the import failed. \
    If a compressed file or a Parquet file is truncated, nothing is imported.\n\nExamples:\n  \
    sequor import events.csv.gz\n  \
    sequor import events.csv --map user=visitorid,item=itemid,time=timestamp,type=event --kind addtocart=cart,transaction=purchase\n  \
    zcat u.data.gz | sequor import - --columns user,item,value,timestamp --delimiter tab --type rate\n  \
    sequor import plays.ndjson.zst --map user=uid,item=track,time=at --type play --faults faults.ndjson\n  \
    sequor import --items catalog.csv --map item=sku\n  \
    sequor import --preset shopify products_export.csv --dry-run\n  \
    sequor import --preset ga4 events-*.json.gz --kind quick_look=view\n  \
    sequor import events.parquet --map user=customer_id,item=sku --time-zone UTC\n  \
    sequor import events.csv --data-dir sequor-data    without a running daemon"
)]
pub(super) struct Import {
    /// Files to import, in this order; `-` is the standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    flags: RuntimeFlags,
    /// URL of the API of the running daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", conflicts_with = "data_dir")]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    #[command(flatten)]
    retry: RetryFlags,
    /// The files contain items: CSV with the columns item_id, categories, brand, price, tags,
    /// available, published, expires, title, url, image (lists separated by |), or NDJSON in the
    /// format of POST /v1/items.
    #[arg(long)]
    items: bool,
    /// Format of an analytics tool or a shop system. It replaces --items, --map, --type and
    /// --columns. Events are sorted as with --sort, unless --window is given; --kind NAME=ignore
    /// ignores the events of a name.
    #[arg(long, value_name = "NAME", value_parser = preset_parser())]
    preset: Option<Preset>,
    #[command(flatten)]
    format: FileFlags,
    /// Show the first converted rows and every rejected row, and send nothing. It needs no daemon,
    /// so custom kinds come from the settings. With --json: one JSON object per line.
    #[arg(long)]
    dry_run: bool,
    /// Number of converted rows that --dry-run shows.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "dry_run", value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(0..=10_000))]
    rows: u64,
    /// Sort events by time within this window. Events that are late by more than the window are
    /// sent in file order and counted as late. `0s` disables sorting [default: 1h; a file with many
    /// late events is refused].
    #[arg(long, value_name = "DURATION")]
    window: Option<Period>,
    /// Sort all events of each file by time, with the help of a temporary file.
    #[arg(long, conflicts_with_all = ["window", "items"])]
    sort: bool,
    /// Source of the event ids of rows without one [default: content; row for standard input].
    #[arg(long, value_name = "SOURCE", conflicts_with = "items")]
    id_from: Option<IdSource>,
    /// Maximum rows per request, at most the server.max_batch of the daemon.
    #[arg(long, value_name = "ROWS", default_value_t = 500, value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(1..=100_000))]
    batch: u64,
    /// Progress file, for a single FILE [default: FILE.import].
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    reject_flags: RejectFlags,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Default of `--window`.
const DEFAULT_WINDOW: Period = Period::from_minutes(60);

impl Import {
    pub(super) fn run(self) -> anyhow::Result<()> {
        ensure!(
            self.state.is_none() || self.files.len() == 1,
            "--state applies to one file: name a single FILE, or omit --state"
        );
        if self.files.iter().any(|file| is_standard_input(file)) {
            ensure!(self.state.is_none(), "standard input has no progress file: omit --state");
            ensure!(
                self.id_from != Some(IdSource::Content),
                "standard input has no digest in advance: use --id-from row or columns"
            );
        }
        let mut rules = flags::client_validation_rules(self.flags.settings_layers(&[])?.validated_settings()?);
        let kind = self.import_kind()?;
        // Reports a wrong file at once, even if there is no daemon.
        self.files.iter().filter(|file| !is_standard_input(file)).try_for_each(|file| self.check_file(file))?;
        if self.dry_run {
            let rejects = RejectReport::new(&self.reject_flags)?;
            return DryRun::new(rejects, self.rows, self.json).run(&self.files, &kind, &rules);
        }
        let (target, target_name) = self.open_target(&mut rules)?;
        let rejects = RejectReport::new(&self.reject_flags)?;
        // A truncated file is refused before anything is sent. The complete file gives its rows
        // other ids, so rows of the truncated file would count twice.
        let opened = self
            .files
            .iter()
            .map(|file| Ok((file, self.open_progress(file, &target_name)?)))
            .collect::<anyhow::Result<Vec<_>>>();
        let opened = opened.context("nothing was imported")?;
        let options = ImportOptions {
            window: self.window.unwrap_or(DEFAULT_WINDOW),
            sort: self.sorts_files(),
            batch: self.batch,
        };
        let mut run = ImportRun {
            options,
            rules,
            kind,
            target,
            rejects,
            summary: ImportSummary::default(),
            has_forgotten_rejects: false,
        };
        if self.window.is_none() && !self.sorts_files() {
            let mut new_files = opened
                .iter()
                .filter(|(file, (progress, _))| progress.has_no_completed_row() && !is_standard_input(file));
            new_files.try_for_each(|(file, _)| run.ensure_sorted(file)).context("nothing was imported")?;
        }
        for (file, (progress, size)) in opened {
            run.import_file(file, progress, size, self.event_id_source(file))?;
        }
        let ImportRun { target, rejects, summary, has_forgotten_rejects, .. } = run;
        target.store_and_close()?;
        self.report_summary(rejects, summary, has_forgotten_rejects)
    }

    /// Checks that a file can be read, as often as needed, and that no other output replaces it.
    fn check_file(&self, file: &Path) -> anyhow::Result<()> {
        let cannot_open = || format!("cannot open {}", file.display());
        ensure!(
            file.metadata().with_context(cannot_open)?.is_file(),
            "{} is not a regular file, and its rows are read more than once; pipe it to the standard input, `-`",
            file.display()
        );
        File::open(file).with_context(cannot_open)?;
        let progress = ProgressFile::for_file(file, ".import", self.state.as_deref());
        self.reject_flags.ensure_not_read([file, progress.path()])
    }

    /// The kind and the format of the files.
    fn import_kind(&self) -> anyhow::Result<ImportKind> {
        let Some(preset) = self.preset else {
            return Ok(if self.items {
                ImportKind::Items(self.format.item_format()?)
            } else {
                ImportKind::Events(Box::new(self.format.event_mapping()?))
            });
        };
        let name = preset.name();
        ensure!(self.id_from.is_none(), "--preset {name} takes event ids from its source: omit --id-from");
        if preset.is_catalog() {
            ensure!(!self.sort && self.window.is_none(), "--preset {name} is a catalog: omit --sort and --window");
            return Ok(ImportKind::PresetItems(preset, self.format.preset_delimiter(preset)?));
        }
        ensure!(!self.items, "--preset {name} holds events: omit --items");
        Ok(ImportKind::PresetEvents(self.format.event_preset(preset)?))
    }

    /// Whether all events of a file are sorted. The exports of analytics tools are not in the order
    /// of time.
    fn sorts_files(&self) -> bool {
        self.sort || self.preset.is_some_and(|preset| !preset.is_catalog() && self.window.is_none())
    }

    /// Reads the progress file and the imported file, and reports which rows will be skipped.
    fn open_progress(&self, file: &Path, target: &str) -> anyhow::Result<(ImportProgress, u64)> {
        if is_standard_input(file) {
            return Ok((ImportProgress::for_standard_input(target, self.sorts_files()), 0));
        }
        let state = ProgressFile::for_file(file, ".import", self.state.as_deref());
        let (progress, history, size) = ImportProgress::open(file, state, target, self.sorts_files())?;
        let (name, through, state) =
            (file.display(), progress.completed_through_line(), progress.file_path().display());
        match history {
            FileHistory::Same | FileHistory::Grown if through > 0 => {
                eprintln!("{name}: resuming after line {through}, according to {state}")
            }
            FileHistory::Changed
                if !self.items && self.preset.is_none() && self.event_id_source(file) == IdSource::Content =>
            {
                eprintln!(
                    "warning: {name} has changed since {state} was written. Its rows have new event ids, so rows that were imported before count again. \
                 To recognise unchanged rows, import each version with --id-from row or --id-from columns."
                )
            }
            _ => {}
        }
        Ok((progress, size))
    }

    fn event_id_source(&self, file: &Path) -> IdSource {
        self.id_from.unwrap_or(if is_standard_input(file) { IdSource::Row } else { IdSource::Content })
    }

    /// Prints the summary. If rows were rejected, returns the error that sets exit code 2.
    fn report_summary(
        &self,
        rejects: RejectReport,
        mut summary: ImportSummary,
        has_forgotten_rejects: bool,
    ) -> anyhow::Result<()> {
        summary.faulty = rejects.rejected_count();
        if self.json {
            writeln!(stdout(), "{}", serde_json::to_string_pretty(&summary)?)?;
        } else {
            for (label, count) in [
                ("accepted", summary.taken),
                ("duplicates", summary.duplicates),
                ("withheld (no consent)", summary.withheld),
                ("skipped (already imported)", summary.skipped),
                ("late (outside the window)", summary.late),
                ("rejected", summary.faulty),
            ] {
                writeln!(stdout(), "  {label:<30}{count:>12}")?;
            }
            summary.print_skipped()?;
        }
        summary.explain_unmapped();
        if summary.faulty > 0 {
            eprintln!(
                "rejected rows are sent again by the same command, for example after a correction of its flags or of events.kinds"
            );
        }
        if summary.late > 0 {
            eprintln!("{} rows were late by more than the window; --sort sorts a whole file by time", summary.late);
        }
        if has_forgotten_rejects {
            eprintln!(
                "the progress file cannot hold all rejected rows; the others are skipped until the file is removed"
            );
        }
        rejects.ensure_no_rejects(summary.taken + summary.duplicates + summary.withheld + summary.skipped)
    }

    /// Opens the target. Returns it with its name in the progress file; the name includes the id of
    /// the target's journal. A data directory replaces `rules` by its own rules, and a daemon adds
    /// its event kinds to them.
    fn open_target(&self, rules: &mut ValidationRules) -> anyhow::Result<(ImportTarget, String)> {
        match self.flags.data_dir() {
            Some(dir) => {
                let directory = DirectoryTarget::open(&self.flags)?;
                let name = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
                let name = format!("{} {}", name.display(), directory.journal_id());
                *rules = directory.validation_rules().clone();
                Ok((ImportTarget::Directory(Box::new(directory)), name))
            }
            None => {
                let sender = EventSender::new(&self.url, &self.auth, self.retry)?;
                let url = self.url.trim_end_matches('/');
                let info = sender.ingest_info()?;
                info.iter().for_each(|info| info.add_kinds(&mut rules.kinds));
                let name =
                    info.and_then(|info| info.journal_id).map_or_else(|| url.to_owned(), |id| format!("{url} {id}"));
                Ok((ImportTarget::Daemon(Box::new(sender)), name))
            }
        }
    }
}

/// Parses the name of a preset. The error of an unknown name lists the presets and the nearest one.
pub(super) fn preset_parser() -> impl TypedValueParser<Value = Preset> {
    let names = Preset::ALL.map(|preset| PossibleValue::new(preset.name()).help(preset.summary()));
    let parse = |name: String| Preset::from_name(&name).ok_or_else(|| format!("unknown preset `{name}`"));
    PossibleValuesParser::new(names).try_map(parse)
}

fn is_standard_input(file: &Path) -> bool {
    file == Path::new(STANDARD_INPUT_NAME)
}
