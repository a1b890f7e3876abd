//! From candidates to a ranked list: features, the online ranker, and the session's mood.
//!
//! One [`Desk`] a thread: it gathers a moment's candidates from the counting sources and the network, cuts them to a few hundred, describes each
//! by [`Features`], and has the [`Ranker`] score them. Teaching goes the same way: consider, ask for the rank, then teach.

mod desk;
mod features;
mod filter;
mod mood;
mod normaliser;
mod ranker;
mod selection;

pub use desk::{Desk, NetworkView};
pub use features::{Features, ITEM, MOMENT};
pub use filter::{Filter, FilterError};
pub use mood::Mood;
pub use normaliser::Normaliser;
pub use ranker::{HIDDEN, Ranker, Units};
pub use selection::{Selection, Terms};

#[cfg(test)]
mod tests;
