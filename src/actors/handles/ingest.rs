//! Checks consent, admits entries, and appends them to the journal.

use actix::Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::recommender::Watermarks;
use crate::actors::admission::{AdmissionControl, AdmissionPermit};
use crate::actors::committer::{AppendEntries, CommitDeferred, CommitterActor};
use crate::actors::deferred_entries::DeferredEntries;
use crate::actors::error::RequestError;
use crate::cluster::MemberStatus;
use crate::domain::{Attributes, Consent, Entry, Origin, WithConsent};
use crate::metrics::{Metrics, QueueName};
use crate::registries::{UserAliases, UserAttributes, UserConsents};
use crate::store::{CommitCondition, CommitReceipt};
use crate::telemetry::span;

/// The outcome of a consent check.
#[derive(Debug, Default)]
pub struct ConsentedEntries {
    /// Entries that may be written to the journal.
    pub entries: Vec<Entry>,
    /// Number of entries that were dropped because a user's consent does not allow them.
    pub withheld: usize,
}

/// Appends entries to the journal, after checks of consent and capacity.
#[derive(Clone)]
pub struct IngestHandle {
    pub(in crate::actors) admission: AdmissionControl,
    pub(in crate::actors) committer: Addr<CommitterActor>,
    pub(in crate::actors) deferred: Arc<DeferredEntries>,
    pub(in crate::actors) aliases: Arc<UserAliases>,
    pub(in crate::actors) consents: Arc<UserConsents>,
    pub(in crate::actors) attributes: Arc<UserAttributes>,
    /// The consent of users who have not recorded a consent.
    pub(in crate::actors) default_consent: Consent,
    pub(in crate::actors) watermarks: Watermarks,
    /// The largest learner lag at which events are accepted.
    pub(in crate::actors) max_lag: u64,
    pub(in crate::actors) metrics: Arc<Metrics>,
    pub(in crate::actors) draining: Arc<AtomicBool>,
    /// The state of the node in its cluster; `None` if the daemon is a single node.
    pub(in crate::actors) cluster: Option<Arc<MemberStatus>>,
}

impl IngestHandle {
    /// A number that differs between the nodes of a cluster; 0 on a single node.
    #[must_use]
    pub fn id_salt(&self) -> i64 {
        self.cluster.as_ref().map_or(0, |cluster| cluster.id_salt())
    }

    /// Reserves capacity for `entries` entries without waiting.
    ///
    /// # Errors
    /// [`RequestError::Busy`] if the capacity is used up, [`RequestError::Draining`] if the daemon
    /// is being drained.
    pub fn try_admit(&self, entries: usize) -> Result<AdmissionPermit, RequestError> {
        if self.is_draining() { Err(RequestError::Draining) } else { Ok(self.admission.try_admit(entries)?) }
    }

    /// Waits until capacity for `entries` entries is free, and reserves it.
    ///
    /// # Errors
    /// [`RequestError::Busy`] only while the system is being torn down.
    pub async fn admit(&self, entries: usize) -> Result<AdmissionPermit, RequestError> {
        Ok(self.admission.admit(entries).await?)
    }

    /// Writes entries to the journal and delivers them to their sessions. Returns once the entries
    /// are durable.
    ///
    /// # Errors
    /// [`RequestError::Store`] if the write failed. In this case, no entry is stored.
    pub async fn append(&self, entries: Vec<Entry>, permit: AdmissionPermit) -> Result<CommitReceipt, RequestError> {
        self.append_from(entries, None, permit).await
    }

