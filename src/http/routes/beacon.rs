//! The beacon: a script with which a web page sends its visitors' events.

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::http::page_script::PageScript;
use crate::http::schema::responses::UnavailableResponse;

/// The source of the script, with comments.
const SCRIPT_SOURCE: &str = include_str!("capture.js");

/// The local names of the script that get a name of one letter.
const LOCAL_NAMES: &str = "act again before body byte changes count doc element event field flush idle json list \
                           listOf marked me name nav observer on post queue random renew send shown storage timer \
                           timers values view viewed watch win";

/// The minified script.
pub(in crate::http) struct BeaconScript(PageScript);

/// Makes the minified script available to [`get_beacon_script`].
pub(in crate::http) fn provide_script(config: &mut ServiceConfig) {
    config.app_data(Data::new(BeaconScript(PageScript::new(SCRIPT_SOURCE, LOCAL_NAMES))));
}

/// Get the script for web pages
///
/// The script sends the events of a page's visitors.
#[utoipa::path(get, path = "/v1/capture.js", operation_id = "script", tag = "events",
    responses((status = 200, description = "The script.", body = String, content_type = "text/javascript"), (status = 304, description = "The script is unchanged."), UnavailableResponse))]
pub(in crate::http) async fn get_beacon_script(script: Data<BeaconScript>, request: HttpRequest) -> HttpResponse {
    script.0.respond(&request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_is_small() {
        let script = PageScript::new(SCRIPT_SOURCE, LOCAL_NAMES);
        assert!(script.text().len() < 2560, "{} bytes", script.text().len());
        assert!(!script.text().contains("//"), "a comment after code would be served");
    }

    #[test]
    fn short_names_are_unused() {
        PageScript::check_local_names(SCRIPT_SOURCE, LOCAL_NAMES);
    }
}
