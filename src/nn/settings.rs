//! What the network is made of and how it learns: checked before anything runs.

use serde::{Deserialize, Serialize};

/// The recurrent cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellKind {
    /// A plain recurrent layer, `h' = tanh(W x + U h + b)` [Elman 1990].
    Rnn,
    /// Long short-term memory [Hochreiter & Schmidhuber 1997], with the forget gate of [Gers et al. 2000].
    Lstm,
    /// Gated recurrent unit [Cho et al. 2014], the reset gate applied after the recurrent product.
    Gru,
}

/// The loss of the next-item head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Sampled softmax cross-entropy.
    CrossEntropy,
    /// BPR-max with score regularisation [Hidasi & Karatzoglou 2018].
    BprMax,
}

/// What the other targets of its own session are to an example. They are far more frequent in its batch than popularity supposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionTargets {
    /// No negatives. Best where a session browses among alike items.
    Masked,
    /// Negatives that are certain to be there, as the example's own target is: neither takes part in the logQ correction, which makes the sampled partition an unbiased estimate of
    /// the whole one. Best where sessions repeat themselves, so that the order within a session matters.
    Certain,
    /// Negatives like all others.
    Negatives,
}

/// How gradients become steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimiserKind {
    /// Gradient descent with momentum.
    Sgd,
    /// Adagrad [Duchi et al. 2011]; on embeddings only the rows that a batch touched.
    Adagrad,
    /// Adam [Kingma & Ba 2015]; on embeddings lazily, only the rows that a batch touched.
    Adam,
}

/// Everything that shapes the network and its learning. The defaults are those that learn most from one pass over a stream of clicks with six times as many replayed windows: dropping
/// the input, which the short paths carry to the output, matters more than dropping the cell's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// The recurrent cell.
    pub cell: CellKind,
    /// Width of the hidden state and of every embedding, 1..=1024.
    pub hidden: usize,
    /// Recurrent layers, 1..=8.
    pub layers: usize,
    /// Positions of a window that are learned from, 1..=200; of a longer window the last ones.
    pub window: usize,
    /// The path `W_s x_t` from the input to the output.
    pub input_to_output: bool,
    /// The path `W_m m_t` from the decayed memory of earlier inputs to the output.
    pub input_memory: bool,
    /// γ in `m_t = γ m_{t-1} + x_{t-1}`, in [0, 1).
    pub memory_decay: f32,
    /// One embedding an item for input and output; otherwise one each.
    pub tied: bool,
    /// Add the embedding of the event's kind to the input.
    pub kinds: bool,
    /// Add the embedding of the time gap's bucket to the input.
    pub gaps: bool,
    /// Add the embeddings of the item's attributes to the input.
    pub attributes: bool,
    /// Attribute ids at or above this are ignored, 0..=10,000,000: the bound of that table.
    pub attributes_max: usize,
    /// The loss of the next-item head.
    pub loss: LossKind,
    /// Weight of the score regularisation of BPR-max, 0..=100.
    pub bpr_regularisation: f32,
    /// Negatives drawn a batch, shared by its examples, 0..=65,536.
    pub negatives: usize,
    /// An item is drawn in proportion to its count to this power, in [0, 1].
    pub negatives_alpha: f32,
    /// Weight of the logQ correction of cross-entropy, in [0, 1].
    pub logq: f32,
    /// The other examples' targets are negatives too.
    pub in_batch: bool,
    /// What the other targets of its own session are to an example.
    pub session_targets: SessionTargets,
    /// Share of the input dropped in training, in [0, 0.95]; one mask a window.
    pub input_dropout: f32,
    /// Share of every layer's output dropped in training, towards the recurrence and towards what is above, in [0, 0.95]; one mask a window and layer.
    pub hidden_dropout: f32,
    /// How gradients become steps.
    pub optimiser: OptimiserKind,
    /// Step size, in (0, 10].
    pub learning_rate: f32,
    /// Momentum of SGD, in [0, 1).
    pub momentum: f32,
    /// Decay of Adam's first moment, in [0, 1).
    pub beta1: f32,
    /// Decay of Adam's second moment, in [0, 1).
    pub beta2: f32,
    /// What keeps Adagrad (under the root) and Adam (beside it) from dividing by nothing, in [1e-12, 1].
    pub epsilon: f32,
    /// Largest Euclidean norm of a batch's whole gradient, 0..=1e6; 0 leaves it alone.
    pub clip: f32,
    /// Weight of the interest head's squared error beside the next-item loss, 0..=100; 0 switches the head off.
    pub interest_weight: f32,
    /// Embeddings begin uniform in ± this, in (0, 1].
    pub initial_scale: f32,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            cell: CellKind::Lstm,
            hidden: 64,
            layers: 1,
            window: 20,
            input_to_output: true,
            input_memory: true,
            memory_decay: 0.7,
            tied: true,
            kinds: false,
            gaps: false,
            attributes: true,
            attributes_max: 100_000,
            loss: LossKind::CrossEntropy,
            bpr_regularisation: 1.0,
            negatives: 512,
            negatives_alpha: 0.5,
            logq: 1.0,
            in_batch: true,
            session_targets: SessionTargets::Masked,
            input_dropout: 0.5,
            hidden_dropout: 0.5,
            optimiser: OptimiserKind::Adagrad,
            learning_rate: 0.1,
            momentum: 0.9,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-6,
            clip: 0.0,
            interest_weight: 0.0,
            initial_scale: 0.05,
        }
    }
}

