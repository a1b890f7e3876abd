//! Catalog of the simulated shop: items with their category, popularity and complementary items.

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use rustc_hash::FxHashMap;

use super::weighted_sampler::WeightedSampler;
use crate::domain::Item;

/// Names of the categories.
const CATEGORY_NAMES: [&str; 24] = [
    "tea", "coffee", "cups", "teapots", "plates", "pans", "knives", "lamps", "chairs", "desks", "shelves", "rugs",
    "pillows", "blankets", "towels", "soaps", "candles", "vases", "plants", "seeds", "books", "pens", "clocks", "bags",
];
/// Names of the brands.
const BRAND_NAMES: [&str; 12] =
    ["Alba", "Borea", "Cala", "Dune", "Elva", "Fjord", "Gran", "Hven", "Isla", "Juno", "Kite", "Luma"];
/// Exponent s of Zipf's law: the item at popularity rank r of a category has the weight 1 / r^s
/// [Zipf 1949].
pub(super) const ZIPF_EXPONENT: f64 = 1.0;
/// Number of complementary items per item.
const COMPLEMENTS_PER_ITEM: usize = 3;
/// A new item becomes a complement of this many existing items, so that visitors can reach it.
const ITEMS_LINKED_TO_NEW_ITEM: usize = 6;

/// Index of an item in the catalog of the shop.
pub(super) type ShopItemIx = usize;

/// An item of the simulated shop.
#[derive(Debug, Clone)]
pub(super) struct ShopItem {
    pub(super) id: String,
    pub(super) category: usize,
    /// Items that visitors often view after this item, in descending order of probability.
    pub(super) complements: [ShopItemIx; COMPLEMENTS_PER_ITEM],
    pub(super) item: Item,
}

/// A category of the simulated shop.
#[derive(Debug, Clone)]
struct ShopCategory {
    /// The items, in descending order of popularity.
    items_by_popularity: Vec<ShopItemIx>,
    /// Number of items that already have a name. Item names end with consecutive numbers.
    named_items: usize,
    /// Draws a position in `items_by_popularity`.
    popularity: WeightedSampler,
}

/// The catalog of the simulated shop.
#[derive(Debug, Clone)]
pub(super) struct ShopCatalog {
    items: Vec<ShopItem>,
    categories: Vec<ShopCategory>,
    by_id: FxHashMap<String, ShopItemIx>,
}

impl ShopCatalog {
    /// Creates a catalog of `items` items, spread evenly over the categories.
    pub(super) fn new(items: usize, random: &mut Xoshiro256PlusPlus) -> Self {
        // A category has at least about 20 items, so that a visit covers only a small part of the
        // category.
        let count = (items / 20).clamp(1, CATEGORY_NAMES.len());
        let categories = (0..count)
            .map(|_| ShopCategory {
                items_by_popularity: Vec::new(),
                named_items: 0,
                popularity: WeightedSampler::new(std::iter::empty()),
            })
            .collect();
        let mut catalog = Self { items: Vec::with_capacity(items), categories, by_id: FxHashMap::default() };
        for index in 0..items {
            catalog.add_item(index % count, usize::MAX, random);
        }
        for index in 0..items {
            let complements = catalog.draw_complements(index, random);
            if let Some(item) = catalog.items.get_mut(index) {
                item.complements = complements;
            }
        }
        catalog
    }

    /// All items.
    pub(super) fn items(&self) -> &[ShopItem] {
        &self.items
    }

    pub(super) fn get(&self, index: ShopItemIx) -> Option<&ShopItem> {
        self.items.get(index)
    }

    pub(super) fn index_of(&self, id: &str) -> Option<ShopItemIx> {
        self.by_id.get(id).copied()
    }

    /// The number of categories.
    pub(super) fn category_count(&self) -> usize {
        self.categories.len()
    }

    /// Draws an item of a category with a probability proportional to its popularity.
    pub(super) fn draw_popular_item(&self, category: usize, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        self.categories
            .get(category)
            .and_then(|category| category.items_by_popularity.get(category.popularity.draw_index(random)))
            .copied()
            .unwrap_or_default()
    }

