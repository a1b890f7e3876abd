//! Which candidates of a list with a filter or with rules are ranked.
//!
//! The best candidates that remain are ranked, as many as for a list without rules:
//!
//! - Candidates that the filter or a rule removes make room for others.
//! - Candidates that the boosts move down are ranked, but others take their places. At most as many
//!   of them are ranked as of the others.
//! - Of the candidates that a boost moves up, the best [`MAX_LIFTED_CANDIDATES`] are ranked in any
//!   case. The same holds for each combination of required shares that needs its candidates.
//! - Candidates that a rule promotes are ranked in any case.

use crate::candidates::{CandidateChoice, CandidateChooser};
use crate::domain::{CatalogItem, ItemIx};
use crate::ranking::{BoostRule, EligibilityRules, ListRules, ShareRule};
use rustc_hash::FxHashMap;

/// Number of candidates that are ranked for each boost, and for each combination of required shares,
/// however small their shares of the evidence are.
pub(super) const MAX_LIFTED_CANDIDATES: usize = 32;

/// Largest number of required shares whose combinations are counted, so that the search for their
/// candidates can end.
const MAX_COUNTED_SHARES: usize = 4;

/// Number of boosts with a group of their own. Further boosts share the last group.
const MAX_BOOST_GROUPS: usize = 32;

/// The groups of a candidate. The lowest bits are the combination: bit k is set if rule k that
/// requires a share selects the candidate. The other bits say which boosts select it, whether the
/// combination is needed, and whether a rule promotes it.
#[derive(Debug, Clone, Copy)]
struct CandidateGroups(u64);

impl CandidateGroups {
    const COMBINATION_BITS: u32 = ShareRule::MAX_PER_LIST as u32;
    const NEEDS_COMBINATION: u64 = 1 << 62;
    const PROMOTED: u64 = 1 << 63;

    fn combination(self) -> u16 {
        self.0 as u16
    }

    fn boosts(self) -> impl Iterator<Item = usize> {
        let bits = self.0 >> Self::COMBINATION_BITS;
        (0..MAX_BOOST_GROUPS).filter(move |boost| bits >> boost & 1 == 1)
    }

    /// Whether no rule lifts the candidate.
    fn is_none(self) -> bool {
        self.0 >> Self::COMBINATION_BITS == 0
    }
}

/// Chooses the candidates of a list with a filter or with rules.
#[derive(Debug)]
pub(super) struct RuleChooser<'a> {
    eligibility: EligibilityRules<'a>,
    rules: &'a ListRules,
    /// The boosts that move items up.
    raising: Vec<&'a BoostRule>,
    lowers: bool,
    /// Number of lifted candidates by boost.
    by_boost: [usize; MAX_BOOST_GROUPS],
    /// Number of lifted candidates by combination of required shares.
    by_combination: FxHashMap<u16, usize>,
    /// Number of combinations that need candidates and are not full; `None` if there are too many
    /// combinations to count them.
    open_combinations: Option<usize>,
    /// Better candidates than the last ranked one that the filter or a rule removes.
    removed: Vec<ItemIx>,
}

impl<'a> RuleChooser<'a> {
    /// A chooser by the filter and the rules of a list; `None` if it has none that need one.
    pub(super) fn of_list(eligibility: EligibilityRules<'a>, rules: &'a ListRules) -> Option<Self> {
        (eligibility.filter.is_some() || rules.need_depth()).then(|| Self {
            eligibility,
            rules,
            raising: rules.boost.iter().filter(|boost| boost.factor > 1.0).collect(),
            lowers: rules.boost.iter().any(|boost| boost.factor < 1.0),
            by_boost: [0; MAX_BOOST_GROUPS],
            by_combination: FxHashMap::default(),
            open_combinations: None,
            removed: Vec::new(),
        })
    }

    fn shares(&self) -> impl Iterator<Item = (usize, &ShareRule)> {
        self.rules.require.iter().take(ShareRule::MAX_PER_LIST).enumerate()
    }

    /// Whether a combination of required shares needs candidates. Items of a group are needed for a
    /// smallest share, and others for a largest share.
    fn needs_combination(&self, combination: u16) -> bool {
        self.shares().any(|(bit, share)| if combination >> bit & 1 == 1 { share.min > 0.0 } else { share.max < 1.0 })
    }

    /// Number of combinations that need candidates; `None` if there are too many to count them.
    fn needed_combinations(&self) -> Option<usize> {
        let shares = self.shares().count();
        let is_needed = |combination: &u16| self.needs_combination(*combination);
        (shares <= MAX_COUNTED_SHARES).then(|| (0..1 << shares).filter(is_needed).count())
    }

