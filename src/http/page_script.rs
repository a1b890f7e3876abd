//! Scripts for web pages: minified once, and served with an `ETag`.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse};

/// A minified script.
pub(in crate::http) struct PageScript {
    text: String,
    /// The value of the `ETag` header, derived from the text.
    tag: String,
}

impl PageScript {
    /// Minifies a script. Its local names in `local_names`, separated by spaces, get a name of one
    /// letter. Such a name is never also the name of a property in short notation, such as `{ item }`,
    /// and never part of a template literal.
    pub(in crate::http) fn new(source: &str, local_names: &str) -> Self {
        let text = minify(source, local_names);
        let tag = format!("\"{:08x}\"", crc32fast::hash(text.as_bytes()));
        Self { text, tag }
    }

    /// The script, or 304 if the client has it already.
    pub(in crate::http) fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let known = request.headers().get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
        let is_cached = known.is_some_and(|tag| tag.contains(&self.tag));
        let mut response = if is_cached { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        // Browsers keep the script for an hour at most. After an update of the daemon, pages therefore
        // get the new script within an hour.
        response.insert_header((CACHE_CONTROL, "public, max-age=3600")).insert_header((ETAG, self.tag.as_str()));
        if is_cached {
            return response.finish();
        }
        response.insert_header((CONTENT_TYPE, "text/javascript; charset=utf-8")).body(self.text.clone())
    }
}

/// The short name of a local name; `None` for any other word. The scripts themselves use `a`, `b` and
/// `c`, and `q` in a text.
fn short_name(word: &str, local_names: &str) -> Option<char> {
    let position = local_names.split_whitespace().position(|name| name == word)?;
    ('d'..='z').chain('A'..='Z').filter(|letter| *letter != 'q').nth(position)
}

/// Removes comment lines and spaces from a script, and shortens its local names.
fn minify(source: &str, local_names: &str) -> String {
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
        match (token, short_name(token, local_names)) {
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

#[cfg(test)]
impl PageScript {
    /// The minified text.
    pub(in crate::http) fn text(&self) -> &str {
        &self.text
    }

    /// Checks that each local name occurs in the script, and that its short name does not.
    pub(in crate::http) fn check_local_names(source: &str, local_names: &str) {
        let words: Vec<_> = source
            .lines()
            .filter(|line| !line.trim().starts_with("//"))
            .flat_map(|line| line.split(|letter| !is_word(letter)))
            .collect();
        for name in local_names.split_whitespace() {
            let short = short_name(name, local_names).unwrap().to_string();
            assert!(words.contains(&name) && !words.contains(&short.as_str()), "{name}, {short}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minifying_keeps_texts_and_properties() {
        let source =
            "// A comment.\nconst queue = [\"a queue\", doc.queue, ...queue];\n  if (count > 1) {\n    return;\n  }\n";
        let names = "queue doc count";
        let expected = "const d=[\"a queue\",e.queue,...d];if(f>1){return;}\n";
        assert_eq!(minify(source, names), expected);
    }
}
