//! Impressions that the site reports.

use actix_web::Error;
use actix_web::web::{Bytes, Data, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::rankings::MAX_RELEVANCE;
use crate::domain::{Consent, EventDetails, Offset};
use crate::http::schema::consent::ConsentBody;
use crate::http::schema::error_mapping::parse_json_body;
use crate::http::schema::problem::Problem;
use crate::http::schema::quoted::quoted;
use crate::http::schema::responses::{
    BadRequestResponse, IdString, InvalidBodyResponse, NotFoundResponse, UnavailableResponse,
};
use crate::http::state::ApiState;
use crate::ingest::check_id;
use crate::services::impressions::{ReportedItem, ReportedList, ReportedListOutcome};

/// The largest number of items in a reported list.
const MAX_ITEMS: usize = 1000;
/// The largest absolute value of a model's score.
const MAX_SCORE: f64 = f32::MAX as f64;

/// A list that the site has shown to a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ImpressionRequest, example = json!({ "user_id": "ann", "items": ["tea", "cup"] }))]
pub(in crate::http) struct ImpressionRequest {
    /// The user.
    #[schema(value_type = IdString)]
    user_id: String,
    /// The `recommendation_id` of the response that contained the items. Default: a new id.
    #[schema(min_length = 1, max_length = 128)]
    recommendation_id: Option<String>,
    /// The placement of the list.
    placement: Option<String>,
    /// The shown items, in the order of the list: ids, or objects with the relevance of the item.
    #[schema(min_items = 1, max_items = 1000, value_type = Vec<ShownItemBody>)]
    items: Vec<Value>,
    /// The consent level of this report. If the user's level is lower, the user's level applies.
    /// Impressions are stored only with the level `full`.
    #[schema(value_type = Option<ConsentBody>)]
    consent: Option<Consent>,
}

/// A shown item.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ShownItem)]
#[expect(dead_code, reason = "the type exists only for the OpenAPI document")]
pub(in crate::http) enum ShownItemBody {
    Id(IdString),
    WithRelevance(RelevantItemBody),
}

/// A shown item with the relevance that the site gave to it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ShownItemWithRelevance)]
pub(in crate::http) struct RelevantItemBody {
    /// The item's id.
    #[schema(value_type = IdString)]
    item_id: String,
    /// The relevance of the item, such as its score in the site's search. A higher relevance is
    /// better.
    #[schema(value_type = Option<f64>, minimum = -1e9, maximum = 1e9)]
    relevance: Option<Value>,
    /// The `combination.model_score` of the item in the response of `POST /v1/rank` with `explain`.
    /// If no item has one, clicks teach the weight of the relevance, but not that of the model.
    #[schema(value_type = Option<f64>)]
    model_score: Option<Value>,
}

/// The receipt of a reported list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImpressionReceipt)]
pub(in crate::http) struct ImpressionReceipt {
    /// The id of the list, which events can name.
    recommendation_id: String,
    /// The number of items that are now stored as shown.
    accepted: usize,
    /// The number of items that were already recorded for this user and recommendation, or occur
    /// twice in the list.
    duplicates: usize,
    /// The number of items that were not stored, because the user has not given consent.
    withheld: usize,
    /// The journal's next offset after the impression; `null` if nothing was stored.
    #[schema(value_type = Option<u64>)]
    offset: Option<Offset>,
}

impl ImpressionRequest {
    /// Validates the request.
    fn into_reported(self, api: &ApiState) -> Result<ReportedList, Problem> {
        let Self { user_id, recommendation_id, placement, items, consent } = self;
        if !(1..=MAX_ITEMS).contains(&items.len()) {
            let given = format!("a list of {}", items.len());
            return Err(Problem::out_of_range("items", given, "a list of 1 to 1000"));
        }
        let user = api.rules.validate_user_id("user_id", user_id);
        let user = user.map_err(|error| Problem::invalid_parameter("user_id", format!("{}.", error.reason)))?;
        if let Some(id) = &recommendation_id {
            let fits = (1..=EventDetails::MAX_RECOMMENDATION_ID_BYTES).contains(&id.len());
            if !fits || id.chars().any(char::is_control) {
                let given = format!("a text of {} bytes", id.len());
                let allowed = "a text of 1 to 128 bytes without control characters";
                return Err(Problem::out_of_range("recommendation_id", given, allowed));
            }
        }
        let placements = api.placements.current();
        if let Some(name) = placement.as_deref().filter(|name| placements.find(name).is_none()) {
            return Err(Problem::unknown_placement(name, placements.names()));
        }
        let items = items.into_iter().enumerate().map(|(position, item)| read_item(position, item));
        let items = items.collect::<Result<_, _>>()?;
        Ok(ReportedList { user, consent, recommendation_id, placement, items })
    }
}

/// The item at a position of the list, which is an id or an object.
fn read_item(position: usize, item: Value) -> Result<ReportedItem, Problem> {
    let field = format!("items[{position}]");
    let id = |field: &str, text: String| {
        let checked = check_id("items", text);
        checked.map_err(|error| Problem::invalid_parameter(field, format!("{}.", error.reason)))
    };
    match item {
        Value::String(text) => Ok(ReportedItem { item_id: id(&field, text)?, relevance: None, model_score: None }),
        Value::Object(_) => {
            let read = serde_json::from_value::<RelevantItemBody>(item);
            let read = read.map_err(|error| Problem::invalid_parameter(&field, format!("{error}.")))?;
            let number = |name: &str, value: Option<Value>, max: f64| {
                value.map(|value| read_number(&format!("{field}.{name}"), &value, max)).transpose()
            };
            Ok(ReportedItem {
                item_id: id(&format!("{field}.item_id"), read.item_id)?,
                relevance: number("relevance", read.relevance, MAX_RELEVANCE)?,
                model_score: number("model_score", read.model_score, MAX_SCORE)?,
            })
        }
        _ => Err(Problem::invalid_parameter(&field, "An item is an id, or an object with `item_id`.")),
    }
}

/// A number from `-max` to `max`.
fn read_number(field: &str, value: &Value, max: f64) -> Result<f32, Problem> {
    match value.as_f64().filter(|number| number.abs() <= max).map(|number| number as f32) {
        Some(number) => Ok(number),
        None => {
            let allowed = format!("a number from -{max:e} to {max:e}");
            Err(Problem::out_of_range(field, quoted(&value.to_string()), allowed))
        }
    }
}

/// Report shown items
///
/// Records that items were shown to a user, so that clicks and purchases can be attributed to the
/// list. The lists of `GET /v1/users/{user}/recommendations` are recorded already; an item that was
/// recorded for the same user and recommendation is a duplicate. Clicks on a list with relevance
/// teach how much the relevance counts in `POST /v1/rank`. Returns once the impression is durable.
/// Any content type is accepted, because a beacon cannot set the content type.
#[utoipa::path(post, path = "/v1/impressions", operation_id = "impressions", tag = "events", request_body(content = ImpressionRequest),
    responses((status = 200, description = "The receipt.", body = ImpressionReceipt), BadRequestResponse, NotFoundResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn report_impression(
    api: Data<ApiState>,
    body: Result<Bytes, Error>,
) -> Result<Json<ImpressionReceipt>, Problem> {
    let request: ImpressionRequest = parse_json_body(body, api.max_body_bytes)?;
    let list = request.into_reported(&api)?;
    let ReportedListOutcome { recommendation_id, accepted, duplicates, withheld, offset } =
        api.recommendations.record_reported(list).await?;
    Ok(Json(ImpressionReceipt { recommendation_id, accepted, duplicates, withheld, offset }))
}
