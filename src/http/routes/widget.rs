//! The widget: a script that shows lists of recommended items in a web page.

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::http::page_script::PageScript;
use crate::http::schema::responses::UnavailableResponse;

/// The source of the script, with comments.
const SCRIPT_SOURCE: &str = include_str!("widget.js");

/// The minified script.
pub(in crate::http) struct WidgetScript(PageScript);

/// Makes the minified script available to [`get_widget_script`].
pub(in crate::http) fn provide_widget(config: &mut ServiceConfig) {
    config.app_data(Data::new(WidgetScript(PageScript::new(SCRIPT_SOURCE, ""))));
}

/// Get the widget for web pages
///
/// The script shows lists of recommended items in a page.
#[utoipa::path(get, path = "/v1/widget.js", operation_id = "widget", tag = "recommendations",
    responses((status = 200, description = "The script.", body = String, content_type = "text/javascript"), (status = 304, description = "The script is unchanged."), UnavailableResponse))]
pub(in crate::http) async fn get_widget_script(script: Data<WidgetScript>, request: HttpRequest) -> HttpResponse {
    script.0.respond(&request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    /// Largest size of the compressed script, in bytes.
    const MAX_GZIP_BYTES: usize = 6 * 1024;

    #[test]
    fn script_is_small() {
        let script = PageScript::new(SCRIPT_SOURCE, "");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(script.text().as_bytes()).unwrap();
        let size = gzip.finish().unwrap().len();
        assert!(size <= MAX_GZIP_BYTES, "{size} bytes");
        assert!(!script.text().contains("//"), "a comment after code would be served");
    }

    #[test]
    fn script_needs_no_unsafe_policy() {
        for banned in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            ".style.",
            "cssText",
        ] {
            assert!(!SCRIPT_SOURCE.contains(banned), "{banned}");
        }
    }
}