    /// The items of a category with the probabilities of [`Self::draw_popular_item`].
    pub(super) fn item_probabilities(&self, category: usize) -> impl Iterator<Item = (ShopItemIx, f64)> + '_ {
        self.categories.get(category).into_iter().flat_map(|category| {
            let items = category.items_by_popularity.iter().enumerate();
            items.map(|(rank, index)| (*index, category.popularity.probability(rank)))
        })
    }

    /// Draws an item from the less popular half of a category.
    pub(super) fn draw_unpopular_item(&self, category: usize, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let Some(category) = self.categories.get(category) else { return 0 };
        let rank = random.gen_range(category.items_by_popularity.len() / 2..category.items_by_popularity.len());
        category.items_by_popularity.get(rank).copied().unwrap_or_default()
    }

    /// Adds a new item to the more popular half of a random category. The new item becomes a
    /// complement of some popular items of the category.
    pub(super) fn add_new_item(&mut self, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let category = random.gen_range(0..self.categories.len());
        let half = self.categories.get(category).map_or(0, |category| category.items_by_popularity.len() / 2);
        let index = self.add_item(category, random.gen_range(0..=half), random);
        let complements = self.draw_complements(index, random);
        if let Some(item) = self.items.get_mut(index) {
            item.complements = complements;
        }
        for _ in 0..ITEMS_LINKED_TO_NEW_ITEM {
            let neighbour = self.draw_popular_item(category, random);
            let slot = random.gen_range(1..COMPLEMENTS_PER_ITEM);
            if let Some(complement) = self
                .items
                .get_mut(neighbour)
                .filter(|_| neighbour != index)
                .and_then(|item| item.complements.get_mut(slot))
            {
                *complement = index;
            }
        }
        index
    }

    /// Makes the given items complements of each other. For each item, the others become its most
    /// probable complements.
    pub(super) fn link_as_complements(&mut self, items: &[ShopItemIx]) {
        for index in items {
            let Some(item) = self.items.get_mut(*index) else { continue };
            for (slot, other) in item.complements.iter_mut().zip(items.iter().filter(|other| *other != index)) {
                *slot = *other;
            }
        }
    }

    /// Adds an item with popularity rank `rank` to a category.
    fn add_item(&mut self, category: usize, rank: usize, random: &mut Xoshiro256PlusPlus) -> ShopItemIx {
        let index = self.items.len();
        let name = CATEGORY_NAMES.get(category).copied().unwrap_or("things");
        let Some(shop_category) = self.categories.get_mut(category) else { return 0 };
        shop_category.named_items += 1;
        let id = format!("{name}-{}", shop_category.named_items);
        shop_category.items_by_popularity.insert(rank.min(shop_category.items_by_popularity.len()), index);
        shop_category.popularity.push(zipf_weight(shop_category.items_by_popularity.len()));
        // The logarithm of the price is uniformly distributed; prices range from 2 to 200.
        let price = 2.0 * 100.0_f64.powf(random.r#gen());
        let brand = BRAND_NAMES.get(random.gen_range(0..BRAND_NAMES.len())).copied().unwrap_or_default();
        let item = Item {
            categories: vec![name.to_owned()],
            brand: Some(brand.to_owned()),
            price: Some((price * 100.0).round() / 100.0),
            ..Item::default()
        };
        self.by_id.insert(id.clone(), index);
        self.items.push(ShopItem { id, category, complements: [index; COMPLEMENTS_PER_ITEM], item });
        index
    }

    /// Draws different complements for an item from its category. Popular items are drawn more
    /// often.
    fn draw_complements(
        &self,
        index: ShopItemIx,
        random: &mut Xoshiro256PlusPlus,
    ) -> [ShopItemIx; COMPLEMENTS_PER_ITEM] {
        let category = self.get(index).map_or(0, |item| item.category);
        let mut chosen = [index; COMPLEMENTS_PER_ITEM];
        for slot in 0..COMPLEMENTS_PER_ITEM {
            // A category contains many more items than complements, so a few draws find a new item.
            let found = (0..20)
                .map(|_| self.draw_popular_item(category, random))
                .find(|other| *other != index && !chosen.contains(other));
            if let (Some(slot), Some(found)) = (chosen.get_mut(slot), found) {
                *slot = found;
            }
        }
        chosen
    }
}

/// The weight of a popularity rank, counted from 1, by Zipf's law.
fn zipf_weight(rank: usize) -> f64 {
    (rank as f64).powf(-ZIPF_EXPONENT)
}
