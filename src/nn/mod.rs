//! The sequence network: cells, embeddings, losses, optimisers, sampler; the trainer that learns and the snapshots that it publishes.
//!
//! A step's input x is the sum of the embeddings of what is known of the event; recurrent layers make h of it; the output is `o = h + W_s x + W_m m` with the decayed memory
//! `m = γ m' + x'`; an item's logit is its output row times o, plus its bias. [`Trainer`] is the only writer. [`Weights`] are what everyone else reads.

mod batch;
mod cells;
mod heads;
mod input;
mod loss;
mod math;
mod matmul;
mod network;
mod optimiser;
mod parameters;
mod rows;
mod sampler;
mod scan;
mod settings;
mod slots;
mod table;
mod trainer;
mod values;
mod weights;

pub use input::{Attributes, GAP_BUCKETS, Input, Position, Window, gap_bucket};
pub use settings::{CellKind, LossKind, NetworkSettings, OptimiserKind, SessionTargets, SettingsError, Unsound};
pub use trainer::{BatchReport, Trainer};
pub use weights::{HiddenState, Scratch, Top, Weights};
