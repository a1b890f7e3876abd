//! The session actor: the sequence of one active user.
//!
//! A session holds no hidden state. Each request computes the hidden state from the user's last
//! steps, with the weights of the current snapshot. Recommendations therefore do not depend on the
//! times at which the session was started, stored or restored.
//!
//! The actor only changes the sequence. Requests read it from the [`SharedSession`].

use actix::{Actor, ActorContext, Context, Handler, Message, MessageResult};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

use super::admission::AdmissionPermit;
use super::panic_guard::{catch_panic, inject_fault};
use super::session_table::SharedSession;
use crate::domain::{Entry, EventKinds, ExpiryCutoffs, Offset, Step, UserSequence};
use crate::learner::SequenceParams;
use crate::metrics::{ActorKind, Metrics};
use crate::registries::ItemDictionary;
use crate::store::{QuarantineReader, QuarantineTree, QuarantinedEntry, SessionRecord, StoreError};

/// State that all session actors of a shard share. They run on the same thread.
pub struct SessionContext {
    /// The idle gap after which a new session starts.
    pub sequence_params: SequenceParams,
    /// The item dictionary.
    pub dictionary: Arc<ItemDictionary>,
    /// The quarantine: the list of entries that could not be applied.
    pub quarantine: QuarantineTree,
    /// The metrics that the actors update.
    pub metrics: Arc<Metrics>,
}

impl SessionContext {
    /// The item id of an update, if the update has an item.
    pub(super) fn item_id_of_update(&self, update: &SessionUpdate) -> Option<Arc<str>> {
        let SessionOp::Step { step, .. } = &update.op else { return None };
        self.dictionary.name(step.item?)
    }
}

/// The session of one active user.
pub struct SessionActor {
    session: Arc<SharedSession>,
    context: Rc<SessionContext>,
}

impl SessionActor {
    /// Creates the actor of a session.
    #[must_use]
    pub fn new(session: Arc<SharedSession>, context: Rc<SessionContext>) -> Self {
        Self { session, context }
    }

    /// Applies updates in journal order. After a recovery, the shard may send updates that the
    /// session's record already contains. The session skips these updates.
    pub(super) fn apply_updates(&self, updates: &[SessionUpdate]) {
        self.session.update(|state| {
            for update in updates {
                if update.offset >= state.applied_through {
                    self.context.metrics.session_events.increment(1);
                    self.apply_update(&mut state.sequence, update);
                    state.applied_through = update.offset + 1;
                }
            }
        });
    }

    /// Applies one update. If the update panics, quarantines the entry and restores the previous
    /// sequence.
    fn apply_update(&self, sequence: &mut UserSequence, update: &SessionUpdate) {
        let context = &self.context;
        let before = sequence.clone();
        let outcome = catch_panic(&context.metrics, ActorKind::Session, || {
            inject_fault("session", || context.item_id_of_update(update));
            let idle_gap_ms = context.sequence_params.idle_gap_ms;
            match &update.op {
                SessionOp::Step { step, session_id } => {
                    sequence.push(update.offset, *step, session_id.as_deref(), idle_gap_ms);
                }
                SessionOp::Merge { sequence: merged, .. } => sequence.merge(merged, idle_gap_ms),
                SessionOp::Forget => *sequence = UserSequence::default(),
            }
        });
        if let Err(panic) = outcome {
            *sequence = before;
            let quarantined = context.quarantine.put(&QuarantinedEntry {
                offset: update.offset,
                reader: QuarantineReader::Session,
                reason: panic.to_string(),
            });
            if let Err(error) = quarantined {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a session skipped an entry that panicked, and the entry could not be quarantined"
                );
            }
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;
}

/// The change that one committed entry makes to its user's session.
#[derive(Debug, Clone)]
pub struct SessionUpdate {
    /// The offset of the entry.
    pub offset: Offset,
    /// The operation on the sequence.
    pub op: SessionOp,
}

/// An operation on a user's sequence.
#[derive(Debug, Clone)]
pub enum SessionOp {
    /// Appends a step.
    Step {
        /// The step.
        step: Step,
        /// The client's session id.
        session_id: Option<String>,
    },
    /// Merges the sequence of another user into the user's sequence.
    Merge {
        /// The merged user.
        from: String,
        /// The sequence of the merged user up to the merge. The shard sets this sequence before it
        /// sends the update to the session.
        sequence: UserSequence,
    },
    /// Clears the sequence, because the user was erased.
    Forget,
}

impl SessionUpdate {
    /// Returns the update that an entry makes, and the id of the user whose session it changes;
    /// `None` if the entry changes no session.
    #[must_use]
    pub fn from_entry(
        offset: Offset,
        entry: Entry,
        dictionary: &ItemDictionary,
        kinds: &EventKinds,
    ) -> Option<(String, Self)> {
        let event = match entry {
            Entry::Event(event) | Entry::Private(event) => event,
            Entry::Merge(merge) => {
                let op = SessionOp::Merge { from: merge.from, sequence: UserSequence::default() };
                return Some((merge.into, Self { offset, op }));
            }
            Entry::Erase(erasure) => return Some((erasure.user_id, Self { offset, op: SessionOp::Forget })),
            Entry::Impression(_)
            | Entry::Item(_)
            | Entry::Model(_)
            | Entry::Consent(_)
            | Entry::Tombstone
            | Entry::Expire(_)
            | Entry::Purge(_)
            | Entry::Placement(_)
            | Entry::Rule(_)
            | Entry::UserAttributes(_) => {
                return None;
            }
        };
        let kind = kinds.id_of(&event.kind)?;
        let item = event.item_id.as_deref().and_then(|name| dictionary.get(name));
        let value = kinds.step_value(kind, event.value);
        let step = Step { item, kind, starts_session: false, at: event.timestamp, value };
        Some((event.user_id, Self { offset, op: SessionOp::Step { step, session_id: event.session_id } }))
    }
}

/// Message: applies updates to the session, in journal order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ApplySessionUpdate {
    /// The updates.
    pub updates: Vec<SessionUpdate>,
    /// The admission permits of the entries. The permits are released once all sessions have
    /// applied their entries.
    pub permits: Option<Arc<Vec<AdmissionPermit>>>,
}

