//! Eligibility rules, and the selection of the result list from ranked candidates.

use super::ItemFilter;
use super::rule_trace::RuleTrace;
use super::rules::{HideRule, ListRules};
use crate::domain::{Candidate, Catalog, CatalogItem, ItemFlags, ItemIx, RemovalCounts, Timestamp};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Rules that an item must satisfy to be recommended.
#[derive(Debug, Clone, Copy)]
pub struct EligibilityRules<'a> {
    /// The catalog. The rules reject items that are not recommendable at time `now`.
    pub catalog: &'a Catalog,
    /// Items that too few users have chosen. They are not recommended unless the catalog describes
    /// them.
    pub unproven: Option<&'a ItemFlags>,
    /// Time of the request.
    pub now: Timestamp,
    /// Items of earlier pages of the list, in ascending order. They do not count as removed.
    pub shown: &'a [ItemIx],
    /// Items that the request excludes, in ascending order.
    pub exclude: &'a [ItemIx],
    /// Hidden items, which the user dismissed or purchased, in ascending order. If the request
    /// excludes seen items or kinds of events, also the items that the user has seen or that have
    /// such events.
    pub seen: &'a [ItemIx],
    /// Items that were shown to the user too often, in ascending order.
    pub fatigued: &'a [ItemIx],
    /// Items that follow all others, because they were shown to the user too often, in ascending
    /// order.
    pub demoted: &'a [ItemIx],
    /// Filter on item attributes.
    pub filter: Option<&'a ItemFilter>,
    /// Rules that remove items.
    pub hide: &'a [HideRule],
    /// Maximum number of items per category in the list. An item with several categories counts in
    /// each of them. An item without a category counts in none.
    pub max_per_category: Option<usize>,
}

/// Reason for the removal of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RemovalReason {
    Shown,
    Excluded,
    Seen,
    Fatigued,
    Unavailable,
    Filtered,
    /// The rule at this position of [`EligibilityRules::hide`] removes the candidate.
    Hidden(usize),
}

impl<'a> EligibilityRules<'a> {
    /// Creates rules that accept every item that is recommendable at time `now`.
    #[must_use]
    pub fn new(catalog: &'a Catalog, now: Timestamp) -> Self {
        Self {
            catalog,
            unproven: None,
            now,
            shown: &[],
            exclude: &[],
            seen: &[],
            fatigued: &[],
            demoted: &[],
            filter: None,
            hide: &[],
            max_per_category: None,
        }
    }

    fn check_rules(&self, item: ItemIx) -> Result<&'a CatalogItem, RemovalReason> {
        if self.shown.binary_search(&item).is_ok() {
            return Err(RemovalReason::Shown);
        }
        if self.exclude.binary_search(&item).is_ok() {
            return Err(RemovalReason::Excluded);
        }
        if self.seen.binary_search(&item).is_ok() {
            return Err(RemovalReason::Seen);
        }
        if self.fatigued.binary_search(&item).is_ok() {
            return Err(RemovalReason::Fatigued);
        }
        let is_unproven = || self.unproven.and_then(|flags| flags.get(item as usize)) == Some(&true);
        if is_unproven() && !self.catalog.is_described(item) {
            return Err(RemovalReason::Unavailable);
        }
        let entry = self.catalog.get_recommendable(item, self.now).ok_or(RemovalReason::Unavailable)?;
        if self.filter.is_some_and(|filter| !filter.matches(entry)) {
            return Err(RemovalReason::Filtered);
        }
        ListRules::hiding_rule(self.hide, entry).map_or(Ok(entry), |rule| Err(RemovalReason::Hidden(rule)))
    }

    /// Whether the filter or a rule of [`EligibilityRules::hide`] rejects an item with these attributes.
    #[must_use]
    pub fn is_filtered_or_hidden(&self, entry: &CatalogItem) -> bool {
        self.filter.is_some_and(|filter| !filter.matches(entry)) || ListRules::hiding_rule(self.hide, entry).is_some()
    }

    /// Whether the item satisfies all rules that do not depend on other items.
    #[must_use]
    pub fn is_eligible(&self, item: ItemIx) -> bool {
        self.check_rules(item).is_ok()
    }
}

