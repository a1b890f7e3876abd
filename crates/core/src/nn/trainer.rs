//! The trainer: trains the network parameters on mini-batches and publishes snapshots of the
//! weights.

mod changes;

pub use changes::TrainingChangesError;

use super::batch::TrainingBatch;
use super::cow_rows::CowRows;
use super::embedding_table::EmbeddingTable;
use super::input::TrainingWindow;
use super::math::{add_scaled_dispatched, sum_of_squares};
use super::negative_sampler::NegativeSampler;
use super::network::{NetworkPass, resize_zeroed};
use super::next_item_head::{HeadGradients, NextItemHead};
use super::optimiser::OptimiserStep;
use super::parameters::NetworkParameters;
use super::quantised_index::QuantisedIndex;
use super::row_order::RowOrder;
use super::row_slots::RowGradients;
use super::settings::{CorruptNetworkError, NetworkSettings, NetworkSettingsError};
use super::unit_vectors::add_gradient_before_scaling;
use super::weights::Weights;
use crate::domain::ItemIx;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// A gradient with a larger norm counts as not finite, so that squared gradients cannot overflow
/// the optimiser state.
const MAX_GRADIENT_NORM: f64 = 1e15;

/// The result of training on one mini-batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BatchReport {
    /// Mean next-item loss of the examples, with the weights before the optimiser step.
    pub loss: f64,
    /// Number of positions with a target.
    pub examples: usize,
    /// Euclidean norm of the whole gradient, before clipping.
    pub gradient_norm: f32,
    /// Whether the batch was skipped because the loss or the gradient was not finite. A skipped
    /// batch changes no weight.
    pub skipped: bool,
}

/// Buffers of the trainer, reused between batches.
#[derive(Debug, Clone, Default)]
struct TrainerWorkspace {
    batch: TrainingBatch,
    pass: NetworkPass,
    head: NextItemHead,
    dense: Vec<f32>,
    /// Gradients of the rows of the output table. With tied embeddings, the output table is the
    /// only item table.
    outputs: RowGradients,
    /// Gradients of the rows of the input table; unused with tied embeddings.
    inputs: RowGradients,
    attributes: RowGradients,
}

/// The serialised state of a [`Trainer`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct TrainerState {
    kinds: usize,
    learning_rate: f32,
    parameters: NetworkParameters<EmbeddingTable>,
    /// Optimiser state of the dense parameters: the first state value of every parameter, then the
    /// second, if any. The embedding tables store their own optimiser state.
    optimiser_state: Vec<f32>,
    /// Number of batches that changed the weights.
    steps: u64,
    sampler: NegativeSampler,
    /// Scale of event values that a former part of the network learned. It is part of the encoding.
    unused_scale: [f64; 3],
}

impl TrainerState {
    /// Whether every part has the size that follows from the settings.
    fn is_consistent(&self) -> bool {
        self.parameters.is_consistent(self.kinds)
            && self.optimiser_state.len()
                == self.parameters.dense.len() * self.parameters.settings.optimiser.state_values_per_parameter()
            && self.sampler.len() == self.parameters.items.len()
            && self.learning_rate > 0.0
    }
}

/// Owns and trains all parameters of the network. The trainer reads no clock, and all random draws
/// depend only on seeds, so the same calls give the same bytes.
///
/// A clone and a deserialised trainer continue with bit-identical results. Deserialisation fails if
/// the parts of the network do not have matching sizes.
#[derive(Debug)]
pub struct Trainer {
    state: TrainerState,
    /// The last published parameters and quantised index, which [`Trainer::publish`] updates in
    /// place.
    published: Option<(NetworkParameters<CowRows>, QuantisedIndex)>,
    /// Order of the items in the quantised index.
    row_order: Option<Arc<RowOrder>>,
    attributes_changed: bool,
    workspace: TrainerWorkspace,
}

