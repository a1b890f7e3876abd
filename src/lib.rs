//! Sequor: a real-time recommender daemon.
pub mod domain;
pub mod model;