/// Selects the ranked candidates that satisfy the eligibility rules. The caller adds the candidates
/// best first.
#[derive(Debug)]
pub struct ResultSelection<'a> {
    rules: EligibilityRules<'a>,
    limit: usize,
    max_total: usize,
    selected: Vec<Candidate>,
    /// Candidates that follow the others if the list has room for them.
    demoted: Vec<Candidate>,
    removed: RemovalCounts,
    /// Number of removed candidates by the rule of [`EligibilityRules::hide`].
    removed_by_rule: Vec<usize>,
    by_category: FxHashMap<&'a str, usize>,
}

impl<'a> ResultSelection<'a> {
    /// Creates a selection whose list has at most `limit` items. Further candidates are kept after
    /// the list, up to `max_total` items in all.
    #[must_use]
    pub fn new(rules: EligibilityRules<'a>, limit: usize, max_total: usize) -> Self {
        Self {
            rules,
            limit,
            max_total: max_total.max(limit),
            selected: Vec::new(),
            demoted: Vec::new(),
            removed: RemovalCounts::default(),
            removed_by_rule: vec![0; rules.hide.len()],
            by_category: FxHashMap::default(),
        }
    }

    /// Adds a ranked candidate. A candidate that violates rules is not added. It counts as removed
    /// by the first rule that it violates.
    pub fn add_ranked(&mut self, candidate: Candidate) {
        match self.rules.check_rules(candidate.item) {
            Ok(_) if self.is_demoted(candidate.item) => self.set_aside(candidate),
            Ok(item) => {
                // If the list is already full, the category limit does not count the candidate as
                // removed.
                let has_room = self.needs_more();
                if !self.try_add(candidate, item) && has_room {
                    self.removed.diversity += 1;
                }
            }
            Err(RemovalReason::Shown) => {}
            Err(RemovalReason::Excluded) => self.removed.excluded += 1,
            Err(RemovalReason::Seen) => self.removed.seen += 1,
            Err(RemovalReason::Fatigued) => self.removed.fatigued += 1,
            Err(RemovalReason::Unavailable) => self.removed.unavailable += 1,
            Err(RemovalReason::Filtered) => self.removed.filtered += 1,
            Err(RemovalReason::Hidden(rule)) => {
                self.removed.hidden += 1;
                self.removed_by_rule.get_mut(rule).into_iter().for_each(|count| *count += 1);
            }
        }
    }

    /// Adds an item that was not ranked, if it satisfies the rules.
    pub fn add_unranked(&mut self, candidate: Candidate) {
        match self.rules.check_rules(candidate.item) {
            Ok(_) if self.is_demoted(candidate.item) => self.set_aside(candidate),
            Ok(item) => {
                self.try_add(candidate, item);
            }
            Err(_) => {}
        }
    }

    /// Adds the demoted candidates after the others, in their order, if the list has fewer than `limit`
    /// items. Otherwise more of the other candidates may follow, so a longer list is needed to know
    /// the places of the demoted ones. Records the added candidates in the trace.
    pub fn add_demoted(&mut self, trace: &mut RuleTrace) {
        if !self.needs_more() || self.demoted.is_empty() {
            return;
        }
        let name: Arc<str> = RuleTrace::IMPRESSION_LIMIT.into();
        for candidate in std::mem::take(&mut self.demoted) {
            let Ok(item) = self.rules.check_rules(candidate.item) else { continue };
            let has_room = self.needs_more();
            if self.try_add(candidate, item) {
                trace.record_move(candidate.item, &name);
            } else if has_room {
                self.removed.diversity += 1;
            }
        }
    }

    fn is_demoted(&self, item: ItemIx) -> bool {
        self.rules.demoted.binary_search(&item).is_ok()
    }

    fn set_aside(&mut self, candidate: Candidate) {
        if self.demoted.iter().all(|known| known.item != candidate.item) {
            self.demoted.push(candidate);
        }
    }

    /// Adds an item that was not ranked after the other items, if it satisfies the rules. Unlike
    /// [`Self::add_unranked`], adds it also to a full selection. Returns whether it was added.
    pub fn add_required(&mut self, candidate: Candidate) -> bool {
        let Ok(item) = self.rules.check_rules(candidate.item) else { return false };
        self.max_total = self.max_total.max(self.selected.len() + 1);
        self.try_add(candidate, item)
    }

