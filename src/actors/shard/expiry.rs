//! Expiry: removes expired steps from a shard's sessions.

use actix::{Handler, Message};
use std::sync::Arc;

use super::{ShardActor, shard_of_user};
use crate::actors::session::ExpireSteps;
use crate::domain::ExpiryCutoffs;
use crate::store::{SessionRecord, StoreError};

/// Number of stored records examined per message. Examining a page blocks the shard for a few
/// milliseconds.
const RECORDS_PER_PAGE: usize = 500;

impl ShardActor {
    /// Removes expired steps from one page of stored records, and from all live sessions if this
    /// is the first page (`after` is `None`).
    fn expire_page(&mut self, ExpireSessions { cutoffs, after }: ExpireSessions) -> Result<ExpiryScan, StoreError> {
        if after.is_none() {
            for active in self.active_sessions.values_mut() {
                active.actor.do_send(ExpireSteps { cutoffs: Arc::clone(&cutoffs) });
                active.is_dirty = true;
            }
            self.cutoffs = Some(Arc::clone(&cutoffs));
        }
        let (own, shards) = self.context.number;
        let sessions = self.context.store.sessions();
        let page = sessions.read_page(after.as_deref(), RECORDS_PER_PAGE)?;
        let last = page.last().map(|(user, _)| user.clone()).filter(|_| page.len() == RECORDS_PER_PAGE);
        // Live sessions are excluded, because the next flush stores their records.
        let inactive = page.into_iter().filter(|(user, _)| {
            shard_of_user(user, shards) == own && !self.active_sessions.contains_key(user.as_str())
        });
        // Skips damaged records. Sessions with a damaged record are rebuilt from the journal, which
        // no longer contains the expired entries.
        let inactive = inactive.filter_map(|(user, record)| Some((user, record?)));
        let changed: Vec<_> = inactive
            .filter_map(|(user, mut record)| remove_expired_steps(&mut record, &cutoffs).then_some((user, record)))
            .collect();
        sessions.replace_records(changed.iter().map(|(user, record)| (user.as_str(), record)))?;
        Ok(ExpiryScan { changed: changed.len(), last })
    }
}

/// Removes expired steps from a record. Returns whether a step was removed. In this case, the
/// hidden state is cleared.
pub(super) fn remove_expired_steps(record: &mut SessionRecord, cutoffs: &ExpiryCutoffs) -> bool {
    let changed = record.sequence.expire(cutoffs);
    if changed {
        record.hidden_state.clear();
    }
    changed
}

/// Removes expired steps from one page of a shard's sessions.
#[derive(Debug, Message)]
#[rtype(result = "Result<ExpiryScan, Arc<StoreError>>")]
pub struct ExpireSessions {
    /// The expiry cutoffs.
    pub cutoffs: Arc<ExpiryCutoffs>,
    /// The last user of the previous page; `None` for the first page.
    pub after: Option<String>,
}

/// The outcome of one page of an expiry.
#[derive(Debug)]
pub struct ExpiryScan {
    /// Number of stored sessions from which steps were removed.
    pub changed: usize,
    /// The last user of this page; `None` if it was the last page.
    pub last: Option<String>,
}

impl Handler<ExpireSessions> for ShardActor {
    type Result = Result<ExpiryScan, Arc<StoreError>>;

    fn handle(&mut self, expire: ExpireSessions, _: &mut Self::Context) -> Self::Result {
        let mut scan = Ok(ExpiryScan { changed: 0, last: None });
        self.run_and_recover(|shard| scan = shard.expire_page(expire));
        scan.map_err(Arc::new)
    }
}
