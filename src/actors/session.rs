//! The session actor: one active user, its sequence and hidden state.

use actix::{Actor, ActorContext, Context, Handler, Message, MessageResult};
use arc_swap::ArcSwap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use tracing::Span;

use super::admission::AdmissionPermit;
use super::panic_guard::{catch_panic, inject_fault};
use crate::domain::{Catalog, Entry, EventKinds, ExpiryCutoffs, ItemDictionary, Offset, Step, UserSequence};
use crate::learner::{ModelSnapshot, RankedAnswer, RecommendationRequest, ScoringWorkspace, SequenceParams, SequenceState, recommend};
use crate::metrics::{ActorKind, Metrics};
use crate::store::{QuarantineReader, QuarantineTree, QuarantinedEntry, SessionRecord, StoreError, codec};
use crate::telemetry::span;

/// What the session actors of one shard share: they live on one thread.
pub struct SessionContext {
    /// The snapshot published last.
    pub published: Arc<ArcSwap<ModelSnapshot>>,
    /// The catalog, with every change that was acknowledged.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// How followers move.
    pub sequence_params: SequenceParams,
    /// Working memory.
    pub workspace: RefCell<ScoringWorkspace>,
    /// The items by name.
    pub dictionary: Arc<ItemDictionary>,
    /// Where an event that cannot be applied is noted.
    pub quarantine: QuarantineTree,
    /// Where a panic is counted.
    pub metrics: Arc<Metrics>,
}

impl SessionContext {
    /// The name of the item that an event is about.
    pub(super) fn item_name(&self, happened: &SessionUpdate) -> Option<Arc<str>> {
        let SessionOp::Step { step, .. } = &happened.op else { return None };
        self.dictionary.name(step.item?)
    }
}

/// Restores a user's sequence state from its stored record.
#[must_use]
pub fn sequence_state(record: SessionRecord) -> SequenceState {
    SequenceState::restore(record.sequence, codec::decode(&record.hidden_state).ok())
}

/// One active user.
pub struct SessionActor {
    follower: SequenceState,
    /// The first entry not yet applied.
    applied: Offset,
    surroundings: Rc<SessionContext>,
}

impl SessionActor {
    /// A user as the store remembers it, or one never seen.
    #[must_use]
    pub fn new(record: Option<SessionRecord>, surroundings: Rc<SessionContext>) -> Self {
        let applied = record.as_ref().map_or(0, |record| record.applied_through);
        Self { follower: record.map(sequence_state).unwrap_or_default(), applied, surroundings }
    }

    fn record(&self) -> SessionRecord {
        let hidden = self.follower.cached_hidden().and_then(|hidden| codec::encode(hidden).ok()).unwrap_or_default();
        SessionRecord { applied_through: self.applied, sequence: self.follower.sequence.clone(), hidden_state: hidden }
    }

    /// Appends one event. One that panics is passed over, and the session stays as it was before.
    fn apply(&mut self, event: &SessionUpdate) {
        let around = Rc::clone(&self.surroundings);
        let before = self.follower.sequence.clone();
        let applied = catch_panic(&around.metrics, ActorKind::Session, || {
            inject_fault("session", || around.item_name(event));
            let (snapshot, mut workspace) = (around.published.load(), around.workspace.borrow_mut());
            match &event.op {
                SessionOp::Step { step, session_id } => {
                    let network = &mut workspace.network;
                    self.follower.advance(event.offset, *step, session_id.as_deref(), &around.sequence_params, snapshot.weights(), network);
                }
                SessionOp::Merge { sequence: session, .. } => self.follower.merge(session, &around.sequence_params),
                SessionOp::Forget => self.follower = SequenceState::default(),
            }
        });
        if let Err(struck) = applied {
            self.follower = SequenceState::restore(before, None);
            around.workspace.replace(ScoringWorkspace::default());
            let noted = around.quarantine.put(&QuarantinedEntry {
                offset: event.offset,
                reader: QuarantineReader::Session,
                reason: struck.to_string(),
            });
            if let Err(error) = noted {
                tracing::error!(error = &error as &dyn std::error::Error, "an event that a session passes over could not be noted");
            }
        }
    }