    /// Adds the candidate if the selection has room. Returns `false` only if a category of the
    /// candidate already has the maximum number of items.
    fn try_add(&mut self, candidate: Candidate, item: &'a CatalogItem) -> bool {
        if let Some(max) = self.rules.max_per_category {
            let is_full = |category: &Arc<str>| self.by_category.get(&**category).is_some_and(|count| *count >= max);
            if item.categories().iter().any(is_full) {
                return false;
            }
        }
        if self.selected.len() < self.max_total {
            self.selected.push(candidate);
            if self.rules.max_per_category.is_some() {
                item.categories().iter().for_each(|category| *self.by_category.entry(category).or_default() += 1);
            }
        }
        true
    }

    /// Whether the list has fewer than `limit` items.
    #[must_use]
    pub fn needs_more(&self) -> bool {
        self.selected.len() < self.limit
    }

    /// The selected candidates, best first.
    #[must_use]
    pub fn selected(&self) -> &[Candidate] {
        &self.selected
    }

    /// Number of removed ranked candidates by reason.
    #[must_use]
    pub fn removal_counts(&self) -> RemovalCounts {
        self.removed
    }

    /// The rules that removed ranked candidates, each with their number.
    #[must_use]
    pub fn counts_by_hiding_rule(&self) -> Vec<(Arc<str>, usize)> {
        let counts = self.rules.hide.iter().zip(&self.removed_by_rule).filter(|(_, count)| **count > 0);
        counts.map(|(hide, count)| (Arc::clone(&hide.rule), *count)).collect()
    }

