//! Online training of the network: which sessions are trained on, when, and from when the result is
//! used.

use crate::domain::{EventKinds, ExpiryCutoffs, ItemIx, Step};
use crate::nn::{NetworkSettings, NetworkSettingsError, Trainer, TrainingWindow, Weights};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::background_jobs::{BackgroundJobs, JobLost};
use super::replay_history::ReplayHistory;
use super::settings::LearningSettings;

/// The result of one training job.
#[derive(Debug)]
pub struct TrainingOutcome {
    trainer: Box<Trainer>,
    weights: Arc<Weights>,
    report: TrainingReport,
}

/// Totals over trainings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Number of mini-batches trained on.
    pub batches: u64,
    /// Number of mini-batches skipped because the loss or the gradient was not finite.
    pub skipped: u64,
    /// Number of positions trained on.
    pub examples: u64,
    /// Sum over mini-batches of the mean next-item loss, in nats.
    pub loss: f64,
    /// Sum over mini-batches of the gradient norm before clipping.
    pub gradient_norm: f64,
}

impl TrainingReport {
    /// Adds another report.
    pub fn merge(&mut self, other: &Self) {
        self.batches += other.batches;
        self.skipped += other.skipped;
        self.examples += other.examples;
        self.loss += other.loss;
        self.gradient_norm += other.gradient_norm;
    }

    /// The mean loss per mini-batch, in nats; `None` before the first.
    #[must_use]
    pub fn mean_loss(&self) -> Option<f64> {
        (self.batches > 0).then(|| self.loss / self.batches as f64)
    }
}

/// The trainer, the weights in use, and the sessions waiting to be trained on.
///
/// At each boundary, the weights of the training begun at the previous boundary come into use, and
/// a training on the sessions touched since then begins. So a training can run in the background
/// for a whole interval, and the learned state does not depend on its duration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OnlineTraining {
    /// `None` while a training runs.
    trainer: Option<Box<Trainer>>,
    current_weights: Arc<Weights>,
    /// Trained weights that come into use at the next boundary.
    next_weights: Option<Arc<Weights>>,
    history: ReplayHistory,
    touched_sessions: Vec<u64>,
    target_items: Vec<ItemIx>,
    /// Items with changed attributes, and the numbers of their attribute values.
    changed_attributes: Vec<(ItemIx, Box<[u32]>)>,
    /// New items, and the items that share their attributes.
    new_items: Vec<(ItemIx, Vec<ItemIx>)>,
    /// The learning rate that applies from the next training.
    learning_rate: f32,
    /// Added to a boundary's number to give the version of its weights. A rollback increases it, so
    /// that no hidden state continues from the replaced weights.
    version_offset: u64,
    /// Totals of all finished trainings.
    totals: TrainingReport,
}

impl OnlineTraining {
    /// Creates an untrained network.
    ///
    /// # Errors
    /// [`NetworkSettingsError`] if the network settings are invalid.
    pub fn new(
        network: NetworkSettings,
        kinds: usize,
        settings: &LearningSettings,
    ) -> Result<Self, NetworkSettingsError> {
        Ok(Self::with_trainer(Box::new(Trainer::new(network, kinds, settings.seed)?), settings))
    }

    /// Creates a network that continues from a trained one.
    #[must_use]
    pub fn with_trainer(mut trainer: Box<Trainer>, settings: &LearningSettings) -> Self {
        let (current_weights, learning_rate) = (trainer.publish(0), trainer.learning_rate());
        Self {
            trainer: Some(trainer),
            current_weights,
            next_weights: None,
            history: ReplayHistory::new(settings.history),
            touched_sessions: Vec::new(),
            target_items: Vec::new(),
            changed_attributes: Vec::new(),
            new_items: Vec::new(),
            learning_rate,
            version_offset: 0,
            totals: TrainingReport::default(),
        }
    }

    /// The weights in use.
    #[must_use]
    pub fn weights(&self) -> &Arc<Weights> {
        &self.current_weights
    }

    /// The trainer, if no training is running.
    #[cfg(test)]
    pub(super) fn trainer(&self) -> Option<&Trainer> {
        self.trainer.as_deref()
    }

    /// The number of the boundary at which the training of the current weights began. After a
    /// rollback it is the boundary before the rollback.
    #[must_use]
    pub fn trained_boundary(&self) -> u64 {
        self.current_weights.version().saturating_sub(self.version_offset)
    }

    /// Totals of all trainings so far.
    #[must_use]
    pub fn totals(&self) -> &TrainingReport {
        &self.totals
    }

    /// The learning rate from the next training on.
    #[must_use]
    pub fn learning_rate(&self) -> f32 {
        self.learning_rate
    }

    /// Sets the learning rate, from the next training on.
    pub fn set_learning_rate(&mut self, rate: f32) {
        self.learning_rate = rate;
    }

    /// Replaces the network by that of `earlier`, which must have no pending training; sessions and
    /// items stay. The caller must have waited for this learner's pending training. `boundary` is
    /// the number of the last boundary. The weights get a version at least `refresh_after` newer,
    /// so that all hidden states are recomputed.
    pub fn roll_back(&mut self, earlier: Self, boundary: u64, refresh_after: u64) {
        self.version_offset += refresh_after;
        let version = boundary + self.version_offset;
        self.trainer = earlier.trainer;
        self.current_weights = Arc::new(earlier.current_weights.with_version(version));
        self.next_weights = earlier.next_weights.map(|weights| Arc::new(weights.with_version(version)));
        self.learning_rate = earlier.learning_rate;
    }