impl Handler<ApplySessionUpdate> for SessionActor {
    type Result = ();

    fn handle(&mut self, ApplySessionUpdate { updates, permits: _permits }: ApplySessionUpdate, _: &mut Self::Context) {
        self.apply_updates(&updates);
    }
}

/// Message: asks for the session's sequence, after the updates that were sent before.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GetSequence {
    /// Receives the sequence.
    pub reply: oneshot::Sender<UserSequence>,
}

impl Handler<GetSequence> for SessionActor {
    type Result = ();

    fn handle(&mut self, GetSequence { reply }: GetSequence, _: &mut Self::Context) {
        if !reply.is_closed() {
            // The caller may have stopped waiting.
            let _ = reply.send(self.session.sequence());
        }
    }
}

/// Message: asks for the session's record, in order to store it.
#[derive(Debug, Message)]
#[rtype(result = "SessionRecord")]
pub struct GetRecordToStore;

impl Handler<GetRecordToStore> for SessionActor {
    type Result = MessageResult<GetRecordToStore>;

    fn handle(&mut self, _: GetRecordToStore, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.session.to_record())
    }
}

/// Reply with the record of a user's session; `None` if the user is unknown.
pub type SessionRecordReply = Result<Option<SessionRecord>, Arc<StoreError>>;

/// Message: asks for the session's record for an inspection. The record has the same content as a
/// stored record.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GetRecordForInspection {
    /// Receives the record.
    pub reply: oneshot::Sender<SessionRecordReply>,
}

impl Handler<GetRecordForInspection> for SessionActor {
    type Result = ();

    fn handle(&mut self, GetRecordForInspection { reply }: GetRecordForInspection, _: &mut Self::Context) {
        // The caller may have stopped waiting.
        let _ = reply.send(Ok(Some(self.session.to_record())));
    }
}

/// Message: removes expired steps from the session.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ExpireSteps {
    /// The expiry cutoffs.
    pub cutoffs: Arc<ExpiryCutoffs>,
}

impl Handler<ExpireSteps> for SessionActor {
    type Result = ();

    fn handle(&mut self, ExpireSteps { cutoffs }: ExpireSteps, _: &mut Self::Context) {
        self.session.update(|state| {
            state.sequence.expire(&cutoffs);
        });
    }
}

/// Stops the actor. The shard sends this message after it has stored the session's record, or to
/// discard the session.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopSession;

impl Handler<StopSession> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: StopSession, context: &mut Self::Context) {
        context.stop();
    }
}
