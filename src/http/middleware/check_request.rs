//! Checks of the URL and of the content encoding.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::CONTENT_ENCODING;
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError};
use percent_encoding::percent_decode_str;

use crate::http::schema::problem::Problem;

/// The supported content encodings.
const SUPPORTED_ENCODINGS: [&str; 4] = ["gzip", "deflate", "zstd", "identity"];

/// The longest accepted URL, in bytes. The limit is below that of the HTTP library, which rejects a
/// URL of more than 64 KiB with an empty 400 response.
const MAX_URL_BYTES: usize = 60 * 1024;

/// Whether a part of a URL is percent-encoded UTF-8. Two hexadecimal digits must follow every
/// percent sign, and the decoded part must be UTF-8.
fn is_well_formed(part: &str) -> bool {
    let digits = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    part.split('%').skip(1).all(digits) && percent_decode_str(part).decode_utf8().is_ok()
}

/// Refuses a URL that is too long or not well-formed, and a body in an unknown encoding. The
/// framework would read a body in an unknown encoding as if it were not encoded.
///
/// # Errors
/// If `next` returns an error.
pub(in crate::http) async fn check_request(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if request.uri().path_and_query().is_some_and(|address| address.as_str().len() > MAX_URL_BYTES) {
        let refusal = Problem::address_too_long(MAX_URL_BYTES).error_response();
        return Ok(request.into_response(refusal).map_into_right_body());
    }
    let parts = [("path", request.uri().path()), ("query", request.uri().query().unwrap_or_default())];
    let malformed = parts.into_iter().find(|(_, text)| !is_well_formed(text)).map(|(part, _)| part);
    if let Some(part) = malformed {
        let detail = format!("The {part} of the URL is not percent-encoded UTF-8.");
        let refusal = Problem::invalid_parameter(part, detail).error_response();
        return Ok(request.into_response(refusal).map_into_right_body());
    }
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING) {
        let name = encoding.to_str().unwrap_or_default().trim();
        if !SUPPORTED_ENCODINGS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let refusal = Problem::unsupported_media_type(SUPPORTED_ENCODINGS.join(", ")).error_response();
            return Ok(request.into_response(refusal).map_into_right_body());
        }
    }
    Ok(next.call(request).await?.map_into_left_body())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_must_be_percent_encoded_utf_8() {
        for good in ["", "/v1/users/ann", "/%C3%BC", "a=%25&b=+"] {
            assert!(is_well_formed(good), "{good}");
        }
        for bad in ["%", "%2", "%zz", "%C3", "a=%ff", "100%"] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }
}
