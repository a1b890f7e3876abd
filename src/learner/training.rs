//! The network's part of the fold: which sessions are trained on, when, and from when the result is
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

/// What a training on one stretch of the journal gave.
#[derive(Debug)]
pub struct TrainingOutcome {
    trainer: Box<Trainer>,
    weights: Arc<Weights>,
    report: TrainingReport,
}

/// What the trainings since the last report did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Mini-batches trained on.
    pub batches: u64,
    /// Mini-batches skipped because a loss or a gradient was not finite.
    pub skipped: u64,
    /// Positions trained on.
    pub examples: u64,
    /// The sum over batches of the mean next-item loss, in nats.
    pub loss: f64,
    /// The sum over batches of the gradient's norm before clipping.
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

    /// The mean loss a batch, in nats; `None` before the first.
    #[must_use]
    pub fn mean_loss(&self) -> Option<f64> {
        (self.batches > 0).then(|| self.loss / self.batches as f64)
    }
}

/// The trainer, the weights in use, and the sessions waiting to be trained on.
///
/// At each border the weights of the training begun at the border before come into use, and a
/// training on the sessions touched since then begins. So a training has a whole stretch of the
/// journal to run beside testing and counting, and what is learned does not depend on how long it
/// takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OnlineTraining {
    /// `None` while a training runs.
    trainer: Option<Box<Trainer>>,
    visible: Arc<Weights>,
    /// Weights whose training is done but whose border has not come.
    ready: Option<Arc<Weights>>,
    history: ReplayHistory,
    touched: Vec<u64>,
    observed: Vec<ItemIx>,
    /// Items whose attributes have changed, with the numbers of their values.
    described: Vec<(ItemIx, Box<[u32]>)>,
    /// New items, with those whose attributes they share.
    introduced: Vec<(ItemIx, Vec<ItemIx>)>,
    /// The step size from the next training on.
    learning_rate: f32,
    /// What is added to a border's number to give the version of its weights: it grows when the
    /// weights are exchanged, so that a hidden state never goes on from those before.
    versions: u64,
    /// All trainings whose result has come.
    total: TrainingReport,
}

impl OnlineTraining {
    /// A new network that has learned nothing.
    ///
    /// # Errors
    /// [`NetworkSettingsError`] if the network's settings cannot run.
    pub fn new(network: NetworkSettings, kinds: usize, settings: &LearningSettings) -> Result<Self, NetworkSettingsError> {
        Ok(Self::with_trainer(Box::new(Trainer::new(network, kinds, settings.seed)?), settings))
    }

    /// A network that goes on from what it has learned elsewhere.
    #[must_use]
    pub fn with_trainer(mut trainer: Box<Trainer>, settings: &LearningSettings) -> Self {
        let (visible, learning_rate) = (trainer.publish(0), trainer.learning_rate());
        Self {
            trainer: Some(trainer),
            visible,
            ready: None,
            history: ReplayHistory::new(settings.history),
            touched: Vec::new(),
            observed: Vec::new(),
            described: Vec::new(),
            introduced: Vec::new(),
            learning_rate,
            versions: 0,
            total: TrainingReport::default(),
        }
    }

    /// The weights in use.
    #[must_use]
    pub fn weights(&self) -> &Arc<Weights> {
        &self.visible
    }

    /// The trainer, when no training runs.
    #[cfg(test)]
    pub(super) fn trainer(&self) -> Option<&Trainer> {
        self.trainer.as_deref()
    }

    /// The number of the border at which the training of the weights in use began; after a
    /// rollback, that before it.
    #[must_use]
    pub fn trained_boundary(&self) -> u64 {
        self.visible.version().saturating_sub(self.versions)
    }

    /// What all trainings so far did.
    #[must_use]
    pub fn total(&self) -> &TrainingReport {
        &self.total
    }

    /// The step size from the next training on.
    #[must_use]
    pub fn learning_rate(&self) -> f32 {
        self.learning_rate
    }

    /// From the next training on the step size is another.
    pub fn set_learning_rate(&mut self, rate: f32) {
        self.learning_rate = rate;
    }

    /// The network becomes that of `earlier`, a settled one; what is known of sessions and items
    /// stays. The training under way must have been waited for. `border` is the number of the last
    /// border; a hidden state that is older than `refresh_after` versions is computed afresh, and
    /// after this every one is.
    pub fn roll_back(&mut self, earlier: Self, border: u64, refresh_after: u64) {
        self.versions += refresh_after;
        let version = border + self.versions;
        self.trainer = earlier.trainer;
        self.visible = Arc::new(earlier.visible.with_version(version));
        self.ready = earlier.ready.map(|weights| Arc::new(weights.with_version(version)));
        self.learning_rate = earlier.learning_rate;
    }

    /// A session begins; sessions are numbered in this order.
    pub fn begin_session(&mut self, session: u64) {
        self.history.begin_session(session);
    }

