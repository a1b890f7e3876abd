//! Network settings: architecture, loss, sampling and optimiser, with range checks.

use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The recurrent cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellKind {
    /// Plain recurrent layer, `h' = tanh(W x + U h + b)` [Elman 1990].
    Rnn,
    /// Long short-term memory [Hochreiter & Schmidhuber 1997], with the forget gate of [Gers et al.
    /// 2000].
    Lstm,
    /// Gated recurrent unit [Cho et al. 2014]. The reset gate multiplies the result of the
    /// recurrent product.
    Gru,
}

/// The length of a query with the normalised softmax: the inverse temperature of the softmax.
const NORMALISED_QUERY_LENGTH: f32 = 12.0;

/// The loss of the next-item head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Sampled softmax cross-entropy with logQ correction.
    CrossEntropy,
    /// BPR-max with score regularisation [Hidasi & Karatzoglou 2018].
    BprMax,
    /// Cross-entropy of vectors of fixed length: the logit of an item is 12 times the cosine of the
    /// query and the item embedding, plus the bias [Gupta et al. 2019, NISER]. Frequent items thus
    /// gain no advantage by longer embeddings. Inputs of the network are embeddings of length 1.
    NormalisedSoftmax,
}

/// Whether training treats the other targets of an example's session as negatives of the example.
///
/// Targets of the same session occur in a batch far more often than their popularity predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionTargetHandling {
    /// The other targets of the session are masked, so they are no negatives. This is the best
    /// choice if the items of a session are similar to each other.
    Masked,
    /// The other targets of the session are negatives. Like the example's own target, they occur in
    /// the batch with certainty, so none of these targets gets a logQ correction. The sum over the
    /// sampled items then estimates the softmax denominator over all items without bias. `Certain`
    /// is the best choice if the order of the items in a session matters, for example if sessions
    /// repeat themselves.
    Certain,
    /// The other targets of the session are ordinary negatives.
    Negatives,
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimiserKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adagrad [Duchi et al. 2011]. A batch updates only the embedding rows that it uses.
    Adagrad,
    /// Adam [Kingma & Ba 2015]. The update of embeddings is lazy: a batch updates only the
    /// embedding rows that it uses.
    Adam,
    /// Adagrad with one learning rate per embedding instead of one per weight [Gupta et al. 2014,
    /// Naumov et al. 2019]. Other parameters have one learning rate per weight. An embedding needs
    /// 8 bytes of optimiser state instead of 4 bytes per weight.
    RowAdagrad,
}

/// The weight of the loss of the former interest head, a second output of the network that
/// predicted event values. The setting no longer exists; the interest models replaced the head.
/// Binary encodings keep the number, which is not 0 only in a stored network that has the head.
/// Formats for people, such as TOML, omit it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct UnusedInterestWeight(f32);

impl Serialize for UnusedInterestWeight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.serialize_none() } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for UnusedInterestWeight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return f32::deserialize(deserializer).map(Self);
        }
        match Option::<IgnoredAny>::deserialize(deserializer)? {
            None => Ok(Self::default()),
            Some(_) => Err(D::Error::custom("the setting `interest_weight` was removed")),
        }
    }
}

