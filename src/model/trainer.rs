//! The one writer of weights: mini-batches in, steps taken, snapshots out.

use super::batch::Batch;
use super::heads::Heads;
use super::input::Window;
use super::math::{accumulate, sum_of_squares};
use super::network::{Pass, zeros};
use super::optimiser::Step;
use super::parameters::Parameters;
use super::rows::Rows;
use super::sampler::Sampler;
use super::settings::{NetworkSettings, SettingsError};
use super::slots::RowGradients;
use super::values::ValueScale;
use super::weights::Weights;
use crate::domain::ItemIx;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A gradient of this norm counts as not finite: its squares must not overflow the optimiser's memory.
const LARGEST_NORM: f64 = 1e15;

/// What one mini-batch did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BatchReport {
    /// Mean next-item loss of the examples, before the step.
    pub loss: f64,
    /// Mean squared error of the interest head in squared values, over the examples that had a value; 0 if none had.
    pub interest_loss: f64,
    /// Positions that had a target.
    pub examples: usize,
    /// Euclidean norm of the whole gradient, before clipping.
    pub gradient_norm: f32,
    /// The loss or the gradient was not finite: no weight was touched.
    pub skipped: bool,
}

/// What the optimiser remembers beside every parameter.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Memory {
    /// One run of the dense parameters' length for every memory.
    dense: Vec<f32>,
    items: Rows,
    outputs: Option<Rows>,
    attributes: Rows,
}

impl Memory {
    fn new(parameters: &Parameters) -> Self {
        let memories = parameters.settings.optimiser.memories();
        let like = |rows: &Rows| Rows::new(rows.width() * memories);
        Self {
            dense: vec![0.0; parameters.dense.len() * memories],
            items: like(&parameters.items),
            outputs: parameters.outputs.as_ref().map(like),
            attributes: like(&parameters.attribute_rows),
        }
    }

    fn grow(&mut self, parameters: &Parameters) {
        let items = parameters.items.len();
        self.items.grow(items, |_, _| {});
        self.outputs.iter_mut().for_each(|rows| rows.grow(items, |_, _| {}));
        self.attributes.grow(parameters.attribute_rows.len(), |_, _| {});
    }

    fn is_sound(&self, parameters: &Parameters) -> bool {
        let memories = parameters.settings.optimiser.memories();
        let fits =
            |memory: &Rows, table: &Rows| memory.is_sound() && memory.width() == table.width() * memories && memory.len() == table.len();
        let outputs = match (&self.outputs, &parameters.outputs) {
            (Some(memory), Some(table)) => fits(memory, table),
            (None, None) => true,
            _ => false,
        };
        outputs
            && self.dense.len() == parameters.dense.len() * memories
            && fits(&self.items, &parameters.items)
            && fits(&self.attributes, &parameters.attribute_rows)
    }
}

/// Room that is kept from batch to batch.
#[derive(Debug, Clone, Default)]
struct Workspace {
    batch: Batch,
    pass: Pass,
    heads: Heads,
    dense: Vec<f32>,
    /// Gradients of the output table's rows (tied: the only table).
    outputs: RowGradients,
    /// Gradients of the input table's rows, unless tied.
    inputs: RowGradients,
    attributes: RowGradients,
}

/// Owns everything learned by gradients, and learns. It reads no clock and no random source: the same calls give the same bytes.
///
/// Serialised, it resumes where it stood, byte for byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trainer {
    kinds: usize,
    learning_rate: f32,
    parameters: Parameters,
    memory: Memory,
    /// Batches that changed the weights.
    steps: u64,
    sampler: Sampler,
    values: ValueScale,
    #[serde(skip)]
    work: Workspace,
}

/// A trainer that was read from bytes and cannot be what was written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the stored network is damaged: its parts do not have the sizes that its settings give them")]
pub struct Unsound;

