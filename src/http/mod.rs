//! The public API and the admin endpoint. Only this layer uses HTTP status codes.
//!
//! Terms:
//!
//! - **Problem**: an error response in the format of RFC 9457.
//! - **Receipt**: the response to a request that sends events or item changes. It says how many of
//!   them were stored.
//! - **Scope**: a right that an API key grants, such as `read`.
//! - **User token**: a token that is signed with an API key. It only grants reading the
//!   recommendations of one user.
//! - **Head** of a request: its request line and its headers.
//!
//! Imports point down this list.
//!
//! - `server`: opens both servers, with the help of `listener`, `tls` and `periodic`.
//! - `local_recommendations`: recommendations without servers.
//! - `router`: the route table.
//! - `routes`, `console`: handlers of the API, of the admin endpoint and of the admin pages.
//! - `middleware`: authorization, checks, metrics and traces.
//! - `schema`: requests, responses, problems and the OpenAPI document.
//! - `status`: the status of the service over time.
//! - `suspicious_senders`: reports API keys with many events that the learner holds back.
//! - `state`, `origins`, `rate_limits`, `page_script`: shared state, origins of events, rate limits, and
//!   scripts for web pages.

mod console;
mod listener;
mod local_recommendations;
mod middleware;
mod origins;
mod page_script;
mod periodic;
mod rate_limits;
mod router;
mod routes;
mod schema;
mod server;
mod state;
mod status;
mod suspicious_senders;
mod tls;
mod tls_message;
mod tls_validity;

#[cfg(test)]
mod tests;

pub use local_recommendations::LocalRecommendations;
pub use origins::OriginRecorder;
pub use rate_limits::RateLimitSettings;
pub use schema::problem::Problem;
pub use server::{HttpServers, ListenAddresses, ServerError, ServerOptions};
pub use tls::{TlsError, TlsFiles};
pub use tls_message::describe_tls_error;
