//! Pretrained networks, from which the online learner can start.

use crate::domain::EventKinds;
use crate::nn::{NetworkSettings, Trainer};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A network trained before the journal's first entry. Its items have the first item numbers, in
/// order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PretrainedNetwork {
    names: Vec<Arc<str>>,
    kinds: EventKinds,
    trainer: Box<Trainer>,
}

impl PretrainedNetwork {
    /// Creates a pretrained network from a trainer, its item names by number and its event kinds.
    /// Resets the learning rate to that of the network settings.
    #[must_use]
    pub fn new(mut trainer: Box<Trainer>, names: Vec<Arc<str>>, kinds: EventKinds) -> Self {
        trainer.set_learning_rate(trainer.settings().learning_rate);
        Self { names, kinds, trainer }
    }

    /// The network settings. The learner that starts from it must use the same ones.
    #[must_use]
    pub fn network_settings(&self) -> &NetworkSettings {
        self.trainer.settings()
    }

    /// Item names by number.
    #[must_use]
    pub fn item_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Whether a learner with these network settings and event kinds can start from it. The event
    /// kinds matter only if the network reads them.
    #[must_use]
    pub fn matches_settings(&self, network: &NetworkSettings, kinds: &EventKinds) -> bool {
        self.network_settings() == network && (!network.kinds || self.kinds.names().eq(kinds.names()))
    }

    pub(super) fn into_trainer(self) -> Box<Trainer> {
        self.trainer
    }
}
