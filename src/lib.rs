//! Sequor: a real-time recommender daemon.
pub mod capture;
pub mod domain;
pub mod settings;