    /// Begins a session. Sessions are numbered in this order.
    pub fn begin_session(&mut self, session: u64) {
        self.history.begin_session(session);
    }

    /// Marks a session to be trained on at the next boundary; `steps` are the latest ones of its
    /// user. The target, if any, also counts towards the item frequencies of the negative sampler.
    pub fn add_touched_session(&mut self, session: u64, steps: &[Step], target: Option<ItemIx>, window: usize) {
        let first = steps.len().saturating_sub(window + 1);
        self.history.set_steps(session, steps.get(first..).unwrap_or_default());
        self.touched_sessions.push(session);
        self.target_items.extend(target);
    }

    /// Removes a session's steps from the replay history.
    pub fn forget_session(&mut self, session: u64) {
        self.history.set_steps(session, &[]);
    }

    /// Removes expired steps from the replay history.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) {
        self.history.expire(expired);
    }

    /// Whether the replay history holds steps of a session.
    #[cfg(test)]
    pub(super) fn has_session(&self, session: u64) -> bool {
        self.history.contains_session(session)
    }

    /// Sets an item's attributes, from the next training on.
    pub fn set_attributes(&mut self, item: ItemIx, attributes: Box<[u32]>) {
        self.changed_attributes.push((item, attributes));
    }

    /// Adds a new item whose embedding starts at the mean of `similar`.
    pub fn add_new_item(&mut self, item: ItemIx, similar: Vec<ItemIx>) {
        self.new_items.push((item, similar));
    }

    /// First step at a boundary: puts the weights of the training begun at the previous boundary
    /// into use.
    ///
    /// # Errors
    /// [`JobLost`] if the training job panicked.
    pub fn use_finished_weights(
        &mut self,
        background: &mut dyn BackgroundJobs<TrainingOutcome>,
    ) -> Result<(), JobLost> {
        self.finish_pending(background)?;
        if let Some(weights) = self.next_weights.take() {
            self.current_weights = weights;
        }
        Ok(())
    }

    /// Discards the touched sessions without training on them.
    pub fn discard_touched_sessions(&mut self) {
        self.touched_sessions.clear();
    }

    /// Second step at a boundary: begins a training on the sessions touched since the previous
    /// boundary, over a catalog of `items`.
    ///
    /// # Errors
    /// [`JobLost`] if the previous training was not finished.
    pub fn begin_training(
        &mut self,
        boundary: u64,
        items: usize,
        kinds: &EventKinds,
        settings: &LearningSettings,
        background: &mut dyn BackgroundJobs<TrainingOutcome>,
    ) -> Result<(), JobLost> {
        let mut trainer = self.trainer.take().ok_or(JobLost)?;
        let target_items = std::mem::take(&mut self.target_items);
        let changed_attributes = std::mem::take(&mut self.changed_attributes);
        let new_items = std::mem::take(&mut self.new_items);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ boundary.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let windows = self.sample_windows(&mut rng, kinds, settings);
        let (batch, seed) = (settings.batch, rng.next_u64());
        let (learning_rate, version) = (self.learning_rate, boundary + self.version_offset);
        background.start(Box::new(move || {
            trainer.grow_items(items);
            trainer.set_learning_rate(learning_rate);
            for (item, attributes) in changed_attributes {
                trainer.set_attributes(item, &attributes);
            }
            for (item, similar) in new_items {
                trainer.init_from_similar(item, &similar);
            }
            for item in target_items {
                trainer.count_target(item);
            }
            let mut report = TrainingReport::default();
            for (number, windows) in windows.chunks(batch).enumerate() {
                let result = trainer.train(windows, seed.wrapping_add(number as u64));
                report.batches += u64::from(!result.skipped);
                report.skipped += u64::from(result.skipped);
                if !result.skipped {
                    report.examples += result.examples as u64;
                    report.loss += result.loss;
                    report.gradient_norm += f64::from(result.gradient_norm);
                }
            }
            let weights = trainer.publish(version);
            TrainingOutcome { trainer, weights, report }
        }));
        Ok(())
    }

    /// Waits for the pending training, without using its result before the next boundary.
    ///
    /// # Errors
    /// [`JobLost`] if the training job panicked.
    pub fn finish_pending(&mut self, background: &mut dyn BackgroundJobs<TrainingOutcome>) -> Result<(), JobLost> {
        if self.trainer.is_none() {
            let result = background.take_result()?;
            self.trainer = Some(result.trainer);
            self.next_weights = Some(result.weights);
            self.totals.merge(&result.report);
        }
        Ok(())
    }

    /// Collects the windows of the touched sessions, each once, and `replay_ratio` replayed ones
    /// for each, in random order.
    fn sample_windows(
        &mut self,
        rng: &mut Xoshiro256PlusPlus,
        kinds: &EventKinds,
        settings: &LearningSettings,
    ) -> Vec<TrainingWindow> {
        let mut seen = FxHashSet::default();
        let touched: Vec<u64> = self.touched_sessions.drain(..).filter(|session| seen.insert(*session)).collect();
        let mut windows: Vec<TrainingWindow> = touched
            .iter()
            .filter_map(|&session| self.history.training_window_of(session, kinds, settings.window))
            .collect();
        let replay_count = windows.len() * settings.replay_ratio;
        windows.extend(
            (0..replay_count)
                .filter_map(|_| self.history.sample_window(rng, settings.replay_half_life, kinds, settings.window)),
        );
        for index in (1..windows.len()).rev() {
            windows.swap(index, (rng.next_u64() % (index as u64 + 1)) as usize);
        }
        windows
    }
}
