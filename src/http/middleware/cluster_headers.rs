//! Headers of the answers of a node of a cluster.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;

use crate::http::state::ApiState;

/// The offset after the last journal entry that an answer can contain. It can be the `min_offset` of
/// a read from another node.
pub(in crate::http) const OFFSET_HEADER: HeaderName = HeaderName::from_static("x-sequor-offset");
/// Set if the node is cut off from its cluster, so that recent entries can be missing.
pub(in crate::http) const STALE_HEADER: HeaderName = HeaderName::from_static("x-sequor-stale");

/// Adds the headers to an answer of a node of a cluster. Answers of a single node have none.
///
/// # Errors
/// If `next` returns an error.
pub(in crate::http) async fn add_cluster_headers(
    api: Data<ApiState>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let mut response = next.call(request).await?;
    if let Some(cluster) = &api.system.cluster {
        let headers = response.headers_mut();
        headers.insert(OFFSET_HEADER, HeaderValue::from(api.system.recommender.delivered_offset()));
        if cluster.is_cut_off() || cluster.write_problem().is_some() {
            headers.insert(STALE_HEADER, HeaderValue::from_static("true"));
        }
    }
    Ok(response)
}
