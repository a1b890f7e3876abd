//! What requests bring and what they may be answered, as it is described. Bodies are read by
//! `capture`, record by record, not through these types.
#![expect(dead_code, reason = "these are never made: they only say what the fields are")]

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoResponses, ToSchema};

use crate::http::schema::consent::ConsentBody;
use crate::http::schema::problem::Problem;

/// One event, or an array of them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum EventsBody {
    One(EventBody),
    Many(Vec<EventBody>),
}

/// What a user did.
#[derive(Serialize, ToSchema)]
#[schema(as = Event, example = json!({ "user_id": "ann", "type": "view", "item_id": "tea" }))]
pub(in crate::http) struct EventBody {
    /// Who: a known user, or an id generated for an anonymous one.
    user_id: IdString,
    /// `view`, `click`, `search`, `cart`, `purchase`, `like`, `share`, `comment`, `follow`, `rate`,
    /// `play`, `dismiss`, or a kind of the site's own.
    #[serde(rename = "type")]
    kind: String,
    /// On what; only a search may go without.
    item_id: Option<IdString>,
    /// Makes sending again safe: an id that was seen before changes nothing.
    event_id: Option<IdString>,
    /// A new one begins a new session.
    session_id: Option<IdString>,
    /// How much: a rating, seconds played, a price.
    value: Option<f32>,
    /// When; the moment of arrival if left out.
    timestamp: Option<TimestampBody>,
    /// Whatever else there is, at most 16 KiB and 8 levels deep.
    properties: Option<Map<String, Value>>,
    /// How far the consent to just this goes; what the user said, or else the settings, if left
    /// out. Where the user said less, that counts.
    consent: Option<ConsentBody>,
}

/// An id, or a name: 1 to 256 bytes without control characters.
#[derive(Serialize, ToSchema)]
#[schema(min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
#[schema(as = Name)]
pub(in crate::http) struct IdString(String);

/// A point in time.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Moment)]
pub(in crate::http) enum TimestampBody {
    /// RFC 3339, with an offset.
    #[schema(format = DateTime)]
    Text(String),
    /// Milliseconds since 1970, at least 0; fractions are dropped.
    Milliseconds(f64),
}

/// One change of an item, or an array of them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum ItemsBody {
    One(ItemBody),
    Many(Vec<ItemBody>),
}

/// A change of an item.
#[derive(Serialize, ToSchema)]
#[schema(as = ItemChange, example = json!({ "item_id": "tea", "categories": ["drinks"], "price": 4.5 }))]
pub(in crate::http) struct ItemBody {
    /// The item.
    item_id: IdString,
    /// What is done; `put` if left out.
    op: Option<ItemOperationBody>,
    #[serde(flatten)]
    attributes: ItemAttributesBody,
}

/// What is done with an item's attributes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Op)]
pub(in crate::http) enum ItemOperationBody {
    Put,
    Patch,
    Delete,
}

/// What the catalog says of an item.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "categories": ["drinks"], "brand": "leaf", "price": 4.5, "tags": ["green"] }))]
#[schema(as = Attributes)]
pub(in crate::http) struct ItemAttributesBody {
    /// The categories that it belongs to.
    #[schema(max_items = 16)]
    categories: Option<Vec<IdString>>,
    /// Who makes it.
    brand: Option<IdString>,
    /// What it costs, in the site's own unit.
    #[schema(minimum = 0)]
    price: Option<f64>,
    /// Whatever else it is labelled with.
    #[schema(max_items = 64)]
    tags: Option<Vec<IdString>>,
    /// Whether it can be had.
    available: Option<bool>,
    /// Before this it is in no list.
    published: Option<TimestampBody>,
    /// From this on it is in no list.
    expires: Option<TimestampBody>,
}

/// A message of Segment's specification: what its libraries send.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "userId": "ann", "event": "Product Viewed", "properties": { "product_id": "tea" }, "messageId": "m1" }))]
#[schema(as = Message)]
pub(in crate::http) struct SegmentMessageBody(Map<String, Value>);

/// Many messages, each of which names its `type`.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "batch": [{ "type": "page", "anonymousId": "a1", "name": "Home" }] }))]
#[schema(as = Messages)]
pub(in crate::http) struct SegmentBatchBody {
    /// The messages.
    batch: Vec<SegmentMessageBody>,
}

/// Any request may be at fault.
#[derive(IntoResponses)]
#[response(status = 400, description = "The request is at fault; the problem says where.", content_type = "application/problem+json")]
pub(in crate::http) struct BadRequestResponse(Problem);

/// What is asked for may not be there.
#[derive(IntoResponses)]
#[response(status = 404, description = "It is not known.", content_type = "application/problem+json")]
pub(in crate::http) struct NotFoundResponse(Problem);

/// A body may be what nobody can read.
#[derive(IntoResponses)]
pub(in crate::http) enum InvalidBodyResponse {
    #[response(status = 413, description = "The body is too large; send it in parts.", content_type = "application/problem+json")]
    TooLarge(Problem),
    #[response(
        status = 415,
        description = "The body is of a type or in an encoding that is not understood.",
        content_type = "application/problem+json"
    )]
    UnsupportedMediaType(Problem),
}

/// Access denied.
#[derive(IntoResponses)]
pub(in crate::http) enum AccessDeniedResponse {
    #[response(
        status = 401,
        description = "A key is needed here, and none that is known was sent.",
        content_type = "application/problem+json"
    )]
    MissingKey(Problem),
    #[response(
        status = 403,
        description = "The key is of another scope; the problem names the one that is needed.",
        content_type = "application/problem+json"
    )]
    InsufficientScope(Problem),
}

/// There may be no answer.
#[derive(IntoResponses)]
pub(in crate::http) enum UnavailableResponse {
    #[response(
        status = 429,
        description = "The key, or the address, has brought as much as it may; nothing was taken. `Retry-After` says in how many seconds to try again.",
        content_type = "application/problem+json"
    )]
    RateLimited(Problem),
    #[response(
        status = 503,
        description = "Not now; nothing was taken. `Retry-After` says in how many seconds to try again.",
        content_type = "application/problem+json"
    )]
    Unavailable(Problem),
    #[response(status = "default", description = "What else may go wrong.", content_type = "application/problem+json")]
    Other(Problem),
}
