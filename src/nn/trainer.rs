//! The one writer of weights: mini-batches in, steps taken, snapshots out.

use super::batch::Batch;
use super::heads::{HeadGradients, Heads};
use super::input::Window;
use super::math::{accumulate, sum_of_squares};
use super::network::{Pass, zeros};
use super::optimiser::Step;
use super::parameters::Parameters;
use super::rows::Rows;
use super::sampler::Sampler;
use super::scan::Scan;
use super::settings::{NetworkSettings, SettingsError, Unsound};
use super::slots::RowGradients;
use super::table::Table;
use super::values::ValueScale;
use super::weights::Weights;
use crate::domain::ItemIx;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
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

/// Everything that a checkpoint holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Learned {
    kinds: usize,
    learning_rate: f32,
    parameters: Parameters<Table>,
    /// What the optimiser remembers of the dense parameters, one run of their length for every memory; the tables hold their own.
    memory: Vec<f32>,
    /// Batches that changed the weights.
    steps: u64,
    sampler: Sampler,
    values: ValueScale,
}

impl Learned {
    /// Whether every part has the size that the settings give it.
    fn is_sound(&self) -> bool {
        self.parameters.is_sound(self.kinds)
            && self.memory.len() == self.parameters.dense.len() * self.parameters.settings.optimiser.memories()
            && self.sampler.len() == self.parameters.items.len()
            && self.learning_rate > 0.0
    }
}

/// Owns everything learned by gradients, and learns. It reads no clock and no random source: the same calls give the same bytes.
///
/// Serialised, it resumes where it stood, byte for byte; bytes whose parts do not fit together are refused.
#[derive(Debug, Clone)]
pub struct Trainer {
    learned: Learned,
    /// What the last snapshot was made of.
    published: Option<(Parameters<Rows>, Scan)>,
    attributes_changed: bool,
    work: Workspace,
}

impl From<Learned> for Trainer {
    fn from(learned: Learned) -> Self {
        Self { learned, published: None, attributes_changed: false, work: Workspace::default() }
    }
}

impl Serialize for Trainer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.learned.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Trainer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut learned = Learned::deserialize(deserializer)?;
        if !learned.is_sound() {
            return Err(D::Error::custom(Unsound));
        }
        learned.parameters.restore();
        Ok(learned.into())
    }
}

impl Trainer {
    /// A network without items for events of `kinds` kinds. Everything random follows from `seed`.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(settings: NetworkSettings, kinds: usize, seed: u64) -> Result<Self, SettingsError> {
        settings.check()?;
        let parameters = Parameters::new(settings, kinds, seed);
        Ok(Self::from(Learned {
            kinds,
            learning_rate: parameters.settings.learning_rate,
            memory: vec![0.0; parameters.dense.len() * parameters.settings.optimiser.memories()],
            steps: 0,
            sampler: Sampler::new(f64::from(parameters.settings.negatives_alpha)),
            values: ValueScale::default(),
            parameters,
        }))
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &NetworkSettings {
        &self.learned.parameters.settings
    }

    /// How many items have rows.
    #[must_use]
    pub fn items(&self) -> usize {
        self.learned.parameters.items.len()
    }

    /// Batches that changed the weights.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.learned.steps
    }

    /// Makes rows for items up to `items`; the initial values of each are a function of the seed and its number.
    pub fn grow(&mut self, items: usize) {
        self.learned.parameters.grow(items);
        self.learned.sampler.grow(items);
    }

    /// Sets an item's attributes, forgetting those it had. Ids at or above `attributes_max` are ignored.
    pub fn set_attributes(&mut self, item: ItemIx, attributes: &[u32]) {
        self.learned.parameters.set_attributes(item, attributes);
        self.attributes_changed = true;
    }

    /// Lets an item that nothing is known of begin where others stand: its rows become the mean of theirs, of those that were targets at least once. Without any it stays
    /// as it is.
    pub fn resemble(&mut self, item: ItemIx, others: &[ItemIx]) {
        let Learned { parameters, sampler, .. } = &mut self.learned;
        let learned: Vec<ItemIx> = others.iter().copied().filter(|other| *other != item && sampler.count(*other) > 0).collect();
        if !learned.is_empty() {
            parameters.resemble(item, &learned);
        }
    }

    /// Counts a target that came: negatives are drawn by these counts. Without rows for the item it is not counted.
    pub fn observe(&mut self, item: ItemIx) {
        self.learned.sampler.observe(item);
    }

    /// The step size in force.
    #[must_use]
    pub fn learning_rate(&self) -> f32 {
        self.learned.learning_rate
    }

    /// Sets the step size of the batches to come; one that is not a number above 0 is ignored.
    pub fn set_learning_rate(&mut self, rate: f32) {
        if rate > 0.0 && rate.is_finite() {
            self.learned.learning_rate = rate;
        }
    }

    /// Learns from one mini-batch: every position's loss, back-propagated through its window, one step of the optimiser. `seed` draws the negatives and the dropout masks.
    pub fn train(&mut self, windows: &[Window], seed: u64) -> BatchReport {
        let mut report = self.compute(windows, seed);
        if report.examples == 0 || report.skipped {
            return report;
        }
        let clip = self.learned.parameters.settings.clip;
        let scale = if clip > 0.0 && report.gradient_norm > clip { clip / report.gradient_norm } else { 1.0 };
        self.apply(scale);
        report.skipped = false;
        report
    }

    /// The batch's losses, with the gradients left in the workspace.
    fn compute(&mut self, windows: &[Window], seed: u64) -> BatchReport {
        let Self { learned: Learned { parameters, sampler, values, .. }, work, .. } = self;
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
        pass.forward(parameters, batch, &mut rng);
        zeros(dense, parameters.dense.len());
        let gradients = HeadGradients { columns: &mut *outputs, outputs: &mut pass.d_outputs, dense };
        let loss = heads.learn(parameters, batch, values, &pass.outputs, gradients);
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
        let Self { learned: Learned { parameters, memory, steps, learning_rate, .. }, work, .. } = self;
        *steps += 1;
        let settings = Arc::clone(&parameters.settings);
        let step = Step::new(&settings, *learning_rate, scale, *steps);
        let dense: &mut Vec<f32> = Arc::make_mut(&mut parameters.dense);
        step.apply(dense, memory, &work.dense);
        let update = |table: &mut Table, gradients: &RowGradients| {
            table.update(gradients.slots.rows(), &gradients.values, |weights, memory, gradient| step.apply(weights, memory, gradient));
        };
        if let Some(table) = &mut parameters.outputs {
            update(table, &work.outputs);
            update(&mut parameters.items, &work.inputs);
        } else {
            update(&mut parameters.items, &work.outputs);
        }
        update(&mut parameters.attribute_rows, &work.attributes);
    }

    /// An immutable copy of today's weights, at a cost in proportion to the rows that changed since the last one.
    pub fn publish(&mut self, version: u64) -> Arc<Weights> {
        let Self { learned: Learned { parameters, values, .. }, published, attributes_changed, .. } = self;
        let (copy, scan) = published.get_or_insert_with(|| (parameters.empty_copy(), Scan::default()));
        let hidden = copy.settings.hidden;
        parameters.publish(copy, std::mem::take(attributes_changed), |rows, changed| scan.update(rows, hidden, changed));
        Arc::new(Weights::new(version, copy.clone(), *values, scan.clone()))
    }
}

/// Hands every row's gradient of x to the embeddings that it is the sum of.
fn embeddings_backward(
    parameters: &Parameters<Table>,
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

#[cfg(test)]
mod tests;
