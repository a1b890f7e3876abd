//! Middleware, from the outermost to the innermost.
//!
//! - [`measure`]: request id, span and metrics; uses [`request_id`] and [`trace`].
//! - [`check_request`]: the URL and the content encoding.
//! - [`host_check`]: host and origin of requests to the admin endpoint, and to an API without keys.
//! - [`cluster_headers`]: the journal offset, and whether a node is cut off from its cluster.
//! - [`queue_wait`]: the longest time that a request waits for a thread.
//! - [`auth`]: API keys, scopes and rate limits of a path.
//! - [`body_timeout`]: the longest time that a body may take.
//! - [`decompress`]: decompression within the body limit.

pub(in crate::http) mod auth;
pub(in crate::http) mod body_timeout;
pub(in crate::http) mod check_request;
pub(in crate::http) mod cluster_headers;
pub(in crate::http) mod decompress;
pub(in crate::http) mod host_check;
pub(in crate::http) mod measure;
pub(in crate::http) mod queue_wait;
pub(in crate::http) mod request_id;
pub(in crate::http) mod trace;
