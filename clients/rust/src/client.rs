//! The client.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::batches::Records;
use crate::buffer::{BufferStats, EventBuffer};
use crate::calls::{Call, Caller};
use crate::catalog::{Item, ItemChange};
use crate::client_options::ClientOptions;
use crate::connection::{Connection, ConnectionOptions, Method};
use crate::environment::new_id;
use crate::error::SequorError;
use crate::event::{Event, check_context};
use crate::lists::{ItemList, ListItem, RankedList, Recommendations};
use crate::options::{ImpressionOptions, ListOptions, RankOptions, SimilarOptions, TrendingOptions, query_of_options};
use crate::receipts::{ChangeReceipt, ImpressionReceipt, Receipt};
use crate::retry::RetryPolicy;
use crate::stream::{RecommendationPages, RecommendationStream};

/// A client of one daemon. Threads can share it.
///
/// Dropping the client sends the tracked events, for at most `buffer.close_timeout`.
///
/// # Errors
/// Every call returns [`SequorError::Problem`] if the daemon refuses the request,
/// [`SequorError::NoResponse`] if there is no response, and [`SequorError::InvalidArgument`] if an
/// argument has no form in the request, such as a number that is not finite. (The macro `json!` and
/// `Value::from` make `null` of such a number, which the client cannot see.)
pub struct SequorClient {
    caller: Caller,
    buffer: EventBuffer,
}

impl std::fmt::Debug for SequorClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SequorClient").field("connection", &self.caller.connection).finish_non_exhaustive()
    }
}

impl SequorClient {
    /// A client of the daemon at `base_url`, such as `http://localhost:8080`. Connects at the first
    /// request.
    ///
    /// # Errors
    /// [`SequorError::InvalidArgument`] if the address, the key, `timeout` or an option of the buffer
    /// is invalid.
    pub fn new(base_url: &str, options: ClientOptions) -> Result<Self, SequorError> {
        let ClientOptions { key, trusted, timeout, retry, buffer, environment } = options;
        if timeout.is_zero() {
            return Err(SequorError::invalid("timeout is 0 s; it must be longer"));
        }
        let connection_options =
            ConnectionOptions { key, trusted, timeout: Some(timeout), ..ConnectionOptions::default() };
        let connection = Connection::new(base_url, &connection_options)?;
        let caller = Caller { connection, retry, environment };
        let sender = caller.clone();
        let send = move |events: &[Event], sleep: &dyn Fn(Duration) -> bool| send_tracked(&sender, events, sleep);
        Ok(Self { caller, buffer: EventBuffer::new(buffer, Box::new(send))? })
    }

    // Events

    /// Queues an event, which a thread sends in the background. Returns whether it was queued.
    ///
    /// An event without `timestamp` gets the present time.
    ///
    /// # Errors
    /// [`SequorError::InvalidArgument`] if `value` is not finite, or the context has `null`.
    /// [`SequorError::Closed`] after [`Self::close`].
    pub fn track(&self, mut event: Event) -> Result<bool, SequorError> {
        event.check("the event")?;
        event.timestamp.get_or_insert_with(|| (self.caller.environment.now)().into());
        self.buffer.add(event)
    }

