//! Items that are bought together, and the time between two purchases of an item.

use super::simd_math::{exp, ln};
use super::transition_matrix::TransitionMatrix;
use crate::domain::{ItemIx, PagedVec, Step, Timestamp};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::f32::consts::LN_2;

/// Number of partners that are kept per item. A new partner replaces the one with the fewest baskets.
const PARTNERS_PER_ITEM: usize = 64;
/// Number of earlier items of a basket with which a new item is paired.
const MAX_PAIRED_ITEMS: usize = 20;
/// Two purchases of an item that are closer belong to one purchase.
const SHORTEST_INTERVAL_MS: i64 = 3_600_000;
/// Weight of the interval of all items in the interval of one item, in purchases.
const INTERVAL_PRIOR: f32 = 3.0;
/// The interval before the first repeated purchase: 30 days.
const DEFAULT_INTERVAL_MS: f32 = 30.0 * 86_400_000.0;
/// Number of common baskets at which half of a lift counts.
const LIFT_PRIOR: f32 = 2.0;

/// Statistics of one item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct BasketItem {
    /// Number of baskets with the item.
    baskets: f32,
    intervals: Intervals,
}

/// Times between two purchases of an item by the same user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Intervals {
    count: f32,
    /// Sum of the logarithms of the intervals in milliseconds.
    sum_ln: f32,
}

impl Intervals {
    fn add(&mut self, interval_ms: f32) {
        self.count += 1.0;
        self.sum_ln += ln(interval_ms);
    }
}

/// Counts of baskets. A basket consists of the items of a session that the user purchased or put into
/// the cart.
///
/// ```
/// use sequor_core::candidates::BasketStatistics;
///
/// let mut baskets = BasketStatistics::default();
/// for _ in 0..10 {
///     // A basket of the items 1 and 2, and one of the items 3 and 4.
///     baskets.add_item(1, []);
///     baskets.add_item(2, [1]);
///     baskets.add_item(3, []);
///     baskets.add_item(4, [3]);
/// }
/// let partners = baskets.partners(&[1]);
/// assert_eq!(partners.iter().map(|(item, _)| *item).collect::<Vec<_>>(), [2]);
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BasketStatistics {
    items: PagedVec<BasketItem, 64>,
    partners: TransitionMatrix,
    /// Number of baskets.
    baskets: f32,
    /// The intervals of all items.
    intervals: Intervals,
}

impl BasketStatistics {
    /// Adds the item of an event to the basket of its session. `steps` are the earlier steps of the
    /// session, `is_basket_event` says which of them purchased an item or put it into the cart.
    pub fn learn(&mut self, steps: &[Step], item: ItemIx, is_basket_event: impl Fn(&Step) -> bool) {
        let mut others = Vec::new();
        for step in steps.iter().rev().filter(|step| is_basket_event(step)) {
            match step.item {
                // The item is already in the basket.
                Some(other) if other == item => return,
                Some(other) if others.len() < MAX_PAIRED_ITEMS && !others.contains(&other) => others.push(other),
                _ => {}
            }
        }
        self.add_item(item, others);
    }

    /// Adds an item to a basket that contains `others`.
    pub fn add_item(&mut self, item: ItemIx, others: impl IntoIterator<Item = ItemIx>) {
        let mut is_first = true;
        for other in others {
            is_first = false;
            self.partners.update_row(item, |row| row.add_weight(other, 1.0, PARTNERS_PER_ITEM));
            self.partners.update_row(other, |row| row.add_weight(item, 1.0, PARTNERS_PER_ITEM));
        }
        self.baskets += f32::from(u8::from(is_first));
        self.change_item(item, |known| known.baskets += 1.0);
    }

    /// Records a purchase of an item that the user purchased before, at time `last`.
    pub fn add_repeat(&mut self, item: ItemIx, last: Timestamp, at: Timestamp) {
        let interval = at.saturating_sub(last);
        if interval >= SHORTEST_INTERVAL_MS {
            self.intervals.add(interval as f32);
            self.change_item(item, |known| known.intervals.add(interval as f32));
        }
    }

    fn change_item(&mut self, item: ItemIx, change: impl FnOnce(&mut BasketItem)) {
        self.items.grow(item as usize + 1, BasketItem::default);
        if let Some(known) = self.items.get_mut(item as usize) {
            change(known);
        }
    }

