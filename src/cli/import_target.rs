//! The target of an import: a running daemon, or the data directory of a stopped one.

use actix::SystemRunner;
use sequor_client::{Receipt, Rejection};
use std::sync::Arc;

use super::data_dir;
use super::event_sender::EventSender;
use super::flags::{self, RuntimeFlags};
use super::session_refresh::refresh_sessions;
use crate::actors::system::System;
use crate::domain::{Entry, VectorError, WithConsent};
use crate::ingest::{ValidationError, ValidationRules};
use crate::metrics::Metrics;
use crate::services::ingest::{FullQueuePolicy, ingest};
use crate::store::Store;

/// Target of an import. It stores entries durably before it acknowledges them.
pub(super) enum ImportTarget {
    /// The API of a running daemon.
    Daemon(Box<EventSender>),
    /// A data directory, which actors in this process write to.
    Directory(Box<DirectoryTarget>),
}

/// An open data directory. The lock of its store keeps a daemon from serving it.
pub(super) struct DirectoryTarget {
    runner: SystemRunner,
    system: System,
    rules: ValidationRules,
}

impl ImportTarget {
    /// Appends a batch. Acknowledged entries are durable.
    pub(super) fn append_batch(&mut self, entries: Vec<WithConsent<Entry>>) -> anyhow::Result<Receipt> {
        match self {
            Self::Daemon(sender) => sender.send_batch(&entries),
            Self::Directory(directory) => directory.append_batch(entries),
        }
    }

    /// Stores all state and closes the target.
    pub(super) fn store_and_close(self) -> anyhow::Result<()> {
        match self {
            Self::Daemon(_) => Ok(()),
            Self::Directory(directory) => {
                let DirectoryTarget { runner, system, .. } = *directory;
                runner.block_on(system.maintenance.stop())?;
                Ok(())
            }
        }
    }
}

impl DirectoryTarget {
    /// Opens the data directory in `flags`, or creates it.
    pub(super) fn open(flags: &RuntimeFlags) -> anyhow::Result<Self> {
        let layers = data_dir::load_settings(flags)?;
        let mut settings = layers.validated_settings()?.clone();
        let metrics = Arc::new(Metrics::new(&settings.events.resolved_kinds())?);
        let store = data_dir::open_store(&settings, |dir, options| Store::open(dir, options), None)?;
        store.ensure_journal_id(data_dir::new_journal_id)?;
        let rules = data_dir::checked_validation_rules(&settings, &store)?;
        data_dir::apply_pretrained_network(&layers, &mut settings, &store)?;
        refresh_sessions(&store, &settings)?;
        let runner = actix::System::new();
        let system = runner.block_on(async {
            System::start(store, flags::system_settings(&settings, flags::learner_config(&settings)), metrics)
        })?;
        Ok(Self { runner, system, rules })
    }

    /// The validation rules of the directory's settings, including its pseudonyms.
    pub(super) fn validation_rules(&self) -> &ValidationRules {
        &self.rules
    }

    /// The id of the journal.
    pub(super) fn journal_id(&self) -> &str {
        self.system.store.journal_id().unwrap_or_default()
    }

    fn append_batch(&self, entries: Vec<WithConsent<Entry>>) -> anyhow::Result<Receipt> {
        let outcome = self.runner.block_on(ingest(&self.system.ingest, entries, None, FullQueuePolicy::Wait))?;
        Ok(Receipt {
            accepted: outcome.accepted as u64,
            duplicates: outcome.duplicates as u64,
            withheld: outcome.withheld as u64,
            rejected: outcome.rejected.iter().map(rejection_of_vector_error).collect(),
            ..Receipt::default()
        })
    }
}

/// The rejection of an item change at a position of the batch, because of its vectors.
fn rejection_of_vector_error((index, error): &(usize, VectorError)) -> Rejection {
    let ValidationError { field, code, reason, .. } = ValidationError::from_vector_error(error);
    let code = serde_json::to_value(code).ok().and_then(|code| code.as_str().map(str::to_owned));
    Rejection { index: *index, field: field.map(str::to_owned), code: code.unwrap_or_default(), reason }
}
