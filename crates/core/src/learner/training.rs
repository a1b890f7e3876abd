//! Online training of the network: selects the sessions to train on, starts trainings at
//! boundaries, and puts their weights into use.

use crate::candidates::Clusters;
use crate::domain::{EventKinds, ExpiryCutoffs, ItemIx, Step};
use crate::nn::{NetworkSettings, NetworkSettingsError, RowOrder, Trainer, TrainingWindow, Weights};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::background_jobs::{BackgroundJobs, JobLost};
use super::replay_history::ReplayHistory;
use super::settings::LearningSettings;
use super::shared_training::{BOUNDARIES_PER_CHECK, SharedTraining, TrainingExchange};
use super::training_report::TrainingReport;

/// The result of one training job.
#[derive(Debug)]
pub struct TrainingOutcome {
    trainer: Box<Trainer>,
    weights: Arc<Weights>,
    report: TrainingReport,
}

/// The weight of the embedding predicted from the vectors of a new item, if items with the same
/// attributes initialise the embedding too.
const PREDICTION_SHARE: f32 = 0.5;

/// The inputs of one training, except for the trainer.
struct TrainingJob {
    boundary: u64,
    /// Number of items in the catalog.
    items: usize,
    learning_rate: f32,
    /// Weights with the order of rows that the new weights get.
    ordered: Arc<Weights>,
    changed_attributes: Vec<(ItemIx, Box<[u32]>)>,
    /// New items, each with similar items and the predicted embedding.
    new_items: Vec<(ItemIx, Vec<ItemIx>, Option<Vec<f32>>)>,
    target_items: Vec<ItemIx>,
    windows: Vec<TrainingWindow>,
    /// Number of windows per mini-batch.
    batch: usize,
    seed: u64,
    /// The version of the new weights.
    version: u64,
}

impl TrainingJob {
    fn run(mut self, mut trainer: Box<Trainer>, exchange: Option<&dyn TrainingExchange>) -> TrainingOutcome {
        self.prepare(&mut trainer);
        let report = match exchange.filter(|_| !self.windows.is_empty()) {
            Some(exchange) => self.train_or_fetch(&mut trainer, exchange),
            None => self.train(&mut trainer),
        };
        let weights = trainer.publish(self.version);
        TrainingOutcome { trainer, weights, report }
    }

    /// Applies all changes since the last training, except for the training itself.
    fn prepare(&mut self, trainer: &mut Trainer) {
        trainer.set_row_order_of(&self.ordered);
        trainer.grow_items(self.items);
        trainer.set_learning_rate(self.learning_rate);
        for (item, attributes) in std::mem::take(&mut self.changed_attributes) {
            trainer.set_attributes(item, &attributes);
        }
        for (item, similar, predicted) in std::mem::take(&mut self.new_items) {
            let is_initialised = trainer.init_from_similar(item, &similar);
            if let Some(predicted) = predicted {
                let share = if is_initialised { PREDICTION_SHARE } else { 1.0 };
                trainer.init_from_prediction(item, &predicted, share);
            }
        }
        for item in std::mem::take(&mut self.target_items) {
            trainer.count_target(item);
        }
    }

    fn train(&self, trainer: &mut Trainer) -> TrainingReport {
        let mut report = TrainingReport::default();
        for (number, windows) in self.windows.chunks(self.batch).enumerate() {
            let result = trainer.train(windows, self.seed.wrapping_add(number as u64));
            report.batches += u64::from(!result.skipped);
            report.skipped += u64::from(result.skipped);
            if !result.skipped {
                report.examples += result.examples as u64;
                report.loss += result.loss;
                report.gradient_norm += f64::from(result.gradient_norm);
            }
        }
        report
    }

    /// Takes the result of another learner, or trains and may publish the result.
    fn train_or_fetch(&self, trainer: &mut Trainer, exchange: &dyn TrainingExchange) -> TrainingReport {
        let (boundary, fingerprint) = (self.boundary, trainer.fingerprint());
        let mut fetched = exchange.fetch(boundary);
        if fetched.as_ref().is_some_and(|fetched| fetched.fingerprint != fingerprint) {
            exchange.report_difference(boundary);
            fetched = None;
        }
        if let Some(SharedTraining { report, changes, .. }) = &fetched
            && !boundary.is_multiple_of(BOUNDARIES_PER_CHECK)
        {
            match trainer.apply_changes(changes) {
                Ok(()) => return *report,
                Err(_) => exchange.report_difference(boundary),
            }
        }
        let report = self.train(trainer);
        if fetched.is_some() || exchange.publishes() {
            let training = SharedTraining { fingerprint, report, changes: trainer.encode_changes() };
            match fetched {
                Some(fetched) if fetched != training => exchange.report_difference(boundary),
                Some(_) => {}
                None => exchange.publish(boundary, training),
            }
        }
        report
    }
}

