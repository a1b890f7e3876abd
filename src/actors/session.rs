//! The session actor: one active user, its sequence and hidden state.

use actix::{Actor, ActorContext, Context, Handler, Message, MessageResult};
use arc_swap::ArcSwap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use tracing::Span;

use super::gate::Permit;
use super::guard::{guarded, may_strike};
use crate::domain::{Catalog, Entry, EventKinds, ExpiryCutoffs, ItemDictionary, Offset, Step, UserSequence};
use crate::learner::{Answer, Follower, Pace, Request, Snapshot, Workspace, answer};
use crate::metrics::{ActorKind, Metrics};
use crate::store::{Quarantine, Quarantined, Reader, SessionRecord, StoreError, codec};
use crate::telemetry::span;

/// What the session actors of one shard share: they live on one thread.
pub struct Surroundings {
    /// The snapshot published last.
    pub published: Arc<ArcSwap<Snapshot>>,
    /// The catalog, with every change that was acknowledged.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// How followers move.
    pub pace: Pace,
    /// Working memory.
    pub workspace: RefCell<Workspace>,
    /// The items by name.
    pub dictionary: Arc<ItemDictionary>,
    /// Where an event that cannot be applied is noted.
    pub quarantine: Quarantine,
    /// Where a panic is counted.
    pub metrics: Arc<Metrics>,
}

impl Surroundings {
    /// The name of the item that an event is about.
    pub(super) fn item_of(&self, happened: &Happened) -> Option<Arc<str>> {
        let Act::Step { step, .. } = &happened.act else { return None };
        self.dictionary.name(step.item?)
    }
}

/// The user of whom this is the record.
#[must_use]
pub fn follower(record: SessionRecord) -> Follower {
    Follower::restore(record.session, codec::decode(&record.hidden).ok())
}

/// One active user.
pub struct SessionActor {
    follower: Follower,
    /// The first entry not yet applied.
    applied: Offset,
    surroundings: Rc<Surroundings>,
}

impl SessionActor {
    /// A user as the store remembers it, or one never seen.
    #[must_use]
    pub fn new(record: Option<SessionRecord>, surroundings: Rc<Surroundings>) -> Self {
        let applied = record.as_ref().map_or(0, |record| record.applied);
        Self { follower: record.map(follower).unwrap_or_default(), applied, surroundings }
    }

    fn record(&self) -> SessionRecord {
        let hidden = self.follower.known_hidden().and_then(|hidden| codec::encode(hidden).ok()).unwrap_or_default();
        SessionRecord { applied: self.applied, session: self.follower.session.clone(), hidden }
    }

    /// Appends one event. One that panics is passed over, and the session stays as it was before.
    fn apply(&mut self, event: &Happened) {
        let around = Rc::clone(&self.surroundings);
        let before = self.follower.session.clone();
        let applied = guarded(&around.metrics, ActorKind::Session, || {
            may_strike("session", || around.item_of(event));
            let (snapshot, mut workspace) = (around.published.load(), around.workspace.borrow_mut());
            match &event.act {
                Act::Step { step, session_id } => {
                    let network = &mut workspace.network;
                    self.follower.advance(event.offset, *step, session_id.as_deref(), &around.pace, snapshot.weights(), network);
                }
                Act::Merge { session, .. } => self.follower.absorb(session, &around.pace),
                Act::Forget => self.follower = Follower::default(),
            }
        });
        if let Err(struck) = applied {
            self.follower = Follower::restore(before, None);
            around.workspace.replace(Workspace::default());
            let noted = around.quarantine.put(&Quarantined { offset: event.offset, reader: Reader::Session, reason: struck.to_string() });
            if let Err(error) = noted {
                tracing::error!(error = &error as &dyn std::error::Error, "an event that a session passes over could not be noted");
            }
        }
    }

