//! A visit: a visitor looks for a category and moves along complementary items.

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::shop_catalog::{ShopCatalog, ShopItemIx};
use super::weighted_sampler::WeightedSampler;
use crate::domain::EventKind;

/// Weights of the next item: each complement of the last item, or a popular item of the category.
const NEXT_ITEM_WEIGHTS: [f64; 4] = [0.5, 0.2, 0.1, 0.2];
/// Probability that a viewed item is added to the cart.
const CART_PROBABILITY: f64 = 0.12;
/// Probability that a cart is purchased, which ends the visit.
const PURCHASE_PROBABILITY: f64 = 0.35;
/// Probability that a visit continues after a view.
const CONTINUE_PROBABILITY: f64 = 0.84;
/// Probability of a click on a relevant item at the first position of a list.
const CLICK_PROBABILITY: f64 = 0.04;
/// Factor on the click probability per further position.
const POSITION_DECAY: f64 = 0.9;

/// An open visit.
#[derive(Debug, Clone)]
pub(super) struct ShopVisit {
    pub(super) user: String,
    pub(super) id: String,
    /// Viewed items, in order.
    seen: Vec<ShopItemIx>,
    next: NextAction,
}

/// The next action of the visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextAction {
    View(ShopItemIx),
    Click(ShopItemIx),
    Cart,
    Purchase,
}

impl ShopVisit {
    /// A visit that starts at an item.
    pub(super) fn new(user: String, id: String, item: ShopItemIx) -> Self {
        Self { user, id, seen: Vec::new(), next: NextAction::View(item) }
    }

    /// Performs the next action. Returns the kind of event, its item, and whether the visit
    /// continues.
    pub(super) fn next_event(
        &mut self,
        catalog: &ShopCatalog,
        next_item: &NextItemSampler,
        random: &mut Xoshiro256PlusPlus,
    ) -> (EventKind, ShopItemIx, bool) {
        let last = self.seen.last().copied().unwrap_or_default();
        let (kind, item) = match self.next {
            NextAction::View(item) => (EventKind::View, item),
            NextAction::Click(item) => (EventKind::Click, item),
            NextAction::Cart => (EventKind::Cart, last),
            NextAction::Purchase => (EventKind::Purchase, last),
        };
        if matches!(self.next, NextAction::View(_) | NextAction::Click(_)) {
            self.seen.push(item);
        }
        let cart_action = match self.next {
            NextAction::View(_) | NextAction::Click(_) => random.gen_bool(CART_PROBABILITY).then_some(NextAction::Cart),
            NextAction::Cart => random.gen_bool(PURCHASE_PROBABILITY).then_some(NextAction::Purchase),
            NextAction::Purchase => None,
        };
        let continues =
            self.next != NextAction::Purchase && (cart_action.is_some() || random.gen_bool(CONTINUE_PROBABILITY));
        self.next = cart_action.unwrap_or_else(|| NextAction::View(next_item.next(catalog, &self.seen, random)));
        (kind, item, continues)
    }

    /// Views a ranked list and may click a relevant item: one of the last item's category that was
    /// not viewed in this visit.
    pub(super) fn view_list(&mut self, list: &[ShopItemIx], catalog: &ShopCatalog, random: &mut Xoshiro256PlusPlus) {
        let Some(last) = self.seen.last().and_then(|last| catalog.get(*last)) else { return };
        let mut probability = CLICK_PROBABILITY;
        for index in list {
            let is_relevant = catalog.get(*index).is_some_and(|item| item.category == last.category);
            if is_relevant && !self.seen.contains(index) && random.gen_bool(probability) {
                self.next = NextAction::Click(*index);
                return;
            }
            probability *= POSITION_DECAY;
        }
    }
}

/// Draws the next item of a visit.
#[derive(Debug, Clone)]
pub(super) struct NextItemSampler(WeightedSampler);

impl NextItemSampler {
    pub(super) fn new() -> Self {
        Self(WeightedSampler::new(NEXT_ITEM_WEIGHTS.into_iter()))
    }

    /// Draws a complement of the last item that was not viewed in this visit, or a popular item of
    /// the category.
    fn next(&self, catalog: &ShopCatalog, seen: &[ShopItemIx], random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let last = seen.last().copied().unwrap_or_default();
        let Some(item) = catalog.get(last) else { return last };
        let complement = item.complements.get(self.0.sample(random)).filter(|index| !seen.contains(index));
        complement.copied().unwrap_or_else(|| catalog.sample_popular(item.category, random))
    }
}
