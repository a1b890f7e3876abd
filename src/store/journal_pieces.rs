//! Writes journal records to the database in pieces.
//!
//! A record is split into pieces of at most [`MAX_PIECE_BYTES`] bytes, because the database handles
//! large values badly: it keeps sixteen neighbouring values in a page, and moves pages over 128 KiB
//! to separate files, slowly and without a sync. The first piece also contains the number of pieces
//! (`pieces: u32 ‖ bytes`) and is written last. After a crash, the database contains the writes up
//! to some point in time. So if it contains the first piece of a record, it contains the whole
//! record. Pieces without a first piece belong to an unfinished append.

use super::StoreError;
use super::engine::Engine;
use super::key_value_iter::KeyValueIter;
use super::keys::PieceKey;
use crate::domain::Offset;
use std::collections::BTreeMap;

/// Maximum size of a piece, in bytes. A page holds at most seventeen pieces, which together stay
/// below 128 KiB.
const MAX_PIECE_BYTES: usize = 7 << 10;

/// Removes the pieces of an unfinished append at or after `first`.
pub(super) fn remove_leftover_pieces(engine: &Engine, first: Offset) -> Result<(), StoreError> {
    let from = PieceKey { first, piece: 0 }.to_bytes();
    KeyValueIter::new(engine.journal.range(from..), engine.path())
        .try_for_each(|pair| engine.remove(&engine.journal, &pair?.0))
}

/// Splits a record into pieces; the first piece comes last.
pub(super) fn split_into_pieces(record: &[u8]) -> impl Iterator<Item = (u32, Vec<u8>)> {
    let (head, rest) = record.split_at_checked(MAX_PIECE_BYTES).unwrap_or((record, &[]));
    let pieces = rest.len().div_ceil(MAX_PIECE_BYTES) as u32 + 1;
    let head = [&pieces.to_le_bytes(), head].concat();
    (1..).zip(rest.chunks(MAX_PIECE_BYTES).map(<[u8]>::to_vec)).chain([(0, head)])
}

/// Writes the pieces of a record.
pub(super) fn write_pieces(engine: &Engine, first: Offset, record: &[u8]) -> Result<(), StoreError> {
    split_into_pieces(record)
        .try_for_each(|(piece, bytes)| engine.insert(&engine.journal, &PieceKey { first, piece }.to_bytes(), bytes))
}

/// The keys of a record's pieces.
pub(super) fn piece_keys(engine: &Engine, first: Offset) -> Result<Vec<Vec<u8>>, StoreError> {
    let range = PieceKey { first, piece: 0 }.to_bytes()..=PieceKey { first, piece: u32::MAX }.to_bytes();
    KeyValueIter::new(engine.journal.range(range), engine.path()).map(|pair| Ok(pair?.0.to_vec())).collect()
}

/// Atomically replaces a record.
pub(super) fn replace_record(engine: &Engine, first: Offset, record: &[u8]) -> Result<(), StoreError> {
    let removed = piece_keys(engine, first)?.into_iter().map(|key| (key, None));
    let written =
        split_into_pieces(record).map(|(piece, bytes)| (PieceKey { first, piece }.to_bytes().to_vec(), Some(bytes)));
    // If a key is in both lists, the map keeps the written value.
    let values: BTreeMap<_, _> = removed.chain(written).collect();
    engine.replace_values(&engine.journal, values.into_iter().collect())
}

pub(super) fn remove_record(engine: &Engine, first: Offset) -> Result<(), StoreError> {
    piece_keys(engine, first)?.iter().try_for_each(|key| engine.remove(&engine.journal, key))
}
