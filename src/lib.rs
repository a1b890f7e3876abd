//! Sequor: a real-time recommender daemon.
pub mod capture;
pub mod clock;
pub mod domain;
pub mod http;
pub mod metrics;
pub mod settings;
