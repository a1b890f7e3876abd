//! The interface of a recurrent cell: its elementwise forward and backward steps.

/// Input of a cell's backward step: one step's rows of the forward pass.
pub(in crate::nn) struct SavedActivations<'a> {
    /// Activated gates, `(rows, GATES · hidden)`.
    pub(in crate::nn) gates: &'a [f32],
    /// Recurrent preactivations R, `(rows, GATES · hidden)`.
    pub(in crate::nn) recurrent: &'a [f32],
    /// State before the step, `(rows, STATE · hidden)`.
    pub(in crate::nn) previous: &'a [f32],
    /// State after the step, `(rows, STATE · hidden)`.
    pub(in crate::nn) state: &'a [f32],
}

/// A recurrent cell. Its output is the first `hidden` values of its state.
pub(in crate::nn) trait RecurrentCell {
    /// Number of `hidden`-wide blocks in the preactivations.
    const GATES: usize;
    /// Number of `hidden`-wide blocks in the state.
    const STATE: usize;

    /// Runs one step. `gates` holds the input preactivations A on entry and the activated gates on
    /// return; `state` is written.
    fn forward(hidden: usize, gates: &mut [f32], recurrent: &[f32], previous: &[f32], state: &mut [f32]);

    /// Backpropagates through one step.
    ///
    /// On entry, `carry` is the gradient of the state after the step. On return, it is the gradient
    /// of the state before the step, without the part that flows through the recurrent product.
    /// `d_gates` and `d_recurrent` receive the gradients of A and R.
    fn backward(
        hidden: usize,
        saved: &SavedActivations<'_>,
        carry: &mut [f32],
        d_gates: &mut [f32],
        d_recurrent: &mut [f32],
    );
}
