//! The two heads in training: next item by a sampled loss over shared columns, interest by squared error.

use super::batch::{BatchTarget, TrainingBatch};
use super::embedding_table::EmbeddingTable;
use super::loss::{LANES, MASKED_LOGIT, next_item_loss};
use super::math::{accumulate, exp, inner_product, kernel, ln};
use super::matmul::{MatrixView, matmul, transpose_copy};
use super::negative_sampler::NegativeSampler;
use super::network::{resize_buffer, resize_zeroed};
use super::parameters::{NetworkParameters, row_width};
use super::row_slots::{RowGradients, RowSlots};
use super::settings::{LossKind, SessionTargets};
use super::value_scale::ValueScale;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Examples whose logits are computed at a time, so that a block of them stays in the cache.
const EXAMPLES: usize = 64;

/// The columns of a batch's loss (its targets, then the drawn negatives, each item once) and the room to compute with them. A column is a slot of the output table's gradients.
#[derive(Debug, Clone, Default)]
pub(super) struct OutputHeads {
    drawn: Vec<u32>,
    /// How many columns there are.
    columns: usize,
    /// By example, its target's column.
    wanted: Vec<usize>,
    adjustments: LogitAdjustments,
    /// The columns' output rows, `(columns, row width)`.
    weights: Vec<f32>,
    /// A block of queries transposed, `(hidden + 1, lanes)`.
    transposed: Vec<f32>,
    /// (o, 1, 0) of every example, `(examples, row width)`, so that a product with an output row adds its bias.
    queries: Vec<f32>,
    /// `(columns, lanes)`.
    logits: Vec<f32>,
    /// `(examples, row width)`.
    d_queries: Vec<f32>,
    /// The interest head's image of every example, `(examples, hidden)`.
    images: Vec<f32>,
    d_images: Vec<f32>,
}

/// What becomes of a column's logit besides the product.
#[derive(Debug, Clone, Default)]
struct LogitAdjustments {
    /// (session, column of one of its targets), sorted.
    session_columns: Vec<(u64, usize)>,
    /// Columns that are there only as some example's target, where those are no negatives.
    targets_only: Vec<usize>,
    /// By column, what the logQ correction takes from the logit.
    corrections: Vec<f32>,
}

impl LogitAdjustments {
    /// Adjusts the logits of one example, its lane the first of `logits`, the correction already taken from all: those of its session's other targets, and of columns that are
    /// there as targets only.
    fn settle(&self, rule: SessionTargets, logits: &mut [f32], lanes: usize, wanted: usize, session: u64) {
        let kept = logits[wanted * lanes];
        self.targets_only.iter().for_each(|column| logits[column * lanes] = MASKED_LOGIT);
        let first = self.session_columns.partition_point(|(other, _)| *other < session);
        let own = self.session_columns[first..].iter().take_while(|(other, _)| *other == session).map(|(_, column)| *column);
        match rule {
            SessionTargets::Masked => own.for_each(|column| logits[column * lanes] = MASKED_LOGIT),
            SessionTargets::Certain => own.for_each(|column| logits[column * lanes] += self.corrections[column]),
            SessionTargets::Negatives => {}
        }
        logits[wanted * lanes] = if rule == SessionTargets::Certain { kept + self.corrections[wanted] } else { kept };
    }
}

/// Sums over a batch's examples.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HeadsLoss {
    /// Of the next-item loss.
    pub(super) next_item: f64,
    /// Of the squared error, in standardised values.
    pub(super) interest: f64,
    /// Examples that had a value.
    pub(super) valued_examples: usize,
}

/// Where the heads leave their gradients.
pub(super) struct HeadGradients<'a> {
    /// Of the columns' output rows, one for every slot; rows of slots that are no columns are left at zero.
    pub(super) columns: &'a mut RowGradients,
    /// Of o, `(rows, hidden)`.
    pub(super) outputs: &'a mut Vec<f32>,
    /// Of the interest head's matrix and bias.
    pub(super) dense: &'a mut [f32],
}

