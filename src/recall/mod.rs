//! The candidate sources.

mod clusters;

pub use clusters::{ClusterError, ClusterSettings, Clusters};
