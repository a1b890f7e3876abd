//! The session actor: one active user, its sequence and hidden state.

use actix::{Actor, ActorContext, Context, Handler, Message, MessageResult};
use arc_swap::ArcSwap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

use crate::domain::{Catalog, Dictionary, Entry, Kinds, Offset, Step};
use crate::learning::{Answer, Follower, Pace, Request, Snapshot, Workspace, answer};
use crate::store::{SessionRecord, codec};

/// What the session actors of one shard share: they live on one thread.
#[derive(Debug)]
pub struct Surroundings {
    /// The snapshot published last.
    pub published: Arc<ArcSwap<Snapshot>>,
    /// The catalog, with every change that was acknowledged.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// How followers move.
    pub pace: Pace,
    /// Working memory.
    pub workspace: RefCell<Workspace>,
}

/// One active user.
#[derive(Debug)]
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
        let (follower, applied) = match record {
            Some(record) => (Follower::restore(record.session, codec::decode(&record.hidden).ok()), record.applied),
            None => (Follower::default(), 0),
        };
        Self { follower, applied, surroundings }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;
}

/// One event of this user, as committed.
#[derive(Debug)]
pub struct Happened {
    /// Its place in the journal.
    pub offset: Offset,
    /// What it means for the sequence.
    pub step: Step,
    /// The site's own id of the visit.
    pub session_id: Option<String>,
}

impl Happened {
    /// What an entry means for its user's session; `None` if nothing.
    #[must_use]
    pub fn of(offset: Offset, entry: Entry, dictionary: &Dictionary, kinds: &Kinds) -> Option<(String, Self)> {
        let Entry::Event(event) = entry else { return None };
        let kind = kinds.id(&event.kind)?;
        let item = event.item_id.as_deref().and_then(|name| dictionary.get(name));
        let value = event.value.unwrap_or_else(|| kinds.rule(kind).value);
        let step = Step { item, kind, boundary: false, at: event.timestamp, value };
        Some((event.user_id, Self { offset, step, session_id: event.session_id }))
    }
}

/// Events of this user, in journal order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Apply(pub Vec<Happened>);

impl Handler<Apply> for SessionActor {
    type Result = ();

    fn handle(&mut self, Apply(events): Apply, _: &mut Self::Context) {
        let snapshot = self.surroundings.published.load();
        let mut workspace = self.surroundings.workspace.borrow_mut();
        let pace = &self.surroundings.pace;
        for event in events {
            // A restart delivers the journal's tail again; what the stored record holds already is passed over.
            if event.offset < self.applied {
                continue;
            }
            self.follower.advance(event.offset, event.step, event.session_id.as_deref(), pace, snapshot.weights(), &mut workspace.network);
            self.applied = event.offset + 1;
        }
        if let Some(weights) = snapshot.weights() {
            self.follower.hidden(pace, weights, &mut workspace.network);
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
}

impl Handler<Recommend> for SessionActor {
    type Result = ();

    fn handle(&mut self, Recommend { request, reply }: Recommend, _: &mut Self::Context) {
        let (snapshot, catalog) = (self.surroundings.published.load(), self.surroundings.catalog.load());
        let mut workspace = self.surroundings.workspace.borrow_mut();
        // The asker may have gone meanwhile.
        let _ = reply.send(answer(&snapshot, &catalog, &mut self.follower, &self.surroundings.pace, &request, &mut workspace));
    }
}

/// Asks for what is to be stored of this user.
#[derive(Debug, Message)]
#[rtype(result = "SessionRecord")]
pub struct Save;

impl Handler<Save> for SessionActor {
    type Result = MessageResult<Save>;

    fn handle(&mut self, _: Save, _: &mut Self::Context) -> Self::Result {
        let hidden = self.follower.known_hidden().and_then(|hidden| codec::encode(hidden).ok()).unwrap_or_default();
        MessageResult(SessionRecord { applied: self.applied, session: self.follower.session.clone(), hidden })
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