impl OutputHeads {
    /// Chooses the columns and numbers them in `row_slots`, which comes empty.
    pub(super) fn select_columns(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        sampler: &NegativeSampler,
        rng: &mut Xoshiro256PlusPlus,
        slots: &mut RowSlots,
    ) {
        let settings = &*parameters.settings;
        self.wanted.clear();
        self.wanted.extend(batch.targets.iter().filter_map(|target| slots.get_or_assign(target.item)));
        let targets = slots.rows().len();
        self.drawn.clear();
        sampler.draw(settings.negatives, rng, &mut self.drawn);
        self.drawn.dedup();
        self.adjustments.targets_only.clear();
        let mut is_drawn = vec![false; targets];
        for item in &self.drawn {
            if let Some(known) = slots.get_or_assign(*item).and_then(|slot| is_drawn.get_mut(slot)) {
                *known = true;
            }
        }
        if !settings.in_batch {
            self.adjustments.targets_only.extend((0..targets).filter(|column| !is_drawn[*column]));
        }
        self.columns = slots.rows().len();
        self.adjustments.session_columns.clear();
        let sessions = batch.targets.iter().map(|target| batch.sessions[target.window]);
        self.adjustments.session_columns.extend(sessions.zip(self.wanted.iter().copied()));
        self.adjustments.session_columns.sort_unstable();
        self.adjustments.session_columns.dedup();
        let (width, examples) = (row_width(settings.hidden), if settings.in_batch { batch.targets.len() } else { 0 });
        resize_buffer(&mut self.weights, self.columns * width);
        for (item, weights) in slots.rows().iter().zip(self.weights.chunks_exact_mut(width)) {
            if let Some(row) = parameters.output_rows().row(*item as usize) {
                weights.copy_from_slice(row);
            }
        }
        self.adjustments.corrections.clear();
        self.adjustments.corrections.extend(slots.rows().iter().map(|item| sampler.expected_count(*item, settings.negatives, examples)));
        let weight = if settings.loss == LossKind::CrossEntropy { settings.logq } else { 0.0 };
        correct(&mut self.adjustments.corrections, weight);
    }

    /// Both losses and their gradients; `outputs` holds o of every row, `(rows, hidden)`.
    pub(super) fn loss_and_gradients(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        scale: &ValueScale,
        outputs: &[f32],
        gradients: HeadGradients<'_>,
    ) -> HeadsLoss {
        let settings = &*parameters.settings;
        let (hidden, width, examples) = (settings.hidden, row_width(settings.hidden), batch.targets.len());
        let HeadGradients { columns, outputs: d_outputs, dense } = gradients;
        resize_zeroed(&mut self.queries, examples * width);
        for (target, query) in batch.targets.iter().zip(self.queries.chunks_exact_mut(width)) {
            query[..hidden].copy_from_slice(&outputs[target.row * hidden..][..hidden]);
            query[hidden] = 1.0;
        }
        resize_buffer(&mut self.d_queries, examples * width);
        // The product writes the columns' rows up to the bias; the rest of them, and the rows of mere inputs, begin at zero.
        resize_buffer(&mut columns.values, columns.slots.rows().len() * width);
        let (written, others) = columns.values.split_at_mut(self.columns * width);
        others.fill(0.0);
        written.chunks_exact_mut(width).for_each(|row| row[hidden + 1..].fill(0.0));
        let mut loss = HeadsLoss { next_item: self.next_item_head(parameters, batch, written), ..Default::default() };
        if settings.interest_weight > 0.0 {
            self.interest_head(parameters, batch, scale, written, dense, &mut loss);
        }
        resize_zeroed(d_outputs, outputs.len());
        for (target, gradient) in batch.targets.iter().zip(self.d_queries.chunks_exact(width)) {
            d_outputs[target.row * hidden..][..hidden].copy_from_slice(&gradient[..hidden]);
        }
        loss
    }

