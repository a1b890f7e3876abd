//! The attributes of an item as the catalog holds them in memory.

use super::intern_table::InternTable;
use super::{Item, ItemDetails, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use std::sync::{Arc, LazyLock};

/// The distinct categories, brands and tags of all catalogs in this process.
static VALUES: LazyLock<InternTable<str>> = LazyLock::new(InternTable::default);
/// The distinct combinations of categories, brand and tags of all catalogs in this process.
static COMBINATIONS: LazyLock<InternTable<TextAttributes>> = LazyLock::new(InternTable::default);

/// The text attributes of an item. Items with the same text attributes share them.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextAttributes {
    categories: Box<[Arc<str>]>,
    brand: Option<Arc<str>>,
    tags: Box<[Arc<str>]>,
}

/// The attributes of an item as the catalog holds them: 48 bytes an item, plus the text attributes.
/// Items with equal categories, brand and tags share one allocation for them, and items with equal
/// single values share these values. The serialised form is that of [`Item`], without the details.
///
/// ```
/// use sequor_core::domain::{CatalogItem, Item};
///
/// let item = Item { brand: Some("leaf".to_owned()), price: Some(2.5), ..Item::default() };
/// let held = CatalogItem::from(&item);
/// assert_eq!((held.brand().map(|brand| &**brand), held.price()), (Some("leaf"), Some(2.5)));
/// assert_eq!(Item::from(&held), item);
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "Item")]
pub struct CatalogItem {
    /// `None`: no categories, no brand and no tags.
    texts: Option<Arc<TextAttributes>>,
    /// The values of absent numbers are 0. An `Option` for each would take another 8 bytes.
    price: f64,
    published: Timestamp,
    expires: Timestamp,
    has_price: bool,
    has_published: bool,
    has_expires: bool,
    is_available: bool,
    details: Option<Arc<ItemDetails>>,
}

impl CatalogItem {
    /// An available item without any other attributes.
    pub(super) const WITHOUT_ATTRIBUTES: Self = Self {
        texts: None,
        price: 0.0,
        published: 0,
        expires: 0,
        has_price: false,
        has_published: false,
        has_expires: false,
        is_available: true,
        details: None,
    };

    /// See [`Item::categories`].
    #[must_use]
    pub fn categories(&self) -> &[Arc<str>] {
        self.texts.as_ref().map_or(&[], |texts| &texts.categories)
    }

    /// See [`Item::brand`].
    #[must_use]
    pub fn brand(&self) -> Option<&Arc<str>> {
        self.texts.as_ref()?.brand.as_ref()
    }

    /// See [`Item::tags`].
    #[must_use]
    pub fn tags(&self) -> &[Arc<str>] {
        self.texts.as_ref().map_or(&[], |texts| &texts.tags)
    }

    /// See [`Item::price`].
    #[must_use]
    pub fn price(&self) -> Option<f64> {
        self.has_price.then_some(self.price)
    }

    /// See [`Item::available`].
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.is_available
    }

    /// See [`Item::published`].
    #[must_use]
    pub fn published(&self) -> Option<Timestamp> {
        self.has_published.then_some(self.published)
    }

    /// See [`Item::expires`].
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.has_expires.then_some(self.expires)
    }

    /// See [`Item::details`].
    #[must_use]
    pub fn details(&self) -> Option<&ItemDetails> {
        self.details.as_deref()
    }

    /// Whether the item can be recommended at time `now`: it is available, published and not
    /// expired.
    #[must_use]
    pub fn is_recommendable(&self, now: Timestamp) -> bool {
        self.is_available
            && self.published().is_none_or(|from| from <= now)
            && self.expires().is_none_or(|until| now < until)
    }
}

impl From<&Item> for CatalogItem {
    fn from(item: &Item) -> Self {
        let has_texts = !item.categories.is_empty() || item.brand.is_some() || !item.tags.is_empty();
        let shared = |values: &[String]| values.iter().map(|value| VALUES.intern(value.as_str())).collect();
        let texts = has_texts.then(|| TextAttributes {
            categories: shared(&item.categories),
            brand: item.brand.as_deref().map(|brand| VALUES.intern(brand)),
            tags: shared(&item.tags),
        });
        Self {
            texts: texts.map(|texts| COMBINATIONS.intern(texts)),
            price: item.price.unwrap_or_default(),
            published: item.published.unwrap_or_default(),
            expires: item.expires.unwrap_or_default(),
            has_price: item.price.is_some(),
            has_published: item.published.is_some(),
            has_expires: item.expires.is_some(),
            is_available: item.available,
            details: item.details.as_deref().map(|details| Arc::new(with_shared_texts(details))),
        }
    }
}