    /// Answers from what the session holds; if that panics, as one who is not known.
    fn answer(&mut self, request: &RecommendationRequest) -> Option<RankedAnswer> {
        let around = Rc::clone(&self.surroundings);
        let (snapshot, catalog, pace) = (around.published.load(), around.catalog.load(), &around.sequence_params);
        let began = Instant::now();
        let ask = |follower: &mut SequenceState| {
            catch_panic(&around.metrics, ActorKind::Session, || {
                recommend(&snapshot, &catalog, follower, pace, request, &mut around.workspace.borrow_mut())
            })
        };
        let answer = ask(&mut self.follower)
            .or_else(|_| {
                self.follower = SequenceState::restore(self.follower.sequence.clone(), None);
                around.workspace.replace(ScoringWorkspace::default());
                ask(&mut SequenceState::default())
            })
            .ok();
        around.metrics.recommendation_seconds.record(began.elapsed());
        answer
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;
}

/// One event of this user, as committed.
#[derive(Debug, Clone)]
pub struct SessionUpdate {
    /// Its place in the journal.
    pub offset: Offset,
    /// What it means for the sequence.
    pub op: SessionOp,
}

/// What an entry means for the sequence of its user.
#[derive(Debug, Clone)]
pub enum SessionOp {
    /// One more step.
    Step {
        /// The step.
        step: Step,
        /// The site's own id of the visit.
        session_id: Option<String>,
    },
    /// Another user turned out to be this one.
    Merge {
        /// Who.
        from: String,
        /// The merged user's sequence up to the merge. The shard that forwards the update fills it
        /// in.
        sequence: UserSequence,
    },
    /// The user is to be forgotten.
    Forget,
}

impl SessionUpdate {
    /// What an entry means for its user's session; `None` if nothing.
    #[must_use]
    pub fn from_entry(offset: Offset, entry: Entry, dictionary: &ItemDictionary, kinds: &EventKinds) -> Option<(String, Self)> {
        let event = match entry {
            Entry::Event(event) | Entry::Private(event) => event,
            Entry::Merge(merge) => {
                let act = SessionOp::Merge { from: merge.from, sequence: UserSequence::default() };
                return Some((merge.into, Self { offset, op: act }));
            }
            Entry::Erase(erasure) => return Some((erasure.user_id, Self { offset, op: SessionOp::Forget })),
            Entry::Impression(_) | Entry::Item(_) | Entry::Model(_) | Entry::Consent(_) | Entry::Tombstone | Entry::Expire(_) => {
                return None;
            }
        };
        let kind = kinds.id(&event.kind)?;
        let item = event.item_id.as_deref().and_then(|name| dictionary.get(name));
        let value = event.value.unwrap_or_else(|| kinds.rule(kind).value);
        let step = Step { item, kind, starts_session: false, at: event.timestamp, value };
        Some((event.user_id, Self { offset, op: SessionOp::Step { step, session_id: event.session_id } }))
    }
}

/// Events of this user, in journal order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ApplySessionUpdate {
    /// The events.
    pub updates: Vec<SessionUpdate>,
    /// Their room on the way, given back when all their sessions have taken them.
    pub permits: Option<Arc<Vec<AdmissionPermit>>>,
}

impl Handler<ApplySessionUpdate> for SessionActor {
    type Result = ();

    fn handle(&mut self, ApplySessionUpdate { updates: events, permits: _permits }: ApplySessionUpdate, _: &mut Self::Context) {
        for event in events {
            // A restart delivers the journal's tail again; what the stored record holds already is
            // passed over.
            if event.offset >= self.applied {
                self.surroundings.metrics.session_events.increment(1);
                self.apply(&event);
                self.applied = event.offset + 1;
            }
        }
    }
}

/// Asks for a recommendation.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RecommendForSession {
    /// What is asked.
    pub request: RecommendationRequest,
    /// Told the answer.
    pub reply: oneshot::Sender<RankedAnswer>,
    /// What the asker waits in.
    pub span: Span,
}

impl Handler<RecommendForSession> for SessionActor {
    type Result = ();

    fn handle(&mut self, RecommendForSession { request, reply, span }: RecommendForSession, _: &mut Self::Context) {
        let answer = span!(parent: &span, "answer").in_scope(|| self.answer(&request));
        if let Some(answer) = answer {
            // The asker may have gone meanwhile.
            let _ = reply.send(answer);
        }
    }
}

/// Asks for what is to be stored of this user.
#[derive(Debug, Message)]
#[rtype(result = "SessionRecord")]
pub struct SaveSession;

impl Handler<SaveSession> for SessionActor {
    type Result = MessageResult<SaveSession>;

    fn handle(&mut self, _: SaveSession, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.record())
    }
}

/// What is known of a user's session, `None` if nothing.
pub type SessionView = Result<Option<SessionRecord>, Arc<StoreError>>;

/// Asks for what is to be looked at of this user: the same as is stored.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GetRecord {
    /// Told the record.
    pub reply: oneshot::Sender<SessionView>,
}

impl Handler<GetRecord> for SessionActor {
    type Result = ();

    fn handle(&mut self, GetRecord { reply }: GetRecord, _: &mut Self::Context) {
        // The asker may have gone meanwhile.
        let _ = reply.send(Ok(Some(self.record())));
    }
}

/// Has the session let go of what was kept long enough.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ExpireSteps {
    /// What.
    pub cutoffs: Arc<ExpiryCutoffs>,
}

impl Handler<ExpireSteps> for SessionActor {
    type Result = ();

    fn handle(&mut self, ExpireSteps { cutoffs: expired }: ExpireSteps, _: &mut Self::Context) {
        self.follower.expire(&expired);
    }
}

/// Ends the actor; the shard has stored its record.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

impl Handler<Stop> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        context.stop();
    }
}
