//! One visit: somebody with a category in mind, walking along what goes with what.

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::assortment::{Assortment, Place};
use super::chances::Chances;
use crate::domain::Kind;

/// What is looked at next: each of what goes with the last item, or anything popular of the category.
const NEXT: [f64; 4] = [0.5, 0.2, 0.1, 0.2];
/// A look at an item that ends in the cart.
const CART: f64 = 0.12;
/// A cart that is paid for, which ends the visit.
const PURCHASE: f64 = 0.35;
/// A visit that goes on after a look.
const GOES_ON: f64 = 0.84;
/// A fitting item on a recommendation's first place that is clicked; further down it is seen less and less.
const CLICK: f64 = 0.04;
/// By so much less at each place.
const SEEN: f64 = 0.9;

/// A visit under way.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) user: String,
    pub(super) id: String,
    /// Items that were looked at, the last one last.
    seen: Vec<Place>,
    next: Next,
}

/// What the visitor does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Look(Place),
    Click(Place),
    Cart,
    Purchase,
}

impl Visit {
    /// Somebody who comes for an item.
    pub(super) fn new(user: String, id: String, item: Place) -> Self {
        Self { user, id, seen: Vec::new(), next: Next::Look(item) }
    }

    /// Does what comes next: what is done on which item, and whether the visit goes on.
    pub(super) fn act(&mut self, assortment: &Assortment, chances: &Walk, random: &mut Xoshiro256PlusPlus) -> (Kind, Place, bool) {
        let last = self.seen.last().copied().unwrap_or_default();
        let (kind, item) = match self.next {
            Next::Look(item) => (Kind::View, item),
            Next::Click(item) => (Kind::Click, item),
            Next::Cart => (Kind::Cart, last),
            Next::Purchase => (Kind::Purchase, last),
        };
        if matches!(self.next, Next::Look(_) | Next::Click(_)) {
            self.seen.push(item);
        }
        let buys = match self.next {
            Next::Look(_) | Next::Click(_) => random.gen_bool(CART).then_some(Next::Cart),
            Next::Cart => random.gen_bool(PURCHASE).then_some(Next::Purchase),
            Next::Purchase => None,
        };
        let goes_on = self.next != Next::Purchase && (buys.is_some() || random.gen_bool(GOES_ON));
        self.next = buys.unwrap_or_else(|| Next::Look(chances.next(assortment, &self.seen, random)));
        (kind, item, goes_on)
    }

    /// Looks at a list, best first, and may click what fits: what is of the last item's category and was not seen in this visit.
    pub(super) fn look_at(&mut self, list: &[Place], assortment: &Assortment, random: &mut Xoshiro256PlusPlus) {
        let Some(last) = self.seen.last().and_then(|last| assortment.article(*last)) else { return };
        let mut chance = CLICK;
        for place in list {
            let fits = assortment.article(*place).is_some_and(|article| article.category == last.category);
            if fits && !self.seen.contains(place) && random.gen_bool(chance) {
                self.next = Next::Click(*place);
                return;
            }
            chance *= SEEN;
        }
    }
}

/// How visitors walk.
#[derive(Debug, Clone)]
pub(super) struct Walk(Chances);

impl Walk {
    pub(super) fn new() -> Self {
        Self(Chances::new(NEXT.into_iter()))
    }

    /// The next item: one that goes with the last and was not seen in this visit, or any popular one of the category.
    fn next(&self, assortment: &Assortment, seen: &[Place], random: &mut Xoshiro256PlusPlus) -> Place {
        let last = seen.last().copied().unwrap_or_default();
        let Some(article) = assortment.article(last) else { return last };
        let chosen = article.goes_with.get(self.0.draw(random)).filter(|place| !seen.contains(place));
        chosen.copied().unwrap_or_else(|| assortment.popular(article.category, random))
    }
}
