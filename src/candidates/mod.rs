//! Candidates: the counting sources, each learned event by event, bounded in memory, cheap to copy.
//!
//! A [`CandidateSource`] adds weighted items to a [`CandidateSet`], each weight on a [`EvidenceColumn`]; the slate is cut to the best few hundred, and the sources
//! then tell what they know of each that was kept, whoever brought it. Everything here is a pure fold of the events: no clock, no chance.
//! Copies share what has not changed since, so that a snapshot costs in proportion to what changed.

mod candidate_set;
mod clusters;
mod columns;
mod dense_index;
mod neighbours;
mod new_items;
mod ngrams;
mod pca;
mod query_context;
mod repeats;
mod settings;
pub mod simd_math;
mod transition_matrix;
mod transitions;
mod trending;

pub use candidate_set::{CandidateSet, EVIDENCE_COLUMNS, FEATURE_COLUMNS};
pub use clusters::{ClusterError, ClusterSettings, ClusterSettingsError, Clusters};
pub use columns::{EvidenceColumn, FeatureColumn};
pub use dense_index::DenseIndex;
pub use neighbours::NeighbourSource;
pub use new_items::NewItemSource;
pub use ngrams::NgramSource;
pub use pca::PcaProjection;
pub use query_context::{QueryContext, SessionIx, is_dismissal};
pub use repeats::RepeatSource;
pub use settings::CandidateSettings;
pub use transition_matrix::{TransitionMatrix, TransitionRow};
pub use transitions::TransitionSource;
pub use trending::{ItemCounts, TrendingSource};

use crate::domain::{EventKinds, ItemIx, KindId, SourceName, Step};
use serde::{Deserialize, Serialize};

/// What can be wrong with the sources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CandidateSettingsError {
    /// A setting is out of its range.
    #[error("recall.{key} = {value} is not in {least}..={most}")]
    OutOfRange {
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
pub trait CandidateSource {
    /// The name under which its candidates are answered and counted.
    fn name(&self) -> SourceName;

    /// Takes in that `arrival`, an event that chose an item, came at this moment.
    fn learn(&mut self, moment: &QueryContext<'_>, arrival: &Step);

    /// Takes in that `item` was waved away at this moment.
    fn learn_dismissal(&mut self, _moment: &QueryContext<'_>, _item: ItemIx) {}

    /// Adds its candidates to the slate.
    fn generate(&self, moment: &QueryContext<'_>, slate: &mut CandidateSet);

    /// Tells what it knows of every candidate that was kept, whoever brought it.
    fn add_features(&self, _moment: &QueryContext<'_>, _slate: &mut CandidateSet) {}

    /// How many things it remembers: rows, contexts, sessions or items.
    fn entry_count(&self) -> usize;

    /// The bytes that it takes, about.
    fn memory_bytes(&self) -> usize;
}

/// All counting sources: what the fold teaches and what readers hold a copy of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CandidateSources {
    /// A bit per kind of event that chooses an item.
    targets: u64,
    without: Vec<SourceName>,
    transitions: TransitionSource,
    contexts: NgramSource,
    neighbours: NeighbourSource,
    trending: TrendingSource,
    newcomers: NewItemSource,
    own: RepeatSource,
}

impl CandidateSources {
    /// Sources that know nothing yet.
    ///
    /// # Errors
    ///
    /// [`CandidateSettingsError::Setting`] if a setting is out of its range.
    pub fn new(settings: &CandidateSettings, kinds: &EventKinds) -> Result<Self, CandidateSettingsError> {
        settings.check()?;
        let ids = (0..kinds.len()).filter_map(|id| KindId::try_from(id).ok());
        Ok(Self {
            targets: ids.filter(|id| kinds.rule(*id).target).fold(0, |targets, id| targets | 1u64.checked_shl(u32::from(id)).unwrap_or(0)),
            without: settings.without.clone(),
            transitions: TransitionSource::new(settings.row_items),
            contexts: NgramSource::new(settings.contexts),
            neighbours: NeighbourSource::new(settings.sessions, settings.sessions_per_item, settings.neighbours),
            trending: TrendingSource::default(),
            newcomers: NewItemSource::default(),
            own: RepeatSource::default(),
        })
    }

    fn all(&self) -> impl Iterator<Item = &dyn CandidateSource> {
        let all: [&dyn CandidateSource; 6] =
            [&self.transitions, &self.contexts, &self.neighbours, &self.trending, &self.newcomers, &self.own];
        all.into_iter().filter(|source| !self.without.contains(&source.name()))
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut dyn CandidateSource> {
        let all: [&mut dyn CandidateSource; 6] =
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
    pub fn learn(&mut self, moment: &QueryContext<'_>, arrival: &Step) {
        if self.is_target(arrival) {
            self.all_mut().for_each(|source| source.learn(moment, arrival));
        } else if let Some(item) = arrival.item
            && is_dismissal(arrival)
        {
            self.all_mut().for_each(|source| source.learn_dismissal(moment, item));
        }
    }

    /// No neighbour is found in that session any more.
    pub fn forget_session(&mut self, session: SessionIx) {
        self.neighbours.forget_session(session);
    }

    /// Of these sessions, how many a neighbour may be found in.
    #[cfg(test)]
    pub(crate) fn count_remembered(&self, sessions: impl Iterator<Item = SessionIx>) -> usize {
        sessions.filter(|session| self.neighbours.contains_session(*session)).count()
    }

    /// Makes an item known that has no event yet.
    pub fn add_new_item(&mut self, item: ItemIx) {
        self.newcomers.add(item);
    }

    /// The most popular items with their popularity as of the entry `now`, best first.
    #[must_use]
    pub fn trending_items(&self, now: u64) -> Vec<(ItemIx, f32)> {
        self.trending.top_items(now)
    }

    /// An item's popularity as of the entry `now`: a count of its choices that halves every 5,000 entries.
    #[must_use]
    pub fn popularity(&self, item: ItemIx, now: u64) -> f32 {
        self.trending.popularity(item, now)
    }

    /// Empties the slate and gathers the candidates of all sources in it.
    pub fn generate(&self, moment: &QueryContext<'_>, slate: &mut CandidateSet) {
        slate.clear();
        self.all().for_each(|source| source.generate(moment, slate));
    }

    /// Describes the candidates that the slate kept.
    pub fn add_features(&self, moment: &QueryContext<'_>, slate: &mut CandidateSet) {
        self.all().for_each(|source| source.add_features(moment, slate));
    }

    /// What is counted of an item, as of the entry `now`; `None` if nothing ever chose it.
    #[must_use]
    pub fn item_counts(&self, item: ItemIx, now: u64) -> Option<ItemCounts> {
        self.trending.item_counts(item, now)
    }

    /// How many things each source remembers, and the bytes that it takes, about.
    pub fn memory_usage(&self) -> impl Iterator<Item = (SourceName, usize, usize)> {
        SourceName::ALL.into_iter().map(|name| {
            let of_name = || self.all().filter(|source| source.name() == name);
            (name, of_name().map(|source| source.entry_count()).sum(), of_name().map(|source| source.memory_bytes()).sum())
        })
    }
}

#[cfg(test)]
mod tests;
