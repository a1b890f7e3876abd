//! Exports the journal as JSON lines.

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data};
use futures_util::stream::{self, Stream};
use std::sync::Arc;

use crate::actors::error::RequestError;
use crate::domain::{Entry, Offset};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::ingest::write_entry;

/// Selects the entries to export.
pub(in crate::http) type JournalEntryFilter = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

/// Number of entries per read.
const ENTRIES_PER_READ: usize = 1024;

/// A response of JSON lines.
pub(in crate::http) fn json_lines_response(
    lines: impl Stream<Item = Result<Bytes, Problem>> + 'static,
) -> HttpResponse {
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines)
}

/// Streams the journal entries that `filter` selects, from offset `from` up to, but not including,
/// offset `to`. Without `to`, the stream ends where the journal ended at the time of the call.
///
/// # Errors
/// A problem if the journal cannot be read. If reading fails after the response has begun, the
/// response ends early.
pub(in crate::http) fn export_journal(
    api: Data<ApiState>,
    from: Option<Offset>,
    to: Option<Offset>,
    filter: JournalEntryFilter,
) -> Result<impl Stream<Item = Result<Bytes, Problem>> + use<>, Problem> {
    let journal = api.system.store.journal();
    let end = journal.next_offset().map_err(RequestError::from)?;
    let end = to.map_or(end, |to| to.min(end));
    let begin = journal.first_offset().map_err(RequestError::from)?;
    Ok(stream::try_unfold(from.unwrap_or(0).max(begin), move |next| {
        let (api, filter) = (api.clone(), Arc::clone(&filter));
        async move {
            if next >= end {
                return Ok(None);
            }
            let read = web::block(move || read_lines(&api, next, end, &*filter)).await;
            read.map_err(|_| Problem::internal())?.map(Some)
        }
    }))
}

/// Reads the next entries. Returns them as JSON lines, with the offset at which the next read must
/// begin.
fn read_lines(
    api: &ApiState,
    from: Offset,
    end: Offset,
    filter: &(dyn Fn(&Entry) -> bool + Send + Sync),
) -> Result<(Bytes, Offset), Problem> {
    let entries = api.system.store.journal().read_entries(from, ENTRIES_PER_READ).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "an export cannot read the journal");
        Problem::internal()
    })?;
    let (mut lines, mut next) = (Vec::new(), end);
    for (offset, entry) in entries.iter().filter(|(offset, _)| *offset < end) {
        if filter(entry) {
            write_entry(*offset, entry, &mut lines).map_err(|_| Problem::internal())?;
        }
        next = offset + 1;
    }
    Ok((lines.into(), next))
}
