//! What the catalog says of every item.

use super::{Item, ItemIx, ItemOperation, PagedVec, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the catalog says of one item.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
enum CatalogSlot {
    /// Nothing: the item is known by its events, if at all.
    #[default]
    Blank,
    /// What it is.
    Described(Arc<Item>),
    /// It is gone.
    Deleted,
}

/// The items' attributes by number: a fold of the journal's catalog changes. Clones share what has
/// not changed.
///
/// ```
/// use sequor::domain::{Catalog, Item, ItemOperation};
///
/// let mut catalog = Catalog::default();
/// catalog.apply(7, &ItemOperation::Put(Item { price: Some(2.5), ..Item::default() }));
/// let published = catalog.clone();
/// catalog.apply(7, &ItemOperation::Delete);
/// assert_eq!(published.get(7).and_then(|item| item.price), Some(2.5));
/// assert!(catalog.get(7).is_none());
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Catalog {
    places: PagedVec<CatalogSlot, 64>,
    described: usize,
}

/// What an item is of which the catalog says nothing.
static BLANK: Item =
    Item { categories: Vec::new(), brand: None, price: None, tags: Vec::new(), available: true, published: None, expires: None };

impl Catalog {
    /// Takes in a change. A patch of an item that is only known by its events describes it; one of
    /// a deleted item changes nothing.
    pub fn apply(&mut self, item: ItemIx, act: &ItemOperation) {
        self.places.grow(item as usize + 1, CatalogSlot::default);
        let Some(place) = self.places.get_mut(item as usize) else { return };
        let was = matches!(place, CatalogSlot::Described(_));
        match (act, &mut *place) {
            (ItemOperation::Put(new), _) => *place = CatalogSlot::Described(Arc::new(new.clone())),
            (ItemOperation::Delete, _) => *place = CatalogSlot::Deleted,
            (ItemOperation::Patch(patch), CatalogSlot::Described(known)) => patch.apply(Arc::make_mut(known)),
            (ItemOperation::Patch(patch), CatalogSlot::Blank) => {
                let mut new = Item::default();
                patch.apply(&mut new);
                *place = CatalogSlot::Described(Arc::new(new));
            }
            (ItemOperation::Patch(_), CatalogSlot::Deleted) => {}
        }
        let is = matches!(place, CatalogSlot::Described(_));
        self.described = self.described + usize::from(is) - usize::from(was);
    }

    /// What an item is; one that the catalog does not describe is blank and available. `None` for a
    /// deleted one.
    #[must_use]
    pub fn get(&self, item: ItemIx) -> Option<&Item> {
        match self.places.get(item as usize) {
            None | Some(CatalogSlot::Blank) => Some(&BLANK),
            Some(CatalogSlot::Described(known)) => Some(known),
            Some(CatalogSlot::Deleted) => None,
        }
    }

    /// What an item is, if it may be recommended at a time.
    #[must_use]
    pub fn get_recommendable(&self, item: ItemIx, now: Timestamp) -> Option<&Item> {
        self.get(item).filter(|known| known.is_recommendable(now))
    }

    /// How many items are described.
    #[must_use]
    pub fn described_count(&self) -> usize {
        self.described
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ItemPatch;

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
        assert_eq!((catalog.described_count(), catalog.get(3)), (1, Some(&Item::default())));
        assert_eq!((catalog.get(2), catalog.get(99)), (Some(&Item::default()), Some(&Item::default())), "what is not described is blank");
    }
}
