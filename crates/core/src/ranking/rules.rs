//! Rules of merchandisers, applied to a ranked list.
//!
//! The rules apply in this order: hide, boost, require, promote. Within one kind, the rule with the
//! larger priority applies first; among equal priorities, the rule with the smaller id. The caller
//! puts the rules of each kind in this order.
//!
//! - Hidden items are not eligible, so other candidates take their places.
//! - Boosts change the scores, and with them the order.
//! - Required shares reorder the list, see [`share_balance`](super::share_balance).
//! - Promoted items move to their positions.

use super::ItemFilter;
use super::rule_trace::RuleTrace;
use super::share_balance::{ShareRule, balance_shares};
use crate::domain::{Attributes, Candidate, Catalog, CatalogItem, ItemIx};
use std::ops::Range;
use std::sync::Arc;

/// A rule that removes items.
#[derive(Debug, Clone, PartialEq)]
pub struct HideRule {
    /// The name of the rule in explanations.
    pub rule: Arc<str>,
    /// The items that the rule removes.
    pub filter: Arc<ItemFilter>,
}

/// A rule that multiplies the scores of items.
#[derive(Debug, Clone, PartialEq)]
pub struct BoostRule {
    /// The name of the rule in explanations.
    pub rule: Arc<str>,
    /// The items whose scores the rule changes.
    pub filter: Arc<ItemFilter>,
    /// The factor, above 0.
    pub factor: f32,
}

/// A rule that puts an item at a position.
#[derive(Debug, Clone, PartialEq)]
pub struct PromoteRule {
    /// The name of the rule in explanations.
    pub rule: Arc<str>,
    /// The item.
    pub item: ItemIx,
    /// The position, counted from 1.
    pub position: usize,
}

/// The meaning of the scores of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreScale {
    /// Logarithms of weights, as the ranker computes them. A factor `f` adds `ln f`, so it multiplies
    /// the item's probability relative to other items.
    Logarithmic,
    /// Weights, such as counts. A factor multiplies them.
    Linear,
}

/// The rules that apply to one list, by kind and in the order of their application.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListRules {
    /// The rules that remove items.
    pub hide: Vec<HideRule>,
    /// The rules and placements that change scores.
    pub boost: Vec<BoostRule>,
    /// The rules that require shares.
    pub require: Vec<ShareRule>,
    /// The rules that put items at positions.
    pub promote: Vec<PromoteRule>,
}

