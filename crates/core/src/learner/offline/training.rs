//! Offline training of a network over a corpus, in epochs.

use crate::domain::{EventKinds, ItemIx, Step};
use crate::nn::{NetworkSettings, NetworkSettingsError, Trainer, TrainingWindow, Weights};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

use super::super::pretrained::PretrainedNetwork;
use super::super::training_window::training_window;
use super::corpus::Corpus;
use super::scoring::{OfflineScores, score_sessions};
use super::settings::{OfflineSettings, OfflineSettingsError};

/// The reason why an offline training cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The training settings are invalid.
    #[error(transparent)]
    Settings(#[from] OfflineSettingsError),
    /// The network settings are invalid.
    #[error("network.{}", .0)]
    Network(#[from] NetworkSettingsError),
    /// The training sessions contain fewer than two items.
    #[error("the training sessions contain {0} item(s); at least 2 are needed")]
    TooFewItems(usize),
    /// No training session has a target event after another event.
    #[error("no training session has a target event after another event, so there is nothing to predict")]
    NothingToPredict,
    /// In every mini-batch of an epoch, the loss or the gradient was not finite.
    #[error(
        "all {batches} mini-batches of epoch {epoch} were skipped because the loss or the gradient was not finite; lower `network.learning_rate` (now {rate}) or set `network.clip`"
    )]
    Diverged {
        /// The epoch number, from 1.
        epoch: usize,
        /// Number of mini-batches.
        batches: u64,
        /// The configured learning rate.
        rate: f32,
    },
    /// The given corpus differs from the corpus with which the training began.
    #[error(
        "the checkpoint was trained on a different recording or split: it has {} items and {} positions, the given recording has {} and {}", .was.0, .was.1, .is.0, .is.1
    )]
    CorpusMismatch {
        /// Number of items and number of training positions in the checkpoint.
        was: (usize, u64),
        /// Number of items and number of training positions in the given corpus.
        is: (usize, u64),
    },
}

/// The result of one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Mean next-item loss over all positions of the epoch, in nats.
    pub loss: f64,
    /// Number of positions trained on.
    pub examples: u64,
    /// Number of mini-batches trained on.
    pub batches: u64,
    /// Number of mini-batches skipped because the loss or the gradient was not finite.
    pub skipped: u64,
    /// The learning rate at the end of the epoch.
    pub learning_rate: f32,
    /// Evaluation results on the validation sessions, or on the test sessions if there are no
    /// validation sessions.
    pub scores: OfflineScores,
}

/// The progress within an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochProgress {
    /// The epoch number, from 1.
    pub epoch: usize,
    /// Number of mini-batches done in the epoch.
    pub batches: usize,
    /// Total number of mini-batches in the epoch.
    pub batch_count: usize,
    /// Mean loss over the mini-batches so far, in nats.
    pub loss: f64,
}

/// The state of an offline training between two epochs, as stored in checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OfflineTraining {
    settings: OfflineSettings,
    kinds: EventKinds,
    idle_gap_ms: i64,
    names: Vec<Arc<str>>,
    /// Number of training positions in the corpus. [`OfflineTraining::resume`] compares this number
    /// with that of the given corpus, to detect a different corpus.
    positions: u64,
    trainer: Box<Trainer>,
    /// The trainer as it was after the best epoch; `None` if the last epoch is the best.
    best: Option<BestEpoch>,
    epochs: Vec<EpochReport>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct BestEpoch {
    /// The epoch number, from 1.
    epoch: usize,
    recall: f64,
    trainer: Box<Trainer>,
}

