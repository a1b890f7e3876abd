//! Sequor: a real-time recommender daemon.
pub mod domain;
pub mod ranking;
pub mod recall;
