//! Candidates: the counting sources, each learned event by event, bounded in memory, cheap to copy.
//!
//! A [`Source`] adds weighted items to a [`Slate`], each weight on a [`Channel`]; the slate is cut to the best few hundred, and the sources
//! then tell what they know of each that was kept, whoever brought it. Everything here is a pure fold of the events: no clock, no chance.
//! Copies share what has not changed since, so that a snapshot costs in proportion to what changed.

mod channel;
mod clusters;
mod contexts;
pub mod lanes;
mod moment;
mod neighbours;
mod newcomers;
mod own;
mod plane;
mod row;
mod settings;
mod slate;
mod tally;
mod transitions;
mod trending;

pub use channel::{Channel, Fact};
pub use clusters::{ClusterError, ClusterSettings, ClusterSettingsError, Clusters};
pub use contexts::Contexts;
pub use moment::{Moment, SessionIx, is_dismissal};
pub use neighbours::Neighbours;
pub use newcomers::Newcomers;
pub use own::Own;
pub use plane::Plane;
pub use row::{Row, Rows};
pub use settings::RecallSettings;
pub use slate::{CHANNELS, FACTS, Slate};
pub use tally::Tally;
pub use transitions::Transitions;
pub use trending::{ItemCounts, Trending};

use crate::domain::{ItemIx, KindId, Kinds, SourceName, Step};
use serde::{Deserialize, Serialize};

/// What can be wrong with the sources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecallError {
    /// A setting is out of its range.
    #[error("recall.{key} = {value} is not in {least}..={most}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// What it was set to.
        value: usize,
        /// The least that it may be.
        least: usize,
        /// The most that it may be.
        most: usize,
    },
}

/// One way of finding candidates.
pub trait Source {
    /// The name under which its candidates are answered and counted.
    fn name(&self) -> SourceName;

    /// Takes in that `arrival`, an event that chose an item, came at this moment.
    fn learn(&mut self, moment: &Moment<'_>, arrival: &Step);

    /// Takes in that `item` was waved away at this moment.
    fn dismiss(&mut self, _moment: &Moment<'_>, _item: ItemIx) {}

    /// Adds its candidates to the slate.
    fn gather(&self, moment: &Moment<'_>, slate: &mut Slate);

    /// Tells what it knows of every candidate that was kept, whoever brought it.
    fn describe(&self, _moment: &Moment<'_>, _slate: &mut Slate) {}

    /// How many things it remembers: rows, contexts, sessions or items.
    fn entries(&self) -> usize;

    /// The bytes that it takes, about.
    fn bytes(&self) -> usize;
}

/// All counting sources: what the fold teaches and what readers hold a copy of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sources {
    /// A bit per kind of event that chooses an item.
    targets: u64,
    without: Vec<SourceName>,
    transitions: Transitions,
    contexts: Contexts,
    neighbours: Neighbours,
    trending: Trending,
    newcomers: Newcomers,
    own: Own,
}

impl Sources {
    /// Sources that know nothing yet.
    ///
    /// # Errors
    ///
    /// [`RecallError::Setting`] if a setting is out of its range.
    pub fn new(settings: &RecallSettings, kinds: &Kinds) -> Result<Self, RecallError> {
        settings.check()?;
        let ids = (0..kinds.len()).filter_map(|id| KindId::try_from(id).ok());
        Ok(Self {
            targets: ids.filter(|id| kinds.rule(*id).target).fold(0, |targets, id| targets | 1u64.checked_shl(u32::from(id)).unwrap_or(0)),
            without: settings.without.clone(),
            transitions: Transitions::new(settings.row_items),
            contexts: Contexts::new(settings.contexts),
            neighbours: Neighbours::new(settings.sessions, settings.sessions_per_item, settings.neighbours),
            trending: Trending::default(),
            newcomers: Newcomers::default(),
            own: Own::default(),
        })
    }

    fn all(&self) -> impl Iterator<Item = &dyn Source> {
        let all: [&dyn Source; 6] = [&self.transitions, &self.contexts, &self.neighbours, &self.trending, &self.newcomers, &self.own];
        all.into_iter().filter(|source| !self.without.contains(&source.name()))
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut dyn Source> {
        let all: [&mut dyn Source; 6] =
            [&mut self.transitions, &mut self.contexts, &mut self.neighbours, &mut self.trending, &mut self.newcomers, &mut self.own];
        let without = &self.without;
        all.into_iter().filter(|source| !without.contains(&source.name()))
    }

    /// Whether a step chose its item: the sources learn it, and the ranker should.
    #[must_use]
    pub fn is_target(&self, step: &Step) -> bool {
        step.item.is_some() && !is_dismissal(step) && self.targets.checked_shr(u32::from(step.kind)).unwrap_or(0) & 1 == 1
    }

    /// Takes in the event that came at this moment: a chosen item is learned, one waved away counts against itself, all else informs only later moments.
    pub fn learn(&mut self, moment: &Moment<'_>, arrival: &Step) {
        if self.is_target(arrival) {
            self.all_mut().for_each(|source| source.learn(moment, arrival));
        } else if let Some(item) = arrival.item
            && is_dismissal(arrival)
        {
            self.all_mut().for_each(|source| source.dismiss(moment, item));
        }
    }

    /// No neighbour is found in that session any more.
    pub fn forget(&mut self, session: SessionIx) {
        self.neighbours.forget(session);
    }

    /// Of these sessions, how many a neighbour may be found in.
    #[cfg(test)]
    pub(crate) fn remembered(&self, sessions: impl Iterator<Item = SessionIx>) -> usize {
        sessions.filter(|session| self.neighbours.holds(*session)).count()
    }

    /// Makes an item known that has no event yet.
    pub fn announce(&mut self, item: ItemIx) {
        self.newcomers.announce(item);
    }

    /// The most popular items with their popularity as of the entry `now`, best first.
    #[must_use]
    pub fn trending(&self, now: u64) -> Vec<(ItemIx, f32)> {
        self.trending.listed(now)
    }

    /// An item's popularity as of the entry `now`: a count of its choices that halves every 5,000 entries.
    #[must_use]
    pub fn popularity(&self, item: ItemIx, now: u64) -> f32 {
        self.trending.popularity(item, now)
    }

    /// Empties the slate and gathers the candidates of all sources in it.
    pub fn gather(&self, moment: &Moment<'_>, slate: &mut Slate) {
        slate.clear();
        self.all().for_each(|source| source.gather(moment, slate));
    }

    /// Describes the candidates that the slate kept.
    pub fn describe(&self, moment: &Moment<'_>, slate: &mut Slate) {
        self.all().for_each(|source| source.describe(moment, slate));
    }

    /// What is counted of an item, as of the entry `now`; `None` if nothing ever chose it.
    #[must_use]
    pub fn counts(&self, item: ItemIx, now: u64) -> Option<ItemCounts> {
        self.trending.counts(item, now)
    }

    /// How many things each source remembers, and the bytes that it takes, about.
    pub fn sizes(&self) -> impl Iterator<Item = (SourceName, usize, usize)> {
        SourceName::ALL.into_iter().map(|name| {
            let of_name = || self.all().filter(|source| source.name() == name);
            (name, of_name().map(|source| source.entries()).sum(), of_name().map(|source| source.bytes()).sum())
        })
    }
}

#[cfg(test)]
mod tests;