    /// Waits until the events that were tracked so far are sent. Returns false after `timeout`.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.buffer.flush(timeout)
    }

    /// The numbers of tracked events.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        self.buffer.stats()
    }

    /// Sends the tracked events, for at most `buffer.close_timeout`. Reports the rest to `on_lost`.
    /// Other calls still work.
    pub fn close(&self) {
        self.buffer.close();
    }

    /// Sends events and returns after they are on disk. Sends several requests if there are many.
    ///
    /// The receipt lists invalid events in `rejected`. After an error, call again with the same
    /// events: events that are stored already do not count again.
    ///
    /// # Errors
    /// See [`SequorClient`]. Earlier requests of the call are stored.
    pub fn send_events(&self, events: &[Event]) -> Result<Receipt, SequorError> {
        send_events(events, &[], |call| self.caller.call(call))
    }

    /// Sends events like [`Self::send_events`]. The receipt has `limit` recommendations for the
    /// user of the last event.
    ///
    /// # Errors
    /// See [`SequorClient`]. Earlier requests of the call are stored.
    pub fn send_events_and_recommend(
        &self,
        events: &[Event],
        limit: u32,
        placement: Option<&str>,
    ) -> Result<Receipt, SequorError> {
        let mut query = vec![("recommend", limit.to_string())];
        query.extend(placement.map(|name| ("placement", name.to_owned())));
        send_events(events, &query, |call| self.caller.call(call))
    }

    // Lists

    /// Recommends items for a user. With `ListOptions::after`, the list includes the events of a
    /// receipt.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn recommendations(&self, user_id: &str, options: &ListOptions) -> Result<Recommendations, SequorError> {
        self.caller.call(&list_call(user_id, options)?)
    }

    /// The pages of one list. Requests a page when the caller asks for it.
    ///
    /// Each page has a `recommendation_id` of its own, which the events on its items name.
    ///
    /// # Errors
    /// See [`SequorClient`]. The pages end after an error.
    pub fn recommendation_pages(
        &self,
        user_id: &str,
        page_size: u32,
        options: &ListOptions,
    ) -> Result<RecommendationPages<'_>, SequorError> {
        let first = list_call(user_id, &options.clone().limit(page_size))?;
        Ok(RecommendationPages::new(&self.caller, page_size, first))
    }

    /// The list of a user, and a new list after each event of the user. Reconnects without end.
    ///
    /// # Errors
    /// See [`SequorClient`]. The stream ends if the daemon refuses the request, or after
    /// `retry.attempts` failures in a row.
    pub fn stream_recommendations(
        &self,
        user_id: &str,
        options: &ListOptions,
    ) -> Result<RecommendationStream<'_>, SequorError> {
        let call = Call::new(Method::GET, &["users", user_id, "recommendations", "stream"])?;
        Ok(RecommendationStream::new(&self.caller, call.with_query(&query_of_options(options)?)))
    }

    /// Recommends items for a session that the request describes, oldest item first. Stores
    /// nothing.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn recommendations_for_session(
        &self,
        items: &[impl AsRef<str>],
        options: &ListOptions,
    ) -> Result<Recommendations, SequorError> {
        check_context(&options.context)?;
        let items = items.iter().map(|item| item.as_ref().to_owned()).collect();
        let body = ListOptions { items, ..options.clone() };
        self.caller.call(&Call::new(Method::POST, &["recommendations"])?.with_json(&body)?)
    }

    /// Orders a list of the site for a user or a session.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn rank(
        &self,
        items: impl IntoIterator<Item = impl Into<ListItem>>,
        options: &RankOptions,
    ) -> Result<RankedList, SequorError> {
        #[derive(Serialize)]
        struct Features {
            relevance: f64,
        }
        #[derive(Serialize)]
        struct RankedItem {
            item_id: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            features: Option<Features>,
        }
        #[derive(Serialize)]
        struct RankBody<'o> {
            items: Vec<RankedItem>,
            #[serde(flatten)]
            options: &'o RankOptions,
        }
        check_context(&options.context)?;
        let listed = |ListItem { item_id, relevance, .. }: ListItem| RankedItem {
            item_id,
            features: relevance.map(|relevance| Features { relevance }),
        };
        let items = items.into_iter().map(|item| listed(item.into())).collect();
        let mut call = Call::new(Method::POST, &["rank"])?.with_json(&RankBody { items, options })?;
        // A logged list is an impression with a new id, so a second request records a second one.
        call.is_idempotent = options.log != Some(true);
        self.caller.call(&call)
    }

    /// Items that are similar to an item.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn similar_items(&self, item_id: &str, options: &SimilarOptions) -> Result<ItemList, SequorError> {
        let call = Call::new(Method::GET, &["items", item_id, "similar"])?;
        self.caller.call(&call.with_query(&query_of_options(options)?))
    }

    /// Trending items.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn trending_items(&self, options: &TrendingOptions) -> Result<ItemList, SequorError> {
        self.caller.call(&Call::new(Method::GET, &["trending"])?.with_query(&query_of_options(options)?))
    }

    /// Reports items that the site has shown to a user. A retry counts once.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn report_impression(
        &self,
        user_id: &str,
        items: impl IntoIterator<Item = impl Into<ListItem>>,
        options: &ImpressionOptions,
    ) -> Result<ImpressionReceipt, SequorError> {
        #[derive(Serialize)]
        struct ImpressionBody<'u> {
            user_id: &'u str,
            items: Vec<ListItem>,
            #[serde(flatten)]
            options: ImpressionOptions,
        }
        let mut options = options.clone();
        options.recommendation_id.get_or_insert_with(new_id);
        let body = ImpressionBody { user_id, items: items.into_iter().map(Into::into).collect(), options };
        self.caller.call(&Call::new(Method::POST, &["impressions"])?.with_json(&body)?)
    }

    // Catalog

    /// An item of the catalog.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn get_item(&self, item_id: &str) -> Result<Item, SequorError> {
        self.caller.call(&Call::new(Method::GET, &["items", item_id])?)
    }

    /// Describes an item by its attributes, such as `json!({ "price": 4.5 })`. Replaces an earlier
    /// description.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn put_item(&self, item_id: &str, attributes: &impl Serialize) -> Result<Receipt, SequorError> {
        self.caller.call(&Call::new(Method::PUT, &["items", item_id])?.with_json(attributes)?)
    }

    /// Changes the named attributes of an item. `null` removes an attribute.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn patch_item(&self, item_id: &str, attributes: &impl Serialize) -> Result<Receipt, SequorError> {
        self.caller.call(&Call::new(Method::PATCH, &["items", item_id])?.with_json(attributes)?)
    }

    /// Deletes an item. Deleting an unknown item has no effect, so a retry is safe.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn delete_item(&self, item_id: &str) -> Result<Receipt, SequorError> {
        self.change_items(&[ItemChange::delete(item_id)])
    }

    /// Puts, patches and deletes many items. Sends several requests if there are many.
    ///
    /// # Errors
    /// See [`SequorClient`]. Earlier requests of the call are stored.
    pub fn change_items(&self, changes: &[ItemChange]) -> Result<Receipt, SequorError> {
        send_records(&["items"], changes, &[], |call| self.caller.call(call))
    }

    // Users

    /// Sets attributes of a user. `null` removes an attribute; other attributes stay.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn update_user(&self, user_id: &str, attributes: &impl Serialize) -> Result<Receipt, SequorError> {
        let body = BTreeMap::from([("attributes", attributes)]);
        self.caller.call(&Call::new(Method::PATCH, &["users", user_id])?.with_json(&body)?)
    }

    /// Makes `from_id` another id of the user, such as at the login of a visitor.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn merge_users(&self, user_id: &str, from_id: &str) -> Result<Receipt, SequorError> {
        let call = Call::new(Method::POST, &["users", user_id, "merge"])?;
        self.caller.call(&call.with_json(&json!({ "from": from_id }))?)
    }

    // Placements

    /// All placements by name.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn list_placements(&self) -> Result<BTreeMap<String, Value>, SequorError> {
        #[derive(Deserialize)]
        struct Placements {
            placements: BTreeMap<String, Value>,
        }
        let response: Placements = self.caller.call(&Call::new(Method::GET, &["placements"])?)?;
        Ok(response.placements)
    }

    /// The configuration of a placement.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn get_placement(&self, name: &str) -> Result<Value, SequorError> {
        self.caller.call(&Call::new(Method::GET, &["placements", name])?)
    }

    /// Creates or replaces a placement.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn put_placement(&self, name: &str, config: &impl Serialize) -> Result<ChangeReceipt, SequorError> {
        self.caller.call(&Call::new(Method::PUT, &["placements", name])?.with_json(config)?)
    }

    /// Deletes a placement.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn delete_placement(&self, name: &str) -> Result<ChangeReceipt, SequorError> {
        self.caller.call(&Call::new(Method::DELETE, &["placements", name])?)
    }

    // Everything else

    /// Sends a request to any path, such as `/v1/rules/summer`, and returns the JSON of the
    /// response. The path is encoded already, and can have a query. A POST is not repeated after a
    /// lost response.
    ///
    /// # Errors
    /// See [`SequorClient`].
    pub fn request(&self, method: Method, path: &str, json: Option<&Value>) -> Result<Value, SequorError> {
        let is_idempotent = method != Method::POST;
        let mut call = Call { is_idempotent, ..Call::to_path(method, path.to_owned()) };
        if let Some(json) = json {
            call = call.with_json(json)?;
        }
        self.caller.call(&call)
    }
}

