//! Pretrained networks, from which the online learner can start.

use crate::domain::EventKinds;
use crate::nn::{NetworkSettings, Trainer};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A network that was trained offline, before the learner's first journal entry. Its items get the
/// first item numbers: the item at index n of its name list has number n.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PretrainedNetwork {
    names: Vec<Arc<str>>,
    kinds: EventKinds,
    trainer: Box<Trainer>,
}

impl PretrainedNetwork {
    /// Creates a pretrained network from a trainer, the names of its items (the index is the item
    /// number) and its event kinds. Resets the learning rate, which decays during offline training,
    /// to the rate in the network settings.
    #[must_use]
    pub fn new(mut trainer: Box<Trainer>, names: Vec<Arc<str>>, kinds: EventKinds) -> Self {
        trainer.set_learning_rate(trainer.settings().learning_rate);
        Self { names, kinds, trainer }
    }

    /// The network settings. A learner that starts with this network must have the same settings.
    #[must_use]
    pub fn network_settings(&self) -> &NetworkSettings {
        self.trainer.settings()
    }

    /// Item names by number.
    #[must_use]
    pub fn item_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Whether a learner with these network settings and event kinds can start with this network.
    /// The event kinds must match only if the network uses the kind of an event as an input.
    #[must_use]
    pub fn matches_settings(&self, network: &NetworkSettings, kinds: &EventKinds) -> bool {
        self.network_settings() == network && (!network.kinds || self.kinds.names().eq(kinds.names()))
    }

    pub(super) fn into_trainer(self) -> Box<Trainer> {
        self.trainer
    }
}
