//! What the shop has: categories of items, how popular each is, and what goes with what.

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use rustc_hash::FxHashMap;

use super::weighted_sampler::WeightedSampler;
use crate::domain::Item;

/// What the shop sells.
const CATEGORIES: [&str; 24] = [
    "tea", "coffee", "cups", "teapots", "plates", "pans", "knives", "lamps", "chairs", "desks", "shelves", "rugs", "pillows", "blankets",
    "towels", "soaps", "candles", "vases", "plants", "seeds", "books", "pens", "clocks", "bags",
];
/// Who makes it.
const BRANDS: [&str; 12] = ["Alba", "Borea", "Cala", "Dune", "Elva", "Fjord", "Gran", "Hven", "Isla", "Juno", "Kite", "Luma"];
/// The popularity of the r-th item of a category is 1 / r^s [Zipf 1949].
pub(super) const ZIPF_EXPONENT: f64 = 1.0;
/// Items that go with each item, the most fitting first.
const GOES_WITH: usize = 3;
/// Number of existing items that link to a new item, so that their viewers reach it.
const NEIGHBOURS: usize = 6;

/// An item's place among all.
pub(super) type ShopItemIx = usize;

/// One item.
#[derive(Debug, Clone)]
pub(super) struct ShopItem {
    pub(super) id: String,
    pub(super) category: usize,
    /// Items that are often viewed after this one, the likeliest first.
    pub(super) complements: [ShopItemIx; GOES_WITH],
    pub(super) item: Item,
}

/// The items of one category, the most popular first.
#[derive(Debug, Clone)]
struct ShopCategory {
    places: Vec<ShopItemIx>,
    /// The items ever named in it: the next one's name follows.
    named: usize,
    popularity: WeightedSampler,
}

/// Everything that the shop has.
#[derive(Debug, Clone)]
pub(super) struct ShopCatalog {
    articles: Vec<ShopItem>,
    categories: Vec<ShopCategory>,
    by_id: FxHashMap<String, ShopItemIx>,
}

impl ShopCatalog {
    /// So many items, spread evenly over the categories.
    pub(super) fn new(items: usize, random: &mut Xoshiro256PlusPlus) -> Self {
        // A category too small for a walk through it would be known by heart at once.
        let count = (items / 20).clamp(1, CATEGORIES.len());
        let categories = (0..count).map(|_| ShopCategory { places: Vec::new(), named: 0, popularity: zipf(0) }).collect();
        let mut assortment = Self { articles: Vec::with_capacity(items), categories, by_id: FxHashMap::default() };
        for place in 0..items {
            assortment.add(place % count, usize::MAX, random);
        }
        for place in 0..items {
            let goes_with = assortment.companions(place, random);
            if let Some(article) = assortment.articles.get_mut(place) {
                article.complements = goes_with;
            }
        }
        assortment
    }

    /// All items.
    pub(super) fn items(&self) -> &[ShopItem] {
        &self.articles
    }

    pub(super) fn get(&self, place: ShopItemIx) -> Option<&ShopItem> {
        self.articles.get(place)
    }

    pub(super) fn find(&self, id: &str) -> Option<ShopItemIx> {
        self.by_id.get(id).copied()
    }

    /// How many categories there are.
    pub(super) fn category_count(&self) -> usize {
        self.categories.len()
    }

    /// An item of a category, by popularity.
    pub(super) fn sample_popular(&self, category: usize, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        self.categories
            .get(category)
            .and_then(|category| category.places.get(category.popularity.sample(random)))
            .copied()
            .unwrap_or_default()
    }

    /// An item of the less popular half of a category.
    pub(super) fn sample_unpopular(&self, category: usize, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let Some(category) = self.categories.get(category) else { return 0 };
        let rank = random.gen_range(category.places.len() / 2..category.places.len());
        category.places.get(rank).copied().unwrap_or_default()
    }

    /// Takes a new item in, somewhere among the more popular half of its category, beside some that
    /// are there.
    pub(super) fn add_new_item(&mut self, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let category = random.gen_range(0..self.categories.len());
        let half = self.categories.get(category).map_or(0, |category| category.places.len() / 2);
        let place = self.add(category, random.gen_range(0..=half), random);
        let goes_with = self.companions(place, random);
        if let Some(article) = self.articles.get_mut(place) {
            article.complements = goes_with;
        }
        for _ in 0..NEIGHBOURS {
            let beside = self.sample_popular(category, random);
            let slot = random.gen_range(1..GOES_WITH);
            if let Some(given) =
                self.articles.get_mut(beside).filter(|_| beside != place).and_then(|article| article.complements.get_mut(slot))
            {
                *given = place;
            }
        }
        place
    }

    /// Makes items of a family go with each other before anything else.
    pub(super) fn link_family(&mut self, family: &[ShopItemIx]) {
        for place in family {
            let Some(article) = self.articles.get_mut(*place) else { continue };
            for (slot, other) in article.complements.iter_mut().zip(family.iter().filter(|other| *other != place)) {
                *slot = *other;
            }
        }
    }

    /// Names an item and gives it a rank in its category.
    fn add(&mut self, category: usize, rank: usize, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let place = self.articles.len();
        let name = CATEGORIES.get(category).copied().unwrap_or("things");
        let Some(shelf) = self.categories.get_mut(category) else { return 0 };
        shelf.named += 1;
        let id = format!("{name}-{}", shelf.named);
        shelf.places.insert(rank.min(shelf.places.len()), place);
        shelf.popularity = zipf(shelf.places.len());
        // Prices of a shop are spread over their orders of magnitude: from 2 to 200.
        let price = 2.0 * 100.0_f64.powf(random.r#gen());
        let brand = BRANDS.get(random.gen_range(0..BRANDS.len())).copied().unwrap_or_default();
        let item = Item {
            categories: vec![name.to_owned()],
            brand: Some(brand.to_owned()),
            price: Some((price * 100.0).round() / 100.0),
            ..Item::default()
        };
        self.by_id.insert(id.clone(), place);
        self.articles.push(ShopItem { id, category, complements: [place; GOES_WITH], item });
        place
    }

    /// Different items of the same category, by popularity.
    fn companions(&self, place: ShopItemIx, random: &mut Xoshiro256PlusPlus) -> [ShopItemIx; GOES_WITH] {
        let category = self.get(place).map_or(0, |article| article.category);
        let mut chosen = [place; GOES_WITH];
        for slot in 0..GOES_WITH {
            // Categories hold many more items than are wanted here, so that a few draws find
            // another one.
            let found = (0..20).map(|_| self.sample_popular(category, random)).find(|other| *other != place && !chosen.contains(other));
            if let (Some(slot), Some(found)) = (chosen.get_mut(slot), found) {
                *slot = found;
            }
        }
        chosen
    }
}

/// Ranks from 0, each with the weight that Zipf gives it.
fn zipf(items: usize) -> WeightedSampler {
    WeightedSampler::new((1..=items).map(|rank| (rank as f64).powf(-ZIPF_EXPONENT)))
}