/// The state of online training: the trainer, the current weights, and the sessions for the next
/// training.
///
/// At each training boundary, the weights of the training that began at the previous boundary come
/// into use. Then a training begins on the sessions with events since the previous boundary. A
/// training can therefore run in the background for a whole interval, and the learned state does
/// not depend on its duration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OnlineTraining {
    /// `None` while a training runs.
    trainer: Option<Box<Trainer>>,
    current_weights: Arc<Weights>,
    /// Weights of the finished training, which come into use at the next boundary.
    next_weights: Option<Arc<Weights>>,
    history: ReplayHistory,
    touched_sessions: Vec<u64>,
    target_items: Vec<ItemIx>,
    /// Items whose attributes changed since the last training began, with the numbers of their
    /// attribute values.
    changed_attributes: Vec<(ItemIx, Box<[u32]>)>,
    /// New items, each with the items that share its attributes.
    new_items: Vec<(ItemIx, Vec<ItemIx>)>,
    /// The learning rate for the next training.
    learning_rate: f32,
    /// The version of new weights is the number of the boundary at which their training began, plus
    /// this offset. A rollback increases the offset, so that hidden states computed with the
    /// replaced weights are recomputed.
    version_offset: u64,
    /// Totals of all finished trainings.
    totals: TrainingReport,
    /// The clusters by which the items of the quantised index are ordered, and this order.
    #[serde(skip)]
    row_order: Option<(Arc<Clusters>, Arc<RowOrder>)>,
}

impl OnlineTraining {
    /// Creates the training state of an untrained network.
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

    /// Creates the training state of an existing network.
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
            row_order: None,
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
    /// rollback, it is the number of the last boundary before the rollback.
    #[must_use]
    pub fn trained_boundary(&self) -> u64 {
        self.current_weights.version().saturating_sub(self.version_offset)
    }

    /// Totals over all finished trainings.
    #[must_use]
    pub fn totals(&self) -> &TrainingReport {
        &self.totals
    }

    /// The learning rate from the next training on.
    #[must_use]
    pub fn learning_rate(&self) -> f32 {
        self.learning_rate
    }

    /// Sets the learning rate for the next and later trainings.
    pub fn set_learning_rate(&mut self, rate: f32) {
        self.learning_rate = rate;
    }

    /// Replaces the network by the network of `earlier`; sessions and items stay. Neither of the
    /// two networks may have a pending training. `boundary` is the number of the last boundary. The
    /// version of the weights increases by at least `refresh_after`, so that all hidden states are
    /// recomputed.
    pub fn roll_back(&mut self, earlier: Self, boundary: u64, refresh_after: u64) {
        self.version_offset += refresh_after;
        let version = boundary + self.version_offset;
        self.trainer = earlier.trainer;
        self.current_weights = Arc::new(earlier.current_weights.with_version(version));
        self.next_weights = earlier.next_weights.map(|weights| Arc::new(weights.with_version(version)));
        self.learning_rate = earlier.learning_rate;
    }

    /// Adds a session to the replay history. Session numbers must be consecutive.
    pub fn begin_session(&mut self, session: u64) {
        self.history.begin_session(session);
    }

    /// Adds a session to the sessions for the next training. `steps` holds the latest steps of the
    /// session's user. If `target` is given, the negative sampler counts it.
    pub fn add_touched_session(&mut self, session: u64, steps: &[Step], target: Option<ItemIx>, window: usize) {
        let first = steps.len().saturating_sub(window + 1);
        self.history.replace_session_steps(session, steps.get(first..).unwrap_or_default());
        self.touched_sessions.push(session);
        self.target_items.extend(target);
    }

