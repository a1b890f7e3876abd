//! How far what answers follow from reaches.

use std::time::Duration;
use tokio::sync::watch;

use super::System;
use crate::actors::error::SystemError;
use crate::domain::Offset;

/// How far the entries have come that answers follow from.
#[derive(Clone)]
pub(super) struct Watermarks {
    /// Every entry before this offset was put before its session.
    pub(super) delivered: watch::Receiver<Offset>,
    /// Every entry before this offset is in the snapshot published last.
    pub(super) learned: watch::Receiver<Offset>,
}

impl System {
    /// Waits until both a user's session and what was learned hold every entry before an offset.
    ///
    /// # Errors
    /// [`SystemError::NotReached`] if that takes longer than `patience`.
    pub async fn wait_for_offset(&self, wanted: Offset, patience: Duration) -> Result<(), SystemError> {
        let Watermarks { mut delivered, mut learned } = self.watermarks.clone();
        let both = async {
            // The wait also ends if the sender is gone, so the offset is checked again below.
            let _ = delivered.wait_for(|offset| *offset >= wanted).await;
            let _ = learned.wait_for(|offset| *offset >= wanted).await;
        };
        let _ = actix::clock::timeout(patience, both).await;
        let reached = (*self.watermarks.delivered.borrow()).min(*self.watermarks.learned.borrow());
        if reached >= wanted { Ok(()) } else { Err(SystemError::NotReached { wanted, reached }) }
    }
}