/// Sends a batch of the buffer, until the daemon has stored or refused it.
fn send_tracked(caller: &Caller, events: &[Event], wait: &dyn Fn(Duration) -> bool) -> Result<Receipt, SequorError> {
    let retry = RetryPolicy { attempts: None, max_retry_after: Duration::MAX, ..caller.retry };
    let sleep = |delay| match &caller.environment.sleep {
        Some(sleep) => {
            sleep(delay);
            wait(Duration::ZERO)
        }
        None => wait(delay),
    };
    send_events(events, &[], |call| caller.call_with(call, &retry, &sleep))
}

fn send_events(
    events: &[Event],
    query: &[(&str, String)],
    send: impl Fn(&Call) -> Result<Receipt, SequorError>,
) -> Result<Receipt, SequorError> {
    events.iter().enumerate().try_for_each(|(index, event)| event.check(&format!("event {index}")))?;
    send_records(&["events"], events, query, send)
}

/// Sends records in batches. Recommendations are for the last event, so only the last batch has the
/// query.
fn send_records(
    segments: &[&str],
    records: &[impl Serialize],
    query: &[(&str, String)],
    send: impl Fn(&Call) -> Result<Receipt, SequorError>,
) -> Result<Receipt, SequorError> {
    Records::encode(records)?.send(|body, is_last| {
        let call = Call { has_receipt_on_400: true, ..Call::new(Method::POST, segments)?.with_body(body) };
        send(&if is_last { call.with_query(query) } else { call })
    })
}

