//! Predictions of event values, for example of ratings.

use actix_web::Error;
use actix_web::web::{Bytes, Data, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Consent, EventKind, EventKinds, InterestScale, KindId, Offset, PredictedInterest};
use crate::http::middleware::queue_wait::MaxQueueWait;
use crate::http::schema::consent::ConsentBody;
use crate::http::schema::domain_schemas::PredictedInterestSchema;
use crate::http::schema::error_mapping::parse_json_body;
use crate::http::schema::problem::Problem;
use crate::http::schema::responses::{BadRequestResponse, IdString, InvalidBodyResponse, UnavailableResponse};
use crate::http::state::ApiState;

/// The largest number of items in a request.
const MAX_ITEMS: usize = 1000;

/// A user and items, for which to predict event values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PredictionRequest, example = json!({ "user_id": "ann", "items": ["tea", "coffee"] }))]
pub(in crate::http) struct PredictionRequest {
    /// The user. Without it, or without a value of the user, the predictions are those for an
    /// average user.
    #[schema(value_type = Option<IdString>)]
    user_id: Option<String>,
    /// The items.
    #[schema(min_items = 1, max_items = 1000)]
    items: Vec<String>,
    /// The kind of the events whose values to predict, such as `rate`. Default: the kind with the
    /// most learned values.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The consent level of this request. If the user's level is lower, the user's level applies.
    #[schema(value_type = Option<ConsentBody>)]
    consent: Option<Consent>,
    /// Wait until the model includes every journal entry before this offset. With the `offset` of a
    /// receipt, it includes the records of that receipt.
    #[schema(value_type = Option<u64>)]
    min_offset: Option<Offset>,
}

/// Predicted event values.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Predictions)]
pub(in crate::http) struct PredictionsResponse {
    /// The kind of the events. Absent before the first event with a value.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// One prediction for each item of the request, in the same order.
    items: Vec<ItemPrediction>,
}

/// The predicted value of an event of the user with an item.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ItemPrediction)]
pub(in crate::http) struct ItemPrediction {
    /// The item.
    item_id: String,
    /// The prediction. `null` if the item is unknown, or before the first event with a value.
    #[schema(value_type = Option<PredictedInterestSchema>)]
    interest: Option<PredictedInterest>,
}

/// The kind with this name, if its values are predicted.
fn predicted_kind(kinds: &EventKinds, name: &str) -> Result<KindId, Problem> {
    let id = kinds.id_of(&EventKind::from_name(name));
    id.filter(|id| kinds.rule_of(*id).interest != InterestScale::Off).ok_or_else(|| {
        let has_scale = |id: &KindId| kinds.rule_of(*id).interest != InterestScale::Off;
        let names = (0..).zip(kinds.names()).filter(|(id, _)| has_scale(id)).map(|(_, name)| name);
        let allowed = format!(
            "a kind whose values are predicted (setting `events.kinds.KIND.interest`): {}",
            names.collect::<Vec<_>>().join(", ")
        );
        Problem::out_of_range("type", format!("`{name}`"), allowed)
    })
}

/// Predict event values
///
/// Predicts for each item the value of an event of the user with the item, for example the rating
/// that the user would give. Nothing is stored. Any content type is accepted.
#[utoipa::path(post, path = "/v1/predict", operation_id = "predict", tag = "recommendations", request_body = PredictionRequest,
    responses((status = 200, description = "The predictions.", body = PredictionsResponse), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn predict_interest(
    api: Data<ApiState>,
    queue_wait: Data<MaxQueueWait>,
    body: Result<Bytes, Error>,
) -> Result<Json<PredictionsResponse>, Problem> {
    let request: PredictionRequest = parse_json_body(body, api.max_body_bytes)?;
    if !(1..=MAX_ITEMS).contains(&request.items.len()) {
        let given = format!("a list of {}", request.items.len());
        return Err(Problem::out_of_range("items", given, "a list of 1 to 1000"));
    }
    let recommender = &api.system.recommender;
    let kind = request.kind.as_deref().map(|name| predicted_kind(recommender.kinds(), name)).transpose()?;
    let validate = |user| api.rules.validate_user_id("user_id", user);
    let user = request.user_id.map(validate).transpose();
    let user = user.map_err(|error| Problem::invalid_parameter("user_id", format!("{}.", error.reason)))?;
    recommender.wait_for_offset(request.min_offset.unwrap_or_default(), api.read_wait).await?;
    // This thread computes the predictions. A request that has already waited too long for the
    // thread is refused instead.
    queue_wait.wait_for_turn().await?;
    let numbers: Vec<_> = request.items.iter().map(|item| recommender.dictionary().get(item)).collect();
    let known: Vec<_> = numbers.iter().flatten().copied().collect();
    let predicted = api.recommendations.predict_interest(user.as_deref(), request.consent, kind, &known);
    let kind = predicted.as_ref().map(|(kind, _)| *kind).or(kind);
    let mut predictions = predicted.into_iter().flat_map(|(_, predictions)| predictions);
    let predict = |(item_id, number): (String, Option<_>)| ItemPrediction {
        item_id,
        interest: number.and_then(|_| predictions.next()),
    };
    Ok(Json(PredictionsResponse {
        kind: kind.and_then(|kind| recommender.kinds().name_of(kind)).map(str::to_owned),
        items: request.items.into_iter().zip(numbers).map(predict).collect(),
    }))
}
