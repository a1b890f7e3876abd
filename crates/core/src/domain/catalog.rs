//! The catalog: the attributes of each item.

use super::{CatalogItem, Item, ItemDetails, ItemIx, ItemOperation, ItemPatch, ItemVectors, PagedVec, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;

/// What the catalog knows about one item.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "StoredSlot<'static>")]
enum CatalogSlot {
    /// The item has no attributes: it is known only from events, or not at all.
    #[default]
    Blank,
    /// The item has attributes.
    Described(CatalogItem),
    /// The item was deleted.
    Deleted,
}

/// A slot as checkpoints store it. New variants must be added at the end, because the encoding
/// numbers variants by position.
#[derive(Serialize, Deserialize)]
enum StoredSlot<'s> {
    Blank,
    Described(Cow<'s, CatalogItem>),
    Deleted,
    DescribedWithDetails(Cow<'s, CatalogItem>, Cow<'s, ItemDetails>),
}

impl From<StoredSlot<'_>> for CatalogSlot {
    fn from(stored: StoredSlot<'_>) -> Self {
        match stored {
            StoredSlot::Blank => Self::Blank,
            StoredSlot::Described(item) => Self::Described(item.into_owned()),
            StoredSlot::Deleted => Self::Deleted,
            StoredSlot::DescribedWithDetails(item, details) => {
                Self::Described(item.into_owned().with_details(details.into_owned()))
            }
        }
    }
}

impl Serialize for CatalogSlot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = match self {
            Self::Blank => StoredSlot::Blank,
            Self::Deleted => StoredSlot::Deleted,
            Self::Described(item) => match item.details() {
                None => StoredSlot::Described(Cow::Borrowed(item)),
                Some(details) => StoredSlot::DescribedWithDetails(Cow::Borrowed(item), Cow::Borrowed(details)),
            },
        };
        stored.serialize(serializer)
    }
}

/// The attributes of each item by item number, derived from the catalog changes in the journal. A
/// clone shares all unchanged pages.
///
/// ```
/// use sequor_core::domain::{Catalog, Item, ItemOperation};
///
/// let mut catalog = Catalog::default();
/// catalog.apply(7, &ItemOperation::Put(Item { price: Some(2.5), ..Item::default() }));
/// let published = catalog.clone();
/// catalog.apply(7, &ItemOperation::Delete);
/// assert_eq!(published.get(7).and_then(|item| item.price()), Some(2.5));
/// assert!(catalog.get(7).is_none());
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Catalog {
    slots: PagedVec<CatalogSlot, 64>,
    described: usize,
    /// The vectors of the items. Checkpoints store them in a later part of the learned state.
    #[serde(skip)]
    vectors: ItemVectors,
}

/// The attributes of an item for which the catalog has none.
static ITEM_WITHOUT_ATTRIBUTES: CatalogItem = CatalogItem::WITHOUT_ATTRIBUTES;

impl Catalog {
    /// Applies a catalog operation to an item. If an item has no attributes, a patch applies to the
    /// default attributes. If an item is deleted, a patch changes nothing.
    pub fn apply(&mut self, item: ItemIx, operation: &ItemOperation) {
        self.slots.grow(item as usize + 1, CatalogSlot::default);
        let Some(slot) = self.slots.get_mut(item as usize) else { return };
        let was = matches!(slot, CatalogSlot::Described(_));
        match (operation, &*slot) {
            (ItemOperation::Put(new) | ItemOperation::PutWithVectors(new, _), _) => {
                *slot = CatalogSlot::Described(CatalogItem::from(new));
            }
            (ItemOperation::Delete, _) => *slot = CatalogSlot::Deleted,
            (
                ItemOperation::Patch(patch) | ItemOperation::PatchWithVectors(patch, _),
                CatalogSlot::Described(known),
            ) => *slot = CatalogSlot::Described(patched(Item::from(known), patch)),
            (ItemOperation::Patch(patch) | ItemOperation::PatchWithVectors(patch, _), CatalogSlot::Blank) => {
                *slot = CatalogSlot::Described(patched(Item::default(), patch));
            }
            (ItemOperation::Patch(_) | ItemOperation::PatchWithVectors(..), CatalogSlot::Deleted) => return,
        }
        self.vectors.apply(item, operation);
        let is = matches!(slot, CatalogSlot::Described(_));
        self.described = self.described + usize::from(is) - usize::from(was);
    }

    /// The attributes of an item; `None` for a deleted item. An item without attributes in the
    /// catalog gets the default attributes: no categories, brand, price or tags, and available.
    #[must_use]
    pub fn get(&self, item: ItemIx) -> Option<&CatalogItem> {
        match self.slots.get(item as usize) {
            None | Some(CatalogSlot::Blank) => Some(&ITEM_WITHOUT_ATTRIBUTES),
            Some(CatalogSlot::Described(known)) => Some(known),
            Some(CatalogSlot::Deleted) => None,
        }
    }

    /// Whether the catalog has attributes of an item.
    #[must_use]
    pub fn is_described(&self, item: ItemIx) -> bool {
        matches!(self.slots.get(item as usize), Some(CatalogSlot::Described(_)))
    }

    /// The attributes of an item if it can be recommended at time `now`, else `None`.
    #[must_use]
    pub fn get_recommendable(&self, item: ItemIx, now: Timestamp) -> Option<&CatalogItem> {
        self.get(item).filter(|known| known.is_recommendable(now))
    }

    /// The vectors of the items.
    #[must_use]
    pub fn vectors(&self) -> &ItemVectors {
        &self.vectors
    }

    /// Replaces the vectors of all items by those of a checkpoint.
    pub fn set_vectors(&mut self, vectors: ItemVectors) {
        self.vectors = vectors;
    }

    /// The attributes of the items that have attributes in the catalog, in ascending order of the
    /// items' numbers.
    pub fn described_items(&self) -> impl Iterator<Item = &CatalogItem> {
        self.slots.iter().filter_map(|slot| if let CatalogSlot::Described(known) = slot { Some(known) } else { None })
    }

    /// Number of items that have attributes in the catalog.
    #[must_use]
    pub fn described_count(&self) -> usize {
        self.described
    }
}

fn patched(mut item: Item, patch: &ItemPatch) -> CatalogItem {
    patch.apply(&mut item);
    CatalogItem::from(&item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_without_new_texts_takes_48_bytes() {
        assert_eq!(size_of::<CatalogSlot>(), 48);
    }

    #[test]
    fn a_deleted_item_stays_deleted_until_it_is_put_again() {
        let mut catalog = Catalog::default();
        let patch = ItemOperation::Patch(ItemPatch { available: Some(false), ..ItemPatch::default() });
        catalog.apply(3, &patch);
        assert_eq!((catalog.described_count(), catalog.get_recommendable(3, 0)), (1, None));
        catalog.apply(3, &ItemOperation::Delete);
        catalog.apply(3, &patch);
        assert_eq!((catalog.described_count(), catalog.get(3)), (0, None));
        catalog.apply(3, &ItemOperation::Put(Item::default()));
        assert_eq!((catalog.described_count(), catalog.get(3)), (1, Some(&CatalogItem::WITHOUT_ATTRIBUTES)));
        assert_eq!(
            (catalog.get(2), catalog.get(99)),
            (Some(&ITEM_WITHOUT_ATTRIBUTES), Some(&ITEM_WITHOUT_ATTRIBUTES)),
            "an item without attributes is blank"
        );
    }
}
