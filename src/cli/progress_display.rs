//! Progress of a long command, on standard error.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// On a terminal, shows a progress bar. Otherwise, prints a line after each tenth of the work.
pub(super) struct ProgressDisplay {
    bar: Option<ProgressBar>,
    total: u64,
    label: &'static str,
    last_tenth: Cell<u64>,
    started_at: Instant,
}

impl ProgressDisplay {
    /// Time before the first line; shorter commands print none.
    const SILENT_PERIOD: Duration = Duration::from_secs(2);

    /// Progress towards `total`. `label` names the unit and the action, such as "events learned".
    pub(super) fn new(total: u64, label: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} {prefix}  {per_sec}  {eta} left");
            ProgressBar::new(total)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                .with_prefix(label)
        });
        Self { bar, total, label, last_tenth: Cell::new(0), started_at: Instant::now() }
    }

    pub(super) fn update(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if done * 10 / self.total.max(1) > self.last_tenth.get()
            && self.started_at.elapsed() >= Self::SILENT_PERIOD
        {
            self.last_tenth.set(done * 10 / self.total.max(1));
            eprintln!("{done} of {} {}", self.total, self.label);
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