impl From<TrainerState> for Trainer {
    fn from(state: TrainerState) -> Self {
        Self {
            state,
            published: None,
            row_order: None,
            attributes_changed: false,
            workspace: TrainerWorkspace::default(),
        }
    }
}

/// A clone has neither the buffers nor the last published parameters. Its next publication encodes
/// every row again.
impl Clone for Trainer {
    fn clone(&self) -> Self {
        let Self { state, row_order, attributes_changed, .. } = self;
        Self { row_order: row_order.clone(), attributes_changed: *attributes_changed, ..Self::from(state.clone()) }
    }
}

impl Serialize for Trainer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.state.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Trainer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut state = TrainerState::deserialize(deserializer)?;
        if !state.is_consistent() {
            return Err(D::Error::custom(CorruptNetworkError));
        }
        state.parameters.allocate_change_tracking();
        Ok(state.into())
    }
}

impl Trainer {
    /// Creates a network without items, for `kinds` event kinds. The initial parameters depend only
    /// on `settings`, `kinds` and `seed`.
    ///
    /// # Errors
    /// Returns the first setting that is outside its range.
    pub fn new(settings: NetworkSettings, kinds: usize, seed: u64) -> Result<Self, NetworkSettingsError> {
        settings.check()?;
        let parameters = NetworkParameters::new(settings, kinds, seed);
        Ok(Self::from(TrainerState {
            kinds,
            learning_rate: parameters.settings.learning_rate,
            optimiser_state: vec![
                0.0;
                parameters.dense.len() * parameters.settings.optimiser.state_values_per_parameter()
            ],
            steps: 0,
            sampler: NegativeSampler::new(f64::from(parameters.settings.negatives_alpha)),
            unused_scale: Default::default(),
            parameters,
        }))
    }

    /// The network settings.
    #[must_use]
    pub fn settings(&self) -> &NetworkSettings {
        &self.state.parameters.settings
    }

    /// Number of items that have embeddings.
    #[must_use]
    pub fn item_count(&self) -> usize {
        self.state.parameters.items.len()
    }

