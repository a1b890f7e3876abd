//! Request bodies and error responses for the OpenAPI document. These types do not parse any body:
//! the module `ingest` parses bodies record by record.
#![expect(dead_code, reason = "the types exist only for the OpenAPI document")]

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::{IntoResponses, ToSchema};

use crate::http::schema::consent::ConsentBody;
use crate::http::schema::problem::Problem;

/// One event, or an array of events.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum EventsBody {
    One(Box<EventBody>),
    Many(Vec<EventBody>),
}

/// A user event.
#[derive(Serialize, ToSchema)]
#[schema(as = Event, example = json!({ "user_id": "ann", "type": "view", "item_id": "tea" }))]
pub(in crate::http) struct EventBody {
    /// The id of the user. It can be an id that was generated for an anonymous visitor.
    user_id: IdString,
    /// `view`, `click`, `search`, `cart`, `purchase`, `like`, `share`, `comment`, `follow`, `rate`,
    /// `play`, `dismiss`, or a configured kind.
    #[serde(rename = "type")]
    kind: String,
    /// The item of the event. Only a `search` can omit it.
    item_id: Option<IdString>,
    /// The id of the event. It makes retries safe, because an event whose id was seen before has no
    /// effect.
    event_id: Option<IdString>,
    /// The id of the session. A new id starts a new session.
    session_id: Option<IdString>,
    /// The value of the event: a rating, seconds played, or a price.
    value: Option<f32>,
    /// The time of the event. Default: the time of arrival.
    timestamp: Option<TimestampBody>,
    /// Additional data, at most 16 KiB and 8 levels deep.
    properties: Option<Map<String, Value>>,
    /// The consent level of this event. If the user's level is lower, the user's level applies.
    /// Default: the user's level or, if it was never set, the level of the settings.
    consent: Option<ConsentBody>,
    /// The `recommendation_id` of the response to which the event responds.
    #[schema(min_length = 1, max_length = 128)]
    recommendation_id: Option<String>,
    /// The currency of the value (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: Option<String>,
    /// The number of pieces.
    #[schema(minimum = 1, maximum = 1_000_000)]
    quantity: Option<u32>,
    /// Circumstances of the event by name: at most 8 names of `a-z`, `0-9` and `_`, with texts of at
    /// most 64 bytes, numbers or booleans.
    context: Option<BTreeMap<String, ContextValueBody>>,
}

/// A value of a context.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ContextValue)]
pub(in crate::http) enum ContextValueBody {
    Text(String),
    Number(f64),
    Boolean(bool),
}

/// The value of an attribute: a text of at most 256 bytes, a number, a boolean, or a list of at most
/// 32 texts or numbers.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = AttributeValue)]
pub(in crate::http) enum AttributeValueBody {
    Text(String),
    Number(f64),
    Boolean(bool),
    Texts(Vec<String>),
    Numbers(Vec<f64>),
}

/// The new value of an attribute, or `null` to remove it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = AttributeChange)]
pub(in crate::http) enum AttributeChangeBody {
    Value(AttributeValueBody),
    Removed,
}

/// A change of a user.
#[derive(Serialize, ToSchema)]
#[schema(as = UserAttributes, example = json!({ "attributes": { "language": "en", "sizes": [41, 42] } }))]
pub(in crate::http) struct UserAttributesBody {
    /// At most 64 attributes by name. A name begins with `a-z`, and has at most 32 characters `a-z`,
    /// `0-9` and `_`. `null` removes the attribute of a name, or all attributes.
    attributes: Option<BTreeMap<String, AttributeChangeBody>>,
}

/// An id, or a name: 1 to 256 bytes without control characters.
#[derive(Serialize, ToSchema)]
#[schema(min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
#[schema(as = Id)]
pub(in crate::http) struct IdString(String);

/// A timestamp.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Timestamp)]
pub(in crate::http) enum TimestampBody {
    /// A date and time in the format of RFC 3339, with the offset from UTC.
    #[schema(format = DateTime)]
    Text(String),
    /// Milliseconds since 1970-01-01 UTC, at least 0. Fractions are truncated.
    Milliseconds(f64),
}

/// One item change, or an array of item changes.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum ItemsBody {
    One(Box<ItemBody>),
    Many(Vec<ItemBody>),
}

/// An item change.
#[derive(Serialize, ToSchema)]
#[schema(as = ItemChange, example = json!({ "item_id": "tea", "categories": ["drinks"], "price": 4.5 }))]
pub(in crate::http) struct ItemBody {
    /// The item.
    item_id: IdString,
    /// The operation. Default: `put`.
    op: Option<ItemOperationBody>,
    #[serde(flatten)]
    attributes: ItemAttributesBody,
}

