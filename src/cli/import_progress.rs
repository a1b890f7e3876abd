//! Progress of imports: for each file and target, the rows that the target has acknowledged.

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::path::Path;

use super::file_digest::FileDigest;
use super::line_set::LineSet;
use super::progress_file::ProgressFile;

/// Maximum number of targets in a progress file. Beyond it, the target that was used longest ago is
/// dropped.
const MAX_TARGETS: usize = 16;

/// Maximum number of ranges of rejected rows in a progress file. Rejected rows beyond it count as
/// completed.
const MAX_REJECTED_RANGES: usize = 10_000;

/// Content of a progress file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum ImportState {
    /// The progress into each target; the most recent target is the last.
    Targets { targets: Vec<TargetProgress> },
    /// The progress into a single target. Earlier versions wrote this form.
    Single(TargetProgress),
}

/// The progress of a file into one target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TargetProgress {
    target: String,
    /// Digest of the decompressed content.
    digest: String,
    /// Size of the decompressed content.
    #[serde(default)]
    bytes: u64,
    /// The file digest that the event ids contain, if it differs from `digest`. After a file has
    /// grown, its ids keep the digest of the smaller file.
    #[serde(default)]
    id_digest: Option<String>,
    /// All rows up to this line are acknowledged or rejected.
    through: u64,
    /// The rejected rows. The next run sends them again, because corrected flags or a corrected
    /// target may accept them.
    #[serde(default)]
    rejected: LineSet,
    /// In an unfinished import with `--sort`: the number of acknowledged events, counted in the
    /// order of time. Only events that `through` and `rejected` do not mark as completed are
    /// counted.
    #[serde(default)]
    sorted: u64,
}

/// The progress file of an import into one target.
#[derive(Debug)]
pub(super) struct ImportProgress {
    /// The progress file; `None` for standard input, whose progress is not stored.
    file: Option<ProgressFile>,
    /// The progress into other targets.
    others: Vec<TargetProgress>,
    current: TargetProgress,
    has_forgotten_rejects: bool,
    /// Whether `--sort` sends the events in the order of time. In that case, `through` and
    /// `rejected` determine which events are sent, so they change only at the end.
    is_sorting: bool,
    /// Rows that an earlier run rejected and that this run has acknowledged.
    acknowledged: Vec<u64>,
    /// Rows that this run has rejected, at least in part. A row can hold several events.
    rejected_in_run: LineSet,
}

/// How a file relates to the file that was imported before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileHistory {
    /// The file was not imported into this target.
    New,
    /// The file has the content that was imported, at least in part.
    Same,
    /// The file has grown: it begins with the imported content.
    Grown,
    /// The content has changed. All rows are sent.
    Changed,
}

impl ImportProgress {
    /// Reads the progress file `state` and the imported file `file`.
    pub(super) fn open(
        file: &Path,
        state: ProgressFile,
        target: &str,
        is_sorting: bool,
    ) -> anyhow::Result<(Self, FileHistory, u64)> {
        let mut others = match state.read_state::<ImportState>()? {
            None => Vec::new(),
            Some(ImportState::Targets { targets }) => targets,
            Some(ImportState::Single(progress)) => vec![progress],
        };
        let previous = others.iter().position(|progress| progress.target == target).map(|index| others.remove(index));
        let found = FileDigest::of_file(file, previous.as_ref().map_or(0, |previous| previous.bytes))?;
        let history = match &previous {
            None => FileHistory::New,
            Some(previous) if previous.digest == found.digest => FileHistory::Same,
            Some(previous) if found.prefix_digest.as_ref() == Some(&previous.digest) => FileHistory::Grown,
            Some(_) => FileHistory::Changed,
        };
        let fresh = || TargetProgress {
            target: target.to_owned(),
            digest: found.digest.clone(),
            bytes: found.content_bytes,
            id_digest: None,
            through: 0,
            rejected: LineSet::default(),
            sorted: 0,
        };
        let current = match (history, previous) {
            (FileHistory::Same | FileHistory::Grown, Some(previous)) => {
                let id_digest =
                    previous.id_digest.or_else(|| (history == FileHistory::Grown).then_some(previous.digest));
                // New rows of a grown file can be anywhere in the order of time, so the count
                // starts again.
                let sorted = if history == FileHistory::Same { previous.sorted } else { 0 };
                TargetProgress { id_digest, through: previous.through, rejected: previous.rejected, sorted, ..fresh() }
            }
            _ => fresh(),
        };
        ensure!(
            current.sorted == 0 || is_sorting,
            "{} was imported in part with --sort: add --sort to go on, or remove {} to start again",
            file.display(),
            state.path().display()
        );
        let excess = (others.len() + 1).saturating_sub(MAX_TARGETS);
        others.drain(..excess);
        Ok((
            Self {
                file: Some(state),
                others,
                current,
                has_forgotten_rejects: false,
                is_sorting,
                acknowledged: Vec::new(),
                rejected_in_run: LineSet::default(),
            },
            history,
            found.disk_bytes,
        ))
    }