    /// Whether a boost or a combination of required shares takes further candidates.
    fn has_open_groups(&self) -> bool {
        let mut boosts = self.by_boost.iter().take(self.raising.len());
        self.open_combinations != Some(0) || boosts.any(|count| *count < MAX_LIFTED_CANDIDATES)
    }

    fn is_promoted(&self, item: ItemIx) -> bool {
        self.rules.promote.iter().any(|promotion| promotion.item == item)
    }

    /// The combination of required shares of an item, if it needs candidates and is not full.
    fn open_combination(&self, entry: &CatalogItem) -> Option<u16> {
        if self.open_combinations == Some(0) {
            return None;
        }
        let combination =
            self.shares().fold(0, |bits, (bit, share)| bits | u16::from(share.filter.matches(entry)) << bit);
        let is_full = self.by_combination.get(&combination).is_some_and(|count| *count >= MAX_LIFTED_CANDIDATES);
        (!is_full && self.needs_combination(combination)).then_some(combination)
    }

    /// The candidates of the last query that the filter or a rule removes, down to the last candidate
    /// that counted.
    pub(super) fn removed(&self) -> &[ItemIx] {
        &self.removed
    }

    /// The groups of an item that are not full yet.
    fn open_groups(&self, item: ItemIx, entry: &CatalogItem) -> CandidateGroups {
        let mut bits = 0;
        if let Some(combination) = self.open_combination(entry) {
            bits |= u64::from(combination) | CandidateGroups::NEEDS_COMBINATION;
        }
        for (number, boost) in self.raising.iter().enumerate() {
            let group = number.min(MAX_BOOST_GROUPS - 1);
            let is_open = self.by_boost.get(group).is_some_and(|count| *count < MAX_LIFTED_CANDIDATES);
            if is_open && boost.filter.matches(entry) {
                bits |= 1 << (CandidateGroups::COMBINATION_BITS + group as u32);
            }
        }
        if self.is_promoted(item) {
            bits |= CandidateGroups::PROMOTED;
        }
        CandidateGroups(bits)
    }

    /// Counts a candidate in its groups. Returns whether one of them was not full.
    fn count(&mut self, groups: CandidateGroups) -> bool {
        let mut has_room = groups.0 & CandidateGroups::PROMOTED != 0;
        if groups.0 & CandidateGroups::NEEDS_COMBINATION != 0 {
            let count = self.by_combination.entry(groups.combination()).or_default();
            has_room |= *count < MAX_LIFTED_CANDIDATES;
            *count += 1;
            if *count == MAX_LIFTED_CANDIDATES {
                self.open_combinations = self.open_combinations.map(|open| open.saturating_sub(1));
            }
        }
        for boost in groups.boosts() {
            let Some(count) = self.by_boost.get_mut(boost) else { continue };
            has_room |= *count < MAX_LIFTED_CANDIDATES;
            *count += 1;
        }
        has_room
    }

    /// Whether the boosts move an item down.
    fn is_lowered(&self, entry: &CatalogItem) -> bool {
        let selects = |boost: &&BoostRule| boost.filter.matches(entry);
        self.lowers && self.rules.boost.iter().filter(selects).map(|boost| boost.factor).product::<f32>() < 1.0
    }
}

impl CandidateChooser for RuleChooser<'_> {
    fn begin(&mut self) {
        self.by_boost = [0; MAX_BOOST_GROUPS];
        self.by_combination.clear();
        self.open_combinations = self.needed_combinations();
        self.removed.clear();
    }

    fn choose(&mut self, item: ItemIx) -> CandidateChoice {
        // The selection counts deleted items as unavailable.
        let Some(entry) = self.eligibility.catalog.get(item) else { return CandidateChoice::Counted };
        if self.eligibility.is_filtered_or_hidden(entry) {
            self.removed.push(item);
            return CandidateChoice::Dropped;
        }
        let groups = self.open_groups(item, entry);
        let is_lifted = !groups.is_none() && self.eligibility.is_eligible(item) && self.count(groups);
        if !is_lifted && self.is_lowered(entry) { CandidateChoice::Uncounted } else { CandidateChoice::Counted }
    }

    fn groups_after_limit(&self, item: ItemIx) -> Option<u64> {
        if !self.has_open_groups() && !self.is_promoted(item) {
            return None;
        }
        let groups = self.open_groups(item, self.eligibility.catalog.get(item)?);
        (!groups.is_none() && self.eligibility.is_eligible(item)).then_some(groups.0)
    }

    fn takes_after_limit(&mut self, groups: u64) -> bool {
        self.count(CandidateGroups(groups))
    }
}

#[cfg(test)]
mod tests;