    /// Returns the result list and the selected candidates after the list.
    #[must_use]
    pub fn into_parts(mut self) -> (Vec<Candidate>, Vec<Candidate>) {
        let rest = self.selected.split_off(self.limit.min(self.selected.len()));
        (self.selected, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Item, ItemOperation, SourceName};
    use proptest::prelude::*;

    fn candidate_of_item(item: ItemIx) -> Candidate {
        Candidate { item, score: -(item as f32), source: SourceName::Trending }
    }

    /// Builds a catalog of 30 items. The items have, in turn, category a, category b, both, and
    /// none. Every seventh item is unavailable. The price equals the item number.
    fn catalog_of_30_items() -> Catalog {
        let mut catalog = Catalog::default();
        for item in 0..30 {
            let categories = [vec!["a"], vec!["b"], vec!["a", "b"], vec![]][item as usize % 4]
                .iter()
                .map(|&name| name.to_owned())
                .collect();
            let price = Some(f64::from(item));
            catalog.apply(
                item,
                &ItemOperation::Put(Item { categories, price, available: item % 7 != 0, ..Item::default() }),
            );
        }
        catalog
    }

    #[test]
    fn a_removed_candidate_counts_under_the_first_rule_it_violates() {
        let catalog = catalog_of_30_items();
        let filter = ItemFilter::parse("price < 6").unwrap();
        let rules = EligibilityRules {
            exclude: &[1, 2],
            seen: &[2, 3],
            filter: Some(&filter),
            ..EligibilityRules::new(&catalog, 0)
        };
        let mut selection = ResultSelection::new(rules, 10, 10);
        (0..10).for_each(|item| selection.add_ranked(candidate_of_item(item)));
        // Items 1 and 2 are excluded, 3 is seen, 0 and 7 are unavailable, and the prices of 6, 8
        // and 9 are too high.
        assert_eq!(
            selection.removal_counts(),
            RemovalCounts { excluded: 2, seen: 1, fatigued: 0, unavailable: 2, filtered: 3, hidden: 0, diversity: 0 }
        );
        let items: Vec<_> = selection.selected().iter().map(|selected| selected.item).collect();
        assert_eq!(items, [4, 5]);
    }

    #[test]
    fn candidates_after_a_full_list_are_not_counted_as_removed() {
        let catalog = catalog_of_30_items();
        let mut selection = ResultSelection::new(
            EligibilityRules { max_per_category: Some(1), ..EligibilityRules::new(&catalog, 0) },
            2,
            4,
        );
        // Items 4 (category a) and 3 (no category) fill the list. Item 5 (category b) follows the
        // list. Item 8 is a second item of category a.
        [4, 3, 5, 8].into_iter().for_each(|item| selection.add_ranked(candidate_of_item(item)));
        assert_eq!(selection.removal_counts(), RemovalCounts::default());
        let (answer, rest) = selection.into_parts();
        assert_eq!((answer, rest), (vec![candidate_of_item(4), candidate_of_item(3)], vec![candidate_of_item(5)]));
    }

    /// The items of the list, and those that the trace names, after adding the candidates 1 to 6.
    fn list_with_demoted(demoted: &[ItemIx], limit: usize, max_per_category: Option<usize>) -> [Vec<ItemIx>; 2] {
        let catalog = catalog_of_30_items();
        let rules = EligibilityRules { demoted, max_per_category, ..EligibilityRules::new(&catalog, 0) };
        let (mut selection, mut trace) = (ResultSelection::new(rules, limit, 10), RuleTrace::default());
        (1..=6).for_each(|item| selection.add_ranked(candidate_of_item(item)));
        // A source may list an item again.
        [1, 2].into_iter().for_each(|item| selection.add_unranked(candidate_of_item(item)));
        selection.add_demoted(&mut trace);
        let named = (1..=6).filter(|item| trace.moves_of(*item) == [Arc::from(RuleTrace::IMPRESSION_LIMIT)]);
        let items = selection.selected().iter().map(|candidate| candidate.item).collect();
        [items, named.collect()]
    }

    #[test]
    fn demoted_candidates_follow_all_others() {
        let [list, named] = list_with_demoted(&[1, 2], 10, None);
        assert_eq!((list, named), (vec![3, 4, 5, 6, 1, 2], vec![1, 2]));
        // The list is full, so more candidates may precede the demoted ones.
        let [list, named] = list_with_demoted(&[1, 2], 4, None);
        assert_eq!((list, named), (vec![3, 4, 5, 6], vec![]));
        // Item 5 (category b) precedes the demoted item 1 (b); item 2 is of both categories.
        let [list, named] = list_with_demoted(&[1, 2], 10, Some(1));
        assert_eq!((list, named), (vec![3, 4, 5], vec![]));
        let [list, _] = list_with_demoted(&[], 10, Some(1));
        assert_eq!(list, [1, 3, 4]);
    }

    proptest! {
        #[test]
        fn the_selection_satisfies_every_rule(
            order in Just((0..30).collect::<Vec<ItemIx>>()).prop_shuffle(),
            exclude in proptest::collection::btree_set(0..30_u32, 0..8),
            seen in proptest::collection::btree_set(0..30_u32, 0..8),
            fatigued in proptest::collection::btree_set(0..30_u32, 0..4),
            price in proptest::option::of(0..30_u32),
            diversity in proptest::option::of(1..4_usize),
            limit in 1..20_usize,
        ) {
            let catalog = catalog_of_30_items();
            let [exclude, seen, fatigued] = [exclude, seen, fatigued].map(|items| items.into_iter().collect::<Vec<_>>());
            let filter = price.map(|price| ItemFilter::parse(&format!("price < {price}")).unwrap());
            let rules = EligibilityRules {
                exclude: &exclude,
                seen: &seen,
                fatigued: &fatigued,
                filter: filter.as_ref(),
                max_per_category: diversity,
                ..EligibilityRules::new(&catalog, 0)
            };
            let mut selection = ResultSelection::new(rules, limit, 25);
            order.iter().for_each(|item| selection.add_ranked(candidate_of_item(*item)));
            let removed = selection.removal_counts();
            let (answer, rest) = selection.into_parts();
            let all: Vec<ItemIx> = answer.iter().chain(&rest).map(|selected| selected.item).collect();
            prop_assert!(answer.len() <= limit && all.len() <= 25 && (rest.is_empty() || answer.len() == limit));
            for item in &all {
                prop_assert!(!exclude.contains(item) && !seen.contains(item) && !fatigued.contains(item) && item % 7 != 0);
                prop_assert!(price.is_none_or(|price| *item < price));
            }
            for (category, members) in [("a", [0, 2]), ("b", [1, 2])] {
                let count = all.iter().filter(|item| members.contains(&(**item % 4))).count();
                prop_assert!(diversity.is_none_or(|most| count <= most), "{} of {}", count, category);
            }
            let positions: Vec<_> = all.iter().map(|item| order.iter().position(|other| other == item).unwrap()).collect();
            prop_assert!(positions.is_sorted(), "the order is kept");
            if diversity.is_none() {
                let (kept, lost) = (all.len(), removed.total() - removed.diversity);
                prop_assert!(kept + lost == 30 || kept == 25);
            }
        }
    }
}
