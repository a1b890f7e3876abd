//! The status of the service.
//!
//! - [`history`]: samples of the status since the start, and current rates.
//! - [`sampler`]: the task that takes a sample every second.
//! - [`service_status`]: the status and history as the admin endpoint returns them.
//! - [`readiness`]: the conditions under which the service is ready.

pub(in crate::http) mod history;
pub(in crate::http) mod latency_window;
pub(in crate::http) mod readiness;
pub(in crate::http) mod sampler;
pub(in crate::http) mod service_status;
