//! Reorders a list so that groups of items have required shares.
//!
//! The list is built position by position. Among the first n items, at least ⌊n · min⌋ and at most
//! ⌈n · max⌉ items of a rule's group may stand. At each position, the best remaining item that keeps
//! all rules comes next. If there is none, the rule that applies last is dropped for this position,
//! then the one before it. If several rules need items at one later position, their items come
//! earlier, as late as possible. The order therefore does not depend on the length of the list, and
//! no item is lost.

use super::ItemFilter;
use super::rule_trace::RuleTrace;
use crate::domain::{Candidate, Catalog, ItemIx};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A rule that requires a share of items in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareRule {
    /// The name of the rule in explanations.
    pub rule: Arc<str>,
    /// The items whose share is required.
    pub filter: Arc<ItemFilter>,
    /// The smallest share, 0 to 1.
    pub min: f32,
    /// The largest share, 0 to 1.
    pub max: f32,
}

impl ShareRule {
    /// Maximum number of such rules that apply to a list.
    pub const MAX_PER_LIST: usize = 16;

    /// The smallest number of items among the first `length` items.
    #[must_use]
    pub fn min_count(&self, length: usize) -> usize {
        (f64::from(self.min) * length as f64 + ROUNDING_ERROR).floor() as usize
    }

    /// The largest number of items among the first `length` items.
    #[must_use]
    pub fn max_count(&self, length: usize) -> usize {
        (f64::from(self.max) * length as f64 - ROUNDING_ERROR).ceil().max(0.0) as usize
    }
}

/// Rounding errors of shares such as 0.1 stay far below this value, for lists of up to 10,000 items.
const ROUNDING_ERROR: f64 = 1e-3;

/// The groups of an item: bit k is set if the item belongs to the group of rule k.
type GroupMask = u16;

/// The constraints on the next position.
#[derive(Clone, Copy)]
struct PositionConstraint {
    /// The groups to which the next item must belong.
    required: GroupMask,
    /// The groups to which the next item must not belong.
    forbidden: GroupMask,
}

impl PositionConstraint {
    fn allows(self, mask: GroupMask) -> bool {
        mask & self.required == self.required && mask & self.forbidden == 0
    }
}

/// The next items of each group mask, each with its position in the original list.
type NextItems = BTreeMap<GroupMask, VecDeque<(usize, Candidate)>>;

/// The remaining items of a list. The groups of an item are determined when the item is first needed,
/// because the first positions rarely need items from the end of a long list.
struct RemainingItems<'a, I> {
    rules: &'a [ShareRule],
    catalog: &'a Catalog,
    next: NextItems,
    /// The items whose groups are not determined yet.
    later: I,
}

impl<I: Iterator<Item = (usize, Candidate)>> RemainingItems<'_, I> {
    fn mask_of(&self, item: ItemIx) -> GroupMask {
        let item = self.catalog.get(item);
        bits_of(self.rules, |rule| item.is_some_and(|item| rule.filter.matches(item)))
    }

    /// Determines the groups of one more item. Returns whether there is one.
    fn advance(&mut self) -> bool {
        let Some((index, candidate)) = self.later.next() else { return false };
        let mask = self.mask_of(candidate.item);
        self.next.entry(mask).or_default().push_back((index, candidate));
        true
    }

    /// The best remaining item that a constraint allows: its group mask.
    fn best_allowed(&self, constraint: PositionConstraint) -> Option<GroupMask> {
        let allowed = self.next.iter().filter(|(mask, _)| constraint.allows(**mask));
        let heads = allowed.filter_map(|(mask, group)| Some((group.front()?.0, *mask)));
        heads.min().map(|(_, mask)| mask)
    }

    /// Removes the best item with a group mask.
    fn take(&mut self, mask: GroupMask) -> Option<Candidate> {
        let group = self.next.get_mut(&mask)?;
        let (_, candidate) = group.pop_front()?;
        if group.is_empty() {
            self.next.remove(&mask);
        }
        Some(candidate)
    }

    /// The constraint of the item at `position`. `counts` are the numbers of earlier items by rule.
    fn constraint_at(&mut self, position: usize, counts: &[usize]) -> PositionConstraint {
        let mut constraint = PositionConstraint { required: 0, forbidden: 0 };
        for (bit, (rule, &count)) in self.rules.iter().zip(counts).enumerate() {
            constraint.required |= GroupMask::from(count < rule.min_count(position)) << bit;
            constraint.forbidden |= GroupMask::from(count >= rule.max_count(position)) << bit;
        }
        if constraint.required == 0 && self.rules.iter().filter(|rule| rule.min > 0.0).count() > 1 {
            while self.advance() {}
            constraint.required = upcoming_demand(self.rules, &self.next, position, counts);
        }
        constraint.forbidden &= !constraint.required;
        constraint
    }

    /// Chooses the group of the next item. Also returns whether the item is the best remaining one,
    /// and the constraints that it satisfies.
    fn choose_mask(&mut self, mut constraint: PositionConstraint) -> Option<(GroupMask, bool, PositionConstraint)> {
        if self.next.is_empty() && !self.advance() {
            return None;
        }
        let best = self.best_allowed(PositionConstraint { required: 0, forbidden: 0 })?;
        let mut bit = self.rules.len();
        loop {
            // The items after the first allowed one are worse.
            let allowed = loop {
                match self.best_allowed(constraint) {
                    None if self.advance() => {}
                    found => break found,
                }
            };
            if let Some(mask) = allowed {
                return Some((mask, mask == best, constraint));
            }
            bit = bit.checked_sub(1)?;
            constraint.required &= !(1 << bit);
            constraint.forbidden &= !(1 << bit);
        }
    }
}

