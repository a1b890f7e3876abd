//! Requests and responses as they appear on the wire, and their OpenAPI description.
//!
//! - [`problem`]: RFC 9457 problems; [`problem_type`]: the table of their types.
//! - [`error_mapping`]: errors of lower layers as problems.
//! - [`query`]: the parameters of a recommendation; [`exclusion_parameters`]: those that exclude items;
//!   [`request_digest`]: their digest; [`consent`]: consent levels.
//! - [`placement_body`], [`rule_body`]: placements and rules; [`change_receipt`]: the receipt of their
//!   changes.
//! - [`quoted`]: texts of requests in messages.
//! - [`attribution_query`], [`attribution_body`]: reports.
//! - [`receipt`]: the receipt of an ingestion request.
//! - [`responses`]: bodies and error responses for the document.
//! - [`domain_schemas`]: the schemas of domain types in responses.
//! - [`openapi`], [`security`]: the OpenAPI document.

pub(in crate::http) mod attribution_body;
pub(in crate::http) mod attribution_query;
pub(in crate::http) mod change_receipt;
pub(in crate::http) mod consent;
pub(in crate::http) mod domain_schemas;
pub(in crate::http) mod error_mapping;
pub(in crate::http) mod exclusion_parameters;
pub(in crate::http) mod openapi;
pub(in crate::http) mod placement_body;
pub(in crate::http) mod problem;
mod problem_type;
pub(in crate::http) mod query;
pub(in crate::http) mod query_pairs;
pub(in crate::http) mod quoted;
pub(in crate::http) mod receipt;
pub(in crate::http) mod request_digest;
pub(in crate::http) mod responses;
pub(in crate::http) mod rule_body;
mod security;
