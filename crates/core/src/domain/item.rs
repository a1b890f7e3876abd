//! Item attributes and their changes.

use super::{ItemDetails, ItemDetailsPatch, ItemVector, Timestamp, VectorPatch};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The catalog attributes of an item. The `ingest` module has already checked that all values are
/// within their limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The item's categories.
    pub categories: Vec<String>,
    /// The item's brand or maker.
    pub brand: Option<String>,
    /// The price, at least 0. The site chooses the unit.
    pub price: Option<f64>,
    /// The item's tags.
    pub tags: Vec<String>,
    /// Whether the item is available now. An unavailable item is never recommended.
    pub available: bool,
    /// The time from which on the item may be recommended; `None`: no lower limit.
    pub published: Option<Timestamp>,
    /// The time from which on the item is no longer recommended; `None`: no upper limit.
    pub expires: Option<Timestamp>,
    /// Title, addresses and free attributes; `None` if there are none. The stored form is in
    /// `stored_entry`.
    #[serde(skip)]
    pub details: Option<Arc<ItemDetails>>,
}

impl Default for Item {
    /// An available item without any other attributes.
    fn default() -> Self {
        Self {
            categories: Vec::new(),
            brand: None,
            price: None,
            tags: Vec::new(),
            available: true,
            published: None,
            expires: None,
            details: None,
        }
    }
}

/// A change of some attributes of an item. A field that is `None` leaves its attribute unchanged.
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
    /// The changes of [`Item::details`].
    #[serde(skip)]
    pub details: Option<Box<ItemDetailsPatch>>,
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
        if let Some(patch) = &self.details {
            item.details = patch.applied_to(item.details.as_deref()).into_shared();
        }
    }
}

/// A catalog operation on an item. The stored form is in `stored_entry`.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemOperation {
    /// Replaces all attributes of the item.
    Put(Item),
    /// Changes some attributes of the item. If the item is deleted, it stays deleted.
    Patch(ItemPatch),
    /// Deletes the item. A deleted item is not recommended until a `Put` adds it again.
    Delete,
    /// Like [`ItemOperation::Put`], for an item with vectors. `Put` removes the vectors of an item.
    PutWithVectors(Item, Vec<ItemVector>),
    /// Like [`ItemOperation::Patch`], and changes the vectors of the item.
    PatchWithVectors(ItemPatch, VectorPatch),
}

impl ItemOperation {
    /// The vectors that the operation sets, each with its name and values.
    pub fn vectors(&self) -> impl Iterator<Item = (&str, &[f32])> {
        let (put, changed) = match self {
            Self::PutWithVectors(_, vectors) => (vectors.as_slice(), [].as_slice()),
            Self::PatchWithVectors(_, VectorPatch::Change(changes)) => ([].as_slice(), changes.as_slice()),
            _ => ([].as_slice(), [].as_slice()),
        };
        let put = put.iter().map(|vector| (vector.name.as_str(), vector.values.as_slice()));
        put.chain(changed.iter().filter_map(|(name, values)| Some((name.as_str(), values.as_deref()?))))
    }
}

/// A change of one item, as the journal stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemChange {
    /// The item.
    pub item_id: String,
    /// The time at which the daemon received the change.
    pub timestamp: Timestamp,
    /// The operation.
    #[serde(rename = "act")]
    pub operation: ItemOperation,
}

#[cfg(test)]
mod tests {
    use super::*;

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
