//! All placements and rules.

use super::{Entry, PlacementConfig, PlacementOperation, RankingRule, RuleOperation};
use std::collections::BTreeMap;

/// The placements and rules of a site, derived from the journal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlacementTable {
    placements: BTreeMap<String, PlacementConfig>,
    rules: BTreeMap<String, RankingRule>,
}

impl PlacementTable {
    /// Maximum number of placements.
    pub const MAX_PLACEMENTS: usize = 64;
    /// Maximum number of rules.
    pub const MAX_RULES: usize = 256;

    /// The placements by name.
    #[must_use]
    pub fn placements(&self) -> &BTreeMap<String, PlacementConfig> {
        &self.placements
    }

    /// The rules by id.
    #[must_use]
    pub fn rules(&self) -> &BTreeMap<String, RankingRule> {
        &self.rules
    }

    /// Applies a journal entry. Entries other than changes of placements and rules have no effect.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Placement(change) => match &change.operation {
                PlacementOperation::Put(config) => drop(self.placements.insert(change.name.clone(), config.clone())),
                PlacementOperation::Delete => drop(self.placements.remove(&change.name)),
            },
            Entry::Rule(change) => match &change.operation {
                RuleOperation::Put(rule) => drop(self.rules.insert(change.id.clone(), rule.clone())),
                RuleOperation::Delete => drop(self.rules.remove(&change.id)),
            },
            _ => {}
        }
    }
}
