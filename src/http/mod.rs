//! The public API and the admin endpoint. No other layer uses status codes.
//!
//! Imports point down this list.
//!
//! - `server`: opens both servers; `listener`, `tls` and `periodic` help it.
//! - `router`: the route table.
//! - `routes`, `console`: handlers of the API, of the admin endpoint and of the admin pages.
//! - `middleware`: authorization, checks, metrics and traces.
//! - `schema`: requests, responses, problems and the OpenAPI document.
//! - `status`: the status of the service over time.
//! - `state`, `rate_limits`: shared state and rate limits.

mod console;
mod listener;
mod middleware;
mod periodic;
mod rate_limits;
mod router;
mod routes;
mod schema;
mod server;
mod state;
mod status;
mod tls;
mod tls_message;
mod tls_validity;

#[cfg(test)]
mod tests;

pub use rate_limits::RateLimitSettings;
pub use schema::problem::Problem;
pub use server::{HttpServers, ListenAddresses, ServerError, ServerOptions};
pub use tls::{TlsError, TlsFiles};
pub use tls_message::describe_tls_error;