/// The request of a list for a user.
fn list_call(user_id: &str, options: &ListOptions) -> Result<Call, SequorError> {
    let call = Call::new(Method::GET, &["users", user_id, "recommendations"])?;
    Ok(call.with_query(&query_of_options(options)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client whose requests fail with `NoResponse`.
    fn client() -> SequorClient {
        let retry = RetryPolicy { attempts: Some(1), ..RetryPolicy::default() };
        SequorClient::new("http://127.0.0.1:1", ClientOptions { retry, ..ClientOptions::default() }).unwrap()
    }

    /// The message of an argument that is refused without a request.
    fn refusal<T>(result: Result<T, SequorError>) -> String {
        match result {
            Err(SequorError::InvalidArgument(message)) => message,
            Err(error) => panic!("not refused: {error}"),
            Ok(_) => panic!("not refused"),
        }
    }

    #[test]
    fn an_id_that_a_path_cannot_have_is_refused() {
        let client = client();
        let (list, json) = (ListOptions::default(), json!({}));
        for id in [".", "..", ""] {
            let refusals = [
                refusal(client.get_item(id)),
                refusal(client.put_item(id, &json)),
                refusal(client.patch_item(id, &json)),
                refusal(client.similar_items(id, &SimilarOptions::default())),
                refusal(client.recommendations(id, &list)),
                refusal(client.recommendation_pages(id, 5, &list)),
                refusal(client.stream_recommendations(id, &list)),
                refusal(client.update_user(id, &json)),
                refusal(client.merge_users(id, "ann")),
                refusal(client.get_placement(id)),
                refusal(client.put_placement(id, &json)),
                refusal(client.delete_placement(id)),
            ];
            for message in refusals {
                let expected = format!(
                    "the id `{id}` cannot be in a URL; an id is a text of 1 to 256 bytes other than `.` and `..`"
                );
                assert_eq!(message, expected);
            }
        }
    }

    #[test]
    fn numbers_that_json_cannot_express_are_refused() {
        #[derive(Serialize)]
        struct Tea {
            price: f64,
            vectors: BTreeMap<&'static str, Vec<f32>>,
        }
        let tea = |price, number| Tea { price, vectors: [("text", vec![0.5, number])].into() };
        let client = client();
        for (number, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
            let rated = Event::new("ann", "rate").value(number);
            let item = ListItem::from("tea").relevance(number);
            let scored = ListItem::from("tea").model_score(number);
            let refusals = [
                ("the event: `value`", refusal(client.track(rated.clone()))),
                ("event 1: `value`", refusal(client.send_events(&[Event::new("ann", "view"), rated]))),
                ("`price`", refusal(client.put_item("tea", &tea(number, 0.5)))),
                ("`vectors.text[1]`", refusal(client.patch_item("tea", &tea(0.5, number as f32)))),
                ("`attributes.age`", refusal(client.update_user("ann", &BTreeMap::from([("age", number)])))),
                ("`diversity`", refusal(client.put_placement("home", &BTreeMap::from([("diversity", number)])))),
                ("`items[0].features.relevance`", refusal(client.rank([item.clone()], &RankOptions::user("ann")))),
                (
                    "`items[0].relevance`",
                    refusal(client.report_impression("ann", [item], &ImpressionOptions::default())),
                ),
                (
                    "`items[0].model_score`",
                    refusal(client.report_impression("ann", [scored], &ImpressionOptions::default())),
                ),
            ];
            for (place, message) in refusals {
                assert_eq!(message, format!("{place} is {shown}; it must be a finite number"));
            }
        }
        assert_eq!(client.stats(), BufferStats::default());
        // The request is sent, and has no response.
        assert!(matches!(client.put_item("tea", &tea(4.5, 0.5)), Err(SequorError::NoResponse(_))));
    }

    #[test]
    fn a_time_limit_is_longer_than_zero_and_can_be_without_end() {
        let retry = RetryPolicy { attempts: Some(1), ..RetryPolicy::default() };
        let with_timeout = |timeout| {
            SequorClient::new("http://127.0.0.1:1", ClientOptions { timeout, retry, ..ClientOptions::default() })
        };
        assert_eq!(refusal(with_timeout(Duration::ZERO)), "timeout is 0 s; it must be longer");
        for timeout in [Duration::MAX, Duration::from_secs(u64::MAX / 2), Duration::from_millis(1)] {
            assert!(matches!(with_timeout(timeout).unwrap().get_item("tea"), Err(SequorError::NoResponse(_))));
        }
    }

    #[test]
    fn null_in_a_context_is_refused() {
        let client = client();
        let event = Event::new("ann", "view").context("price", f64::NAN);
        let expected = "`context.price` is null; it must be a text, a finite number or a boolean";
        assert_eq!(refusal(client.track(event.clone())), format!("the event: {expected}"));
        assert_eq!(refusal(client.send_events(&[event])), format!("event 0: {expected}"));
        let options = RankOptions::user("ann").context("price", f64::NAN);
        assert_eq!(refusal(client.rank(["tea"], &options)), expected);
        let options = ListOptions::default().context("price", f64::NAN);
        assert_eq!(refusal(client.recommendations("ann", &options)), expected);
        assert_eq!(refusal(client.recommendations_for_session(&["tea"], &options)), expected);
    }
}
