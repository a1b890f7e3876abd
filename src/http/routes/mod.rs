//! Handlers. A handler parses a request, calls one service and responds.
//!
//! Handlers do not import each other or the route table in [`crate::http::router`].

pub(in crate::http) mod admin;
pub(in crate::http) mod beacon;
pub(in crate::http) mod consents;
pub(in crate::http) mod events;
pub(in crate::http) mod impressions;
pub(in crate::http) mod items;
mod journal_export;
mod learned_user;
pub(in crate::http) mod merges;
pub(in crate::http) mod openapi;
pub(in crate::http) mod placements;
pub(in crate::http) mod predictions;
pub(in crate::http) mod rankings;
pub(in crate::http) mod recommendations;
pub(in crate::http) mod reports;
pub(in crate::http) mod rules;
pub(in crate::http) mod segment;
pub(in crate::http) mod stream;
pub(in crate::http) mod users;
pub(in crate::http) mod widget;
