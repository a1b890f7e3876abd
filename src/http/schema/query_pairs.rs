//! The name-value pairs of a URL query.

use actix_web::dev::Payload;
use actix_web::web::Query;
use actix_web::{Error, FromRequest, HttpRequest};
use std::future::{Ready, ready};
use std::ops::Deref;

use crate::http::schema::problem::Problem;

/// Parameters that can occur several times: their values are lists, which are joined.
const LISTS: [&str; 3] = ["exclude", "exclude_events", "items"];

/// More names than any request has. A query with more of them has an unknown one.
const MAX_NAMES: usize = 64;

/// The name-value pairs of a URL query, in its order. Apart from lists, no name occurs twice: which
/// value counts would differ between servers, and a second `consent` could override a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct QueryPairs(Vec<(String, String)>);

impl QueryPairs {
    /// Parses the part of a URL after the question mark.
    ///
    /// # Errors
    /// 400 if it cannot be parsed, or a name occurs twice.
    fn parse(query: &str) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|_| Problem::invalid_parameter("query", "The query must be a list of parameters."))?
            .into_inner();
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in pairs.iter().filter(|(name, _)| !LISTS.contains(&name.as_str())) {
            if names.contains(&name.as_str()) {
                return Err(repeated_parameter(name));
            }
            if names.len() < MAX_NAMES {
                names.push(name);
            }
        }
        Ok(Self(pairs))
    }
}

/// 400: a parameter occurs twice.
pub(in crate::http) fn repeated_parameter(name: &str) -> Problem {
    let name: String = name.chars().filter(|character| !character.is_control()).take(40).collect();
    Problem::invalid_parameter(&name, format!("`{name}` occurs twice; send it once."))
}

impl Deref for QueryPairs {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromRequest for QueryPairs {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::parse(request.query_string()).map_err(Error::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_can_occur_twice() {
        let pairs = QueryPairs::parse("exclude=a&limit=5&exclude=b%2Cc&items=x&items=y").unwrap();
        assert_eq!(pairs.len(), 5);
        for query in ["limit=5&limit=6", "consent=none&exclude=a&consent=full", "explain=true&explain=true"] {
            let problem = QueryPairs::parse(query).unwrap_err();
            let name = query.split('=').next().unwrap();
            assert!(problem.to_string().contains(&format!("`{name}` occurs twice")), "{problem}");
        }
        let many: Vec<_> = (0..100_000).map(|number| format!("{number}=1")).collect();
        assert_eq!(QueryPairs::parse(&many.join("&")).unwrap().len(), many.len());
    }
}
