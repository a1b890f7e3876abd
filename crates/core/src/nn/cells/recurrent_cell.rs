//! The interface of a recurrent cell: its elementwise forward and backward steps.

/// Activations of one time step, saved by the forward pass for the cell's backward step.
pub(in crate::nn) struct SavedActivations<'a> {
    /// Activated gates, `(rows, GATE_BLOCKS · hidden)`.
    pub(in crate::nn) gates: &'a [f32],
    /// Recurrent preactivations R, `(rows, GATE_BLOCKS · hidden)`.
    pub(in crate::nn) recurrent: &'a [f32],
    /// State before the step, `(rows, STATE_BLOCKS · hidden)`.
    pub(in crate::nn) previous: &'a [f32],
    /// State after the step, `(rows, STATE_BLOCKS · hidden)`.
    pub(in crate::nn) state: &'a [f32],
}

/// A recurrent cell. The first `hidden` values of the cell state are the output of the layer.
pub(in crate::nn) trait RecurrentCell {
    /// Number of gate blocks in the preactivations. Each block has one value per hidden unit.
    const GATE_BLOCKS: usize;
    /// Number of blocks in the state. Each block has one value per hidden unit.
    const STATE_BLOCKS: usize;

    /// Computes one time step. `gates` holds the input preactivations A on entry and the activated
    /// gates on return. `recurrent` holds the recurrent preactivations R. The new state is written to
    /// `state`.
    fn forward(hidden: usize, gates: &mut [f32], recurrent: &[f32], previous: &[f32], state: &mut [f32]);

    /// Backpropagates through one time step.
    ///
    /// On entry, `carry` is the gradient of the state after the step. On return, `carry` is the
    /// gradient of the state before the step, except for the part that flows through the recurrent
    /// product. The caller adds that part. `d_gates` and `d_recurrent` receive the gradients of A
    /// and R.
    fn backward(
        hidden: usize,
        saved: &SavedActivations<'_>,
        carry: &mut [f32],
        d_gates: &mut [f32],
        d_recurrent: &mut [f32],
    );
}
