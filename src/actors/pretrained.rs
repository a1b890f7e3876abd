//! What learning began with: kept in the store, so that every start begins the same fold.

use std::io::Read;

use super::error::StartError;
use crate::domain::ItemIx;
use crate::learner::PretrainedNetwork;
use crate::store::{Durability, Store, StoreError, codec};

/// The network that the fold of this store begins with; `None` if it begins with one that has
/// learned nothing.
///
/// # Errors
/// [`StartError::Store`] if it cannot be read.
pub fn read_pretrained(store: &Store) -> Result<Option<PretrainedNetwork>, StartError> {
    let Some(mut file) = store.pretrained_state()? else { return Ok(None) };
    let length = file.remaining();
    Ok(Some(codec::decode_from(&mut file, length).map_err(StoreError::from)?))
}

/// Makes a network the one that the fold of this store begins with. Nothing happens if it is
/// already.
///
/// # Errors
/// [`StartError::PretrainedMismatch`] if it begins with another, [`StartError::Store`] if there are
/// events already, or if it cannot be written.
pub fn store_pretrained(store: &Store, pretrained: &PretrainedNetwork) -> Result<(), StartError> {
    if let Some(mut file) = store.pretrained_state()? {
        let mut kept = Vec::new();
        file.read_to_end(&mut kept).map_err(StoreError::io("reading", store.dir()))?;
        let given = codec::encode(pretrained).map_err(StoreError::from)?;
        return if kept == given { Ok(()) } else { Err(StartError::PretrainedMismatch { dir: store.dir().to_owned() }) };
    }
    Ok(store.set_pretrained_state::<StoreError>(|sink| Ok(codec::encode_to(pretrained, sink)?))?)
}

/// Gives the items of the network that the fold begins with their numbers, which are the first
/// ones.
///
/// # Errors
/// [`StartError::PretrainedItemsMismatch`] if other items have them, or what the store says.
pub fn number_items(store: &Store, pretrained: &PretrainedNetwork) -> Result<(), StartError> {
    let items = store.items().load()?;
    let stored = items.len();
    // A start that died on the way may have left a part of them.
    if stored < pretrained.item_names().len() && store.journal().next_offset()? == 0 {
        for name in pretrained.item_names() {
            items.intern(name);
        }
        store.items().append(&items, ItemIx::try_from(stored).unwrap_or(ItemIx::MAX), 0)?;
        store.sync(Durability::PowerLoss)?;
    }
    if (0 as ItemIx..).zip(pretrained.item_names()).any(|(number, name)| items.get(name) != Some(number)) {
        return Err(StartError::PretrainedItemsMismatch { dir: store.dir().to_owned() });
    }
    Ok(())
}
