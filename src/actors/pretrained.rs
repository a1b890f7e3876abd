//! The pretrained network of a store. The store contains the network, so that every start replays
//! the journal from the same initial network.

use std::io::Read;

use super::error::StartError;
use crate::domain::ItemIx;
use crate::learner::PretrainedNetwork;
use crate::store::{Durability, Store, StoreError, codec};

/// Reads the pretrained network of this store; `None` if learning starts from an untrained network.
///
/// # Errors
/// [`StartError::Store`] if the network cannot be read, [`StartError::PretrainedInterestHead`] if it
/// has the former interest head.
pub fn read_pretrained(store: &Store) -> Result<Option<PretrainedNetwork>, StartError> {
    let Some(mut file) = store.pretrained_state()? else { return Ok(None) };
    let length = file.remaining();
    let pretrained: PretrainedNetwork = codec::decode_from(&mut file, length).map_err(StoreError::from)?;
    if pretrained.network_settings().has_former_interest_head() {
        return Err(StartError::PretrainedInterestHead { dir: store.dir().to_owned() });
    }
    Ok(Some(pretrained))
}

/// Stores the pretrained network. If the store already has the same network, the call has no
/// effect.
///
/// # Errors
/// [`StartError::PretrainedMismatch`] if the store has a different pretrained network,
/// [`StartError::Store`] if the journal already has events, or if the write fails.
pub fn store_pretrained(store: &Store, pretrained: &PretrainedNetwork) -> Result<(), StartError> {
    if let Some(mut file) = store.pretrained_state()? {
        let mut stored = Vec::new();
        file.read_to_end(&mut stored).map_err(StoreError::io("reading", store.dir()))?;
        let given = codec::encode(pretrained).map_err(StoreError::from)?;
        return if stored == given {
            Ok(())
        } else {
            Err(StartError::PretrainedMismatch { dir: store.dir().to_owned() })
        };
    }
    Ok(store.set_pretrained_state::<StoreError>(|sink| Ok(codec::encode_to(pretrained, sink)?))?)
}

/// Assigns the first item numbers to the items of the pretrained network.
///
/// # Errors
/// [`StartError::PretrainedItemsMismatch`] if other items have these numbers,
/// [`StartError::Store`] if the item names cannot be read or written.
pub fn assign_item_numbers(store: &Store, pretrained: &PretrainedNetwork) -> Result<(), StartError> {
    let items = store.items().load()?;
    let stored = items.len();
    // If an earlier start was interrupted here, it has stored only a part of the items.
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