    fn next_item_head(&mut self, parameters: &NetworkParameters<EmbeddingTable>, batch: &TrainingBatch, d_weights: &mut [f32]) -> f64 {
        let settings = &*parameters.settings;
        let (hidden, width, columns) = (settings.hidden, row_width(settings.hidden), self.columns);
        let scale = 1.0 / batch.targets.len() as f32;
        let weights = MatrixView::strided(&self.weights, columns, hidden + 1, width);
        let mut loss = 0.0;
        let blocks = self.queries.chunks(EXAMPLES * width).zip(self.d_queries.chunks_mut(EXAMPLES * width));
        let examples = batch.targets.chunks(EXAMPLES).zip(self.wanted.chunks(EXAMPLES));
        for (block, ((queries, d_queries), (targets, wanted))) in blocks.zip(examples).enumerate() {
            let lanes = targets.len().next_multiple_of(LANES);
            let queries = MatrixView::strided(queries, targets.len(), hidden + 1, width);
            let turned = transpose_copy(&mut self.transposed, queries, lanes);
            resize_buffer(&mut self.logits, columns * lanes);
            matmul(&mut self.logits, lanes, weights, turned, false);
            subtract_by_row(&mut self.logits, lanes, &self.adjustments.corrections);
            for (lane, (target, wanted)) in targets.iter().zip(wanted).enumerate() {
                let session = batch.sessions[target.window];
                self.adjustments.settle(settings.session_targets, &mut self.logits[lane..], lanes, *wanted, session);
            }
            loss += next_item_loss(settings.loss, &mut self.logits, lanes, wanted, settings.bpr_regularisation, scale);
            let gradient = MatrixView::strided(&self.logits, columns, targets.len(), lanes);
            matmul(d_queries, width, gradient.t(), weights, false);
            matmul(d_weights, width, gradient, queries, block > 0);
        }
        loss
    }

    fn interest_head(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        scale: &ValueScale,
        d_weights: &mut [f32],
        dense: &mut [f32],
        loss: &mut HeadsLoss,
    ) {
        let settings = &*parameters.settings;
        let (hidden, width, examples) = (settings.hidden, row_width(settings.hidden), batch.targets.len());
        loss.valued_examples = batch.targets.iter().filter(|target| target.value.is_finite()).count();
        if loss.valued_examples == 0 {
            return;
        }
        let layout = &*parameters.layout;
        let (matrix, bias) = (&parameters.dense[layout.interest.clone()], parameters.dense[layout.interest_bias.start]);
        let (matrix, queries) = (MatrixView::new(matrix, hidden, hidden), MatrixView::strided(&self.queries, examples, hidden, width));
        resize_buffer(&mut self.images, examples * hidden);
        resize_zeroed(&mut self.d_images, examples * hidden);
        matmul(&mut self.images, hidden, queries, matrix, false);
        let step = 2.0 * settings.interest_weight / loss.valued_examples as f32;
        let images = self.images.chunks_exact(hidden).zip(self.d_images.chunks_exact_mut(hidden));
        for ((BatchTarget { value, .. }, wanted), (image, d_image)) in batch.targets.iter().zip(&self.wanted).zip(images) {
            if !value.is_finite() {
                continue;
            }
            let weights = &self.weights[wanted * width..][..width];
            let d_weights = &mut d_weights[wanted * width..][..width];
            let error = inner_product(image, &weights[..hidden]) + weights[hidden + 1] + bias - scale.standardise(*value);
            loss.interest += f64::from(error) * f64::from(error);
            accumulate(&mut d_weights[..hidden], step * error, image);
            accumulate(d_image, step * error, &weights[..hidden]);
            d_weights[hidden + 1] += step * error;
            dense[layout.interest_bias.start] += step * error;
        }
        let d_images = MatrixView::new(&self.d_images, examples, hidden);
        matmul(&mut dense[layout.interest.clone()], hidden, queries.t(), d_images, false);
        let matrix = transpose_copy(&mut self.transposed, matrix, hidden);
        matmul(&mut self.d_queries, width, d_images, matrix, true);
    }
}

/// The chance that an item expected `λ` times is there at all, `1 − e^(−λ)`: what a column has, each item being one column however often it was drawn.
#[inline(always)]
fn chance(expected: f32) -> f32 {
    if expected < 0.02 { expected * (1.0 - 0.5 * expected) } else { 1.0 - exp(-expected) }
}

kernel! {
    /// Takes a value from every row, `(rows, lanes)`.
    fn subtract_by_row<'a>(rows: &'a mut [f32], lanes: usize, values: &'a [f32]) -> () {
        for (row, value) in rows.chunks_exact_mut(lanes).zip(values) {
            for place in row {
                *place -= value;
            }
        }
    }

    /// Turns expected counts into logQ corrections.
    fn correct<'a>(expected: &'a mut [f32], weight: f32) -> () {
        for value in expected.iter_mut() {
            *value = weight * ln(chance(*value));
        }
    }
}
