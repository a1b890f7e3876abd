//! The journal as lines of JSON.

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data};
use futures_util::stream::{self, Stream};
use std::sync::Arc;

use crate::actors::error::RequestError;
use crate::domain::{Entry, Offset};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::ingest::write_entry;

/// Says which entries are wanted.
pub(in crate::http) type JournalEntryFilter = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

/// Entries that are read at a time.
const STRETCH: usize = 1024;

/// An answer of lines.
pub(in crate::http) fn answer(lines: impl Stream<Item = Result<Bytes, Problem>> + 'static) -> HttpResponse {
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines)
}

/// The wanted ones of the journal's entries from `from` on, up to `to` or to where it ends when
/// this is asked.
///
/// # Errors
/// A problem if it cannot be read. Where it cannot be read on, the answer has begun: all that can
/// be done is to cut it short.
pub(in crate::http) fn export_journal(
    api: Data<ApiState>,
    from: Option<Offset>,
    to: Option<Offset>,
    wanted: JournalEntryFilter,
) -> Result<impl Stream<Item = Result<Bytes, Problem>> + use<>, Problem> {
    let journal = api.system.store.journal();
    let end = journal.next_offset().map_err(RequestError::from)?;
    let end = to.map_or(end, |to| to.min(end));
    let begin = journal.first_offset().map_err(RequestError::from)?;
    Ok(stream::try_unfold(from.unwrap_or(0).max(begin), move |next| {
        let (api, wanted) = (api.clone(), Arc::clone(&wanted));
        async move {
            if next >= end {
                return Ok(None);
            }
            let read = web::block(move || read(&api, next, end, &*wanted)).await;
            read.map_err(|_| Problem::internal())?.map(Some)
        }
    }))
}

/// The next lines, and the offset after them.
fn read(api: &ApiState, from: Offset, end: Offset, wanted: &(dyn Fn(&Entry) -> bool + Send + Sync)) -> Result<(Bytes, Offset), Problem> {
    let entries = api.system.store.journal().read(from, STRETCH).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the journal could not be read on");
        Problem::internal()
    })?;
    let (mut lines, mut next) = (Vec::new(), end);
    for (offset, entry) in entries.iter().filter(|(offset, _)| *offset < end) {
        if wanted(entry) {
            write_entry(*offset, entry, &mut lines).map_err(|_| Problem::internal())?;
        }
        next = offset + 1;
    }
    Ok((lines.into(), next))
}
