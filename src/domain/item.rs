//! What the catalog says of an item, and how that changes.

use super::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is known of an item beside what users do with it. What reaches this type has passed every
/// limit of `capture`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// The categories that it belongs to; an item may have several.
    pub categories: Vec<String>,
    /// Who makes it.
    pub brand: Option<String>,
    /// What it costs, in the site's own unit; at least 0.
    pub price: Option<f64>,
    /// Whatever else it is labelled with.
    pub tags: Vec<String>,
    /// Whether it can be had now; one that cannot is never recommended.
    pub available: bool,
    /// Before this it is not recommended.
    #[schema(value_type = Option<i64>)]
    pub published: Option<Timestamp>,
    /// From this on it is not recommended.
    #[schema(value_type = Option<i64>)]
    pub expires: Option<Timestamp>,
}

impl Default for Item {
    /// An item of which nothing is known is available.
    fn default() -> Self {
        Self { categories: Vec::new(), brand: None, price: None, tags: Vec::new(), available: true, published: None, expires: None }
    }
}

impl Item {
    /// Whether it may be recommended at a time: it is available, published and not expired.
    #[must_use]
    pub fn is_recommendable(&self, now: Timestamp) -> bool {
        self.available && self.published.is_none_or(|from| from <= now) && self.expires.is_none_or(|until| now < until)
    }
}

/// A change of some of an item's attributes: what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemPatch {
    /// See [`Item::categories`].
    pub categories: Option<Vec<String>>,
    /// See [`Item::brand`]; `Some(None)` takes it away.
    pub brand: Option<Option<String>>,
    /// See [`Item::price`]; `Some(None)` takes it away.
    pub price: Option<Option<f64>>,
    /// See [`Item::tags`].
    pub tags: Option<Vec<String>>,
    /// See [`Item::available`].
    pub available: Option<bool>,
    /// See [`Item::published`]; `Some(None)` takes it away.
    pub published: Option<Option<Timestamp>>,
    /// See [`Item::expires`]; `Some(None)` takes it away.
    pub expires: Option<Option<Timestamp>>,
}

impl ItemPatch {
    /// Changes an item.
    pub fn apply(&self, item: &mut Item) {
        fn set<T: Clone>(attribute: &mut T, change: &Option<T>) {
            if let Some(value) = change {
                attribute.clone_from(value);
            }
        }
        set(&mut item.categories, &self.categories);
        set(&mut item.brand, &self.brand);
        set(&mut item.price, &self.price);
        set(&mut item.tags, &self.tags);
        set(&mut item.available, &self.available);
        set(&mut item.published, &self.published);
        set(&mut item.expires, &self.expires);
    }
}

/// What is done to an item's place in the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ItemOperation {
    /// The item is this from now on, whatever it was.
    Put(Item),
    /// Some of its attributes change; a deleted item stays deleted.
    Patch(ItemPatch),
    /// It is never recommended again, unless it is put again.
    Delete,
}

/// A change of the catalog, as it is journalled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemChange {
    /// The item.
    pub item_id: String,
    /// When the change arrived.
    pub timestamp: Timestamp,
    /// The change.
    #[serde(rename = "act")]
    pub operation: ItemOperation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_offered_from_its_publication_until_it_expires() {
        let item = Item { published: Some(10), expires: Some(20), ..Item::default() };
        let offered: Vec<_> = [9, 10, 19, 20].into_iter().filter(|now| item.is_recommendable(*now)).collect();
        assert_eq!(offered, [10, 19]);
        assert!(Item::default().is_recommendable(i64::MIN));
        assert!(!Item { available: false, ..item }.is_recommendable(15));
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let mut item = Item { brand: Some("b".to_owned()), price: Some(2.0), ..Item::default() };
        let patch = ItemPatch { brand: Some(None), tags: Some(vec!["t".to_owned()]), available: Some(false), ..ItemPatch::default() };
        patch.apply(&mut item);
        assert_eq!(item, Item { price: Some(2.0), tags: vec!["t".to_owned()], available: false, ..Item::default() });
    }
}
