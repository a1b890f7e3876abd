//! Sequor: a real-time recommender daemon.
pub mod actors;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod domain;
pub mod evaluation;
pub mod http;
pub mod keys;
pub mod learning;
pub mod metrics;
pub mod model;
pub mod ranking;
pub mod recall;
pub mod settings;
pub mod simulation;
pub mod store;
pub mod telemetry;
