//! Products of the demo's shop: titles, descriptions, prices and addresses of the simulated items.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::{Item, ItemChange, ItemDetails, ItemOperation};

/// First words of titles.
const ADJECTIVES: [&str; 24] = [
    "Amber", "Arctic", "Autumn", "Bright", "Calm", "Classic", "Coastal", "Dawn", "Forest", "Garden", "Golden",
    "Harbour", "Ivory", "Lunar", "Meadow", "Misty", "Mossy", "Nordic", "Ocean", "Pebble", "Quiet", "River", "Silver",
    "Velvet",
];
/// Last words of titles, by category of the simulated shop.
const NOUNS: [(&str, [&str; 5]); 24] = [
    ("tea", ["Sencha", "Earl Grey", "Oolong", "Rooibos", "Chai"]),
    ("coffee", ["Espresso", "Filter Roast", "Arabica", "House Blend", "Mocha"]),
    ("cups", ["Mug", "Espresso Cup", "Tumbler", "Tea Bowl", "Travel Cup"]),
    ("teapots", ["Teapot", "Kettle", "Iron Pot", "Infuser Pot", "Samovar"]),
    ("plates", ["Dinner Plate", "Side Plate", "Soup Plate", "Platter", "Bowl"]),
    ("pans", ["Frying Pan", "Saucepan", "Wok", "Casserole", "Skillet"]),
    ("knives", ["Chef's Knife", "Bread Knife", "Paring Knife", "Cleaver", "Cheese Knife"]),
    ("lamps", ["Table Lamp", "Floor Lamp", "Pendant Lamp", "Lantern", "Reading Lamp"]),
    ("chairs", ["Armchair", "Dining Chair", "Stool", "Rocking Chair", "Bench"]),
    ("desks", ["Writing Desk", "Standing Desk", "Corner Desk", "Side Table", "Workbench"]),
    ("shelves", ["Bookcase", "Wall Shelf", "Ladder Shelf", "Shoe Rack", "Spice Rack"]),
    ("rugs", ["Wool Rug", "Runner", "Kilim", "Door Mat", "Jute Rug"]),
    ("pillows", ["Pillow", "Cushion", "Bolster", "Floor Cushion", "Seat Pad"]),
    ("blankets", ["Throw", "Quilt", "Wool Blanket", "Picnic Blanket", "Bedspread"]),
    ("towels", ["Bath Towel", "Hand Towel", "Tea Towel", "Beach Towel", "Face Cloth"]),
    ("soaps", ["Hand Soap", "Bar Soap", "Shower Gel", "Bath Salt", "Body Scrub"]),
    ("candles", ["Candle", "Tealights", "Pillar Candle", "Scented Candle", "Taper Candles"]),
    ("vases", ["Vase", "Bud Vase", "Floor Vase", "Carafe", "Jug"]),
    ("plants", ["Monstera", "Fern", "Succulent", "Olive Tree", "Bonsai"]),
    ("seeds", ["Basil Seeds", "Tomato Seeds", "Lavender Seeds", "Poppy Seeds", "Wildflower Mix"]),
    ("books", ["Cookbook", "Novel", "Atlas", "Sketchbook", "Garden Guide"]),
    ("pens", ["Fountain Pen", "Ballpoint", "Brush Pen", "Pencil Set", "Fineliner"]),
    ("clocks", ["Wall Clock", "Alarm Clock", "Mantel Clock", "Hourglass", "Desk Clock"]),
    ("bags", ["Tote Bag", "Backpack", "Shoulder Bag", "Weekender", "Pouch"]),
];

/// A product of the shop.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Product {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) brand: String,
    pub(super) category: String,
    /// In euros.
    pub(super) price: f64,
}

impl Product {
    /// The product of a simulated item. Title and description follow from the item alone.
    fn new(id: &str, item: &Item) -> Self {
        let category = item.categories.first().cloned().unwrap_or_default();
        let brand = item.brand.clone().unwrap_or_default();
        let title = title_of(id, &category, &brand);
        Self { id: id.to_owned(), title, brand, category, price: item.price.unwrap_or_default() }
    }

    /// The number at the end of the id.
    pub(super) fn number(&self) -> usize {
        number_of(&self.id)
    }
}

