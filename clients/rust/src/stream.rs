//! Lists that arrive one after the other: pages of a list, and live updates.

use std::io::{BufReader, Read};

use crate::calls::{Call, Caller, Failure};
use crate::connection::{ConnectionError, Method, parse_json, read_line};
use crate::error::SequorError;
use crate::lists::Recommendations;

/// The pages of one list; see [`recommendation_pages`](crate::SequorClient::recommendation_pages).
#[derive(Debug)]
pub struct RecommendationPages<'c> {
    caller: &'c Caller,
    /// The path of all pages, without the query.
    path: String,
    page_size: u32,
    /// The request of the next page. `None` after the last page or an error.
    next: Option<Call>,
    /// The id of the first page.
    first_id: Option<String>,
    offset: usize,
}

impl<'c> RecommendationPages<'c> {
    pub(crate) fn new(caller: &'c Caller, page_size: u32, first: Call) -> Self {
        let path = first.path.split('?').next().unwrap_or_default().to_owned();
        Self { caller, path, page_size, next: Some(first), first_id: None, offset: 0 }
    }

    /// The request of the page after `page`. It keeps the other parameters of the first page.
    fn page_after(&mut self, page: &Recommendations) -> Call {
        self.offset += page.items.len();
        let first_id = self.first_id.get_or_insert_with(|| page.recommendation_id.clone());
        let (offset, limit) = (self.offset.to_string(), self.page_size.to_string());
        Call::to_path(Method::GET, self.path.clone()).with_query(&[
            ("recommendation_id", first_id.as_str()),
            ("offset", &offset),
            ("limit", &limit),
        ])
    }
}

impl Iterator for RecommendationPages<'_> {
    type Item = Result<Recommendations, SequorError>;

    fn next(&mut self) -> Option<Self::Item> {
        let call = self.next.take()?;
        match self.caller.call::<Recommendations>(&call) {
            Ok(page) if page.items.is_empty() => None,
            Ok(page) => {
                self.next = Some(self.page_after(&page));
                Some(Ok(page))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Live updates of a list; see
/// [`stream_recommendations`](crate::SequorClient::stream_recommendations).
pub struct RecommendationStream<'c> {
    caller: &'c Caller,
    call: Call,
    response: Option<BufReader<Box<dyn Read + Send>>>,
    /// Number of failures in a row.
    failures: u32,
    is_over: bool,
}

impl std::fmt::Debug for RecommendationStream<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RecommendationStream").field("path", &self.call.path).finish_non_exhaustive()
    }
}

impl<'c> RecommendationStream<'c> {
    pub(crate) fn new(caller: &'c Caller, call: Call) -> Self {
        Self { caller, call, response: None, failures: 0, is_over: false }
    }

    /// Reads the next list. Connects first, if there is no connection.
    fn read_list(&mut self) -> Result<Recommendations, Failure> {
        let lost = |error: ConnectionError| Failure::of_connection(error, true);
        let mut stream = match self.response.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let (mut offset, mut data) = (None, None);
        loop {
            let line = read_line(&mut stream).map_err(|error| lost(error.into()))?;
            let line = line.ok_or_else(|| lost(ConnectionError::STREAM_ENDED))?;
            match line.split_once(": ") {
                Some(("id", id)) => offset = id.parse().ok(),
                Some(("data", json)) => data = Some(json.to_owned()),
                _ if line.is_empty() => {
                    // A comment, which keeps the connection open, has no data.
                    if let Some(json) = data.take() {
                        let list: Recommendations = parse_json(&self.call.path, json.as_bytes())?;
                        self.response = Some(stream);
                        return Ok(Recommendations { offset, ..list });
                    }
                }
                _ => {}
            }
        }
    }

    fn connect(&self) -> Result<BufReader<Box<dyn Read + Send>>, Failure> {
        let lost = |error: ConnectionError| Failure::of_connection(error, true);
        let mut response = self.caller.connection.open_stream(&self.call.request()).map_err(lost)?;
        if response.status().is_success() {
            return Ok(BufReader::new(Box::new(response.into_reader())));
        }
        let body = response.bytes().map_err(lost)?;
        Err(self.caller.failure_of_response(&response, &body, true))
    }
}

impl Iterator for RecommendationStream<'_> {
    type Item = Result<Recommendations, SequorError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            let failure = match self.read_list() {
                Ok(list) => {
                    self.failures = 0;
                    return Some(Ok(list));
                }
                Err(failure) => failure,
            };
            self.failures = self.failures.saturating_add(1);
            match self.caller.delay_before_retry(&self.caller.retry, self.failures, failure) {
                Ok((delay, _)) => self.caller.environment.sleep(delay),
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