    /// Answers from what the session holds; if that panics, as one who is not known.
    fn answer(&mut self, request: &Request) -> Option<Answer> {
        let around = Rc::clone(&self.surroundings);
        let (snapshot, catalog, pace) = (around.published.load(), around.catalog.load(), &around.pace);
        let began = Instant::now();
        let ask = |follower: &mut Follower| {
            guarded(&around.metrics, ActorKind::Session, || {
                answer(&snapshot, &catalog, follower, pace, request, &mut around.workspace.borrow_mut())
            })
        };
        let answer = ask(&mut self.follower)
            .or_else(|_| {
                self.follower = Follower::restore(self.follower.session.clone(), None);
                around.workspace.replace(Workspace::default());
                ask(&mut Follower::default())
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
pub struct Happened {
    /// Its place in the journal.
    pub offset: Offset,
    /// What it means for the sequence.
    pub act: Act,
}

/// What an entry means for the sequence of its user.
#[derive(Debug, Clone)]
pub enum Act {
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
        /// What that user had done by then: for whoever hands it on to find out.
        session: UserSequence,
    },
    /// The user is to be forgotten.
    Forget,
}

impl Happened {
    /// What an entry means for its user's session; `None` if nothing.
    #[must_use]
    pub fn of(offset: Offset, entry: Entry, dictionary: &ItemDictionary, kinds: &EventKinds) -> Option<(String, Self)> {
        let event = match entry {
            Entry::Event(event) | Entry::Private(event) => event,
            Entry::Merge(merge) => {
                let act = Act::Merge { from: merge.from, session: UserSequence::default() };
                return Some((merge.into, Self { offset, act }));
            }
            Entry::Erase(erasure) => return Some((erasure.user_id, Self { offset, act: Act::Forget })),
            Entry::Impression(_) | Entry::Item(_) | Entry::Model(_) | Entry::Consent(_) | Entry::Tombstone | Entry::Expire(_) => {
                return None;
            }
        };
        let kind = kinds.id(&event.kind)?;
        let item = event.item_id.as_deref().and_then(|name| dictionary.get(name));
        let value = event.value.unwrap_or_else(|| kinds.rule(kind).value);
        let step = Step { item, kind, starts_session: false, at: event.timestamp, value };
        Some((event.user_id, Self { offset, act: Act::Step { step, session_id: event.session_id } }))
    }
}

/// Events of this user, in journal order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Apply {
    /// The events.
    pub events: Vec<Happened>,
    /// Their room on the way, given back when all their sessions have taken them.
    pub permits: Option<Arc<Vec<Permit>>>,
}

impl Handler<Apply> for SessionActor {
    type Result = ();

    fn handle(&mut self, Apply { events, permits: _permits }: Apply, _: &mut Self::Context) {
        for event in events {
            // A restart delivers the journal's tail again; what the stored record holds already is passed over.
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
pub struct Recommend {
    /// What is asked.
    pub request: Request,
    /// Told the answer.
    pub reply: oneshot::Sender<Answer>,
    /// What the asker waits in.
    pub span: Span,
}

impl Handler<Recommend> for SessionActor {
    type Result = ();

    fn handle(&mut self, Recommend { request, reply, span }: Recommend, _: &mut Self::Context) {
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
pub struct Save;

impl Handler<Save> for SessionActor {
    type Result = MessageResult<Save>;

    fn handle(&mut self, _: Save, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.record())
    }
}

/// What is known of a user's session, `None` if nothing.
pub type Shown = Result<Option<SessionRecord>, Arc<StoreError>>;

/// Asks for what is to be looked at of this user: the same as is stored.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Tell {
    /// Told the record.
    pub reply: oneshot::Sender<Shown>,
}

impl Handler<Tell> for SessionActor {
    type Result = ();

    fn handle(&mut self, Tell { reply }: Tell, _: &mut Self::Context) {
        // The asker may have gone meanwhile.
        let _ = reply.send(Ok(Some(self.record())));
    }
}

/// Has the session let go of what was kept long enough.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Let {
    /// What.
    pub expired: Arc<ExpiryCutoffs>,
}

impl Handler<Let> for SessionActor {
    type Result = ();

    fn handle(&mut self, Let { expired }: Let, _: &mut Self::Context) {
        self.follower.expire(&expired);
    }
}

/// Ends the actor; the shard has stored its record.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave;

impl Handler<Leave> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Self::Context) {
        context.stop();
    }
}