    /// Like [`Self::append`], for entries of a known origin.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn append_from(
        &self,
        entries: Vec<Entry>,
        origin: Option<Origin>,
        permit: AdmissionPermit,
    ) -> Result<CommitReceipt, RequestError> {
        self.append_request(entries, origin, None, permit).await
    }

    /// Like [`Self::append`], for a decision of a background job. In a cluster, the entries apply
    /// only if the condition holds. Otherwise they count as duplicates.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub(in crate::actors) async fn append_if(
        &self,
        condition: CommitCondition,
        entries: Vec<Entry>,
        permit: AdmissionPermit,
    ) -> Result<CommitReceipt, RequestError> {
        self.append_request(entries, None, Some(condition), permit).await
    }

    async fn append_request(
        &self,
        entries: Vec<Entry>,
        origin: Option<Origin>,
        condition: Option<CommitCondition>,
        permit: AdmissionPermit,
    ) -> Result<CommitReceipt, RequestError> {
        let (reply, receipt) = oneshot::channel();
        let span = span!("commit", sequor.entries = entries.len() as i64);
        self.metrics.queue_depth.with_label(QueueName::Committer).increment(entries.len() as f64);
        self.committer.do_send(AppendEntries { entries, origin, condition, permit, reply });
        receipt.instrument(span).await.map_err(|_| RequestError::ActorStopped("committer"))?.map_err(RequestError::from)
    }

    /// Writes an entry that no request waits for. The write may begin up to 50 ms later, so that
    /// several entries share it. If the write fails, the entry is lost and counts in
    /// `impressions_lost`.
    pub fn append_later(&self, entry: Entry, permit: AdmissionPermit) {
        self.metrics.queue_depth.with_label(QueueName::Committer).increment(1.0);
        if self.deferred.push(entry, permit) {
            self.committer.do_send(CommitDeferred);
        }
    }

    /// Rejects events if the learner lags too far behind. `max_lag` is an additional limit that the
    /// sender can set.
    ///
    /// # Errors
    /// [`RequestError::LearnerBehind`] if the lag has reached the smaller of the two limits.
    pub fn check_lag(&self, max_lag: Option<u64>) -> Result<(), RequestError> {
        let (lag, limit) = (self.watermarks.learner_lag(), max_lag.unwrap_or(u64::MAX).min(self.max_lag));
        if lag < limit { Ok(()) } else { Err(RequestError::LearnerBehind { lag, limit }) }
    }

    /// The admission control that limits all entries in flight.
    #[must_use]
    pub fn admission(&self) -> &AdmissionControl {
        &self.admission
    }

    /// The metrics in which the handle records.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether the daemon is being drained and accepts no new entries.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// The consent that a user has recorded, if any.
    #[must_use]
    pub fn recorded_consent(&self, user: &str) -> Option<Consent> {
        match self.aliases.resolve(user) {
            Some(canonical) => self.consents.get(&canonical),
            None => self.consents.get(user),
        }
    }

    /// The stored attributes of a user; `None` if there are none.
    #[must_use]
    pub fn user_attributes(&self, user: &str) -> Option<Arc<Attributes>> {
        match self.aliases.resolve(user) {
            Some(canonical) => self.attributes.get(&canonical),
            None => self.attributes.get(user),
        }
    }

    /// The consent that applies to a user. If both the user has recorded a consent and the sender
    /// states one, the lesser of the two applies. If neither is known, the configured default
    /// applies.
    #[must_use]
    pub fn effective_consent(&self, user: &str, sender: Option<Consent>) -> Consent {
        match (self.recorded_consent(user), sender) {
            (Some(user), Some(sender)) => user.min(sender),
            (user, sender) => user.or(sender).unwrap_or(self.default_consent),
        }
    }

    /// The consent that decides whether a user's entry is proposed. In a cluster, this node may not
    /// know the last recorded consent yet. The commit, which knows it, then decides alone.
    fn consent_at_admission(&self, user: &str, sender: Option<Consent>) -> Consent {
        if self.cluster.is_some() && self.recorded_consent(user).is_some() {
            sender.unwrap_or(Consent::Full)
        } else {
            self.effective_consent(user, sender)
        }
    }

    /// Drops the entries that consent does not allow. The committer checks the consent again,
    /// because a consent change may be committed in the meantime.
    #[must_use]
    pub fn apply_consent(&self, entries: impl IntoIterator<Item = WithConsent<Entry>>) -> ConsentedEntries {
        let mut consented = ConsentedEntries::default();
        for WithConsent { value, consent } in entries {
            match self.consented_entry(value, consent) {
                Some(entry) => consented.entries.push(entry),
                None => consented.withheld += 1,
            }
        }
        consented
    }

    fn consented_entry(&self, entry: Entry, sender: Option<Consent>) -> Option<Entry> {
        match entry {
            Entry::Event(event) | Entry::Private(event) => match self.consent_at_admission(&event.user_id, sender) {
                Consent::None => None,
                Consent::Session => Some(Entry::Private(event)),
                Consent::Full => Some(Entry::Event(event)),
            },
            // A merge stores both ids, so both users must consent.
            Entry::Merge(merge) => {
                let least =
                    self.effective_consent(&merge.from, sender).min(self.effective_consent(&merge.into, sender));
                (least > Consent::None).then_some(Entry::Merge(merge))
            }
            Entry::UserAttributes(change) => {
                let consent = self.consent_at_admission(&change.user_id, sender);
                (consent > Consent::None).then_some(Entry::UserAttributes(change))
            }
            entry => Some(entry),
        }
    }
}
