//! Which of the ranked candidates an answer holds.

use super::ItemFilter;
use crate::domain::{Candidate, Catalog, Item, ItemIx, RemovalCounts, Timestamp};
use rustc_hash::FxHashMap;

/// What an item must satisfy to be in an answer.
#[derive(Debug, Clone, Copy)]
pub struct EligibilityRules<'a> {
    /// What the items are; one that is not offered at `now` is in no answer.
    pub catalog: &'a Catalog,
    /// When is asked.
    pub now: Timestamp,
    /// Items that are not wanted, ascending.
    pub exclude: &'a [ItemIx],
    /// Items that have been seen and are not wanted again.
    pub seen: &'a [ItemIx],
    /// What is asked of an item's attributes.
    pub filter: Option<&'a ItemFilter>,
    /// The most items of one category; an item of several counts in each, one of none in none.
    pub max_per_category: Option<usize>,
}

/// Why an item is in no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RemovalReason {
    Excluded,
    Seen,
    Unavailable,
    Filtered,
}

impl<'a> EligibilityRules<'a> {
    /// Whatever is offered at a time.
    #[must_use]
    pub fn new(catalog: &'a Catalog, now: Timestamp) -> Self {
        Self { catalog, now, exclude: &[], seen: &[], filter: None, max_per_category: None }
    }

    fn judge(&self, item: ItemIx) -> Result<&'a Item, RemovalReason> {
        if self.exclude.binary_search(&item).is_ok() {
            return Err(RemovalReason::Excluded);
        }
        if self.seen.contains(&item) {
            return Err(RemovalReason::Seen);
        }
        let known = self.catalog.get_recommendable(item, self.now).ok_or(RemovalReason::Unavailable)?;
        if self.filter.is_none_or(|filter| filter.matches(known)) { Ok(known) } else { Err(RemovalReason::Filtered) }
    }

    /// Whether the item may be in an answer, whatever else is.
    #[must_use]
    pub fn is_eligible(&self, item: ItemIx) -> bool {
        self.judge(item).is_ok()
    }
}

/// Takes candidates, best first, as the terms allow.
#[derive(Debug)]
pub struct ResultSelection<'a> {
    terms: EligibilityRules<'a>,
    limit: usize,
    most: usize,
    taken: Vec<Candidate>,
    removed: RemovalCounts,
    by_category: FxHashMap<&'a str, usize>,
}

impl<'a> ResultSelection<'a> {
    /// An answer of at most `limit` items, and the ones that would come after these, `most` in all.
    #[must_use]
    pub fn new(terms: EligibilityRules<'a>, limit: usize, most: usize) -> Self {
        Self {
            terms,
            limit,
            most: most.max(limit),
            taken: Vec::new(),
            removed: RemovalCounts::default(),
            by_category: FxHashMap::default(),
        }
    }

    /// Takes a ranked candidate, or counts it as removed by the first rule that it breaks.
    pub fn add_ranked(&mut self, candidate: Candidate) {
        match self.terms.judge(candidate.item) {
            Ok(item) => {
                // One that the full answer had no place for was not removed for being alike.
                let counts = self.needs_more();
                if !self.take(candidate, item) && counts {
                    self.removed.diversity += 1;
                }
            }
            Err(RemovalReason::Excluded) => self.removed.excluded += 1,
            Err(RemovalReason::Seen) => self.removed.seen += 1,
            Err(RemovalReason::Unavailable) => self.removed.unavailable += 1,
            Err(RemovalReason::Filtered) => self.removed.filtered += 1,
        }
    }

    /// Takes an item that was not ranked, if the terms allow it.
    pub fn add_unranked(&mut self, candidate: Candidate) {
        if let Ok(item) = self.terms.judge(candidate.item) {
            self.take(candidate, item);
        }
    }

    /// Takes what fits; says `false` only if its categories are full.
    fn take(&mut self, candidate: Candidate, item: &'a Item) -> bool {
        if let Some(most) = self.terms.max_per_category {
            let full = |category: &String| self.by_category.get(category.as_str()).is_some_and(|count| *count >= most);
            if item.categories.iter().any(full) {
                return false;
            }
        }
        if self.taken.len() < self.most {
            self.taken.push(candidate);
            if self.terms.max_per_category.is_some() {
                item.categories.iter().for_each(|category| *self.by_category.entry(category).or_default() += 1);
            }
        }
        true
    }

    /// Whether the answer has room.
    #[must_use]
    pub fn needs_more(&self) -> bool {
        self.taken.len() < self.limit
    }

    /// What was taken so far, best first.
    #[must_use]
    pub fn selected(&self) -> &[Candidate] {
        &self.taken
    }

    /// How many ranked candidates were removed so far, and by what.
    #[must_use]
    pub fn removal_counts(&self) -> RemovalCounts {
        self.removed
    }

