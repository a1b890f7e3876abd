//! Epochs over a corpus.

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

/// Why there is nothing to train, or no going on.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The settings of the training cannot run.
    #[error(transparent)]
    Settings(#[from] OfflineSettingsError),
    /// The settings of the network cannot run.
    #[error("network.{}", .0)]
    Network(#[from] NetworkSettingsError),
    /// With one item there is nothing to tell apart.
    #[error("the sessions to learn from name {0} item(s); at least two are needed")]
    TooFewItems(usize),
    /// No session has two events.
    #[error("no session to learn from has an event that chose an item after another event: there is nothing to predict")]
    NothingToPredict,
    /// The loss or the gradient of every mini-batch was not finite.
    #[error(
        "all {batches} mini-batches of epoch {epoch} were skipped, because loss or gradient were not finite; lower network.learning_rate (it is {rate}) or set network.clip"
    )]
    Diverged {
        /// From 1.
        epoch: usize,
        /// How many.
        batches: u64,
        /// The learning rate of the settings.
        rate: f32,
    },
    /// The training to be gone on with learned from something else.
    #[error(
        "the checkpoint was trained on another recording, or on another part of it: {} items and {} positions, not {} and {}", .was.0, .was.1, .is.0, .is.1
    )]
    CorpusMismatch {
        /// Items and positions of the one before.
        was: (usize, u64),
        /// Those of the one given.
        is: (usize, u64),
    },
}

/// What one epoch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// The mean next-item loss of its positions, in nats.
    pub loss: f64,
    /// Positions learned from.
    pub examples: u64,
    /// Mini-batches learned from.
    pub batches: u64,
    /// Mini-batches skipped, because loss or gradient were not finite.
    pub skipped: u64,
    /// The learning rate at its end.
    pub learning_rate: f32,
    /// On the validation sessions, or on the test's if there are none.
    pub scores: OfflineScores,
}

/// How far an epoch has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochProgress {
    /// From 1.
    pub epoch: usize,
    /// Mini-batches done.
    pub batches: usize,
    /// Of so many.
    pub batch_count: usize,
    /// The mean loss so far, in nats.
    pub loss: f64,
}

/// A training at the border of two epochs: what a checkpoint of it holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OfflineTraining {
    settings: OfflineSettings,
    kinds: EventKinds,
    idle_gap_ms: i64,
    names: Vec<Arc<str>>,
    /// Positions of the corpus, to know it again.
    positions: u64,
    trainer: Box<Trainer>,
    /// The trainer after the best epoch, if that was not the last.
    best: Option<BestEpoch>,
    epochs: Vec<EpochReport>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct BestEpoch {
    /// From 1.
    epoch: usize,
    recall: f64,
    trainer: Box<Trainer>,
}