    /// Removes a session's steps from the replay history.
    pub fn forget_session(&mut self, session: u64) {
        self.history.replace_session_steps(session, &[]);
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

    /// Sets the attributes of an item for the next and later trainings.
    pub fn set_attributes(&mut self, item: ItemIx, attributes: Box<[u32]>) {
        self.changed_attributes.push((item, attributes));
    }

    /// Adds a new item. The initial embedding of the new item is the mean of the embeddings of
    /// `similar`.
    pub fn add_new_item(&mut self, item: ItemIx, similar: Vec<ItemIx>) {
        self.new_items.push((item, similar));
    }

    /// Makes decoded weights share memory with the trainer.
    pub fn share_rows(&mut self) {
        let Some(trainer) = &self.trainer else { return };
        for weights in [&mut self.current_weights].into_iter().chain(&mut self.next_weights) {
            trainer.share_rows_with(Arc::make_mut(weights));
        }
    }

    /// Orders the items in the quantised index of the weights in use by their clusters; by their
    /// numbers if `clusters` is `None`. Does nothing if they already have this order.
    ///
    /// `ordered` may contain earlier weights that have this order. Then only the items are quantised
    /// again that have changed since.
    pub fn order_rows(&mut self, clusters: Option<&Arc<Clusters>>, ordered: Option<Weights>) {
        let ordered_by = self.row_order.as_ref().map(|(clusters, _)| Arc::as_ptr(clusters));
        if ordered_by != clusters.map(Arc::as_ptr) {
            let prepared = ordered.as_ref().and_then(Weights::row_order);
            let order = |clusters: &Arc<Clusters>| match prepared {
                Some(prepared) => Arc::clone(prepared),
                None => Arc::new(RowOrder::new(clusters.items_by_cluster())),
            };
            self.row_order = clusters.map(|clusters| (Arc::clone(clusters), order(clusters)));
        }
        let order = self.row_order.as_ref().map(|(_, order)| order);
        let has_order = |weights: &Weights| weights.row_order().map(Arc::as_ptr) == order.map(Arc::as_ptr);
        if !has_order(&self.current_weights) {
            self.current_weights = Arc::new(match ordered.filter(has_order) {
                Some(ordered) => self.current_weights.with_row_order_of(ordered),
                None => self.current_weights.with_row_order(order.cloned()),
            });
        }
    }

    /// First step at a training boundary: puts the weights of the training that began at the
    /// previous boundary into use.
    ///
    /// # Errors
    /// [`JobLost`] if the training job returned no result.
    pub fn use_finished_weights(
        &mut self,
        background: &mut dyn BackgroundJobs<TrainingOutcome>,
    ) -> Result<(), JobLost> {
        self.finish_pending(background)?;
        if let Some(weights) = self.next_weights.take() {
            let order_of = |weights: &Weights| weights.row_order().map(Arc::as_ptr);
            let previous = std::mem::replace(&mut self.current_weights, weights);
            if order_of(&previous) != order_of(&self.current_weights) {
                let previous = Arc::unwrap_or_clone(previous);
                self.current_weights = Arc::new(self.current_weights.with_row_order_of(previous));
            }
        }
        Ok(())
    }

    /// Empties the list of sessions for the next training, without training on them.
    pub fn discard_touched_sessions(&mut self) {
        self.touched_sessions.clear();
    }

    /// Second step at a training boundary: begins a training on the sessions with events since the
    /// previous boundary. `items` is the number of items in the catalog. `predict_row` predicts the
    /// embedding and the bias of a new item from its vectors. With an exchange, the job may take the
    /// result of another learner instead of training.
    ///
    /// # Errors
    /// [`JobLost`] if the result of the previous training is missing.
    pub fn begin_training(
        &mut self,
        (boundary, items): (u64, usize),
        kinds: &EventKinds,
        settings: &LearningSettings,
        predict_row: impl Fn(ItemIx) -> Option<Vec<f32>>,
        background: &mut dyn BackgroundJobs<TrainingOutcome>,
        exchange: Option<Arc<dyn TrainingExchange>>,
    ) -> Result<(), JobLost> {
        let trainer = self.trainer.take().ok_or(JobLost::NotStarted)?;
        let target_items = std::mem::take(&mut self.target_items);
        let changed_attributes = std::mem::take(&mut self.changed_attributes);
        let new_items: Vec<_> = std::mem::take(&mut self.new_items)
            .into_iter()
            .map(|(item, similar)| (item, similar, predict_row(item)))
            .collect();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ boundary.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let windows = self.sample_windows(&mut rng, kinds, settings);
        let job = TrainingJob {
            boundary,
            items,
            learning_rate: self.learning_rate,
            ordered: Arc::clone(&self.current_weights),
            changed_attributes,
            new_items,
            target_items,
            windows,
            batch: settings.batch,
            seed: rng.next_u64(),
            version: boundary + self.version_offset,
        };
        background.start(Box::new(move || job.run(trainer, exchange.as_deref())));
        Ok(())
    }

    /// Waits for the pending training to end. The new weights come into use at the next boundary.
    ///
    /// # Errors
    /// [`JobLost`] if the training job returned no result.
    pub fn finish_pending(&mut self, background: &mut dyn BackgroundJobs<TrainingOutcome>) -> Result<(), JobLost> {
        if self.trainer.is_none() {
            let result = background.take_result()?;
            self.trainer = Some(result.trainer);
            self.next_weights = Some(result.weights);
            self.totals.merge(&result.report);
        }
        Ok(())
    }

    /// Collects the training windows in random order: one for each session with new events, and for
    /// each of them `replay_ratio` windows of replayed sessions.
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
