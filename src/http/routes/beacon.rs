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

/// The local names of the script that get a name of one letter. A name is never also the name of a
/// property in short notation, such as `{ item }`, and never part of a template literal.
const LOCAL_NAMES: &str = "act again before body byte changes count doc element event field flush idle json list listOf \
                           marked nav observer post queue random renew send shown storage timer timers values view viewed \
                           watch win";

/// The short name of a local name; `None` for any other word. The script itself uses `a`, `b` and
/// `c`, and `q` in a text.
fn short_name(word: &str) -> Option<char> {
    let position = LOCAL_NAMES.split_whitespace().position(|name| name == word)?;
    ('d'..='z').chain('A'..='Z').filter(|letter| *letter != 'q').nth(position)
}

/// Removes comment lines and spaces from a script, and shortens its local names.
fn minify(source: &str) -> String {
    let lines = source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let mut minified = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            // A text stays as it is.
            '"' | '`' => {
                rest.char_indices().skip(1).find(|(_, letter)| *letter == first).map_or(rest.len(), |(at, _)| at + 1)
            }
            letter if is_word(letter) => rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()),
            letter => letter.len_utf8(),
        };
        let (token, tail) = rest.split_at(length);
        let previous = minified.chars().next_back();
        let is_property = minified.ends_with('.') && !minified.ends_with("..");
        match (token, short_name(token)) {
            (" ", _) if previous.is_some_and(is_operator) || tail.starts_with(is_operator) => {}
            ("\n", _) if previous.is_some_and(|letter| "{;,([".contains(letter)) => {}
            (_, Some(short)) if !is_property => minified.push(short),
            _ => minified.push_str(token),
        }
        rest = tail;
    }
    minified
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn is_operator(letter: char) -> bool {
    "=(){}[],;:?&|<>!+*".contains(letter)
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

    #[test]
    fn minifying_keeps_texts_and_properties() {
        let source =
            "// A comment.\nconst queue = [\"a queue\", doc.queue, ...queue];\n  if (count > 1) {\n    return;\n  }\n";
        let (queue, doc, count) =
            (short_name("queue").unwrap(), short_name("doc").unwrap(), short_name("count").unwrap());
        let expected = format!("const {queue}=[\"a queue\",{doc}.queue,...{queue}];if({count}>1){{return;}}\n");
        assert_eq!(minify(source), expected);
    }

    #[test]
    fn short_names_are_unused() {
        let words: Vec<_> = SCRIPT_SOURCE
            .lines()
            .filter(|line| !line.trim().starts_with("//"))
            .flat_map(|line| line.split(|letter| !is_word(letter)))
            .collect();
        for name in LOCAL_NAMES.split_whitespace() {
            let short = short_name(name).unwrap().to_string();
            assert!(words.contains(&name) && !words.contains(&short.as_str()), "{name}, {short}");
        }
    }
}