impl OfflineTraining {
    /// A network that has learned nothing yet, and knows how often each item comes.
    ///
    /// # Errors
    /// Settings that cannot run, or a corpus that has nothing to learn.
    pub fn new(settings: OfflineSettings, network: NetworkSettings, kinds: EventKinds, corpus: &Corpus) -> Result<Self, OfflineError> {
        settings.check()?;
        if corpus.item_names.len() < 2 {
            return Err(OfflineError::TooFewItems(corpus.item_names.len()));
        }
        let mut trainer = Trainer::new(network, kinds.len(), settings.seed)?;
        trainer.grow_items(corpus.item_names.len());
        let mut positions = 0;
        for item in targets(&corpus.training, &kinds) {
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

    /// Holds the corpus of a training that goes on against the one that it began with, and sets how
    /// many epochs there are to be.
    ///
    /// # Errors
    /// [`OfflineError::CorpusMismatch`] if they differ.
    pub fn resume(&mut self, epochs: usize, corpus: &Corpus) -> Result<(), OfflineError> {
        let positions = targets(&corpus.training, &self.kinds).count() as u64;
        if corpus.item_names != self.names || positions != self.positions {
            let (was, is) = ((self.names.len(), self.positions), (corpus.item_names.len(), positions));
            return Err(OfflineError::CorpusMismatch { was, is });
        }
        self.settings.epochs = epochs;
        Ok(())
    }

    /// The settings of the training.
    #[must_use]
    pub fn settings(&self) -> &OfflineSettings {
        &self.settings
    }

    /// The settings of the network.
    #[must_use]
    pub fn network_settings(&self) -> &NetworkSettings {
        self.trainer.settings()
    }

    /// The kinds of event that it was trained with.
    #[must_use]
    pub fn kinds(&self) -> &EventKinds {
        &self.kinds
    }

    /// Milliseconds without an event after which a new session began.
    #[must_use]
    pub fn idle_gap_ms(&self) -> i64 {
        self.idle_gap_ms
    }

    /// The names of the items by number.
    #[must_use]
    pub fn item_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Positions that an epoch learns from.
    #[must_use]
    pub fn position_count(&self) -> u64 {
        self.positions
    }

    /// Every epoch so far.
    #[must_use]
    pub fn epochs(&self) -> &[EpochReport] {
        &self.epochs
    }

    /// The number of the best epoch so far, from 1: the one with the highest Recall@20 on the
    /// validation sessions, without these the last; 0 before the first.
    #[must_use]
    pub fn best_epoch(&self) -> usize {
        self.best.as_ref().map_or(self.epochs.len(), |best| best.epoch)
    }

    /// Whether all epochs are done, or too many were no better.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let done = self.epochs.len();
        done >= self.settings.epochs || done - self.best_epoch() >= self.settings.patience
    }

    /// The weights after the best epoch, with that epoch's number as their version.
    pub fn best_weights(&mut self) -> Arc<Weights> {
        let version = self.best_epoch() as u64;
        self.best.as_mut().map_or(&mut self.trainer, |best| &mut best.trainer).publish(version)
    }

    /// The network after the best epoch, for a daemon to begin with.
    #[must_use]
    pub fn into_pretrained(self) -> PretrainedNetwork {
        PretrainedNetwork::new(self.best.map_or(self.trainer, |best| best.trainer), self.names, self.kinds)
    }

    /// Learns once from every position of the training sessions, in an order drawn for this epoch,
    /// and scores the result. `tell` hears of every mini-batch.
    ///
    /// # Errors
    /// [`OfflineError::Diverged`] if no mini-batch could be learned from.
    pub fn train_epoch(&mut self, corpus: &Corpus, mut tell: impl FnMut(EpochProgress)) -> Result<EpochReport, OfflineError> {
        let number = self.epochs.len();
        if let (None, Some(last)) = (&self.best, self.epochs.last().filter(|_| !corpus.validation.is_empty())) {
            self.best = Some(BestEpoch { epoch: number, recall: last.scores.metrics.recall(), trainer: self.trainer.clone() });
        }
        let mut report = self.learn(corpus, &mut tell)?;
        let weights = self.trainer.publish(number as u64 + 1);
        let held_out = if corpus.validation.is_empty() { &corpus.test } else { &corpus.validation };
        report.scores = score_sessions(&weights, held_out, &self.kinds);
        self.epochs.push(report);
        self.best.take_if(|best| report.scores.metrics.recall() > best.recall);
        Ok(report)
    }

    fn learn(&mut self, corpus: &Corpus, tell: &mut dyn FnMut(EpochProgress)) -> Result<EpochReport, OfflineError> {
        let Self { settings, kinds, trainer, epochs, .. } = self;
        let epoch = epochs.len();
        let earlier: u64 = epochs.iter().map(|epoch| epoch.batches + epoch.skipped).sum();
        let rate = trainer.settings().learning_rate;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ (epoch as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut order = cut(&corpus.training, trainer.settings().window);
        for place in (1..order.len()).rev() {
            order.swap(place, (rng.next_u64() % (place as u64 + 1)) as usize);
        }
        let (seed, of) = (rng.next_u64(), order.len().div_ceil(settings.batch));
        let mut report = EpochReport::default();
        let mut loss = 0.0;
        for (place, parts) in order.chunks(settings.batch).enumerate() {
            let windows: Vec<TrainingWindow> = parts.iter().filter_map(|part| part.window(&corpus.training, kinds)).collect();
            report.learning_rate = settings.learning_rate(rate, epoch, earlier + place as u64);
            trainer.set_learning_rate(report.learning_rate);
            let done = trainer.train(&windows, seed.wrapping_add(place as u64));
            if done.skipped {
                report.skipped += 1;
            } else if done.examples > 0 {
                report.batches += 1;
                report.examples += done.examples as u64;
                loss += done.loss * done.examples as f64;
                report.loss = loss / report.examples as f64;
            }
            tell(EpochProgress { epoch: epoch + 1, batches: place + 1, batch_count: of, loss: report.loss });
        }
        if report.batches == 0 {
            return Err(OfflineError::Diverged { epoch: epoch + 1, batches: report.skipped, rate });
        }
        Ok(report)
    }
}

/// What the sessions predict, in their order.
fn targets<'a>(sessions: &'a [Vec<Step>], kinds: &'a EventKinds) -> impl Iterator<Item = ItemIx> + 'a {
    let later = sessions.iter().flat_map(|session| session.iter().skip(1));
    later.filter_map(|step| step.item.filter(|_| kinds.rule(step.kind).target))
}

/// Consecutive positions of a session; the position at a place predicts the step after it.
#[derive(Debug, Clone, PartialEq)]
struct SessionSlice {
    session: usize,
    positions: Range<usize>,
}

impl SessionSlice {
    fn window(&self, sessions: &[Vec<Step>], kinds: &EventKinds) -> Option<TrainingWindow> {
        let steps = sessions.get(self.session)?.get(..=self.positions.end)?;
        training_window(self.session as u64, steps, kinds, self.positions.len())
    }
}

/// Cuts every session into parts of at most `longest` positions, as few and as equal as can be.
fn cut(sessions: &[Vec<Step>], longest: usize) -> Vec<SessionSlice> {
    let mut parts = Vec::with_capacity(sessions.len());
    for (session, steps) in sessions.iter().enumerate() {
        let positions = steps.len().saturating_sub(1);
        let count = positions.div_ceil(longest.max(1));
        parts.extend((0..count).map(|part| SessionSlice { session, positions: positions * part / count..positions * (part + 1) / count }));
    }
    parts
}

#[cfg(test)]
mod tests;
