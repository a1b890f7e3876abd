//! Training of the next-item head: sampled softmax with logQ correction [Bengio & Senécal 2008; Yi
//! et al. 2019], or BPR-max. All examples of a batch share the same candidate items (columns).

use super::batch::{BatchTarget, TrainingBatch};
use super::embedding_table::EmbeddingTable;
use super::loss::{EXAMPLES_PER_VECTOR, MASKED_LOGIT, next_item_loss};
use super::math::{exp, kernel, ln};
use super::matmul::{MatrixView, matmul, transpose_copy};
use super::negative_sampler::NegativeSampler;
use super::network::{resize_without_clearing, resize_zeroed};
use super::parameters::{NetworkParameters, output_row_width};
use super::row_slots::{RowGradients, RowSlots};
use super::settings::{LossKind, SessionTargetHandling};
use super::unit_vectors::{rows_backward, scale_rows_to_length};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Examples per block. A block of logits of this size fits into the cache.
const EXAMPLES_PER_BLOCK: usize = 64;

/// The candidate items (columns) of the loss of a batch, and the buffers that the loss needs.
///
/// The columns are the targets of the batch, then the drawn negatives. Each item has one column.
/// The index of a column is the slot of its gradient row.
#[derive(Debug, Clone, Default)]
pub(super) struct NextItemHead {
    negatives: Vec<u32>,
    /// Number of columns.
    columns: usize,
    /// Target column of every example.
    target_columns: Vec<usize>,
    adjustments: LogitAdjustments,
    /// Output rows of the columns, `(columns, row width)`.
    weights: Vec<f32>,
    /// With the normalised softmax, the factors that scaled the rows of `weights`.
    weight_factors: Vec<f32>,
    /// The same for the rows of `queries`.
    query_factors: Vec<f32>,
    /// Transposed copy of a block of queries, `(hidden + 1, lanes)`.
    transposed: Vec<f32>,
    /// The query (o, 1, 0, …) of each example, `(examples, row width)`. The 1 multiplies the bias
    /// in the output row, so the inner product includes the bias.
    queries: Vec<f32>,
    /// Logits of a block of examples, `(columns, lanes)`.
    logits: Vec<f32>,
    /// Gradients of the queries, `(examples, row width)`.
    d_queries: Vec<f32>,
}

/// Adjustments of the logits: masks and logQ corrections.
#[derive(Debug, Clone, Default)]
struct LogitAdjustments {
    /// Sorted pairs: a session id, and the column of one of the session's targets.
    session_columns: Vec<(u64, usize)>,
    /// If the setting `in_batch` is off: the columns of items that are targets of the batch but
    /// were not drawn as negatives. These columns are masked, so that they do not serve as
    /// negatives. Empty if `in_batch` is on.
    targets_only: Vec<usize>,
    /// logQ correction of each column. It is subtracted from all logits of the column.
    corrections: Vec<f32>,
}

impl LogitAdjustments {
    /// Adjusts the logits of one example; `logits` starts at the lane of the example. The caller
    /// has already subtracted the logQ correction from every logit.
    ///
    /// Masks the columns in `targets_only` and applies `rule` to the targets of the same session.
    /// The logit of the example's own target is not masked. With
    /// [`SessionTargetHandling::Certain`], the logQ correction is added back to this logit and to
    /// those of the session's other targets.
    fn adjust_logits(
        &self,
        rule: SessionTargetHandling,
        logits: &mut [f32],
        lanes: usize,
        target_column: usize,
        session: u64,
    ) {
        let target_logit = logits[target_column * lanes];
        self.targets_only.iter().for_each(|column| logits[column * lanes] = MASKED_LOGIT);
        let first = self.session_columns.partition_point(|(other, _)| *other < session);
        let same_session =
            self.session_columns[first..].iter().take_while(|(other, _)| *other == session).map(|(_, column)| *column);
        match rule {
            SessionTargetHandling::Masked => same_session.for_each(|column| logits[column * lanes] = MASKED_LOGIT),
            SessionTargetHandling::Certain => {
                same_session.for_each(|column| logits[column * lanes] += self.corrections[column])
            }
            SessionTargetHandling::Negatives => {}
        }
        logits[target_column * lanes] = if rule == SessionTargetHandling::Certain {
            target_logit + self.corrections[target_column]
        } else {
            target_logit
        };
    }
}

