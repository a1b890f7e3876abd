//! Handlers of the admin endpoint, which observes and controls the service.

pub(in crate::http) mod candidates;
pub(in crate::http) mod cluster;
pub(in crate::http) mod features;
pub(in crate::http) mod items;
pub(in crate::http) mod keys;
pub(in crate::http) mod model;
pub(in crate::http) mod probes;
pub(in crate::http) mod purge;
mod query;
pub(in crate::http) mod rule_preview;
pub(in crate::http) mod sessions;
pub(in crate::http) mod settings;
pub(in crate::http) mod status;
pub(in crate::http) mod store;
