//! Recurrent cells: the elementwise part of a recurrent layer. `network` computes the matrix
//! products of the layer.
//!
//! A layer of `hidden` units computes two preactivations for every step, both
//! `(rows, GATE_BLOCKS · hidden)`:
//!
//! - the input part `A = X · W + b`, for all steps in one product;
//! - the recurrent part `R = H' · U`, where H' is the layer's previous output.
//!
//! The forward step of a cell computes the next state from A, R and the previous state. The
//! backward step computes the gradients of A, R and the previous state.
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