/// What an item change does with the attributes of the item.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ItemOperation)]
pub(in crate::http) enum ItemOperationBody {
    Put,
    Patch,
    Delete,
}

/// The attributes of an item.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "categories": ["drinks"], "brand": "leaf", "price": 4.5, "tags": ["green"] }))]
#[schema(as = ItemAttributes)]
pub(in crate::http) struct ItemAttributesBody {
    /// The categories.
    #[schema(max_items = 16)]
    categories: Option<Vec<IdString>>,
    /// The brand.
    brand: Option<IdString>,
    /// The price, in any unit.
    #[schema(minimum = 0)]
    price: Option<f64>,
    /// Further labels.
    #[schema(max_items = 64)]
    tags: Option<Vec<IdString>>,
    /// Whether the item can be recommended.
    available: Option<bool>,
    /// The item is not recommended before this time.
    published: Option<TimestampBody>,
    /// The item is not recommended from this time on.
    expires: Option<TimestampBody>,
    /// Vectors by name, such as embeddings of texts or images: at most 4 names of `a-z`, `0-9` and
    /// `_`, and 1 to 1,024 numbers each. All vectors of a name have the same length. In a patch,
    /// `null` removes a vector.
    vectors: Option<BTreeMap<String, Option<Vec<f32>>>>,
    /// The title.
    #[schema(max_length = 256)]
    title: Option<String>,
    /// The address of the item's page.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// The address of an image.
    #[schema(max_length = 2048)]
    image: Option<String>,
    /// At most 64 free attributes by name, for filter expressions. A name begins with `a-z`, and has
    /// at most 32 characters `a-z`, `0-9` and `_`. In a patch, `null` removes an attribute.
    attributes: Option<BTreeMap<String, AttributeChangeBody>>,
}

/// A message of Segment's specification, as its libraries send it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "userId": "ann", "event": "Product Viewed", "properties": { "product_id": "tea" }, "messageId": "m1" }))]
#[schema(as = SegmentMessage)]
pub(in crate::http) struct SegmentMessageBody(Map<String, Value>);

/// A batch of messages, each with its `type`.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "batch": [{ "type": "page", "anonymousId": "a1", "name": "Home" }] }))]
#[schema(as = SegmentBatch)]
pub(in crate::http) struct SegmentBatchBody {
    /// The messages.
    batch: Vec<SegmentMessageBody>,
}

/// Error response to an invalid request.
#[derive(IntoResponses)]
#[response(
    status = 400,
    description = "The request is invalid; the problem names the cause.",
    content_type = "application/problem+json"
)]
pub(in crate::http) struct BadRequestResponse(Problem);

/// Error response for an unknown resource.
#[derive(IntoResponses)]
#[response(status = 404, description = "The resource is unknown.", content_type = "application/problem+json")]
pub(in crate::http) struct NotFoundResponse(Problem);

/// Error response to a change that the current state does not allow.
#[derive(IntoResponses)]
#[response(
    status = 409,
    description = "The current state does not allow the change; the problem says why.",
    content_type = "application/problem+json"
)]
pub(in crate::http) struct ConflictResponse(Problem);

/// Error responses to an unreadable body.
#[derive(IntoResponses)]
pub(in crate::http) enum InvalidBodyResponse {
    #[response(
        status = 413,
        description = "The body is too large; split it.",
        content_type = "application/problem+json"
    )]
    TooLarge(Problem),
    #[response(
        status = 415,
        description = "The content type or content encoding of the body is not supported.",
        content_type = "application/problem+json"
    )]
    UnsupportedMediaType(Problem),
}

/// Error responses to a request without the required access.
#[derive(IntoResponses)]
pub(in crate::http) enum AccessDeniedResponse {
    #[response(
        status = 401,
        description = "The operation requires an API key, and the request has no valid one.",
        content_type = "application/problem+json"
    )]
    MissingKey(Problem),
    #[response(
        status = 403,
        description = "The API key lacks the required scope, which the problem names.",
        content_type = "application/problem+json"
    )]
    InsufficientScope(Problem),
}

/// Error responses of an unavailable service.
#[derive(IntoResponses)]
pub(in crate::http) enum UnavailableResponse {
    #[response(
        status = 429,
        description = "The API key or the client address exceeds its rate limit; nothing was stored. `Retry-After` is the delay in seconds.",
        content_type = "application/problem+json"
    )]
    RateLimited(Problem),
    #[response(
        status = 503,
        description = "The service is temporarily unavailable; nothing was stored. `Retry-After` is the delay in seconds.",
        content_type = "application/problem+json"
    )]
    Unavailable(Problem),
    #[response(status = "default", description = "Any other error.", content_type = "application/problem+json")]
    Other(Problem),
}
