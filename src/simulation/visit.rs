//! A visit to the simulated shop: the visitor moves from an item to a complementary item of the
//! same category.

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::shop_catalog::{ShopCatalog, ShopItemIx};
use super::weighted_sampler::WeightedSampler;
use crate::domain::EventKind;

/// Weights of the choices for the next item: each of the three complements of the last item, then a
/// popular item of the category.
const NEXT_ITEM_WEIGHTS: [f64; 4] = [0.5, 0.2, 0.1, 0.2];
/// Probability that the visitor adds a viewed item to the cart.
const CART_PROBABILITY: f64 = 0.12;
/// Probability that the visitor purchases the item in the cart. A purchase ends the visit.
const PURCHASE_PROBABILITY: f64 = 0.35;
/// Probability that a visit continues after a view.
const CONTINUE_PROBABILITY: f64 = 0.84;
/// Probability of a click on a relevant item at the first position of a list.
const CLICK_PROBABILITY_AT_FIRST_POSITION: f64 = 0.04;
/// The click probability is multiplied by this factor for each further position of the list.
const CLICK_DECAY_PER_POSITION: f64 = 0.9;

/// An open visit.
#[derive(Debug, Clone)]
pub(super) struct ShopVisit {
    pub(super) user: String,
    pub(super) id: String,
    /// Viewed items, oldest first.
    viewed_items: Vec<ShopItemIx>,
    next_action: NextAction,
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
    /// Creates a visit that starts with a view of `item`.
    pub(super) fn new(user: String, id: String, item: ShopItemIx) -> Self {
        Self { user, id, viewed_items: Vec::new(), next_action: NextAction::View(item) }
    }

    /// Performs the next action of the visitor. Returns the kind and the item of the resulting
    /// event, and whether the visit continues after it.
    pub(super) fn next_event(
        &mut self,
        catalog: &ShopCatalog,
        next_item: &NextItemSampler,
        random: &mut Xoshiro256PlusPlus,
    ) -> (EventKind, ShopItemIx, bool) {
        let last = self.viewed_items.last().copied().unwrap_or_default();
        let (kind, item) = match self.next_action {
            NextAction::View(item) => (EventKind::View, item),
            NextAction::Click(item) => (EventKind::Click, item),
            NextAction::Cart => (EventKind::Cart, last),
            NextAction::Purchase => (EventKind::Purchase, last),
        };
        if matches!(self.next_action, NextAction::View(_) | NextAction::Click(_)) {
            self.viewed_items.push(item);
        }
        let cart_action = match self.next_action {
            NextAction::View(_) | NextAction::Click(_) => random.gen_bool(CART_PROBABILITY).then_some(NextAction::Cart),
            NextAction::Cart => random.gen_bool(PURCHASE_PROBABILITY).then_some(NextAction::Purchase),
            NextAction::Purchase => None,
        };
        let continues = self.next_action != NextAction::Purchase
            && (cart_action.is_some() || random.gen_bool(CONTINUE_PROBABILITY));
        self.next_action = cart_action
            .unwrap_or_else(|| NextAction::View(next_item.draw_next_item(catalog, &self.viewed_items, random)));
        (kind, item, continues)
    }

    /// Views a ranked list. The next action may then be a click on a relevant item: an item of the
    /// last item's category that the visitor has not viewed in this visit.
    pub(super) fn view_list(&mut self, list: &[ShopItemIx], catalog: &ShopCatalog, random: &mut Xoshiro256PlusPlus) {
        let Some(last) = self.viewed_items.last().and_then(|last| catalog.get(*last)) else { return };
        let mut probability = CLICK_PROBABILITY_AT_FIRST_POSITION;
        for index in list {
            let is_relevant = catalog.get(*index).is_some_and(|item| item.category == last.category);
            if is_relevant && !self.viewed_items.contains(index) && random.gen_bool(probability) {
                self.next_action = NextAction::Click(*index);
                return;
            }
            probability *= CLICK_DECAY_PER_POSITION;
        }
    }
}

/// Sampler of the next item of a visit.
#[derive(Debug, Clone)]
pub(super) struct NextItemSampler(WeightedSampler);

impl NextItemSampler {
    pub(super) fn new() -> Self {
        Self(WeightedSampler::new(NEXT_ITEM_WEIGHTS.into_iter()))
    }

    /// Draws the next item: usually a complement of the last item. If no complement is drawn, or if
    /// the visitor has already viewed it, the next item is a popular item of the category.
    fn draw_next_item(
        &self,
        catalog: &ShopCatalog,
        viewed_items: &[ShopItemIx],
        random: &mut Xoshiro256PlusPlus,
    ) -> ShopItemIx {
        let last = viewed_items.last().copied().unwrap_or_default();
        let Some(item) = catalog.get(last) else { return last };
        let complement = item.complements.get(self.0.draw_index(random)).filter(|index| !viewed_items.contains(index));
        complement.copied().unwrap_or_else(|| catalog.draw_popular_item(item.category, random))
    }
}