/// Settings of the network and its training.
///
/// The defaults gave the best ranking quality in one pass over a click stream, with six replayed
/// windows per new window. Dropout on the input matters more than dropout on the recurrent layers,
/// because two paths lead from the input directly to the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// The recurrent cell.
    pub cell: CellKind,
    /// Width of the hidden state and of every embedding, 1..=1024.
    pub hidden: usize,
    /// Number of recurrent layers, 1..=8.
    pub layers: usize,
    /// Maximum number of positions of a training window, 1..=200. Only the last positions of a
    /// longer window are used.
    pub window: usize,
    /// Whether to add `W_s x_t`, a direct path from the input, to the output.
    pub input_to_output: bool,
    /// Whether to add `W_m m_t`, a direct path from the decayed memory of earlier inputs, to the
    /// output.
    pub input_memory: bool,
    /// Decay γ of the memory `m_t = γ m_{t-1} + x_{t-1}`, in [0, 1).
    pub memory_decay: f32,
    /// Whether an item has one embedding for input and output. If not, it has two.
    pub tied: bool,
    /// Whether to add the embedding of the event's kind to the input.
    pub kinds: bool,
    /// Whether to add the embedding of the time gap since the previous event to the input.
    pub gaps: bool,
    /// Whether to add the embeddings of the item's attributes to the input.
    pub attributes: bool,
    /// Maximum number of attribute embeddings, 0..=10,000,000. Attribute ids at or above this
    /// number are ignored.
    pub attributes_max: usize,
    /// The loss of the next-item head.
    pub loss: LossKind,
    /// Weight of the score regularisation of BPR-max, 0..=100.
    pub bpr_regularisation: f32,
    /// Number of negatives drawn per batch, which all examples of the batch share, 0..=65,536.
    pub negatives: usize,
    /// Exponent α of the negative sampling distribution count^α, in [0, 1].
    pub negatives_alpha: f32,
    /// Weight of the logQ correction, in [0, 1]. BPR-max does not use it.
    pub logq: f32,
    /// Whether the targets of the other examples of a batch are negatives of an example.
    pub in_batch: bool,
    /// How training treats the other targets of the same session.
    pub session_targets: SessionTargetHandling,
    /// Dropout rate of the input in training, in [0, 0.95]. Each training window has one dropout
    /// mask.
    pub input_dropout: f32,
    /// Dropout rate of the output of every layer in training, in [0, 0.95]. The dropout applies to
    /// the recurrence and to the input of the next layer. Each training window has one dropout mask
    /// per layer.
    pub hidden_dropout: f32,
    /// The optimiser.
    pub optimiser: OptimiserKind,
    /// Learning rate, in (0, 10].
    pub learning_rate: f32,
    /// Momentum of SGD, in [0, 1).
    pub momentum: f32,
    /// Decay β₁ of Adam's first moment, in [0, 1).
    pub beta1: f32,
    /// Decay β₂ of Adam's second moment, in [0, 1).
    pub beta2: f32,
    /// ε in the denominator of Adagrad (inside the square root) and of Adam (outside the square
    /// root), in [1e-12, 1].
    pub epsilon: f32,
    /// Maximum Euclidean norm of the whole gradient of a batch, 0..=1e6. The value 0 disables
    /// clipping.
    pub clip: f32,
    /// A former setting. It is part of the encoding.
    #[serde(rename = "interest_weight")]
    pub unused_interest_weight: UnusedInterestWeight,
    /// Largest absolute value of an initial embedding value, in (0, 1]. The initial values are
    /// drawn uniformly.
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
            loss: LossKind::NormalisedSoftmax,
            bpr_regularisation: 1.0,
            negatives: 512,
            negatives_alpha: 0.5,
            logq: 1.0,
            in_batch: true,
            session_targets: SessionTargetHandling::Masked,
            input_dropout: 0.3,
            hidden_dropout: 0.3,
            optimiser: OptimiserKind::RowAdagrad,
            learning_rate: 0.1,
            momentum: 0.9,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-6,
            clip: 0.0,
            unused_interest_weight: UnusedInterestWeight::default(),
            initial_scale: 0.05,
        }
    }
}

/// Error: a network setting is outside its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{key} = {value}: must be {allowed}")]
pub struct NetworkSettingsError {
    /// The key of the setting.
    pub key: &'static str,
    /// The rejected value.
    pub value: String,
    /// The allowed range, in words.
    pub allowed: &'static str,
}

/// Error: the parts of a serialised network do not have the sizes that follow from its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored network is damaged: the sizes of its parts do not match its settings")]
pub struct CorruptNetworkError;

fn check_range<T: PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: T,
    in_range: bool,
    allowed: &'static str,
) -> Result<(), NetworkSettingsError> {
    if in_range { Ok(()) } else { Err(NetworkSettingsError { key, value: value.to_string(), allowed }) }
}

impl NetworkSettings {
    /// The length to which queries are scaled; item embeddings are then scaled to length 1. `None`
    /// if the vectors keep their lengths.
    pub(super) fn query_length(&self) -> Option<f32> {
        (self.loss == LossKind::NormalisedSoftmax).then_some(NORMALISED_QUERY_LENGTH)
    }

    /// Whether these are the settings of a stored network with the former interest head. Such a
    /// network can be decoded, but not be used.
    #[must_use]
    pub fn has_former_interest_head(&self) -> bool {
        self.unused_interest_weight != UnusedInterestWeight::default()
    }

    /// The range of allowed learning rates, in words.
    pub const ALLOWED_LEARNING_RATES: &'static str = "above 0 and at most 10";

