#![doc = include_str!("../README.md")]

mod batches;
mod buffer;
mod calls;
mod catalog;
mod client;
mod client_options;
mod connection;
mod environment;
mod error;
mod event;
mod json;
mod lists;
mod options;
mod receipts;
mod retry;
mod setters;
mod stream;

pub use buffer::{BufferOptions, BufferStats, OnLost, WhenFull};
pub use catalog::{Item, ItemChange, ItemOperation};
pub use client::SequorClient;
pub use client_options::ClientOptions;
pub use connection::{
    Connection, ConnectionError, ConnectionOptions, HttpRequest, HttpResponse, Method, StatusCode, TrustedCertificates,
};
pub use environment::{Environment, random_fraction};
pub use error::{Problem, SequorError};
pub use event::{Consent, Event, Timestamp};
pub use lists::{ItemList, ListItem, RankedItem, RankedList, Recommendations, RecommendedItem};
pub use options::{
    ImpressionLimitAction, ImpressionOptions, ListOptions, RankOptions, SimilarOptions, TrendingOptions,
};
pub use receipts::{After, ChangeReceipt, ImpressionReceipt, Receipt, Rejection};
pub use retry::RetryPolicy;