    /// The progress of standard input, which is not stored.
    pub(super) fn for_standard_input(target: &str, is_sorting: bool) -> Self {
        let current = TargetProgress {
            target: target.to_owned(),
            digest: String::new(),
            bytes: 0,
            id_digest: None,
            through: 0,
            rejected: LineSet::default(),
            sorted: 0,
        };
        Self {
            file: None,
            others: Vec::new(),
            current,
            has_forgotten_rejects: false,
            is_sorting,
            acknowledged: Vec::new(),
            rejected_in_run: LineSet::default(),
        }
    }

    /// The digest in the ids of the file's events.
    pub(super) fn id_digest(&self) -> &str {
        self.current.id_digest.as_ref().unwrap_or(&self.current.digest)
    }

    /// Whether neither this run nor an earlier one has acknowledged or rejected a row.
    pub(super) fn has_no_completed_row(&self) -> bool {
        self.current.through == 0 && self.current.sorted == 0
    }

    /// In an unfinished import with `--sort`: the number of acknowledged events, counted in the
    /// order of time.
    pub(super) fn acknowledged_sorted_event_count(&self) -> u64 {
        self.current.sorted
    }

    pub(super) fn completed_through_line(&self) -> u64 {
        self.current.through
    }

    pub(super) fn file_path(&self) -> &Path {
        self.file.as_ref().map_or(Path::new(""), ProgressFile::path)
    }

    /// Whether an earlier run has completed the row in this line.
    pub(super) fn is_completed(&self, line: u64) -> bool {
        line <= self.current.through && !self.current.rejected.contains(line)
    }

    /// Records a rejected row, which a later run sends again.
    pub(super) fn record_rejected(&mut self, line: u64) {
        if self.current.rejected.range_count() < MAX_REJECTED_RANGES {
            self.current.rejected.insert(line);
            self.rejected_in_run.insert(line);
        } else {
            self.has_forgotten_rejects = true;
        }
    }

    /// Records an acknowledged row. A row of which another part was rejected stays rejected.
    pub(super) fn record_acknowledged(&mut self, line: u64) {
        if self.rejected_in_run.contains(line) {
            return;
        }
        if !self.is_sorting {
            self.current.rejected.remove(line);
        } else if line <= self.current.through && self.current.rejected.contains(line) {
            self.acknowledged.push(line);
        }
    }

    /// Whether there are more rejected rows than the progress file holds.
    pub(super) fn has_forgotten_rejects(&self) -> bool {
        self.has_forgotten_rejects
    }

    /// Writes the file: all rows up to `through` are acknowledged or rejected.
    pub(super) fn write_completed_through(&mut self, through: u64) -> anyhow::Result<()> {
        self.current.through = self.current.through.max(through);
        self.write_file()
    }

    /// Writes the file: the first `sorted` events in the order of time are acknowledged.
    pub(super) fn write_acknowledged_sorted(&mut self, sorted: u64) -> anyhow::Result<()> {
        self.current.sorted = sorted;
        self.write_file()
    }

    /// Writes the file at the end of an import: all rows up to the last line are acknowledged or
    /// rejected.
    pub(super) fn write_finished(&mut self, last_line: u64) -> anyhow::Result<()> {
        let acknowledged = std::mem::take(&mut self.acknowledged);
        let is_complete = |line: &u64| !self.rejected_in_run.contains(*line);
        acknowledged.into_iter().filter(is_complete).for_each(|line| self.current.rejected.remove(line));
        self.current.sorted = 0;
        self.write_completed_through(last_line)
    }

    fn write_file(&self) -> anyhow::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let targets = self.others.iter().chain([&self.current]).cloned().collect();
        file.write_state(&ImportState::Targets { targets })
    }
}
