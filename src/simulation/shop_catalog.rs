//! Catalog of the simulated shop: items by category, their popularity, and complementary items.

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use rustc_hash::FxHashMap;

use super::weighted_sampler::WeightedSampler;
use crate::domain::Item;

/// Names of the categories.
const CATEGORIES: [&str; 24] = [
    "tea", "coffee", "cups", "teapots", "plates", "pans", "knives", "lamps", "chairs", "desks", "shelves", "rugs",
    "pillows", "blankets", "towels", "soaps", "candles", "vases", "plants", "seeds", "books", "pens", "clocks", "bags",
];
/// Names of the brands.
const BRANDS: [&str; 12] =
    ["Alba", "Borea", "Cala", "Dune", "Elva", "Fjord", "Gran", "Hven", "Isla", "Juno", "Kite", "Luma"];
/// Exponent s of Zipf's law: the popularity of the item at rank r of a category is 1 / r^s [Zipf
/// 1949].
pub(super) const ZIPF_EXPONENT: f64 = 1.0;
/// Number of complementary items per item.
const COMPLEMENTS: usize = 3;
/// Number of existing items that get a new item as a complement, so that visitors reach it.
const LINKS_TO_NEW_ITEM: usize = 6;

/// Index of an item in the catalog.
pub(super) type ShopItemIx = usize;

/// An item of the shop.
#[derive(Debug, Clone)]
pub(super) struct ShopItem {
    pub(super) id: String,
    pub(super) category: usize,
    /// Items that are often viewed after this one, in descending order of probability.
    pub(super) complements: [ShopItemIx; COMPLEMENTS],
    pub(super) item: Item,
}

/// A category.
#[derive(Debug, Clone)]
struct ShopCategory {
    /// The items, in descending order of popularity.
    places: Vec<ShopItemIx>,
    /// Number of items named so far. The name of the next item continues it.
    named: usize,
    popularity: WeightedSampler,
}

/// Catalog of the shop.
#[derive(Debug, Clone)]
pub(super) struct ShopCatalog {
    articles: Vec<ShopItem>,
    categories: Vec<ShopCategory>,
    by_id: FxHashMap<String, ShopItemIx>,
}

impl ShopCatalog {
    /// Creates a catalog of `items` items, spread evenly over the categories.
    pub(super) fn new(items: usize, random: &mut Xoshiro256PlusPlus) -> Self {
        // A category has about 20 items or more, so that a visit does not cover most of it.
        let count = (items / 20).clamp(1, CATEGORIES.len());
        let categories =
            (0..count).map(|_| ShopCategory { places: Vec::new(), named: 0, popularity: zipf(0) }).collect();
        let mut catalog = Self { articles: Vec::with_capacity(items), categories, by_id: FxHashMap::default() };
        for index in 0..items {
            catalog.add(index % count, usize::MAX, random);
        }
        for index in 0..items {
            let complements = catalog.draw_complements(index, random);
            if let Some(item) = catalog.articles.get_mut(index) {
                item.complements = complements;
            }
        }
        catalog
    }

    /// All items.
    pub(super) fn items(&self) -> &[ShopItem] {
        &self.articles
    }

    pub(super) fn get(&self, index: ShopItemIx) -> Option<&ShopItem> {
        self.articles.get(index)
    }

    pub(super) fn find(&self, id: &str) -> Option<ShopItemIx> {
        self.by_id.get(id).copied()
    }

    /// The number of categories.
    pub(super) fn category_count(&self) -> usize {
        self.categories.len()
    }

    /// Draws an item of a category by popularity.
    pub(super) fn sample_popular(&self, category: usize, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        self.categories
            .get(category)
            .and_then(|category| category.places.get(category.popularity.sample(random)))
            .copied()
            .unwrap_or_default()
    }

    /// Draws an item from the less popular half of a category.
    pub(super) fn sample_unpopular(&self, category: usize, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let Some(category) = self.categories.get(category) else { return 0 };
        let rank = random.gen_range(category.places.len() / 2..category.places.len());
        category.places.get(rank).copied().unwrap_or_default()
    }

    /// Adds a new item to the more popular half of a category, and links it from some popular items
    /// of the category.
    pub(super) fn add_new_item(&mut self, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let category = random.gen_range(0..self.categories.len());
        let half = self.categories.get(category).map_or(0, |category| category.places.len() / 2);
        let index = self.add(category, random.gen_range(0..=half), random);
        let complements = self.draw_complements(index, random);
        if let Some(item) = self.articles.get_mut(index) {
            item.complements = complements;
        }
        for _ in 0..LINKS_TO_NEW_ITEM {
            let neighbour = self.sample_popular(category, random);
            let slot = random.gen_range(1..COMPLEMENTS);
            if let Some(complement) = self
                .articles
                .get_mut(neighbour)
                .filter(|_| neighbour != index)
                .and_then(|item| item.complements.get_mut(slot))
            {
                *complement = index;
            }
        }
        index
    }

    /// Makes the items of a group the first complements of each other.
    pub(super) fn link_family(&mut self, family: &[ShopItemIx]) {
        for index in family {
            let Some(item) = self.articles.get_mut(*index) else { continue };
            for (slot, other) in item.complements.iter_mut().zip(family.iter().filter(|other| *other != index)) {
                *slot = *other;
            }
        }
    }

    /// Adds an item to a category at a popularity rank.
    fn add(&mut self, category: usize, rank: usize, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let index = self.articles.len();
        let name = CATEGORIES.get(category).copied().unwrap_or("things");
        let Some(shop_category) = self.categories.get_mut(category) else { return 0 };
        shop_category.named += 1;
        let id = format!("{name}-{}", shop_category.named);
        shop_category.places.insert(rank.min(shop_category.places.len()), index);
        shop_category.popularity = zipf(shop_category.places.len());
        // Prices are log-uniform from 2 to 200.
        let price = 2.0 * 100.0_f64.powf(random.r#gen());
        let brand = BRANDS.get(random.gen_range(0..BRANDS.len())).copied().unwrap_or_default();
        let item = Item {
            categories: vec![name.to_owned()],
            brand: Some(brand.to_owned()),
            price: Some((price * 100.0).round() / 100.0),
            ..Item::default()
        };
        self.by_id.insert(id.clone(), index);
        self.articles.push(ShopItem { id, category, complements: [index; COMPLEMENTS], item });
        index
    }

    /// Draws distinct items of the same category by popularity.
    fn draw_complements(&self, index: ShopItemIx, random: &mut Xoshiro256PlusPlus) -> [ShopItemIx; COMPLEMENTS] {
        let category = self.get(index).map_or(0, |item| item.category);
        let mut chosen = [index; COMPLEMENTS];
        for slot in 0..COMPLEMENTS {
            // A category contains many more items than needed, so a few draws find another one.
            let found = (0..20)
                .map(|_| self.sample_popular(category, random))
                .find(|other| *other != index && !chosen.contains(other));
            if let (Some(slot), Some(found)) = (chosen.get_mut(slot), found) {
                *slot = found;
            }
        }
        chosen
    }
}

/// Sampler over the ranks from 0, weighted by Zipf's law.
fn zipf(items: usize) -> WeightedSampler {
    WeightedSampler::new((1..=items).map(|rank| (rank as f64).powf(-ZIPF_EXPONENT)))
}
