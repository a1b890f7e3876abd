//! The sequence network: a recurrent network that reads a user's steps and predicts the next item
//! [Hidasi et al. 2016].
//!
//! The input x of a step is the sum of the embeddings of the item, its attributes, the event kind,
//! the time gap and the session start. The recurrent layers compute h. The output, also called the
//! query, is `o = h + W_s x + W_m m`, with the decayed memory of earlier inputs `m_t = γ m_{t-1} +
//! x_{t-1}`. The logit of an item is the inner product of the item's output embedding and o, both
//! scaled to a fixed length by default, plus the item's bias. [`Trainer`] is the only writer.
//! Readers use the [`Weights`] that it publishes.
//!
//! - `settings`: [`NetworkSettings`] and their checks
//! - `input`: steps, training windows, item attributes
//! - `batch`: mini-batch layout
//! - `cells`: `rnn`, `lstm`, `gru`
//! - `network`: forward and backward pass of the layers
//! - `next_item_head`, `loss`: the output and its losses
//! - `unit_vectors`: vectors of fixed length and the gradient through the scaling
//! - `negative_sampler`: draws negatives by popularity
//! - `optimiser`: SGD, Adagrad, Adam
//! - `parameters`, `embedding_table`, `row_slots`: trainable parameters and sparse gradients
//! - `float_rows`: encoding of long float vectors
//! - `trainer`: one training step, publication
//! - `weights`, `cow_rows`, `quantised_index`, `row_order`: snapshots and top-k scoring
//! - `recomputation`: hidden state from the latest steps
//! - `item_relation`: how an item relates to a hidden state, for the ranker
//! - `math`, `matmul`: vector and matrix kernels

mod batch;
mod cells;
mod cow_rows;
mod embedding_table;
mod float_rows;
mod input;
mod item_relation;
mod loss;
mod math;
mod matmul;
mod negative_sampler;
mod network;
mod next_item_head;
mod optimiser;
mod parameters;
mod quantised_index;
mod recomputation;
mod row_order;
mod row_slots;
mod settings;
mod trainer;
mod unit_vectors;
mod weights;

pub use input::{GAP_BUCKETS, ItemAttributeLists, StepInput, TrainingPosition, TrainingWindow, gap_bucket};
pub use item_relation::{ItemRelation, RelationQuery};
pub use row_order::RowOrder;
pub use settings::{
    CellKind, CorruptNetworkError, LossKind, NetworkSettings, NetworkSettingsError, OptimiserKind,
    SessionTargetHandling, UnusedInterestWeight,
};
pub use trainer::{BatchReport, Trainer, TrainingChangesError};
pub use weights::{HiddenState, NetworkScratch, TopItems, Weights};