impl OfflineTraining {
    /// Prepares the training of a new network. Counts the target items of the corpus, because the
    /// negative sampler draws items by their counts.
    ///
    /// # Errors
    /// [`OfflineError`] if the settings are invalid or the corpus contains nothing to predict.
    pub fn new(
        settings: OfflineSettings,
        network: NetworkSettings,
        kinds: EventKinds,
        corpus: &Corpus,
    ) -> Result<Self, OfflineError> {
        settings.check()?;
        if corpus.item_names.len() < 2 {
            return Err(OfflineError::TooFewItems(corpus.item_names.len()));
        }
        let mut trainer = Trainer::new(network, kinds.len(), settings.seed)?;
        trainer.grow_items(corpus.item_names.len());
        let mut positions = 0;
        for item in target_items(&corpus.training, &kinds) {
            trainer.count_target(item);
            positions += 1;
        }
        if positions == 0 {
            return Err(OfflineError::NothingToPredict);
        }
        Ok(Self {
            settings,
            kinds,
            idle_gap_ms: corpus.idle_gap_ms,
            names: corpus.item_names.clone(),
            positions,
            trainer: Box::new(trainer),
            best: None,
            epochs: Vec::new(),
        })
    }

    /// Resumes a training: checks that `corpus` is the corpus with which the training began, and
    /// sets the total number of epochs.
    ///
    /// # Errors
    /// [`OfflineError::CorpusMismatch`] if the corpus differs.
    pub fn resume(&mut self, epochs: usize, corpus: &Corpus) -> Result<(), OfflineError> {
        let positions = target_items(&corpus.training, &self.kinds).count() as u64;
        if corpus.item_names != self.names || positions != self.positions {
            let (was, is) = ((self.names.len(), self.positions), (corpus.item_names.len(), positions));
            return Err(OfflineError::CorpusMismatch { was, is });
        }
        self.settings.epochs = epochs;
        Ok(())
    }

    /// The training settings.
    #[must_use]
    pub fn settings(&self) -> &OfflineSettings {
        &self.settings
    }

    /// The network settings.
    #[must_use]
    pub fn network_settings(&self) -> &NetworkSettings {
        self.trainer.settings()
    }

    /// The event kinds used in training.
    #[must_use]
    pub fn kinds(&self) -> &EventKinds {
        &self.kinds
    }

    /// An event starts a new session if the user had no event for more than this many milliseconds.
    #[must_use]
    pub fn idle_gap_ms(&self) -> i64 {
        self.idle_gap_ms
    }

    /// Item names by number.
    #[must_use]
    pub fn item_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Number of positions that an epoch trains on.
    #[must_use]
    pub fn position_count(&self) -> u64 {
        self.positions
    }

    /// The reports of all epochs so far.
    #[must_use]
    pub fn epochs(&self) -> &[EpochReport] {
        &self.epochs
    }

    /// The number of the best epoch so far, counted from 1; 0 before the first epoch. The best
    /// epoch has the highest Recall@20 on the validation sessions. Without validation sessions, the
    /// last epoch counts as the best.
    #[must_use]
    pub fn best_epoch(&self) -> usize {
        self.best.as_ref().map_or(self.epochs.len(), |best| best.epoch)
    }

