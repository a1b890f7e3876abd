//! The script that a page includes to tell what its visitors do.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::http::schema::responses::UnavailableResponse;

/// The script as it is read, with its comments.
const SOURCE: &str = include_str!("capture.js");

/// The script as it is served.
pub(in crate::http) struct BeaconScript {
    text: String,
    /// Another for every other text.
    tag: String,
}

/// Registers the script for [`get_beacon_script`].
pub(in crate::http) fn provide_script(config: &mut ServiceConfig) {
    let text = served(SOURCE);
    let tag = format!("\"{:08x}\"", crc32fast::hash(text.as_bytes()));
    config.app_data(Data::new(BeaconScript { text, tag }));
}

/// A script without what only its readers need: its lines that are comments, and what they are
/// indented by.
fn served(source: &str) -> String {
    let lines = source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The script for web pages
///
/// It tells what a page's visitors do.
#[utoipa::path(get, path = "/v1/capture.js", operation_id = "script", tag = "events",
    responses((status = 200, description = "The script.", body = String, content_type = "text/javascript"), (status = 304, description = "It is as it was."), UnavailableResponse))]
pub(in crate::http) async fn get_beacon_script(script: Data<BeaconScript>, request: HttpRequest) -> HttpResponse {
    let known = request.headers().get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok()).is_some_and(|tag| tag.contains(&script.tag));
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    // A page asks again after an hour at most, so that a new version of the daemon brings a new
    // script.
    answer.insert_header((CACHE_CONTROL, "public, max-age=3600")).insert_header((ETAG, script.tag.as_str()));
    if known {
        return answer.finish();
    }
    answer.insert_header((CONTENT_TYPE, "text/javascript; charset=utf-8")).body(script.text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_small() {
        let served = served(SOURCE);
        assert!(served.len() < 2048, "{} bytes", served.len());
        assert!(!served.contains("//"), "a comment behind code would be served");
    }
}
