//! One visit: somebody with a category in mind, walking along what goes with what.

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::shop_catalog::{ShopCatalog, ShopItemIx};
use super::weighted_sampler::WeightedSampler;
use crate::domain::EventKind;

/// What is looked at next: each of what goes with the last item, or anything popular of the
/// category.
const NEXT: [f64; 4] = [0.5, 0.2, 0.1, 0.2];
/// A look at an item that ends in the cart.
const CART: f64 = 0.12;
/// A cart that is paid for, which ends the visit.
const PURCHASE: f64 = 0.35;
/// A visit that goes on after a look.
const GOES_ON: f64 = 0.84;
/// A fitting item on a recommendation's first place that is clicked; further down it is seen less
/// and less.
const CLICK: f64 = 0.04;
/// By so much less at each place.
const SEEN: f64 = 0.9;

/// A visit under way.
#[derive(Debug, Clone)]
pub(super) struct ShopVisit {
    pub(super) user: String,
    pub(super) id: String,
    /// Items that were looked at, the last one last.
    seen: Vec<ShopItemIx>,
    next: NextAction,
}

/// What the visitor does next.
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

    /// Does what comes next: what is done on which item, and whether the visit goes on.
    pub(super) fn next_event(
        &mut self,
        assortment: &ShopCatalog,
        chances: &NextItemSampler,
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
        let buys = match self.next {
            NextAction::View(_) | NextAction::Click(_) => random.gen_bool(CART).then_some(NextAction::Cart),
            NextAction::Cart => random.gen_bool(PURCHASE).then_some(NextAction::Purchase),
            NextAction::Purchase => None,
        };
        let goes_on = self.next != NextAction::Purchase && (buys.is_some() || random.gen_bool(GOES_ON));
        self.next = buys.unwrap_or_else(|| NextAction::View(chances.next(assortment, &self.seen, random)));
        (kind, item, goes_on)
    }

    /// Looks at a list, best first, and may click what fits: what is of the last item's category
    /// and was not seen in this visit.
    pub(super) fn view_list(&mut self, list: &[ShopItemIx], assortment: &ShopCatalog, random: &mut Xoshiro256PlusPlus) {
        let Some(last) = self.seen.last().and_then(|last| assortment.get(*last)) else { return };
        let mut chance = CLICK;
        for place in list {
            let fits = assortment.get(*place).is_some_and(|article| article.category == last.category);
            if fits && !self.seen.contains(place) && random.gen_bool(chance) {
                self.next = NextAction::Click(*place);
                return;
            }
            chance *= SEEN;
        }
    }
}

/// How visitors walk.
#[derive(Debug, Clone)]
pub(super) struct NextItemSampler(WeightedSampler);

impl NextItemSampler {
    pub(super) fn new() -> Self {
        Self(WeightedSampler::new(NEXT.into_iter()))
    }

    /// The next item: one that goes with the last and was not seen in this visit, or any popular
    /// one of the category.
    fn next(&self, assortment: &ShopCatalog, seen: &[ShopItemIx], random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let last = seen.last().copied().unwrap_or_default();
        let Some(article) = assortment.get(last) else { return last };
        let chosen = article.complements.get(self.0.sample(random)).filter(|place| !seen.contains(place));
        chosen.copied().unwrap_or_else(|| assortment.sample_popular(article.category, random))
    }
}