    /// The items that are in baskets with `context` more often than by chance, best first. The score
    /// is the sum over the context items of `ln(lift) · n / (n + 2)`, with n the number of common
    /// baskets and `lift = n · baskets / (baskets of the context item · baskets of the item)`. The
    /// lift keeps bestsellers from filling the list; the second factor is for pairs that were seen
    /// rarely. Among equal scores, the smaller item number comes first.
    #[must_use]
    pub fn partners(&self, context: &[ItemIx]) -> Vec<(ItemIx, f32)> {
        let mut scores = FxHashMap::<ItemIx, f32>::default();
        for (position, item) in context.iter().enumerate() {
            let is_repeated = context.get(..position).is_some_and(|before| before.contains(item));
            let Some(row) = self.partners.row_of(*item).filter(|_| !is_repeated) else { continue };
            let of_context = self.baskets_with(*item);
            for (other, common) in row.iter().filter(|(other, _)| !context.contains(other)) {
                let lift = common * self.baskets / (of_context * self.baskets_with(other)).max(1.0);
                if lift > 1.0 {
                    *scores.entry(other).or_default() += ln(lift) * common / (common + LIFT_PRIOR);
                }
            }
        }
        let mut partners: Vec<_> = scores.into_iter().collect();
        partners.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        partners
    }

    fn baskets_with(&self, item: ItemIx) -> f32 {
        self.items.get(item as usize).map_or(1.0, |known| known.baskets.max(1.0))
    }

    /// The typical time between two purchases of an item, in milliseconds: the geometric mean of its
    /// intervals and of three intervals of all items.
    #[must_use]
    pub fn interval_ms(&self, item: ItemIx) -> f32 {
        let default = ln(DEFAULT_INTERVAL_MS);
        let all = (self.intervals.sum_ln + default) / (self.intervals.count + 1.0);
        let own = self.items.get(item as usize).map(|known| known.intervals).unwrap_or_default();
        exp((own.sum_ln + INTERVAL_PRIOR * all) / (own.count + INTERVAL_PRIOR))
    }

    /// How much the user is due to purchase an item again, in 0..=1: the probability that an interval
    /// of exponential distribution with the item's median has passed, halved for each six intervals
    /// since the purchase.
    #[must_use]
    pub fn dueness(&self, item: ItemIx, last: Timestamp, now: Timestamp) -> f32 {
        let elapsed = now.saturating_sub(last).max(0) as f32 / self.interval_ms(item);
        (1.0 - exp(-elapsed * LN_2)) * exp(-elapsed * (LN_2 / 6.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn step(item: ItemIx, kind: u8) -> Step {
        Step { item: Some(item), kind, starts_session: false, at: 0, value: 0.0 }
    }

    #[test]
    fn a_bestseller_does_not_beat_an_item_that_belongs_to_the_context() {
        let mut baskets = BasketStatistics::default();
        // Item 0 is in every basket, item 2 only in the baskets of item 1.
        for basket in 0..200 {
            baskets.add_item(0, []);
            if basket % 10 == 0 {
                baskets.add_item(1, [0]);
                baskets.add_item(2, [0, 1]);
            } else {
                baskets.add_item(10 + basket % 7, [0]);
            }
        }
        let partners = baskets.partners(&[1]);
        assert_eq!(partners.iter().map(|(item, _)| *item).collect::<Vec<_>>(), [2], "{partners:?}");
        assert!(baskets.partners(&[99]).is_empty() && baskets.partners(&[]).is_empty());
        assert_eq!(baskets.partners(&[1, 1]), baskets.partners(&[1]));
        assert!(baskets.partners(&[1, 2]).is_empty(), "the context itself is no partner");
    }

    #[test]
    fn an_item_counts_once_per_basket() {
        let mut baskets = BasketStatistics::default();
        let is_basket_event = |step: &Step| step.kind == 1;
        let steps = [step(5, 1), step(6, 0), step(7, 1)];
        baskets.learn(&steps[..0], 5, is_basket_event);
        baskets.learn(&steps[..2], 7, is_basket_event);
        baskets.learn(&steps, 5, is_basket_event);
        assert_eq!((baskets.baskets, baskets.baskets_with(5), baskets.baskets_with(6)), (1.0, 1.0, 1.0));
        let row = baskets.partners.row_of(5).unwrap();
        assert_eq!(row.iter().collect::<Vec<_>>(), [(7, 1.0)], "item 6 was only viewed");
    }

    #[test]
    fn an_item_is_due_after_its_interval() {
        let mut baskets = BasketStatistics::default();
        for _ in 0..20 {
            baskets.add_repeat(1, 0, 7 * DAY);
            baskets.add_repeat(2, 0, 90 * DAY);
            baskets.add_repeat(3, 0, 60_000);
        }
        let days = |item| baskets.interval_ms(item) / DAY as f32;
        assert!((7.0..12.0).contains(&days(1)), "{}", days(1));
        assert!((60.0..91.0).contains(&days(2)), "{}", days(2));
        assert!((20.0..30.0).contains(&days(3)), "two purchases within a minute are one: {}", days(3));
        let after = |item, days: i64| baskets.dueness(item, 0, days * DAY);
        assert!(after(1, 1) < after(1, 8) && after(1, 8) > after(1, 200));
        assert!(after(1, 10) > after(2, 10), "the weekly item is due earlier");
    }
}