/// Buffers for the gradients of the next-item head.
pub(super) struct HeadGradients<'a> {
    /// Gradients of the rows of the output table, by slot. Slots that are not columns of the loss
    /// have a zero gradient.
    pub(super) columns: &'a mut RowGradients,
    /// Gradient of the network outputs o, `(rows, hidden)`.
    pub(super) outputs: &'a mut Vec<f32>,
}

impl NextItemHead {
    /// Selects the columns of the batch and assigns a gradient slot to each. `slots` must be empty
    /// on entry.
    pub(super) fn select_columns(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        sampler: &NegativeSampler,
        rng: &mut Xoshiro256PlusPlus,
        slots: &mut RowSlots,
    ) {
        let settings = &*parameters.settings;
        self.target_columns.clear();
        self.target_columns.extend(batch.targets.iter().filter_map(|target| slots.get_or_assign(target.item)));
        let targets = slots.rows().len();
        self.negatives.clear();
        sampler.draw_negatives(settings.negatives, rng, &mut self.negatives);
        self.negatives.dedup();
        self.adjustments.targets_only.clear();
        let mut is_drawn = vec![false; targets];
        for item in &self.negatives {
            if let Some(drawn) = slots.get_or_assign(*item).and_then(|slot| is_drawn.get_mut(slot)) {
                *drawn = true;
            }
        }
        if !settings.in_batch {
            self.adjustments.targets_only.extend((0..targets).filter(|column| !is_drawn[*column]));
        }
        self.columns = slots.rows().len();
        self.adjustments.session_columns.clear();
        let sessions = batch.targets.iter().map(|target| batch.sessions[target.window]);
        self.adjustments.session_columns.extend(sessions.zip(self.target_columns.iter().copied()));
        self.adjustments.session_columns.sort_unstable();
        self.adjustments.session_columns.dedup();
        let (width, examples) =
            (output_row_width(settings.hidden), if settings.in_batch { batch.targets.len() } else { 0 });
        resize_without_clearing(&mut self.weights, self.columns * width);
        for (item, weights) in slots.rows().iter().zip(self.weights.chunks_exact_mut(width)) {
            if let Some(row) = parameters.output_table().row(*item as usize) {
                weights.copy_from_slice(row);
            }
        }
        if settings.query_length().is_some() {
            scale_rows_to_length(&mut self.weights, width, settings.hidden, 1.0, &mut self.weight_factors);
        }
        self.adjustments.corrections.clear();
        self.adjustments
            .corrections
            .extend(slots.rows().iter().map(|item| sampler.expected_count(*item, settings.negatives, examples)));
        let weight = if settings.loss == LossKind::BprMax { 0.0 } else { settings.logq };
        to_logq_corrections(&mut self.adjustments.corrections, weight);
    }

    /// Computes the loss, summed over the examples, and its gradients. The weight of an example
    /// multiplies its gradient, but not its share of the returned loss. `outputs` holds the network
    /// output o of each row, `(rows, hidden)`.
    pub(super) fn loss_and_gradients(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        outputs: &[f32],
        gradients: HeadGradients<'_>,
    ) -> f64 {
        let settings = &*parameters.settings;
        let (hidden, width, examples) = (settings.hidden, output_row_width(settings.hidden), batch.targets.len());
        let HeadGradients { columns, outputs: d_outputs } = gradients;
        resize_zeroed(&mut self.queries, examples * width);
        for (target, query) in batch.targets.iter().zip(self.queries.chunks_exact_mut(width)) {
            query[..hidden].copy_from_slice(&outputs[target.row * hidden..][..hidden]);
            query[hidden] = 1.0;
        }
        if let Some(length) = settings.query_length() {
            scale_rows_to_length(&mut self.queries, width, hidden, length, &mut self.query_factors);
        }
        resize_without_clearing(&mut self.d_queries, examples * width);
        // The matrix product writes the gradient rows of the columns up to the bias. The remaining
        // values of these rows and the rows of all other slots start at zero.
        resize_without_clearing(&mut columns.values, columns.slots.rows().len() * width);
        let (written, non_columns) = columns.values.split_at_mut(self.columns * width);
        non_columns.fill(0.0);
        written.chunks_exact_mut(width).for_each(|row| row[hidden + 1..].fill(0.0));
        let loss = self.logit_loss_and_gradients(parameters, batch, written);
        if let Some(length) = settings.query_length() {
            rows_backward(written, &self.weights, width, hidden, 1.0, &self.weight_factors);
            rows_backward(&mut self.d_queries, &self.queries, width, hidden, length, &self.query_factors);
        }
        resize_zeroed(d_outputs, outputs.len());
        for (target, gradient) in batch.targets.iter().zip(self.d_queries.chunks_exact(width)) {
            d_outputs[target.row * hidden..][..hidden].copy_from_slice(&gradient[..hidden]);
        }
        loss
    }

