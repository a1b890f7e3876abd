//! The receipt of an ingestion request.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{Offset, Recommendation};
use crate::http::schema::domain_schemas::{RecommendationSchema, ValidationErrorSchema};
use crate::ingest::ValidationError;
use crate::services::ingest::IngestOutcome;

/// The outcome of the records in a request, such as events or item changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Receipt)]
pub(in crate::http) struct IngestReceipt {
    /// The number of records that are now stored durably.
    accepted: usize,
    /// The number of duplicate records, which have no effect, such as events whose id was seen
    /// before.
    duplicates: usize,
    /// The number of records that were not stored, because the users have not given their consent.
    withheld: usize,
    /// The invalid records, each with its error.
    #[schema(value_type = Vec<ValidationErrorSchema>)]
    rejected: Vec<ValidationError>,
    /// Probable mistakes in stored records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<ValidationErrorSchema>)]
    warnings: Vec<ValidationError>,
    /// The journal's next offset after these records; `null` if nothing was stored.
    #[schema(value_type = Option<u64>)]
    offset: Option<Offset>,
    /// The requested recommendations; `null` if they could not be computed. The records are stored
    /// in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RecommendationSchema>)]
    pub(in crate::http) recommendations: Option<Option<Recommendation>>,
}

impl IngestReceipt {
    pub(in crate::http) fn new(
        outcome: IngestOutcome,
        rejected: Vec<ValidationError>,
        warnings: Vec<ValidationError>,
    ) -> Self {
        let IngestOutcome { accepted, duplicates, withheld, offset, .. } = outcome;
        Self { accepted, duplicates, withheld, rejected, warnings, offset, recommendations: None }
    }

    /// Whether the request contained a valid record.
    pub(in crate::http) fn is_success(&self) -> bool {
        self.offset.is_some() || self.withheld > 0
    }

    pub(in crate::http) fn into_response(self) -> HttpResponse {
        let status = if self.is_success() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        HttpResponse::build(status).json(self)
    }
}