fn number_of(id: &str) -> usize {
    id.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The title of an item, such as "Alba Misty Sencha". Within a category, the first 120 items have
/// different titles, and later items have a number.
fn title_of(id: &str, category: &str, brand: &str) -> String {
    let number = number_of(id);
    let nouns = NOUNS.iter().find(|(name, _)| *name == category).map_or(["Item"; 5], |(_, nouns)| *nouns);
    // 24 and 5 have no common divisor, so the pairs of the first 120 numbers are different.
    let adjective = ADJECTIVES.get(number * 7 % ADJECTIVES.len()).copied().unwrap_or_default();
    let noun = nouns.get(number % nouns.len()).copied().unwrap_or_default();
    let series = number.saturating_sub(1) / (ADJECTIVES.len() * nouns.len());
    let suffix = if series == 0 { String::new() } else { format!(" No. {}", series + 1) };
    format!("{brand} {adjective} {noun}{suffix}")
}

/// The products of the shop. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct ProductShelf(Arc<RwLock<ShelfContent>>);

#[derive(Debug, Default)]
struct ShelfContent {
    by_id: HashMap<String, Arc<Product>>,
    /// The products of each category, the oldest first.
    by_category: BTreeMap<String, Vec<Arc<Product>>>,
}

impl ProductShelf {
    /// Adds the product of an item change, and the product's title and addresses to the change. The
    /// shop is at `url`.
    pub(super) fn add(&self, change: &mut ItemChange, url: &str) {
        let ItemOperation::Put(item) = &mut change.operation else { return };
        let product = Arc::new(Product::new(&change.item_id, item));
        let details = ItemDetails {
            title: Some(product.title.as_str().into()),
            url: Some(format!("{url}/products/{}", product.id).into()),
            image: Some(format!("{url}/pictures/{}.svg", product.id).into()),
            ..ItemDetails::default()
        };
        item.details = details.into_shared();
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        content.by_category.entry(product.category.clone()).or_default().push(Arc::clone(&product));
        content.by_id.insert(product.id.clone(), product);
    }

    /// The product with an id.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Product>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    /// The names of the categories in alphabetical order, each with the number of its products.
    pub(super) fn categories(&self) -> Vec<(String, usize)> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        content.by_category.iter().map(|(name, products)| (name.clone(), products.len())).collect()
    }

    /// The products of a category from a position on; `None` if there is no such category.
    pub(super) fn products_of(&self, category: &str, from: usize, count: usize) -> Option<Vec<Arc<Product>>> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(content.by_category.get(category)?.iter().skip(from).take(count).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Entry;
    use crate::simulation::{ShopSettings, ShopSimulator};
    use std::collections::HashSet;

    #[test]
    fn products_have_different_titles_and_an_unchanged_item() {
        let shelf = ProductShelf::default();
        let shop = ShopSimulator::new(ShopSettings { items: 4_000, ..ShopSettings::default() }).unwrap();
        for entry in shop.take(4_000) {
            let Entry::Item(mut change) = entry else { panic!("{entry:?}") };
            let ItemOperation::Put(simulated) = change.operation.clone() else { panic!("{change:?}") };
            shelf.add(&mut change, "http://shop");
            let ItemOperation::Put(described) = change.operation else { panic!() };
            let details = described.details.as_ref().unwrap();
            assert_eq!(details.url.as_deref(), Some(format!("http://shop/products/{}", change.item_id).as_str()));
            assert_eq!(
                Item { details: None, ..described.clone() },
                simulated,
                "what the model learns from is unchanged"
            );
        }
        let categories = shelf.categories();
        assert_eq!((categories.len(), categories.iter().map(|(_, count)| count).sum::<usize>()), (24, 4_000));
        for (category, count) in categories {
            assert!(NOUNS.iter().any(|(name, _)| *name == category), "{category} has no nouns");
            let products = shelf.products_of(&category, 0, count).unwrap();
            let titles: HashSet<_> = products.iter().map(|product| &product.title).collect();
            assert_eq!(titles.len(), count, "{category}");
        }
        assert!(shelf.products_of("cars", 0, 9).is_none() && shelf.get("tea-1").is_some());
    }
}
