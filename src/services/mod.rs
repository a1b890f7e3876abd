//! Business decisions that every entry point shares: the HTTP API, Segment's API, import and tail.
//!
//! A service handles consent, admission, impressions and paging. Services use neither status codes
//! nor HTTP types.
//!
//! - [`ingest`]: applies consent, reserves admission and appends to the journal.
//! - [`recommendation`]: recommends to a user, journals the impression and serves later pages.
//! - [`pagination`]: caches recent rankings, from which the service reads later pages.
//! - [`id_generator`]: ids of recommendations and requests.

pub mod id_generator;
pub mod ingest;
pub mod pagination;
pub mod recommendation;
