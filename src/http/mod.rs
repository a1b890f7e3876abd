//! The public API and the admin endpoint: the only place that knows a status code.

mod admin;
mod api;
mod beacon;
mod consents;
mod console;
mod events;
mod items;
mod lines;
mod lists;
mod lock;
mod merges;
mod openapi;
mod pages;
mod problem;
mod pulse;
mod request_id;
mod segment;
mod server;
mod stream;
mod users;
mod watch;
mod wishes;

pub use problem::Problem;
pub use server::{Addresses, Door, DoorError, DoorSettings};
