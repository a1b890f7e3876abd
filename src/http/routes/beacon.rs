//! The beacon: a script with which a web page sends its visitors' events.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::http::schema::responses::UnavailableResponse;

/// The source of the script, with comments.
const SCRIPT_SOURCE: &str = include_str!("capture.js");

/// The minified script.
pub(in crate::http) struct BeaconScript {
    text: String,
    /// The value of the `ETag` header, derived from the text.
    tag: String,
}

/// Makes the minified script available to [`get_beacon_script`].
pub(in crate::http) fn provide_script(config: &mut ServiceConfig) {
    let text = minify(SCRIPT_SOURCE);
    let tag = format!("\"{:08x}\"", crc32fast::hash(text.as_bytes()));
    config.app_data(Data::new(BeaconScript { text, tag }));
}

/// Removes comment lines and indentation from a script.
fn minify(source: &str) -> String {
    let lines = source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Get the script for web pages
///
/// The script sends the events of a page's visitors.
#[utoipa::path(get, path = "/v1/capture.js", operation_id = "script", tag = "events",
    responses((status = 200, description = "The script.", body = String, content_type = "text/javascript"), (status = 304, description = "The script is unchanged."), UnavailableResponse))]
pub(in crate::http) async fn get_beacon_script(script: Data<BeaconScript>, request: HttpRequest) -> HttpResponse {
    let is_cached = request
        .headers()
        .get(IF_NONE_MATCH)
        .and_then(|tag| tag.to_str().ok())
        .is_some_and(|tag| tag.contains(&script.tag));
    let mut response = if is_cached { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    // Browsers keep the script for an hour at most. After an update of the daemon, pages therefore
    // get the new script within an hour.
    response.insert_header((CACHE_CONTROL, "public, max-age=3600")).insert_header((ETAG, script.tag.as_str()));
    if is_cached {
        return response.finish();
    }
    response.insert_header((CONTENT_TYPE, "text/javascript; charset=utf-8")).body(script.text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_is_small() {
        let minified = minify(SCRIPT_SOURCE);
        assert!(minified.len() < 2560, "{} bytes", minified.len());
        assert!(!minified.contains("//"), "a comment after code would be served");
    }
}
