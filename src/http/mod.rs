//! The public API and the admin endpoint: the only place that knows a status code.

mod admin;
mod api;
mod beacon;
mod chores;
mod consents;
mod console;
mod events;
mod host;
mod items;
mod limits;
mod lines;
mod lists;
mod lock;
mod merges;
mod openapi;
mod pages;
mod plain;
mod problem;
mod pulse;
mod request_id;
mod segment;
mod server;
mod slow;
mod stream;
mod tls;
mod traced;
mod users;
mod watch;
mod wishes;

#[cfg(test)]
mod tests;

pub use limits::RateLimitSettings;
pub use problem::Problem;
pub use server::{HttpServers, ListenAddresses, ServerError, ServerOptions};
pub use tls::{TlsError, TlsFiles};
