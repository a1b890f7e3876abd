//! The door: requests in, answers out. The only place that knows a status code.

mod problem;

pub use problem::Problem;