    /// Whether a learning rate is allowed. The check applies to the setting and to the admin
    /// operation that changes the rate.
    #[must_use]
    pub fn is_allowed_learning_rate(rate: f32) -> bool {
        rate > 0.0 && rate <= 10.0
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Returns the first setting that is outside its range, with the allowed range.
    pub fn check(&self) -> Result<(), NetworkSettingsError> {
        let s = self;
        check_range("hidden", s.hidden, (1..=1024).contains(&s.hidden), "1 to 1024")?;
        check_range("layers", s.layers, (1..=8).contains(&s.layers), "1 to 8")?;
        check_range("window", s.window, (1..=200).contains(&s.window), "1 to 200")?;
        check_range("memory_decay", s.memory_decay, (0.0..1.0).contains(&s.memory_decay), "at least 0 and below 1")?;
        check_range("attributes_max", s.attributes_max, s.attributes_max <= 10_000_000, "0 to 10000000")?;
        check_range(
            "bpr_regularisation",
            s.bpr_regularisation,
            (0.0..=100.0).contains(&s.bpr_regularisation),
            "0 to 100",
        )?;
        check_range("negatives", s.negatives, s.negatives <= 65_536, "0 to 65536")?;
        check_range("negatives_alpha", s.negatives_alpha, (0.0..=1.0).contains(&s.negatives_alpha), "0 to 1")?;
        check_range("logq", s.logq, (0.0..=1.0).contains(&s.logq), "0 to 1")?;
        check_range("input_dropout", s.input_dropout, (0.0..=0.95).contains(&s.input_dropout), "0 to 0.95")?;
        check_range("hidden_dropout", s.hidden_dropout, (0.0..=0.95).contains(&s.hidden_dropout), "0 to 0.95")?;
        check_range(
            "learning_rate",
            s.learning_rate,
            Self::is_allowed_learning_rate(s.learning_rate),
            Self::ALLOWED_LEARNING_RATES,
        )?;
        check_range("momentum", s.momentum, (0.0..1.0).contains(&s.momentum), "at least 0 and below 1")?;
        check_range("beta1", s.beta1, (0.0..1.0).contains(&s.beta1), "at least 0 and below 1")?;
        check_range("beta2", s.beta2, (0.0..1.0).contains(&s.beta2), "at least 0 and below 1")?;
        check_range("epsilon", s.epsilon, (1e-12..=1.0).contains(&s.epsilon), "1e-12 to 1")?;
        check_range("clip", s.clip, (0.0..=1e6).contains(&s.clip), "0 (off) to 1000000")?;
        check_range(
            "initial_scale",
            s.initial_scale,
            s.initial_scale > 0.0 && s.initial_scale <= 1.0,
            "above 0 and at most 1",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_accepts_the_defaults_and_names_the_setting_outside_its_range() {
        NetworkSettings::default().check().unwrap();
        let bad = NetworkSettings { learning_rate: f32::NAN, ..Default::default() };
        assert_eq!(bad.check().unwrap_err().to_string(), "learning_rate = NaN: must be above 0 and at most 10");
        let bad = NetworkSettings { hidden: 0, ..Default::default() };
        assert_eq!(bad.check().unwrap_err().key, "hidden");
    }

    #[test]
    fn the_former_interest_weight_is_stored_but_not_shown() {
        let config = bincode::config::standard();
        let defaults = NetworkSettings::default();
        let mut bytes = bincode::serde::encode_to_vec(&defaults, config).unwrap();
        let decode = |bytes: &[u8]| bincode::serde::decode_from_slice::<NetworkSettings, _>(bytes, config).unwrap().0;
        assert_eq!(decode(&bytes), defaults);
        // The number before the last one.
        let place = bytes.len() - 8..bytes.len() - 4;
        assert_eq!(bytes[place.clone()], 0_f32.to_le_bytes());
        bytes[place].copy_from_slice(&0.5_f32.to_le_bytes());
        let former = decode(&bytes);
        assert!(former.has_former_interest_head() && !defaults.has_former_interest_head() && former != defaults);
        assert_eq!(bincode::serde::encode_to_vec(&former, config).unwrap(), bytes);

        assert!(!toml::to_string(&former).unwrap().contains("interest_weight"));
        let json = serde_json::to_string(&defaults).unwrap();
        assert_eq!(serde_json::from_str::<NetworkSettings>(&json).unwrap(), defaults);
        let error = toml::from_str::<NetworkSettings>("interest_weight = 0.5").unwrap_err();
        assert!(error.to_string().contains("the setting `interest_weight` was removed"), "{error}");
    }
}