/// The details of an item, of whose free attributes equal names and texts are shared.
fn with_shared_texts(details: &ItemDetails) -> ItemDetails {
    let attributes = details.attributes.with_shared_texts(&|text| VALUES.intern(Arc::clone(text)));
    ItemDetails { attributes, ..details.clone() }
}

impl CatalogItem {
    /// The item with other details.
    pub(super) fn with_details(self, details: ItemDetails) -> Self {
        Self { details: Some(Arc::new(with_shared_texts(&details))), ..self }
    }
}

impl From<Item> for CatalogItem {
    fn from(item: Item) -> Self {
        Self::from(&item)
    }
}

impl From<&CatalogItem> for Item {
    fn from(held: &CatalogItem) -> Self {
        let owned = |values: &[Arc<str>]| values.iter().map(|value| String::from(&**value)).collect();
        Self {
            categories: owned(held.categories()),
            brand: held.brand().map(|brand| String::from(&**brand)),
            price: held.price(),
            tags: owned(held.tags()),
            available: held.is_available,
            published: held.published(),
            expires: held.expires(),
            details: held.details.clone(),
        }
    }
}

/// The fields of [`Item`] in their order, borrowed.
#[derive(Serialize)]
#[serde(rename = "Item")]
struct SerializedItem<'i> {
    categories: &'i [Arc<str>],
    brand: Option<&'i Arc<str>>,
    price: Option<f64>,
    tags: &'i [Arc<str>],
    available: bool,
    published: Option<Timestamp>,
    expires: Option<Timestamp>,
}

impl Serialize for CatalogItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = SerializedItem {
            categories: self.categories(),
            brand: self.brand(),
            price: self.price(),
            tags: self.tags(),
            available: self.is_available,
            published: self.published(),
            expires: self.expires(),
        };
        fields.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_item() -> impl Strategy<Value = Item> {
        let texts = || prop::collection::vec("[a-c]{0,2}", 0..3);
        let times = || prop::option::of(any::<i64>());
        (texts(), prop::option::of("[a-c]{0,2}"), prop::option::of(0.0..1e9), texts(), any::<bool>(), times(), times())
            .prop_map(|(categories, brand, price, tags, available, published, expires)| Item {
                categories,
                brand,
                price,
                tags,
                available,
                published,
                expires,
                details: None,
            })
    }

    proptest! {
        #[test]
        fn it_has_the_attributes_and_the_serialised_form_of_the_item(item in any_item()) {
            let held = CatalogItem::from(&item);
            prop_assert_eq!(&Item::from(&held), &item);
            let config = bincode::config::legacy();
            let bytes = bincode::serde::encode_to_vec(&item, config).unwrap();
            prop_assert_eq!(&bincode::serde::encode_to_vec(&held, config).unwrap(), &bytes);
            let (decoded, _): (CatalogItem, _) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
            prop_assert_eq!(&decoded, &held);
            prop_assert_eq!(serde_json::to_string(&held).unwrap(), serde_json::to_string(&item).unwrap());
        }
    }

    #[test]
    fn an_item_is_recommendable_from_publication_to_expiry() {
        let item = Item { published: Some(10), expires: Some(20), ..Item::default() };
        let is_recommendable = |item: &Item, now| CatalogItem::from(item).is_recommendable(now);
        let times: Vec<_> = [9, 10, 19, 20].into_iter().filter(|now| is_recommendable(&item, *now)).collect();
        assert_eq!(times, [10, 19]);
        assert!(is_recommendable(&Item::default(), i64::MIN));
        assert!(!is_recommendable(&Item { available: false, ..item }, 15));
    }

    #[test]
    fn items_with_equal_texts_share_them() {
        let item = |price: f64, tag: &str| {
            let texts = |text: &str| vec![text.to_owned()];
            let tags = texts(tag);
            let (categories, brand) = (texts("a shared category"), Some("a shared brand".to_owned()));
            CatalogItem::from(&Item { categories, brand, tags, price: Some(price), ..Item::default() })
        };
        let (first, second, other) = (item(1.0, "old"), item(2.0, "old"), item(1.0, "new"));
        let texts = |item: &CatalogItem| item.texts.clone().unwrap();
        assert!(Arc::ptr_eq(&texts(&first), &texts(&second)));
        assert!(!Arc::ptr_eq(&texts(&first), &texts(&other)));
        assert!(Arc::ptr_eq(&first.categories()[0], &other.categories()[0]));
        assert!(Arc::ptr_eq(first.brand().unwrap(), other.brand().unwrap()));
        assert_eq!((other.tags().len(), &*other.tags()[0]), (1, "new"));
    }
}
