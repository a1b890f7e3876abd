//! All counting sources behind one type.

use super::candidate_set::CandidateSet;
use super::neighbours::NeighbourSource;
use super::new_items::NewItemSource;
use super::ngrams::NgramSource;
use super::profile_source::ProfileSource;
use super::query_context::{QueryContext, SessionIx};
use super::repeats::RepeatSource;
use super::settings::{CandidateSettings, CandidateSettingsError};
use super::source::CandidateSource;
use super::transitions::TransitionSource;
use super::trending::{ItemCounts, TrendingSource};
use crate::domain::{EventKinds, ItemIx, KindId, SourceName, Step};
use serde::{Deserialize, Serialize};

/// All counting sources. The learner updates the sources, and every snapshot has a clone of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CandidateSources {
    /// Bit mask of the target kinds: the event kinds that the model predicts.
    targets: u64,
    disabled: Vec<SourceName>,
    transitions: TransitionSource,
    ngrams: NgramSource,
    neighbours: NeighbourSource,
    trending: TrendingSource,
    new_items: NewItemSource,
    repeats: RepeatSource,
}

impl CandidateSources {
    /// Creates empty sources.
    ///
    /// # Errors
    ///
    /// [`CandidateSettingsError::OutOfRange`] if a setting is outside its range.
    pub fn new(settings: &CandidateSettings, kinds: &EventKinds) -> Result<Self, CandidateSettingsError> {
        settings.check()?;
        let ids = (0..kinds.len()).filter_map(|id| KindId::try_from(id).ok());
        Ok(Self {
            targets: ids
                .filter(|id| kinds.rule_of(*id).target)
                .fold(0, |targets, id| targets | 1u64.checked_shl(u32::from(id)).unwrap_or(0)),
            disabled: settings.without.clone(),
            transitions: TransitionSource::new(settings.row_items),
            ngrams: NgramSource::new(settings.contexts),
            neighbours: NeighbourSource::new(settings.sessions, settings.sessions_per_item, settings.neighbours),
            trending: TrendingSource::default(),
            new_items: NewItemSource::default(),
            repeats: RepeatSource::default(),
        })
    }

    fn enabled_sources(&self) -> impl Iterator<Item = &dyn CandidateSource> {
        let sources: [&dyn CandidateSource; 7] = [
            &self.transitions,
            &self.ngrams,
            &self.neighbours,
            &self.trending,
            &self.new_items,
            &self.repeats,
            &ProfileSource,
        ];
        sources.into_iter().filter(|source| !self.disabled.contains(&source.name()))
    }

    fn enabled_sources_mut(&mut self) -> impl Iterator<Item = &mut dyn CandidateSource> {
        let sources: [&mut dyn CandidateSource; 6] = [
            &mut self.transitions,
            &mut self.ngrams,
            &mut self.neighbours,
            &mut self.trending,
            &mut self.new_items,
            &mut self.repeats,
        ];
        let disabled = &self.disabled;
        sources.into_iter().filter(|source| !disabled.contains(&source.name()))
    }

    /// Whether the step is a target event: it has an item, its kind is a target kind, and it is not
    /// a dismissal. The sources and the ranker train on target events.
    #[must_use]
    pub fn is_target(&self, step: &Step) -> bool {
        step.item.is_some()
            && !step.is_dismissal()
            && self.targets.checked_shr(u32::from(step.kind)).unwrap_or(0) & 1 == 1
    }

    /// Learns that the event `arrival` followed the history in `context`.
    ///
    /// Every source learns from a target event. A dismissal reduces the weights of its item. Other
    /// events change no source; they only become part of the history of later events.
    pub fn learn(&mut self, context: &QueryContext<'_>, arrival: &Step) {
        if self.is_target(arrival) {
            self.enabled_sources_mut().for_each(|source| source.learn(context, arrival));
        } else if let Some(item) = arrival.item
            && arrival.is_dismissal()
        {
            self.enabled_sources_mut().for_each(|source| source.learn_dismissal(context, item));
        }
    }

    /// Removes a session from the session kNN index.
    pub fn forget_session(&mut self, session: SessionIx) {
        self.neighbours.forget_session(session);
    }

    /// How many of the given sessions the session kNN index still contains.
    #[cfg(test)]
    pub(crate) fn count_stored_sessions(&self, sessions: impl Iterator<Item = SessionIx>) -> usize {
        sessions.filter(|session| self.neighbours.contains_session(*session)).count()
    }

    /// Adds an item of the catalog, which has no event yet, to the new items.
    pub fn add_new_item(&mut self, item: ItemIx) {
        self.new_items.add_if_new(item);
    }

    /// The most popular items with their popularity at journal entry `now`, best first.
    #[must_use]
    pub fn trending_items(&self, now: u64) -> Vec<(ItemIx, f32)> {
        self.trending.top_items(now)
    }

    /// Popularity of an item at journal entry `now`: a count of its target events with a half-life
    /// of 5,000 entries.
    #[must_use]
    pub fn popularity(&self, item: ItemIx, now: u64) -> f32 {
        self.trending.popularity(item, now)
    }

    fn is_enabled(&self, source: SourceName) -> bool {
        !self.disabled.contains(&source)
    }

    /// Clears `candidates`, then adds the candidates of all enabled sources.
    pub fn generate(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        candidates.clear();
        self.enabled_sources().for_each(|source| source.generate(context, candidates));
        let is_profile_used = context.begins_session && self.is_enabled(SourceName::Profile);
        let Some(profile) = context.profile.filter(|_| is_profile_used) else { return };
        if self.is_enabled(SourceName::Transitions) {
            self.transitions.add_profile_transitions(profile, candidates);
        }
        if self.is_enabled(SourceName::Trending) {
            self.trending.add_profile_clusters(context, candidates);
        }
    }

    /// Adds the features of all enabled sources to the kept candidates.
    pub fn add_features(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        self.enabled_sources().for_each(|source| source.add_features(context, candidates));
    }

    /// Counts of an item at journal entry `now`; `None` if the item has no target event.
    #[must_use]
    pub fn item_counts(&self, item: ItemIx, now: u64) -> Option<ItemCounts> {
        self.trending.item_counts(item, now)
    }

    /// Number of entries and approximate bytes of each source.
    pub fn memory_usage(&self) -> impl Iterator<Item = (SourceName, usize, usize)> {
        SourceName::ALL.into_iter().map(|name| {
            let of_name = || self.enabled_sources().filter(|source| source.name() == name);
            (
                name,
                of_name().map(|source| source.entry_count()).sum(),
                of_name().map(|source| source.memory_bytes()).sum(),
            )
        })
    }
}
