//! Reports about what recommendations earn.

use actix_web::http::header::ACCEPT;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};

use crate::domain::Offset;
use crate::http::listener::ClientWatch;
use crate::http::schema::attribution_body::{AttributionReportBody, report_csv};
use crate::http::schema::attribution_query::{AttributionQuery, ReportFormat};
use crate::http::schema::problem::{Problem, RETRY_DELAY};
use crate::http::schema::query_pairs::QueryPairs;
use crate::http::schema::responses::{BadRequestResponse, UnavailableResponse};
use crate::http::state::ApiState;
use crate::reports::AttributionReport;
use crate::services::reports::{AttributionRequest, ReportService};

/// Report what recommendations earn
///
/// Computes impressions, clicks, conversions and revenue by group from the journal. The request
/// reads the whole journal. At most two reports are computed at one time; a further request gets
/// 503. With `Accept: text/csv`, the response is CSV: a header, a line for each group and a line
/// for the total.
#[utoipa::path(get, path = "/v1/reports/attribution", operation_id = "attribution", tag = "reports", params(AttributionQuery),
    responses((status = 200, description = "The report.", content((AttributionReportBody = "application/json"), (String = "text/csv"))), BadRequestResponse, UnavailableResponse))]
pub(in crate::http) async fn get_attribution(
    api: Data<ApiState>,
    request: HttpRequest,
    pairs: QueryPairs,
) -> Result<HttpResponse, Problem> {
    let query = AttributionQuery::from_pairs(&pairs, api.system.recommender.kinds())?;
    let report_request = query.to_request(vec![query.group_by()]);
    let (report, offset) = compute_attribution(&api, &report_request, &ClientWatch::begin(&request)).await?;
    Ok(match query.format.unwrap_or_else(|| accepted_format(&request)) {
        ReportFormat::Json => HttpResponse::Ok().json(AttributionReportBody::new(&report_request, report, offset)),
        ReportFormat::Csv => HttpResponse::Ok().content_type("text/csv; charset=utf-8").body(report_csv(&report)),
    })
}

/// The format that the header `Accept` names first.
fn accepted_format(request: &HttpRequest) -> ReportFormat {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let types = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    let format = |media_type: &str| match media_type {
        "text/csv" => Some(ReportFormat::Csv),
        "application/json" => Some(ReportFormat::Json),
        _ => None,
    };
    types.filter_map(format).next().unwrap_or(ReportFormat::Json)
}

/// Computes a report on a thread for blocking work. Returns it with the offset after its last
/// entry. If the client closes its connection, the computation ends.
///
/// # Errors
/// 503 if there is no capacity for a further report, or the journal cannot be read.
pub(in crate::http) async fn compute_attribution(
    api: &ApiState,
    request: &AttributionRequest,
    client: &ClientWatch,
) -> Result<(AttributionReport, Offset), Problem> {
    let run = api.reports.begin_attribution(request);
    let mut run = run.map_err(|_| Problem::too_many_reports(ReportService::MAX_REPORTS, RETRY_DELAY))?;
    loop {
        let read = move || {
            let has_more = run.read_next();
            (run, has_more)
        };
        let (advanced, has_more) = web::block(read).await.map_err(|_| Problem::internal())?;
        let has_more = has_more.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a report cannot read the journal");
            Problem::internal()
        })?;
        if !has_more {
            return Ok(advanced.into_report());
        }
        if client.has_left() {
            return Err(Problem::conflict("The client closed the connection before the report was complete."));
        }
        run = advanced;
    }
}
