//! Decides which entries of the pending requests one commit adds to the journal.

use super::dedup::{EventIdDigest, EventIdWindow, digest_event_id};
use super::{CommitCondition, CommitReceipt, CommitRequest, event_id_of_entry};
use crate::domain::{Entry, Offset, Origin, UserErasure};
use crate::registries::{
    AliasBatch, AliasChange, AliasWriter, ConsentBatch, ConsentRecord, ConsentVerdict, ConsentWriter,
};
use crate::store::JournalBatch;
use crate::store::log_position::ChangeMarks;

/// The outcome of the decisions: the entries of the commit, and the changes of the committer's
/// state.
#[derive(Debug)]
pub(super) struct CommitPlan {
    pub(super) receipts: Vec<CommitReceipt>,
    pub(super) batch: JournalBatch,
    pub(super) new_ids: Vec<(Offset, EventIdDigest)>,
    pub(super) new_aliases: Vec<AliasChange>,
    pub(super) new_consents: Vec<ConsentRecord>,
    /// The offset after the last entry.
    pub(super) end: Offset,
    /// The marks after the last entry.
    pub(super) marks: Option<ChangeMarks>,
}

/// The committer's state that decisions depend on. A plan does not change it.
#[derive(Debug)]
pub(super) struct CommitState<'c> {
    pub(super) dedup: &'c EventIdWindow,
    pub(super) aliases: &'c AliasWriter,
    pub(super) consents: &'c ConsentWriter,
    /// The marks that conditions refer to; `None` if the journal has one writer, for which every
    /// condition holds.
    pub(super) marks: Option<ChangeMarks>,
}

impl CommitState<'_> {
    /// Decides on the entries of `requests`, in their order, from offset `first` on.
    pub(super) fn plan_commit(&self, first: Offset, requests: Vec<CommitRequest>) -> CommitPlan {
        let mut receipts = Vec::with_capacity(requests.len());
        let mut planner = Planner {
            new_ids: self.dedup.begin_batch(),
            new_aliases: self.aliases.begin_batch(),
            new_consents: self.consents.begin_batch(),
            batch: JournalBatch::with_capacity(requests.iter().map(|request| request.entries.len()).sum()),
            end: first,
            marks: self.marks,
        };
        for request in requests {
            receipts.push(planner.plan_request(request));
        }
        let Planner { new_ids, new_aliases, new_consents, batch, end, marks } = planner;
        CommitPlan {
            receipts,
            batch,
            new_ids: new_ids.into_new_ids(),
            new_aliases: new_aliases.finish(),
            new_consents: new_consents.finish(),
            end,
            marks,
        }
    }
}

/// The decisions so far.
struct Planner<'c> {
    new_ids: super::dedup::DedupBatch<'c>,
    new_aliases: AliasBatch<'c>,
    new_consents: ConsentBatch<'c>,
    batch: JournalBatch,
    end: Offset,
    marks: Option<ChangeMarks>,
}

impl Planner<'_> {
    fn plan_request(&mut self, request: CommitRequest) -> CommitReceipt {
        let CommitRequest { entries, origin, condition } = request;
        let mut receipt = CommitReceipt {
            accepted: 0,
            duplicates: Vec::new(),
            withheld: Vec::new(),
            rejected: Vec::new(),
            offset: self.end,
        };
        if !self.holds(condition) {
            receipt.duplicates = (0..entries.len()).collect();
            return receipt;
        }
        for (index, mut entry) in entries.into_iter().enumerate() {
            if let Entry::Erase(UserErasure { user_id, unlearn, timestamp }) = &entry {
                let (unlearn, timestamp) = (*unlearn, *timestamp);
                for id in self.new_aliases.ids_of_user(user_id) {
                    let mut erasure = Entry::Erase(UserErasure { user_id: (*id).to_owned(), unlearn, timestamp });
                    self.new_aliases.admit(self.end, &mut erasure);
                    self.new_consents.admit(self.end, &mut erasure);
                    self.push(erasure, None);
                }
                receipt.accepted += 1;
                continue;
            }
            let verdict = if self.new_aliases.admit(self.end, &mut entry) {
                self.new_consents.admit(self.end, &mut entry)
            } else {
                ConsentVerdict::Unchanged
            };
            // The consent is checked before the event id enters the window. So if the user
            // consents later, the sender can send the event again.
            if verdict == ConsentVerdict::Withheld {
                receipt.withheld.push(index);
            } else if verdict == ConsentVerdict::Unchanged
                || event_id_of_entry(&entry).is_some_and(|id| !self.new_ids.insert(self.end, digest_event_id(id)))
            {
                receipt.duplicates.push(index);
            } else {
                self.push(entry, origin);
                receipt.accepted += 1;
            }
        }
        receipt.offset = self.end;
        receipt
    }

    fn push(&mut self, entry: Entry, origin: Option<Origin>) {
        if let Some(marks) = &mut self.marks {
            marks.record_entry(self.end, &entry);
        }
        self.batch.push(entry, origin);
        self.end += 1;
    }

    fn holds(&self, condition: Option<CommitCondition>) -> bool {
        match (condition, self.marks) {
            (Some(condition), Some(marks)) => condition.holds(marks),
            _ => true,
        }
    }
}
