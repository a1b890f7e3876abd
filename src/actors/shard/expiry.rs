//! How a shard's sessions let go of what was kept long enough.

use actix::{Handler, Message};
use std::sync::Arc;

use super::{ShardActor, shard_of};
use crate::actors::session::ExpireSteps;
use crate::domain::ExpiryCutoffs;
use crate::store::{SessionRecord, StoreError};

/// Records that are looked at in one go: it takes a few milliseconds, for which the shard does
/// nothing else.
const RECORDS: usize = 500;

impl ShardActor {
    /// Has the sessions at work let go of it, if `after` is none, and looks at some of the stored
    /// ones.
    fn expire(&mut self, ExpireSessions { cutoffs: expired, after }: ExpireSessions) -> Result<ExpiryScan, StoreError> {
        if after.is_none() {
            for active in self.active_sessions.values_mut() {
                active.actor.do_send(ExpireSteps { cutoffs: Arc::clone(&expired) });
                active.is_dirty = true;
            }
            self.cutoffs = Some(Arc::clone(&expired));
        }
        let (own, shards) = self.context.number;
        let sessions = self.context.store.sessions();
        let page = sessions.page(after.as_deref(), RECORDS)?;
        let last = page.last().map(|(user, _)| user.clone()).filter(|_| page.len() == RECORDS);
        // Those at work are stored when they are.
        let at_rest = page.into_iter().filter(|(user, _)| shard_of(user, shards) == own && !self.active_sessions.contains_key(user));
        // Of a damaged record nothing is told; the session is folded anew from a journal that has
        // nothing of it any more.
        let at_rest = at_rest.filter_map(|(user, record)| Some((user, record?)));
        let changed: Vec<_> =
            at_rest.filter_map(|(user, mut record)| expire_steps(&mut record, &expired).then_some((user, record))).collect();
        sessions.rewrite(changed.iter().map(|(user, record)| (user.as_str(), record)))?;
        Ok(ExpiryScan { changed: changed.len(), last })
    }
}

/// Takes out of a record what goes. Whether anything does.
pub(super) fn expire_steps(record: &mut SessionRecord, expired: &ExpiryCutoffs) -> bool {
    let went = record.sequence.expire(expired);
    if went {
        record.hidden_state.clear();
    }
    went
}

/// Asks to let go of what was kept long enough.
#[derive(Debug, Message)]
#[rtype(result = "Result<ExpiryScan, Arc<StoreError>>")]
pub struct ExpireSessions {
    /// What.
    pub cutoffs: Arc<ExpiryCutoffs>,
    /// The last user whose record was looked at; none at the beginning.
    pub after: Option<String>,
}

/// How far a shard has come.
#[derive(Debug)]
pub struct ExpiryScan {
    /// How many stored sessions had something of it.
    pub changed: usize,
    /// The last user whose record was looked at, if there are more.
    pub last: Option<String>,
}

impl Handler<ExpireSessions> for ShardActor {
    type Result = Result<ExpiryScan, Arc<StoreError>>;

    fn handle(&mut self, expire: ExpireSessions, _: &mut Self::Context) -> Self::Result {
        let mut looked = Ok(ExpiryScan { changed: 0, last: None });
        self.guarded(|shard| looked = shard.expire(expire));
        looked.map_err(Arc::new)
    }
}