impl Trainer {
    /// A network without items for events of `kinds` kinds. Everything random follows from `seed`.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(settings: NetworkSettings, kinds: usize, seed: u64) -> Result<Self, SettingsError> {
        settings.check()?;
        let parameters = Parameters::new(settings, kinds, seed);
        Ok(Self {
            kinds,
            learning_rate: parameters.settings.learning_rate,
            memory: Memory::new(&parameters),
            steps: 0,
            sampler: Sampler::new(f64::from(parameters.settings.negatives_alpha)),
            values: ValueScale::default(),
            work: Workspace::default(),
            parameters,
        })
    }

    /// Whether every part has the size that the settings give it: to be asked once after deserialising.
    ///
    /// # Errors
    /// [`Unsound`] if not; such a trainer must not be used.
    pub fn check(&self) -> Result<(), Unsound> {
        let sound = self.parameters.is_sound(self.kinds) && self.memory.is_sound(&self.parameters) && self.sampler.len() == self.items();
        if sound { Ok(()) } else { Err(Unsound) }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &NetworkSettings {
        &self.parameters.settings
    }

    /// How many items have rows.
    #[must_use]
    pub fn items(&self) -> usize {
        self.parameters.items.len()
    }

    /// Batches that changed the weights.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Makes rows for items up to `items`; the initial values of each are a function of the seed and its number.
    pub fn grow(&mut self, items: usize) {
        self.parameters.grow(items);
        self.memory.grow(&self.parameters);
        self.sampler.grow(items);
    }

    /// Sets an item's attributes, forgetting those it had. Ids at or above `attributes_max` are ignored.
    pub fn set_attributes(&mut self, item: ItemIx, attributes: &[u32]) {
        self.parameters.set_attributes(item, attributes);
        self.memory.grow(&self.parameters);
    }

    /// Counts a target that came: negatives are drawn by these counts. Without rows for the item it is not counted.
    pub fn observe(&mut self, item: ItemIx) {
        self.sampler.observe(item);
    }

    /// The step size in force.
    #[must_use]
    pub fn learning_rate(&self) -> f32 {
        self.learning_rate
    }

    /// Sets the step size of the batches to come; one that is not within (0, 10] is ignored.
    pub fn set_learning_rate(&mut self, rate: f32) {
        if rate > 0.0 && rate <= 10.0 {
            self.learning_rate = rate;
        }
    }

    /// Learns from one mini-batch: every position's loss, back-propagated through its window, one step of the optimiser. `seed` draws the negatives and the dropout masks.
    pub fn train(&mut self, windows: &[Window], seed: u64) -> BatchReport {
        let mut report = self.compute(windows, seed);
        if report.examples == 0 || report.skipped {
            return report;
        }
        let clip = self.parameters.settings.clip;
        let scale = if clip > 0.0 && report.gradient_norm > clip { clip / report.gradient_norm } else { 1.0 };
        self.apply(scale);
        report.skipped = false;
        report
    }

    /// The batch's losses, with the gradients left in the workspace.
    fn compute(&mut self, windows: &[Window], seed: u64) -> BatchReport {
        let Self { parameters, sampler, values, work, .. } = self;
        let Workspace { batch, pass, heads, dense, outputs, inputs, attributes } = work;
        let settings = &*parameters.settings;
        batch.fill(windows, settings.window, parameters.items.len());
        if batch.targets.is_empty() {
            return BatchReport::default();
        }
        if settings.interest_weight > 0.0 {
            batch.targets.iter().for_each(|target| values.observe(target.value));
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let items = parameters.items.len();
        outputs.slots.reset(items);
        heads.choose(parameters, batch, sampler, &mut rng, &mut outputs.slots);
        let table = if settings.tied {
            &mut *outputs
        } else {
            inputs.slots.reset(items);
            &mut *inputs
        };
        batch.inputs.iter().filter_map(|input| input.item).for_each(|item| {
            table.slots.slot(item);
        });
        pass.forward(parameters, batch, Some(&mut rng));
        zeros(dense, parameters.dense.len());
        let loss = heads.learn(parameters, batch, values, &pass.outputs, outputs, &mut pass.d_outputs, dense);
        pass.backward(parameters, batch, dense);
        if !settings.tied {
            zeros(&mut inputs.values, inputs.slots.rows().len() * settings.hidden);
        }
        let table = if settings.tied { &mut *outputs } else { &mut *inputs };
        embeddings_backward(parameters, batch, &pass.d_inputs, dense, table, attributes);
        let tables = [&*outputs, &*inputs, &*attributes].into_iter().map(|rows| &rows.values);
        let squares: f64 = sum_of_squares(dense) + tables.map(|values| sum_of_squares(values)).sum::<f64>();
        let examples = batch.targets.len();
        let mean_loss = loss.next_item / examples as f64;
        let norm = squares.sqrt();
        BatchReport {
            loss: mean_loss,
            interest_loss: values.restore_squared(loss.interest / loss.valued.max(1) as f64),
            examples,
            gradient_norm: norm as f32,
            skipped: !(norm < LARGEST_NORM && mean_loss.is_finite()),
        }
    }

    /// One step along the gradients in the workspace.
    fn apply(&mut self, scale: f32) {
        let Self { parameters, memory, work, .. } = self;
        self.steps += 1;
        let settings = Arc::clone(&parameters.settings);
        let step = Step::new(&settings, self.learning_rate, scale, self.steps);
        let dense: &mut Vec<f32> = Arc::make_mut(&mut parameters.dense);
        step.apply(dense, &mut memory.dense, &work.dense);
        let outputs = (work.outputs.slots.rows(), &work.outputs.values);
        match (&mut parameters.outputs, &mut memory.outputs) {
            (Some(table), Some(memory_of_outputs)) => {
                step.apply_rows(table, memory_of_outputs, outputs.0, outputs.1);
                step.apply_rows(&mut parameters.items, &mut memory.items, work.inputs.slots.rows(), &work.inputs.values);
            }
            _ => step.apply_rows(&mut parameters.items, &mut memory.items, outputs.0, outputs.1),
        }
        step.apply_rows(&mut parameters.attribute_rows, &mut memory.attributes, work.attributes.slots.rows(), &work.attributes.values);
    }

    /// An immutable copy of today's weights, at a cost in proportion to the rows that changed since the last one.
    pub fn publish(&mut self, version: u64) -> Arc<Weights> {
        Arc::new(Weights::new(version, self.parameters.clone(), self.values))
    }
}

/// Hands every row's gradient of x to the embeddings that it is the sum of.
fn embeddings_backward(
    parameters: &Parameters,
    batch: &Batch,
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
        if let Some(slot) = input.item.and_then(|item| items.slots.find(item)) {
            accumulate(&mut items.values[slot * width..][..hidden], 1.0, gradient);
        }
        let boundary = input.boundary.then(|| parameters.layout.boundary.clone());
        for range in [parameters.kind_range(input.kind), parameters.gap_range(input.gap), boundary].into_iter().flatten() {
            accumulate(&mut dense[range], 1.0, gradient);
        }
        for attribute in input.item.map_or(&[][..], |item| parameters.attributes_of(item)) {
            if let Some(slot) = attributes.slots.slot(*attribute) {
                attributes.values.resize(attributes.slots.rows().len() * hidden, 0.0);
                accumulate(&mut attributes.values[slot * hidden..][..hidden], 1.0, gradient);
            }
        }
    }
}