    /// The answer, and what would come after it.
    #[must_use]
    pub fn into_parts(mut self) -> (Vec<Candidate>, Vec<Candidate>) {
        let rest = self.taken.split_off(self.limit.min(self.taken.len()));
        (self.taken, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemOperation, SourceName};
    use proptest::prelude::*;

    fn candidate(item: ItemIx) -> Candidate {
        Candidate { item, score: -(item as f32), source: SourceName::Trending }
    }

    /// Thirty items in turn of category a, b, a and b, and none, of which every seventh cannot be had; its price is its number.
    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        for item in 0..30 {
            let categories =
                [vec!["a"], vec!["b"], vec!["a", "b"], vec![]][item as usize % 4].iter().map(|&name| name.to_owned()).collect();
            let price = Some(f64::from(item));
            catalog.apply(item, &ItemOperation::Put(Item { categories, price, available: item % 7 != 0, ..Item::default() }));
        }
        catalog
    }

    #[test]
    fn each_removal_is_counted_where_it_happens() {
        let catalog = catalog();
        let filter = ItemFilter::parse("price < 6").unwrap();
        let terms = EligibilityRules { exclude: &[1, 2], seen: &[2, 3], filter: Some(&filter), ..EligibilityRules::new(&catalog, 0) };
        let mut selection = ResultSelection::new(terms, 10, 10);
        (0..10).for_each(|item| selection.add_ranked(candidate(item)));
        // Excluded 1 and 2, seen 3, not to be had 0 and 7, dearer 6, 8 and 9.
        assert_eq!(selection.removal_counts(), RemovalCounts { excluded: 2, seen: 1, unavailable: 2, filtered: 3, diversity: 0 });
        let items: Vec<_> = selection.selected().iter().map(|taken| taken.item).collect();
        assert_eq!(items, [4, 5]);
    }

    #[test]
    fn what_comes_after_a_full_answer_was_not_removed() {
        let catalog = catalog();
        let mut selection =
            ResultSelection::new(EligibilityRules { max_per_category: Some(1), ..EligibilityRules::new(&catalog, 0) }, 2, 4);
        // a, then no category; the answer is full. Then b goes to the rest, and a second a finds no place in either.
        [4, 3, 5, 8].into_iter().for_each(|item| selection.add_ranked(candidate(item)));
        assert_eq!(selection.removal_counts(), RemovalCounts::default());
        let (answer, rest) = selection.into_parts();
        assert_eq!((answer, rest), (vec![candidate(4), candidate(3)], vec![candidate(5)]));
    }

    proptest! {
        #[test]
        fn an_answer_keeps_every_term(
            order in Just((0..30).collect::<Vec<ItemIx>>()).prop_shuffle(),
            exclude in proptest::collection::btree_set(0..30_u32, 0..8),
            seen in proptest::collection::vec(0..30_u32, 0..8),
            price in proptest::option::of(0..30_u32),
            diversity in proptest::option::of(1..4_usize),
            limit in 1..20_usize,
        ) {
            let catalog = catalog();
            let exclude: Vec<_> = exclude.into_iter().collect();
            let filter = price.map(|price| ItemFilter::parse(&format!("price < {price}")).unwrap());
            let terms = EligibilityRules { catalog: &catalog, now: 0, exclude: &exclude, seen: &seen, filter: filter.as_ref(), max_per_category: diversity };
            let mut selection = ResultSelection::new(terms, limit, 25);
            order.iter().for_each(|item| selection.add_ranked(candidate(*item)));
            let removed = selection.removal_counts();
            let (answer, rest) = selection.into_parts();
            let all: Vec<ItemIx> = answer.iter().chain(&rest).map(|taken| taken.item).collect();
            prop_assert!(answer.len() <= limit && all.len() <= 25 && (rest.is_empty() || answer.len() == limit));
            for item in &all {
                prop_assert!(!exclude.contains(item) && !seen.contains(item) && item % 7 != 0);
                prop_assert!(price.is_none_or(|price| *item < price));
            }
            for (category, members) in [("a", [0, 2]), ("b", [1, 2])] {
                let count = all.iter().filter(|item| members.contains(&(**item % 4))).count();
                prop_assert!(diversity.is_none_or(|most| count <= most), "{} of {}", count, category);
            }
            let places: Vec<_> = all.iter().map(|item| order.iter().position(|other| other == item).unwrap()).collect();
            prop_assert!(places.is_sorted(), "the order stays");
            if diversity.is_none() {
                let (kept, lost) = (all.len(), removed.excluded + removed.seen + removed.unavailable + removed.filtered);
                prop_assert!(kept + lost == 30 || kept == 25);
            }
        }
    }
}