    /// Whether all epochs are done, or the last `patience` epochs brought no improvement.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let done = self.epochs.len();
        done >= self.settings.epochs || done - self.best_epoch() >= self.settings.patience
    }

    /// Publishes the weights after the best epoch. The version of the weights is the number of that
    /// epoch.
    pub fn best_weights(&mut self) -> Arc<Weights> {
        let version = self.best_epoch() as u64;
        self.best.as_mut().map_or(&mut self.trainer, |best| &mut best.trainer).publish(version)
    }

    /// Converts the network after the best epoch into a pretrained network for the daemon.
    #[must_use]
    pub fn into_pretrained(self) -> PretrainedNetwork {
        PretrainedNetwork::new(self.best.map_or(self.trainer, |best| best.trainer), self.names, self.kinds)
    }

    /// Trains once on every position of the training sessions, in random order, then evaluates the
    /// network on held-out sessions. Calls `on_progress` after every mini-batch.
    ///
    /// # Errors
    /// [`OfflineError::Diverged`] if all mini-batches were skipped.
    pub fn train_epoch(
        &mut self,
        corpus: &Corpus,
        mut on_progress: impl FnMut(EpochProgress),
    ) -> Result<EpochReport, OfflineError> {
        let number = self.epochs.len();
        if let (None, Some(last)) = (&self.best, self.epochs.last().filter(|_| !corpus.validation.is_empty())) {
            self.best =
                Some(BestEpoch { epoch: number, recall: last.scores.metrics.recall(), trainer: self.trainer.clone() });
        }
        let mut report = self.train_batches(corpus, &mut on_progress)?;
        let weights = self.trainer.publish(number as u64 + 1);
        let held_out = if corpus.validation.is_empty() { &corpus.test } else { &corpus.validation };
        report.scores = score_sessions(&weights, held_out, &self.kinds);
        self.epochs.push(report);
        self.best.take_if(|best| report.scores.metrics.recall() > best.recall);
        Ok(report)
    }

    fn train_batches(
        &mut self,
        corpus: &Corpus,
        on_progress: &mut dyn FnMut(EpochProgress),
    ) -> Result<EpochReport, OfflineError> {
        let Self { settings, kinds, trainer, epochs, .. } = self;
        let epoch = epochs.len();
        let earlier: u64 = epochs.iter().map(|epoch| epoch.batches + epoch.skipped).sum();
        let rate = trainer.settings().learning_rate;
        let mut rng =
            Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ (epoch as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut order = cut_into_slices(&corpus.training, trainer.settings().window);
        for index in (1..order.len()).rev() {
            order.swap(index, (rng.next_u64() % (index as u64 + 1)) as usize);
        }
        let (seed, batch_count) = (rng.next_u64(), order.len().div_ceil(settings.batch));
        let mut report = EpochReport::default();
        let mut loss = 0.0;
        for (index, slices) in order.chunks(settings.batch).enumerate() {
            let windows: Vec<TrainingWindow> =
                slices.iter().filter_map(|slice| slice.to_training_window(&corpus.training, kinds)).collect();
            report.learning_rate = settings.learning_rate(rate, epoch, earlier + index as u64);
            trainer.set_learning_rate(report.learning_rate);
            let result = trainer.train(&windows, seed.wrapping_add(index as u64));
            if result.skipped {
                report.skipped += 1;
            } else if result.examples > 0 {
                report.batches += 1;
                report.examples += result.examples as u64;
                loss += result.loss * result.examples as f64;
                report.loss = loss / report.examples as f64;
            }
            on_progress(EpochProgress { epoch: epoch + 1, batches: index + 1, batch_count, loss: report.loss });
        }
        if report.batches == 0 {
            return Err(OfflineError::Diverged { epoch: epoch + 1, batches: report.skipped, rate });
        }
        Ok(report)
    }
}

/// Iterates over the target items of all steps except the first step of each session.
fn target_items<'a>(sessions: &'a [Vec<Step>], kinds: &'a EventKinds) -> impl Iterator<Item = ItemIx> + 'a {
    let later = sessions.iter().flat_map(|session| session.iter().skip(1));
    later.filter_map(|step| step.target_item(kinds))
}

/// A range of consecutive training positions of one session. At each position, the network predicts
/// the next step.
#[derive(Debug, Clone, PartialEq)]
struct SessionSlice {
    session: usize,
    positions: Range<usize>,
}

impl SessionSlice {
    fn to_training_window(&self, sessions: &[Vec<Step>], kinds: &EventKinds) -> Option<TrainingWindow> {
        let steps = sessions.get(self.session)?.get(..=self.positions.end)?;
        training_window(self.session as u64, steps, kinds, self.positions.len())
    }
}

/// Cuts every session into slices of at most `max_positions` positions. The number of slices is as
/// small as possible, and their lengths are nearly equal.
fn cut_into_slices(sessions: &[Vec<Step>], max_positions: usize) -> Vec<SessionSlice> {
    let mut slices = Vec::with_capacity(sessions.len());
    for (session, steps) in sessions.iter().enumerate() {
        let positions = steps.len().saturating_sub(1);
        let count = positions.div_ceil(max_positions.max(1));
        slices.extend((0..count).map(|slice| SessionSlice {
            session,
            positions: positions * slice / count..positions * (slice + 1) / count,
        }));
    }
    slices
}

#[cfg(test)]
mod tests;
