//! Business decisions that every entry point shares: the HTTP API, Segment's API, import and tail.
//!
//! Services decide about consent, admission, impressions and paging. They use neither status codes
//! nor HTTP types.
//!
//! - [`ingest`]: checks consent, admits entries, and appends them to the journal.
//! - [`impressions`]: journals impressions.
//! - [`recommendation`]: recommends to a user, journals the impression and serves later pages.
//! - [`pagination`]: caches recent rankings, from which the service reads later pages.
//! - [`placements`]: placements and rules.
//! - [`reports`]: reports that read the journal, such as attribution.
//! - [`rule_preview`]: the effect of a rule on a list.
//! - `rule_warnings`: conflicts between rules.
//! - [`id_generator`]: ids of recommendations and requests.

pub mod id_generator;
pub mod impressions;
pub mod ingest;
pub mod pagination;
pub mod placements;
pub mod recommendation;
pub mod reports;
pub mod rule_preview;
mod rule_warnings;
