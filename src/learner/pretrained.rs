//! A network to begin with, instead of one that has learned nothing.

use crate::domain::EventKinds;
use crate::nn::{NetworkSettings, Trainer};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A network that was trained before the journal's first entry. Its items have the first numbers,
/// in their order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PretrainedNetwork {
    names: Vec<Arc<str>>,
    kinds: EventKinds,
    trainer: Box<Trainer>,
}

impl PretrainedNetwork {
    /// A trained network, the names of its items by number, and the kinds of event that it met. The
    /// learning rate goes back to that of the network's settings.
    #[must_use]
    pub fn new(mut trainer: Box<Trainer>, names: Vec<Arc<str>>, kinds: EventKinds) -> Self {
        trainer.set_learning_rate(trainer.settings().learning_rate);
        Self { names, kinds, trainer }
    }

    /// The settings that the network was made with: those of the fold that begins with it.
    #[must_use]
    pub fn network_settings(&self) -> &NetworkSettings {
        self.trainer.settings()
    }

    /// The names of the items by number.
    #[must_use]
    pub fn item_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Whether a network of these settings goes on from it, for events of these kinds: what it was
    /// made with, and kinds that it knows if it reads them.
    #[must_use]
    pub fn matches_settings(&self, network: &NetworkSettings, kinds: &EventKinds) -> bool {
        self.network_settings() == network && (!network.kinds || self.kinds.names().eq(kinds.names()))
    }

    pub(super) fn into_trainer(self) -> Box<Trainer> {
        self.trainer
    }
}