/// A setting that cannot run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{key} = {value}: must be {allowed}")]
pub struct NetworkSettingsError {
    /// The setting's name.
    pub key: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be.
    pub allowed: &'static str,
}

/// A network that was read from bytes and cannot be what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored network is damaged: its parts do not have the sizes that its settings give them")]
pub struct CorruptNetworkError;

fn bounded<T: PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: T,
    fine: bool,
    allowed: &'static str,
) -> Result<(), NetworkSettingsError> {
    if fine { Ok(()) } else { Err(NetworkSettingsError { key, value: value.to_string(), allowed }) }
}

impl NetworkSettings {
    /// Whether the network can be built and trained so.
    ///
    /// # Errors
    /// The first setting outside its range, by name, with the range.
    pub fn check(&self) -> Result<(), NetworkSettingsError> {
        let s = self;
        bounded("hidden", s.hidden, (1..=1024).contains(&s.hidden), "1 to 1024")?;
        bounded("layers", s.layers, (1..=8).contains(&s.layers), "1 to 8")?;
        bounded("window", s.window, (1..=200).contains(&s.window), "1 to 200")?;
        bounded("memory_decay", s.memory_decay, (0.0..1.0).contains(&s.memory_decay), "at least 0 and below 1")?;
        bounded("attributes_max", s.attributes_max, s.attributes_max <= 10_000_000, "0 to 10000000")?;
        bounded("bpr_regularisation", s.bpr_regularisation, (0.0..=100.0).contains(&s.bpr_regularisation), "0 to 100")?;
        bounded("negatives", s.negatives, s.negatives <= 65_536, "0 to 65536")?;
        bounded("negatives_alpha", s.negatives_alpha, (0.0..=1.0).contains(&s.negatives_alpha), "0 to 1")?;
        bounded("logq", s.logq, (0.0..=1.0).contains(&s.logq), "0 to 1")?;
        bounded("input_dropout", s.input_dropout, (0.0..=0.95).contains(&s.input_dropout), "0 to 0.95")?;
        bounded("hidden_dropout", s.hidden_dropout, (0.0..=0.95).contains(&s.hidden_dropout), "0 to 0.95")?;
        bounded("learning_rate", s.learning_rate, s.learning_rate > 0.0 && s.learning_rate <= 10.0, "above 0 and at most 10")?;
        bounded("momentum", s.momentum, (0.0..1.0).contains(&s.momentum), "at least 0 and below 1")?;
        bounded("beta1", s.beta1, (0.0..1.0).contains(&s.beta1), "at least 0 and below 1")?;
        bounded("beta2", s.beta2, (0.0..1.0).contains(&s.beta2), "at least 0 and below 1")?;
        bounded("epsilon", s.epsilon, (1e-12..=1.0).contains(&s.epsilon), "1e-12 to 1")?;
        bounded("clip", s.clip, (0.0..=1e6).contains(&s.clip), "0 (off) to 1000000")?;
        bounded("interest_weight", s.interest_weight, (0.0..=100.0).contains(&s.interest_weight), "0 (off) to 100")?;
        bounded("initial_scale", s.initial_scale, s.initial_scale > 0.0 && s.initial_scale <= 1.0, "above 0 and at most 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_and_a_bad_value_is_named() {
        NetworkSettings::default().check().unwrap();
        let bad = NetworkSettings { learning_rate: f32::NAN, ..Default::default() };
        assert_eq!(bad.check().unwrap_err().to_string(), "learning_rate = NaN: must be above 0 and at most 10");
        let bad = NetworkSettings { hidden: 0, ..Default::default() };
        assert_eq!(bad.check().unwrap_err().key, "hidden");
    }
}
