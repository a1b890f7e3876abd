//! Recurrent cells: the elementwise part of a recurrent layer, between the matrix products.
//!
//! A layer of `hidden` units computes two preactivations for every step, both
//! `(rows, GATES · hidden)`:
//!
//! - the input part `A = X · W + b`, for all steps in one product;
//! - the recurrent part `R = H' · U`, where H' is the layer's previous output.
//!
//! A cell turns A, R and the previous state into the next state, and backpropagates the same way.
//!
//! - `recurrent_cell`: the trait and the activations saved for the backward pass
//! - `rnn`, `lstm`, `gru`: the cells
//! - `dispatch`: selects the cell by [`CellKind`](super::settings::CellKind)

mod dispatch;
mod gru;
mod lstm;
mod recurrent_cell;
mod rnn;

pub(super) use recurrent_cell::SavedActivations;
