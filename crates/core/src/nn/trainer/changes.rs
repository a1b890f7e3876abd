//! The changes of a training, as bytes. A trainer with the same state applies them instead of
//! training itself, and then has the same state as the trainer that trained.
//!
//! ```text
//! changes = steps: u64 ‖ floats (dense parameters) ‖ floats (their optimiser state)
//!         ‖ table (items) ‖ table (outputs; empty with tied embeddings) ‖ table (attributes)
//! floats  = count: u64 ‖ f32 ‖ f32 ‖ …
//! table   = rows: u64 ‖ row ‖ row ‖ …
//! row     = number: u32 ‖ weights ‖ optimiser state
//! ```
//!
//! All numbers are little-endian. The values of a row have the width of the table.

use super::Trainer;
use crate::nn::embedding_table::EmbeddingTable;
use rustc_hash::FxHasher;
use std::hash::Hasher;
use std::sync::Arc;

/// The bytes are not the changes of a training of this network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the changes of a training are damaged, or those of another network")]
pub struct TrainingChangesError;

/// The bytes that were not read yet.
struct ChangesReader<'b>(&'b [u8]);

impl<'b> ChangesReader<'b> {
    fn take_number(&mut self) -> Result<u64, TrainingChangesError> {
        let (number, rest) = self.0.split_first_chunk().ok_or(TrainingChangesError)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }

    fn take(&mut self, bytes: usize) -> Result<&'b [u8], TrainingChangesError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(TrainingChangesError)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Takes a vector of exactly `len` floats.
    fn take_floats(&mut self, len: usize) -> Result<&'b [u8], TrainingChangesError> {
        if self.take_number()? != len as u64 {
            return Err(TrainingChangesError);
        }
        self.take(len.checked_mul(size_of::<f32>()).ok_or(TrainingChangesError)?)
    }

    /// Takes the changed rows of a table.
    fn take_table(&mut self, table: Option<&EmbeddingTable>) -> Result<&'b [u8], TrainingChangesError> {
        let rows = self.take_number()?;
        let row_bytes = table.map_or(0, EmbeddingTable::encoded_row_bytes);
        let bytes = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(row_bytes));
        let taken = self.take(bytes.ok_or(TrainingChangesError)?)?;
        match table {
            Some(table) if table.contains_encoded_rows(taken) => Ok(taken),
            None if rows == 0 => Ok(taken),
            _ => Err(TrainingChangesError),
        }
    }
}

fn put_floats(bytes: &mut Vec<u8>, floats: &[f32]) {
    bytes.extend_from_slice(&(floats.len() as u64).to_le_bytes());
    bytes.extend(floats.iter().flat_map(|value| value.to_le_bytes()));
}

fn put_table(bytes: &mut Vec<u8>, table: Option<&EmbeddingTable>) {
    let rows = table.map_or(0, EmbeddingTable::changed_row_count);
    bytes.extend_from_slice(&(rows as u64).to_le_bytes());
    if let Some(table) = table {
        table.encode_changed_rows(bytes);
    }
}

fn copy_floats(to: &mut [f32], bytes: &[u8]) {
    let (values, _) = bytes.as_chunks();
    to.iter_mut().zip(values).for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
}

impl Trainer {
    /// A hash of the dense parameters, which every training changes. Trainers with equal hashes have
    /// the same state, if they come from the same sequence of trainings.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = FxHasher::default();
        hasher.write_u64(self.state.steps);
        self.state.parameters.dense.iter().for_each(|value| hasher.write_u32(value.to_bits()));
        hasher.finish()
    }

    /// Encodes what has changed since the last call of [`Trainer::publish`], except for the counts of
    /// target events, attributes and the learning rate.
    #[must_use]
    pub fn encode_changes(&self) -> Vec<u8> {
        let (state, mut bytes) = (&self.state, Vec::new());
        bytes.extend_from_slice(&state.steps.to_le_bytes());
        put_floats(&mut bytes, &state.parameters.dense);
        put_floats(&mut bytes, &state.optimiser_state);
        put_table(&mut bytes, Some(&state.parameters.items));
        put_table(&mut bytes, state.parameters.outputs.as_ref());
        put_table(&mut bytes, Some(&state.parameters.attribute_rows));
        bytes
    }

    /// Applies the changes of a training. The trainer must have the state that the other trainer had
    /// before this training; compare the [fingerprints](Trainer::fingerprint).
    ///
    /// # Errors
    /// [`TrainingChangesError`] if the bytes do not fit this network. Then nothing changes.
    pub fn apply_changes(&mut self, bytes: &[u8]) -> Result<(), TrainingChangesError> {
        let (state, mut reader) = (&mut self.state, ChangesReader(bytes));
        let steps = reader.take_number()?;
        let dense = reader.take_floats(state.parameters.dense.len())?;
        let optimiser_state = reader.take_floats(state.optimiser_state.len())?;
        let items = reader.take_table(Some(&state.parameters.items))?;
        let outputs = reader.take_table(state.parameters.outputs.as_ref())?;
        let attributes = reader.take_table(Some(&state.parameters.attribute_rows))?;
        if !reader.0.is_empty() {
            return Err(TrainingChangesError);
        }
        state.steps = steps;
        let parameters: &mut Vec<f32> = Arc::make_mut(&mut state.parameters.dense);
        copy_floats(parameters, dense);
        copy_floats(&mut state.optimiser_state, optimiser_state);
        state.parameters.items.apply_encoded_rows(items);
        if let Some(table) = &mut state.parameters.outputs {
            table.apply_encoded_rows(outputs);
        }
        state.parameters.attribute_rows.apply_encoded_rows(attributes);
        Ok(())
    }
}