    /// A session has moved: `steps` are the last ones of its user. A choice of an item also counts
    /// towards its popularity among the negatives.
    pub fn mark_touched(&mut self, session: u64, steps: &[Step], chosen: Option<ItemIx>, window: usize) {
        let first = steps.len().saturating_sub(window + 1);
        self.history.set_steps(session, steps.get(first..).unwrap_or_default());
        self.touched.push(session);
        self.observed.extend(chosen);
    }

    /// A session is not trained on any more.
    pub fn forget_session(&mut self, session: u64) {
        self.history.set_steps(session, &[]);
    }

    /// No session is trained any more on steps that are not to be kept any longer.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) {
        self.history.expire(expired);
    }

    /// Whether a session may be trained on.
    #[cfg(test)]
    pub(super) fn has_session(&self, session: u64) -> bool {
        self.history.contains(session)
    }

    /// An item has these attributes from now on.
    pub fn set_attributes(&mut self, item: ItemIx, attributes: Box<[u32]>) {
        self.described.push((item, attributes));
    }

    /// An item is new, and like these: it begins where they stand.
    pub fn add_item_like(&mut self, item: ItemIx, alike: Vec<ItemIx>) {
        self.introduced.push((item, alike));
    }

    /// What happens first at a border: the training begun at the one before comes into use.
    ///
    /// # Errors
    /// [`JobLost`] if it died.
    pub fn apply_finished(&mut self, background: &mut dyn BackgroundJobs<TrainingOutcome>) -> Result<(), JobLost> {
        self.finish_pending(background)?;
        if let Some(weights) = self.ready.take() {
            self.visible = weights;
        }
        Ok(())
    }

    /// Lets what was touched go untrained.
    pub fn clear_touched(&mut self) {
        self.touched.clear();
    }

    /// What happens then: a training on what was touched since the border before begins, over a
    /// catalog of `items`.
    ///
    /// # Errors
    /// [`JobLost`] if the one before was not taken up.
    pub fn begin_training(
        &mut self,
        border: u64,
        items: usize,
        kinds: &EventKinds,
        settings: &LearningSettings,
        background: &mut dyn BackgroundJobs<TrainingOutcome>,
    ) -> Result<(), JobLost> {
        let mut trainer = self.trainer.take().ok_or(JobLost)?;
        let observed = std::mem::take(&mut self.observed);
        let described = std::mem::take(&mut self.described);
        let introduced = std::mem::take(&mut self.introduced);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ border.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let windows = self.draw(&mut rng, kinds, settings);
        let (batch, seed) = (settings.batch, rng.next_u64());
        let (learning_rate, version) = (self.learning_rate, border + self.versions);
        background.start(Box::new(move || {
            trainer.grow_items(items);
            trainer.set_learning_rate(learning_rate);
            for (item, attributes) in described {
                trainer.set_attributes(item, &attributes);
            }
            for (item, alike) in introduced {
                trainer.init_from_similar(item, &alike);
            }
            for item in observed {
                trainer.count_target(item);
            }
            let mut report = TrainingReport::default();
            for (number, windows) in windows.chunks(batch).enumerate() {
                let done = trainer.train(windows, seed.wrapping_add(number as u64));
                report.batches += u64::from(!done.skipped);
                report.skipped += u64::from(done.skipped);
                if !done.skipped {
                    report.examples += done.examples as u64;
                    report.loss += done.loss;
                    report.gradient_norm += f64::from(done.gradient_norm);
                }
            }
            let weights = trainer.publish(version);
            TrainingOutcome { trainer, weights, report }
        }));
        Ok(())
    }

    /// Waits for the training under way, without using its result before its border.
    ///
    /// # Errors
    /// [`JobLost`] if it died.
    pub fn finish_pending(&mut self, background: &mut dyn BackgroundJobs<TrainingOutcome>) -> Result<(), JobLost> {
        if self.trainer.is_none() {
            let done = background.finish()?;
            self.trainer = Some(done.trainer);
            self.ready = Some(done.weights);
            self.total.merge(&done.report);
        }
        Ok(())
    }

    /// The windows of the sessions touched, each once, and `replay_ratio` earlier ones for each, in
    /// a drawn order.
    fn draw(&mut self, rng: &mut Xoshiro256PlusPlus, kinds: &EventKinds, settings: &LearningSettings) -> Vec<TrainingWindow> {
        let mut once = FxHashSet::default();
        let touched: Vec<u64> = self.touched.drain(..).filter(|session| once.insert(*session)).collect();
        let mut windows: Vec<TrainingWindow> =
            touched.iter().filter_map(|&session| self.history.window(session, kinds, settings.window)).collect();
        let wanted = windows.len() * settings.replay_ratio;
        windows.extend((0..wanted).filter_map(|_| self.history.sample(rng, settings.replay_half_life, kinds, settings.window)));
        for place in (1..windows.len()).rev() {
            windows.swap(place, (rng.next_u64() % (place as u64 + 1)) as usize);
        }
        windows
    }
}
