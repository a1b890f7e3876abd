//! The sequence network: cells, embeddings, losses, optimisers, sampler; the trainer that learns and the snapshots that it publishes.
//!
//! A step's input x is the sum of the embeddings of what is known of the event; recurrent layers make h of it; the output is `o = h + W_s x + W_m m` with the decayed memory
//! `m = γ m' + x'`; an item's logit is its output row times o, plus its bias. [`Trainer`] is the only writer. [`Weights`] are what everyone else reads.

mod batch;
mod cells;
mod cow_rows;
mod embedding_table;
mod input;
mod loss;
mod math;
mod matmul;
mod negative_sampler;
mod network;
mod optimiser;
mod output_heads;
mod parameters;
mod quantised_index;
mod row_slots;
mod settings;
mod trainer;
mod value_scale;
mod weights;

pub use input::{GAP_BUCKETS, ItemAttributeLists, StepInput, TrainingPosition, TrainingWindow, gap_bucket};
pub use settings::{CellKind, CorruptNetworkError, LossKind, NetworkSettings, NetworkSettingsError, OptimiserKind, SessionTargets};
pub use trainer::{BatchReport, Trainer};
pub use weights::{HiddenState, NetworkScratch, TopItems, Weights};