    /// Number of batches that changed the weights.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.state.steps
    }

    /// Grows the network to `items` items. The initial embedding of an item depends only on the
    /// seed and the item number.
    pub fn grow_items(&mut self, items: usize) {
        self.state.parameters.grow_items(items);
        self.state.sampler.grow(items);
    }

    /// Replaces the attributes of an item. Attribute ids at or above `attributes_max` are ignored.
    pub fn set_attributes(&mut self, item: ItemIx, attributes: &[u32]) {
        self.state.parameters.set_attributes(item, attributes);
        self.attributes_changed = true;
    }

    /// Initialises a new item from similar items: its embeddings become the mean of their
    /// embeddings.
    ///
    /// Similar items without a target event are ignored, because their embeddings are untrained. If
    /// no similar item remains, the new item keeps its random embeddings. Returns whether a similar
    /// item remained.
    pub fn init_from_similar(&mut self, item: ItemIx, similar: &[ItemIx]) -> bool {
        let TrainerState { parameters, sampler, .. } = &mut self.state;
        let trained: Vec<ItemIx> =
            similar.iter().copied().filter(|other| *other != item && sampler.target_count(*other) > 0).collect();
        if !trained.is_empty() {
            parameters.set_rows_to_mean(item, &trained);
        }
        !trained.is_empty()
    }

    /// Initialises the output embedding and the bias of a new item from a prediction, `(hidden + 1)`.
    /// `share` is the weight of the prediction against the present embedding, 0 to 1.
    pub fn init_from_prediction(&mut self, item: ItemIx, predicted: &[f32], share: f32) {
        self.state.parameters.move_output_row(item, predicted, share);
    }

    /// Counts a target event on `item` for the negative sampling distribution. Items without
    /// embeddings are ignored.
    pub fn count_target(&mut self, item: ItemIx) {
        self.state.sampler.count_target(item);
    }

    /// The current learning rate.
    #[must_use]
    pub fn learning_rate(&self) -> f32 {
        self.state.learning_rate
    }

    /// Sets the learning rate for later batches. Ignores a rate that is not a finite positive
    /// number.
    pub fn set_learning_rate(&mut self, rate: f32) {
        if rate > 0.0 && rate.is_finite() {
            self.state.learning_rate = rate;
        }
    }

    /// Trains on one mini-batch: computes the loss at every position, backpropagates through time
    /// over each window, and makes one optimiser step.
    ///
    /// `seed` determines which negatives and which dropout masks are drawn.
    pub fn train(&mut self, windows: &[TrainingWindow], seed: u64) -> BatchReport {
        let mut report = self.compute_gradients(windows, seed);
        if report.examples == 0 || report.skipped {
            return report;
        }
        let clip = self.state.parameters.settings.clip;
        let scale = if clip > 0.0 && report.gradient_norm > clip { clip / report.gradient_norm } else { 1.0 };
        self.apply_gradients(scale);
        report.skipped = false;
        report
    }

    /// Computes the losses of a batch and writes the gradients to the workspace.
    fn compute_gradients(&mut self, windows: &[TrainingWindow], seed: u64) -> BatchReport {
        let Self { state: TrainerState { parameters, sampler, .. }, workspace, .. } = self;
        let TrainerWorkspace { batch, pass, head, dense, outputs, inputs, attributes } = workspace;
        let settings = &*parameters.settings;
        batch.pack_windows(windows, settings.window, parameters.items.len());
        if batch.targets.is_empty() {
            return BatchReport::default();
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let items = parameters.items.len();
        outputs.slots.reset(items);
        head.select_columns(parameters, batch, sampler, &mut rng, &mut outputs.slots);
        let table = if settings.tied {
            &mut *outputs
        } else {
            inputs.slots.reset(items);
            &mut *inputs
        };
        batch.inputs.iter().filter_map(|input| input.item).for_each(|item| {
            table.slots.get_or_assign(item);
        });
        pass.forward(parameters, batch, &mut rng);
        resize_zeroed(dense, parameters.dense.len());
        let gradients = HeadGradients { columns: &mut *outputs, outputs: &mut pass.d_outputs };
        let loss = head.loss_and_gradients(parameters, batch, &pass.outputs, gradients);
        pass.backward(parameters, batch, dense);
        if !settings.tied {
            resize_zeroed(&mut inputs.values, inputs.slots.rows().len() * settings.hidden);
        }
        let table = if settings.tied { &mut *outputs } else { &mut *inputs };
        embeddings_backward(parameters, batch, &pass.d_inputs, dense, table, attributes);
        let tables = [&*outputs, &*inputs, &*attributes].into_iter().map(|rows| &rows.values);
        let squares: f64 = sum_of_squares(dense) + tables.map(|values| sum_of_squares(values)).sum::<f64>();
        let examples = batch.targets.len();
        let mean_loss = loss / examples as f64;
        let norm = squares.sqrt();
        BatchReport {
            loss: mean_loss,
            examples,
            gradient_norm: norm as f32,
            skipped: !(norm < MAX_GRADIENT_NORM && mean_loss.is_finite()),
        }
    }

    /// Makes one optimiser step with the gradients in the workspace, multiplied by `scale`.
    fn apply_gradients(&mut self, scale: f32) {
        let Self { state: TrainerState { parameters, optimiser_state, steps, learning_rate, .. }, workspace, .. } =
            self;
        *steps += 1;
        let settings = Arc::clone(&parameters.settings);
        let step = OptimiserStep::new(&settings, *learning_rate, scale, *steps);
        let dense: &mut Vec<f32> = Arc::make_mut(&mut parameters.dense);
        step.update_weights(dense, optimiser_state, &workspace.dense);
        let update = |table: &mut EmbeddingTable, gradients: &RowGradients| {
            table.update_rows(gradients.slots.rows(), &gradients.values, |weights, optimiser_state, gradient| {
                step.update_row(weights, optimiser_state, gradient, settings.hidden)
            });
        };
        if let Some(table) = &mut parameters.outputs {
            update(table, &workspace.outputs);
            update(&mut parameters.items, &workspace.inputs);
        } else {
            update(&mut parameters.items, &workspace.outputs);
        }
        update(&mut parameters.attribute_rows, &workspace.attributes);
    }

    /// Sets the order of the items in the quantised index of the weights that are published from now
    /// on: that of `ordered`, earlier weights of the same network. If the order changes, the index
    /// is copied from these weights. Items that have changed since are quantised again.
    pub fn set_row_order_of(&mut self, ordered: &Weights) {
        let order = ordered.row_order();
        if order.map(Arc::as_ptr) == self.row_order.as_ref().map(Arc::as_ptr) {
            return;
        }
        if let Some((copy, index)) = &mut self.published {
            *index = ordered.clone().into_index_of(copy.output_table());
        }
        self.row_order = order.cloned();
    }

    /// Makes `weights` share the memory of all rows that equal the trainer's, as published weights do.
    /// Decoded weights do not share any.
    pub fn share_rows_with(&self, weights: &mut Weights) {
        weights.parameters.share_equal_rows(&self.state.parameters);
    }

    /// Publishes an immutable copy of the current weights. The cost is proportional to the number
    /// of rows that changed since the last call.
    pub fn publish(&mut self, version: u64) -> Arc<Weights> {
        let Self { state: TrainerState { parameters, .. }, published, row_order, attributes_changed, .. } = self;
        let (copy, index) = published.get_or_insert_with(|| {
            (parameters.empty_snapshot(), QuantisedIndex::new(&parameters.settings, row_order.clone()))
        });
        parameters
            .publish_into(copy, std::mem::take(attributes_changed), |rows, changed| index.encode_rows(rows, changed));
        Arc::new(Weights::new(version, copy.clone(), index.clone()))
    }
}