    /// Computes the logits block by block, their loss, and the gradients of queries and columns.
    fn logit_loss_and_gradients(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        d_weights: &mut [f32],
    ) -> f64 {
        let settings = &*parameters.settings;
        let (hidden, width, columns) = (settings.hidden, output_row_width(settings.hidden), self.columns);
        let scale = 1.0 / batch.targets.len() as f32;
        let weights = MatrixView::from_strided_rows(&self.weights, columns, hidden + 1, width);
        let mut loss = 0.0;
        let blocks =
            self.queries.chunks(EXAMPLES_PER_BLOCK * width).zip(self.d_queries.chunks_mut(EXAMPLES_PER_BLOCK * width));
        let examples = batch.targets.chunks(EXAMPLES_PER_BLOCK).zip(self.target_columns.chunks(EXAMPLES_PER_BLOCK));
        for (block, ((queries, d_queries), (targets, target_columns))) in blocks.zip(examples).enumerate() {
            let lanes = targets.len().next_multiple_of(EXAMPLES_PER_VECTOR);
            let queries = MatrixView::from_strided_rows(queries, targets.len(), hidden + 1, width);
            let transposed_queries = transpose_copy(&mut self.transposed, queries, lanes);
            resize_without_clearing(&mut self.logits, columns * lanes);
            matmul(&mut self.logits, lanes, weights, transposed_queries, false);
            subtract_from_rows(&mut self.logits, lanes, &self.adjustments.corrections);
            for (lane, (target, target_column)) in targets.iter().zip(target_columns).enumerate() {
                let session = batch.sessions[target.window];
                self.adjustments.adjust_logits(
                    settings.session_targets,
                    &mut self.logits[lane..],
                    lanes,
                    *target_column,
                    session,
                );
            }
            loss += next_item_loss(
                settings.loss,
                &mut self.logits,
                lanes,
                target_columns,
                settings.bpr_regularisation,
                scale,
            );
            if targets.iter().any(|target| target.weight != 1.0) {
                weight_lanes(&mut self.logits, lanes, targets);
            }
            let gradient = MatrixView::from_strided_rows(&self.logits, columns, targets.len(), lanes);
            matmul(d_queries, width, gradient.transposed(), weights, false);
            matmul(d_weights, width, gradient, queries, block > 0);
        }
        loss
    }
}

/// Multiplies the gradient of each example, a lane of `gradient`, by the weight of the example. The
/// shape of `gradient` is `(columns, lanes)`.
fn weight_lanes(gradient: &mut [f32], lanes: usize, targets: &[BatchTarget]) {
    for row in gradient.chunks_exact_mut(lanes) {
        row.iter_mut().zip(targets).for_each(|(value, target)| *value *= target.weight);
    }
}

/// Probability that an item is a column of the batch, `1 − e^(−λ)` (Poisson), where λ is the
/// expected number of its occurrences, `expected`.
///
/// An item has one column, however often it was drawn. The logQ correction therefore uses the
/// probability that the item has a column at all. For `expected` below 0.02, a second-order series
/// avoids cancellation.
#[inline(always)]
fn sampling_probability(expected: f32) -> f32 {
    if expected < 0.02 { expected * (1.0 - 0.5 * expected) } else { 1.0 - exp(-expected) }
}

kernel! {
    /// Subtracts `values[i]` from all values of row i. The shape of `rows` is `(rows, lanes)`.
    fn subtract_from_rows<'a>(rows: &'a mut [f32], lanes: usize, values: &'a [f32]) -> () {
        for (row, value) in rows.chunks_exact_mut(lanes).zip(values) {
            for logit in row {
                *logit -= value;
            }
        }
    }

    /// Replaces expected counts by logQ corrections, `weight · ln(1 − e^(−λ))`.
    fn to_logq_corrections<'a>(expected: &'a mut [f32], weight: f32) -> () {
        for value in expected.iter_mut() {
            *value = weight * ln(sampling_probability(*value));
        }
    }
}
