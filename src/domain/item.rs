//! Item attributes and their changes.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// The catalog attributes of an item. The `ingest` module enforces all limits before it creates an
/// item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The item's categories.
    pub categories: Vec<String>,
    /// The item's brand or maker.
    pub brand: Option<String>,
    /// The price in the site's own unit; at least 0.
    pub price: Option<f64>,
    /// The item's tags.
    pub tags: Vec<String>,
    /// Whether the item is available now. An unavailable item is never recommended.
    pub available: bool,
    /// The time of publication. The item is not recommended before this time.
    pub published: Option<Timestamp>,
    /// The time of expiry. The item is not recommended from this time on.
    pub expires: Option<Timestamp>,
}

impl Default for Item {
    /// An available item without categories, brand, price and tags.
    fn default() -> Self {
        Self {
            categories: Vec::new(),
            brand: None,
            price: None,
            tags: Vec::new(),
            available: true,
            published: None,
            expires: None,
        }
    }
}

impl Item {
    /// Whether the item can be recommended at time `now`: it is available, published and not
    /// expired.
    #[must_use]
    pub fn is_recommendable(&self, now: Timestamp) -> bool {
        self.available && self.published.is_none_or(|from| from <= now) && self.expires.is_none_or(|until| now < until)
    }
}

/// A change of some attributes of an item; `None` leaves an attribute unchanged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemPatch {
    /// See [`Item::categories`].
    pub categories: Option<Vec<String>>,
    /// See [`Item::brand`]; `Some(None)` removes the attribute.
    pub brand: Option<Option<String>>,
    /// See [`Item::price`]; `Some(None)` removes the attribute.
    pub price: Option<Option<f64>>,
    /// See [`Item::tags`].
    pub tags: Option<Vec<String>>,
    /// See [`Item::available`].
    pub available: Option<bool>,
    /// See [`Item::published`]; `Some(None)` removes the attribute.
    pub published: Option<Option<Timestamp>>,
    /// See [`Item::expires`]; `Some(None)` removes the attribute.
    pub expires: Option<Option<Timestamp>>,
}

impl ItemPatch {
    /// Applies the patch to an item.
    pub fn apply(&self, item: &mut Item) {
        fn replace_if_some<T: Clone>(attribute: &mut T, change: &Option<T>) {
            if let Some(value) = change {
                attribute.clone_from(value);
            }
        }
        replace_if_some(&mut item.categories, &self.categories);
        replace_if_some(&mut item.brand, &self.brand);
        replace_if_some(&mut item.price, &self.price);
        replace_if_some(&mut item.tags, &self.tags);
        replace_if_some(&mut item.available, &self.available);
        replace_if_some(&mut item.published, &self.published);
        replace_if_some(&mut item.expires, &self.expires);
    }
}

/// A catalog operation on an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ItemOperation {
    /// Replaces all attributes of the item.
    Put(Item),
    /// Changes some attributes of the item. A deleted item stays deleted.
    Patch(ItemPatch),
    /// Deletes the item. A deleted item is not recommended until a `Put` adds it again.
    Delete,
}

/// The journal entry of a catalog change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemChange {
    /// The item.
    pub item_id: String,
    /// The time at which the change arrived.
    pub timestamp: Timestamp,
    /// The operation.
    #[serde(rename = "act")]
    pub operation: ItemOperation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_recommendable_from_publication_to_expiry() {
        let item = Item { published: Some(10), expires: Some(20), ..Item::default() };
        let recommendable: Vec<_> = [9, 10, 19, 20].into_iter().filter(|now| item.is_recommendable(*now)).collect();
        assert_eq!(recommendable, [10, 19]);
        assert!(Item::default().is_recommendable(i64::MIN));
        assert!(!Item { available: false, ..item }.is_recommendable(15));
    }

    #[test]
    fn a_patch_changes_only_its_attributes() {
        let mut item = Item { brand: Some("b".to_owned()), price: Some(2.0), ..Item::default() };
        let patch = ItemPatch {
            brand: Some(None),
            tags: Some(vec!["t".to_owned()]),
            available: Some(false),
            ..ItemPatch::default()
        };
        patch.apply(&mut item);
        assert_eq!(item, Item { price: Some(2.0), tags: vec!["t".to_owned()], available: false, ..Item::default() });
    }
}
