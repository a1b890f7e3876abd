//! Candidates: the counting sources.

mod clusters;
mod contexts;
mod neighbours;
mod own;
mod row;
mod slate;
mod tally;
mod transitions;
mod trending;

pub use clusters::{ClusterError, ClusterSettings, ClusterSettingsError, Clusters};
pub use contexts::Contexts;
pub use neighbours::Neighbours;
pub use own::Own;
pub use row::{Row, Rows};
pub use slate::{CHANNELS, FACTS, Fact, Slate};
pub use tally::Tally;
pub use transitions::Transitions;
pub use trending::Trending;

use crate::domain::{ItemIx, SourceName, Step};
use serde::{Deserialize, Serialize};

/// A session's number.
pub type SessionIx = u32;

/// Kinds of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Channel {
    Window,
    Windows,
    Next,
    Pair,
    Triple,
    Neighbours,
    Following,
    Holders,
    Previous,
    Reverse,
    Rising,
    Popular,
    Own,
    Spare1,
    Spare2,
    Spare3,
}

/// What is known when asked.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Oldest first.
    pub steps: &'a [Step],
    /// The session.
    pub session: SessionIx,
    /// Event number.
    pub now: u64,
}

impl Moment<'_> {
    /// Items of the steps, latest first.
    pub fn recent(&self) -> impl Iterator<Item = ItemIx> {
        self.steps.iter().rev().filter_map(|step| step.item)
    }
}

/// A source.
pub trait Source {
    /// Its name.
    fn name(&self) -> SourceName;
    /// Learns.
    fn learn(&mut self, moment: &Moment<'_>, arrival: &Step);
    /// Gathers.
    fn gather(&self, moment: &Moment<'_>, slate: &mut Slate);
    /// Describes.
    fn describe(&self, _moment: &Moment<'_>, _slate: &mut Slate) {}
    /// Bytes.
    fn bytes(&self) -> usize;
}

/// All sources.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Sources {
    pub transitions: Transitions,
    pub contexts: Contexts,
    pub neighbours: Neighbours,
    pub trending: Trending,
    pub own: Own,
}

impl Default for Sources {
    fn default() -> Self {
        Self { transitions: Transitions::default(), contexts: Contexts::new(1 << 18), neighbours: Neighbours::new(1 << 18), trending: Trending::default(), own: Own::default() }
    }
}

impl Sources {
    fn all(&self) -> [&dyn Source; 5] {
        [&self.transitions, &self.contexts, &self.neighbours, &self.trending, &self.own]
    }

    /// Learns.
    pub fn learn(&mut self, moment: &Moment<'_>, arrival: &Step) {
        for source in [&mut self.transitions as &mut dyn Source, &mut self.contexts, &mut self.neighbours, &mut self.trending, &mut self.own] {
            source.learn(moment, arrival);
        }
    }

    /// Gathers.
    pub fn gather(&self, moment: &Moment<'_>, slate: &mut Slate) {
        slate.clear();
        for source in self.all() {
            source.gather(moment, slate);
        }
    }

    /// Describes.
    pub fn describe(&self, moment: &Moment<'_>, slate: &mut Slate) {
        for source in self.all() {
            source.describe(moment, slate);
        }
    }
}