/// Number of positions for which [`upcoming_demand`] looks ahead.
const LOOK_AHEAD: usize = 100;

/// The rule whose item must stand at `position`, because at some later position the items that all
/// rules need then would have too few places otherwise. Of the rules that need items then, it is the
/// one that needs its next item first. Rules with common items count once, with the largest number
/// that one of them needs. Rules without remaining items do not count.
fn upcoming_demand(rules: &[ShareRule], next: &NextItems, position: usize, counts: &[usize]) -> GroupMask {
    let clusters = clusters_of_rules(rules, next);
    let available_of = |bit: usize| -> usize {
        next.iter().filter(|(mask, _)| *mask >> bit & 1 == 1).map(|(_, group)| group.len()).sum()
    };
    let demands: Vec<_> =
        rules.iter().zip(counts).enumerate().map(|(bit, (rule, count))| (rule, *count, available_of(bit))).collect();
    let needed = |(rule, count, available): (&ShareRule, usize, usize), end| {
        rule.min_count(end).saturating_sub(count).min(available)
    };
    for end in position + 1..=position + LOOK_AHEAD {
        let mut by_cluster = [0; ShareRule::MAX_PER_LIST];
        for (demand, &cluster) in demands.iter().zip(&clusters) {
            if let Some(largest) = by_cluster.get_mut(cluster) {
                *largest = needed(*demand, end).max(*largest);
            }
        }
        if by_cluster.iter().sum::<usize>() > end - position {
            let due =
                |(rule, count, _): (&ShareRule, usize, usize)| (position..=end).find(|n| rule.min_count(*n) > count);
            let waiting = demands.iter().enumerate().filter(|(_, demand)| needed(**demand, end) > 0);
            let first = waiting.min_by_key(|(bit, demand)| (due(**demand), *bit));
            return first.map_or(0, |(bit, _)| 1 << bit);
        }
    }
    0
}

/// A number for each rule. Rules have the same number if an item belongs to both, or if there is a
/// chain of such rules between them.
fn clusters_of_rules(rules: &[ShareRule], next: &NextItems) -> Vec<usize> {
    let mut clusters: Vec<_> = (0..rules.len()).collect();
    for mask in next.keys() {
        let members = || (0..rules.len()).filter(|bit| mask >> bit & 1 == 1);
        let joined: Vec<_> = members().filter_map(|bit| clusters.get(bit).copied()).collect();
        let Some(smallest) = joined.iter().min() else { continue };
        clusters.iter_mut().filter(|cluster| joined.contains(cluster)).for_each(|cluster| *cluster = *smallest);
    }
    clusters
}

/// Reorders the first `length` items of a list, which continues the items `shown` of earlier pages.
/// The other items follow in any order. At most [`ShareRule::MAX_PER_LIST`] rules apply, the first
/// ones.
pub(super) fn balance_shares(
    rules: &[ShareRule],
    catalog: &Catalog,
    shown: &[ItemIx],
    length: usize,
    list: &mut Vec<Candidate>,
    trace: &mut RuleTrace,
) {
    let rules = rules.get(..ShareRule::MAX_PER_LIST.min(rules.len())).unwrap_or_default();
    let length = length.min(list.len());
    let later = std::mem::take(list).into_iter().enumerate();
    let mut remaining = RemainingItems { rules, catalog, next: NextItems::new(), later };
    let mut counts = vec![0_usize; rules.len()];
    let count_groups = |counts: &mut [usize], mask: GroupMask| {
        counts.iter_mut().enumerate().for_each(|(bit, count)| *count += usize::from(mask >> bit & 1));
    };
    shown.iter().for_each(|item| count_groups(&mut counts, remaining.mask_of(*item)));
    for position in (1..=length).map(|position| shown.len() + position) {
        let constraint = remaining.constraint_at(position, &counts);
        let Some((mask, is_best, constraint)) = remaining.choose_mask(constraint) else { break };
        if !is_best {
            record_reordering(rules, &remaining.next, mask, constraint, trace);
        }
        list.extend(remaining.take(mask));
        count_groups(&mut counts, mask);
    }
    let RemainingItems { next, later, .. } = remaining;
    list.extend(next.into_values().flatten().chain(later).map(|(_, candidate)| candidate));
}

/// The mask with bit k set if `is_set` is true for rule k.
fn bits_of(rules: &[ShareRule], mut is_set: impl FnMut(&ShareRule) -> bool) -> GroupMask {
    rules.iter().enumerate().fold(0, |mask, (bit, rule)| mask | GroupMask::from(is_set(rule)) << bit)
}

/// Records which rules moved the chosen item up, and which moved better items down.
fn record_reordering(
    rules: &[ShareRule],
    remaining: &NextItems,
    chosen: GroupMask,
    constraint: PositionConstraint,
    trace: &mut RuleTrace,
) {
    let Some(&(chosen_index, chosen_item)) = remaining.get(&chosen).and_then(VecDeque::front) else { return };
    for (bit, rule) in rules.iter().enumerate() {
        if constraint.required >> bit & 1 == 1 {
            trace.record_move(chosen_item.item, &rule.rule);
        }
        if constraint.forbidden >> bit & 1 == 1 {
            let passed = remaining.iter().filter(|(mask, _)| *mask >> bit & 1 == 1);
            for (index, candidate) in passed.filter_map(|(_, group)| group.front()) {
                if *index < chosen_index {
                    trace.record_move(candidate.item, &rule.rule);
                }
            }
        }
    }
}