/// Adds the gradient of each network input x to the gradients of the embeddings whose sum is x.
fn embeddings_backward(
    parameters: &NetworkParameters<EmbeddingTable>,
    batch: &TrainingBatch,
    d_inputs: &[f32],
    dense: &mut [f32],
    items: &mut RowGradients,
    attributes: &mut RowGradients,
) {
    let hidden = parameters.settings.hidden;
    let width = parameters.items.width();
    attributes.slots.reset(parameters.attribute_rows.len());
    attributes.values.clear();
    for (input, gradient) in batch.inputs.iter().zip(d_inputs.chunks_exact(hidden)) {
        if let Some(slot) = input.item.and_then(|item| items.slots.slot_of(item)) {
            let sum = &mut items.values[slot * width..][..hidden];
            match input.item.and_then(|item| parameters.items.row(item as usize)) {
                Some(embedding) if parameters.settings.query_length().is_some() => {
                    add_gradient_before_scaling(sum, &embedding[..hidden], gradient)
                }
                _ => add_scaled_dispatched(sum, 1.0, gradient),
            }
        }
        let boundary = input.starts_session.then(|| parameters.layout.session_start.clone());
        for range in
            [parameters.kind_embedding_range(input.kind), parameters.gap_embedding_range(input.gap_bucket), boundary]
                .into_iter()
                .flatten()
        {
            add_scaled_dispatched(&mut dense[range], 1.0, gradient);
        }
        for attribute in input.item.map_or(&[][..], |item| parameters.attributes_of(item)) {
            if let Some(slot) = attributes.slots.get_or_assign(*attribute) {
                attributes.values.resize(attributes.slots.rows().len() * hidden, 0.0);
                add_scaled_dispatched(&mut attributes.values[slot * hidden..][..hidden], 1.0, gradient);
            }
        }
    }
}

#[cfg(test)]
mod tests;
