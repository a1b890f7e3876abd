//! Sequor: a real-time recommender daemon.
pub mod actors;
pub mod auth;
pub mod candidates;
pub mod cli;
pub mod clock;
pub mod domain;
pub mod evaluation;
pub mod http;
pub mod ingest;
pub mod learner;
pub mod metrics;
pub mod nn;
pub mod ranking;
pub mod settings;
pub mod simulation;
pub mod store;
pub mod telemetry;
