//! What was kept long enough.

use std::sync::Arc;

use super::System;
use crate::actors::error::SystemError;
use crate::actors::shard::{ExpireSessions, ExpiryScan};
use crate::domain::Expiry;

impl System {
    /// Has all sessions let go of it, those at work and those at rest, and stores them. Returns how
    /// many of those at rest had something of it.
    ///
    /// # Errors
    /// What the store says: then some may hold it still.
    pub(in crate::actors) async fn expire_sessions(&self, expiry: &Expiry) -> Result<usize, SystemError> {
        let (expired, mut sessions) = (Arc::new(expiry.cutoffs(&self.learner_config.kinds)), 0);
        for shard in &self.shards {
            let mut after = None;
            loop {
                let asked = ExpireSessions { cutoffs: Arc::clone(&expired), after };
                let ExpiryScan { changed, last } =
                    shard.send(asked).await.map_err(|_| SystemError::ActorStopped("shard"))?.map_err(SystemError::Store)?;
                sessions += changed;
                after = last;
                if after.is_none() {
                    break;
                }
            }
        }
        self.flush().await?;
        Ok(sessions)
    }
}