impl ListRules {
    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.need_depth() && self.promote.is_empty()
    }

    /// Whether the rules can remove or reorder so many candidates that others get into the list.
    #[must_use]
    pub fn need_depth(&self) -> bool {
        !self.hide.is_empty() || self.reorder()
    }

    /// Whether the rules can lift an item into the list that many candidates precede.
    #[must_use]
    pub fn reorder(&self) -> bool {
        !(self.boost.is_empty() && self.require.is_empty())
    }

    /// The rules with the values of the request's context in their filters.
    #[must_use]
    pub fn with_context(mut self, context: &Attributes) -> Self {
        for filter in self.filters_mut().filter(|filter| filter.reads_context()) {
            *filter = Arc::new(filter.with_context(context));
        }
        self
    }

    /// The rules with the attributes of a user in their filters.
    #[must_use]
    pub fn with_user(mut self, user: &Attributes) -> Self {
        for filter in self.filters_mut().filter(|filter| filter.reads_user()) {
            *filter = Arc::new(filter.with_user(user));
        }
        self
    }

    /// Whether a filter reads attributes of the user.
    #[must_use]
    pub fn read_user(&self) -> bool {
        let hide = self.hide.iter().map(|rule| &rule.filter);
        let boost = self.boost.iter().map(|rule| &rule.filter);
        let require = self.require.iter().map(|rule| &rule.filter);
        hide.chain(boost).chain(require).any(|filter| filter.reads_user())
    }

    fn filters_mut(&mut self) -> impl Iterator<Item = &mut Arc<ItemFilter>> {
        let hide = self.hide.iter_mut().map(|rule| &mut rule.filter);
        let boost = self.boost.iter_mut().map(|rule| &mut rule.filter);
        let require = self.require.iter_mut().map(|rule| &mut rule.filter);
        hide.chain(boost).chain(require)
    }

    /// The position in `hide` of the first rule that removes an item; `None` if no rule removes it.
    #[must_use]
    pub fn hiding_rule(hide: &[HideRule], item: &CatalogItem) -> Option<usize> {
        hide.iter().position(|rule| rule.filter.matches(item))
    }

    /// Applies all rules to a ranked list of items that the caller chose. Promotions move only items of
    /// the list. Returns the rules that removed items, each with their number.
    pub fn apply_to_list(
        &self,
        catalog: &Catalog,
        scale: ScoreScale,
        list: &mut Vec<Candidate>,
        trace: &mut RuleTrace,
    ) -> Vec<(Arc<str>, usize)> {
        let mut counts = vec![0; self.hide.len()];
        list.retain(|candidate| {
            let rule = catalog.get(candidate.item).and_then(|item| Self::hiding_rule(&self.hide, item));
            rule.and_then(|rule| counts.get_mut(rule)).map(|count| *count += 1).is_none()
        });
        self.apply_boosts(catalog, scale, list, trace);
        let promoted = self.take_promoted(0..usize::MAX, list, |_| None, trace);
        self.apply_shares(catalog, &[], list.len(), list, trace);
        Self::insert_promoted(list, promoted);
        let removed = self.hide.iter().zip(counts).filter(|(_, count)| *count > 0);
        removed.map(|(hide, count)| (Arc::clone(&hide.rule), count)).collect()
    }

    /// The logarithmic score of an item with the boosts.
    pub fn boosted_log_score(&self, catalog: &Catalog, item: ItemIx, score: f32, trace: &mut RuleTrace) -> f32 {
        self.boosted_score(catalog, ScoreScale::Logarithmic, item, score, trace)
    }

    /// The score of an item with the boosts.
    fn boosted_score(
        &self,
        catalog: &Catalog,
        scale: ScoreScale,
        item: ItemIx,
        score: f32,
        trace: &mut RuleTrace,
    ) -> f32 {
        let Some(entry) = catalog.get(item).filter(|_| !self.boost.is_empty()) else { return score };
        let (mut boosted, mut is_boosted) = (score, false);
        for boost in self.boost.iter().filter(|boost| boost.filter.matches(entry)) {
            boosted = match scale {
                ScoreScale::Logarithmic => boosted + boost.factor.ln(),
                ScoreScale::Linear => boosted * boost.factor,
            };
            is_boosted = true;
        }
        if is_boosted {
            trace.record_boost(item);
        }
        boosted
    }

    /// Applies the boosts to the scores of a list, and sorts it again: the largest score first, and
    /// among equal scores the smaller item number.
    pub fn apply_boosts(&self, catalog: &Catalog, scale: ScoreScale, list: &mut [Candidate], trace: &mut RuleTrace) {
        if self.boost.is_empty() {
            return;
        }
        for candidate in list.iter_mut() {
            candidate.score = self.boosted_score(catalog, scale, candidate.item, candidate.score, trace);
        }
        list.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
    }

    /// The rules that moved an item of a list or put it there, in the order of their application.
    #[must_use]
    pub fn rules_that_moved(&self, item: ItemIx, catalog: &Catalog, trace: &RuleTrace) -> Vec<Arc<str>> {
        let moves = trace.moves_of(item);
        let Some(entry) = catalog.get(item).filter(|_| trace.is_boosted(item)) else { return moves.to_vec() };
        let boosts = self.boost.iter().filter(|boost| boost.filter.matches(entry)).map(|boost| &boost.rule);
        let mut rules = Vec::new();
        for rule in boosts.chain(moves) {
            if !rules.contains(rule) {
                rules.push(Arc::clone(rule));
            }
        }
        rules
    }

    /// Reorders the first `length` items of a list so that the required shares hold in each of its
    /// beginnings, as far as the list contains enough items. The other items follow in any order.
    /// The list continues the items `shown` of earlier pages.
    pub fn apply_shares(
        &self,
        catalog: &Catalog,
        shown: &[ItemIx],
        length: usize,
        list: &mut Vec<Candidate>,
        trace: &mut RuleTrace,
    ) {
        if !self.require.is_empty() {
            balance_shares(&self.require, catalog, shown, length, list, trace);
        }
    }

    /// Removes the promoted items from a list whose positions `page` follow. Returns those that belong
    /// there, with their indices in the page, in ascending order. `candidate_of` returns the candidate
    /// of an item that the list does not contain; `None` if the item is not eligible.
    ///
    /// If several rules promote an item, the first of them applies. If a position is taken, an item
    /// gets the next free one. If the list is too short for a position, the item follows its end.
    pub fn take_promoted(
        &self,
        page: Range<usize>,
        list: &mut Vec<Candidate>,
        candidate_of: impl Fn(ItemIx) -> Option<Candidate>,
        trace: &mut RuleTrace,
    ) -> Vec<(usize, Candidate)> {
        let mut placed: Vec<(usize, Candidate, &Arc<str>)> = Vec::new();
        for PromoteRule { rule, item, position } in &self.promote {
            if placed.iter().any(|(_, candidate, _)| candidate.item == *item) {
                continue;
            }
            let listed = list.iter().find(|candidate| candidate.item == *item).copied();
            let Some(candidate) = listed.or_else(|| candidate_of(*item)) else { continue };
            let mut index = position.saturating_sub(1).max(page.start);
            while placed.iter().any(|(taken, ..)| *taken == index) {
                index += 1;
            }
            placed.push((index, candidate, rule));
        }
        list.retain(|candidate| placed.iter().all(|(_, promoted, _)| promoted.item != candidate.item));
        placed.sort_unstable_by_key(|(index, ..)| *index);
        let on_page = placed.iter().take_while(|(index, ..)| *index < page.end).count();
        if page.start.saturating_add(list.len() + on_page) >= page.end {
            // The other promoted items belong to later pages.
            placed.truncate(on_page);
        }
        let to_index = |(index, candidate, rule): (usize, Candidate, &Arc<str>)| {
            trace.record_move(candidate.item, rule);
            (index - page.start, candidate)
        };
        placed.into_iter().map(to_index).collect()
    }

    /// Puts promoted items at their indices, which ascend.
    pub fn insert_promoted(list: &mut Vec<Candidate>, promoted: Vec<(usize, Candidate)>) {
        for (index, candidate) in promoted {
            list.insert(index.min(list.len()), candidate);
        }
    }
}

#[cfg(test)]
mod tests;
