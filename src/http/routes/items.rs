//! The catalog.

use actix_web::web::{Bytes, Data, Json, Path};
use actix_web::{Error, HttpResponse};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::domain::{Entry, Item, ItemChange, ItemDetails, ItemIx, ItemOperation, MAX_ATTRIBUTES};
use crate::http::middleware::auth::GrantedAccess;
use crate::http::schema::domain_schemas::ItemSchema;
use crate::http::schema::error_mapping::unreadable_body;
use crate::http::schema::problem::Problem;
use crate::http::schema::receipt::IngestReceipt;
use crate::http::schema::responses::{
    AttributeValueBody, BadRequestResponse, IdString, InvalidBodyResponse, ItemAttributesBody, ItemsBody,
    NotFoundResponse, UnavailableResponse,
};
use crate::http::state::ApiState;
use crate::ingest::{ValidationError, check_id, read_item, read_item_patch, read_items};
use crate::services::ingest::{FullQueuePolicy, ingest};
use crate::telemetry::span;

/// Change many items
///
/// Each object has an `item_id`, attributes, and the operation `op`. Invalid objects are reported
/// in `rejected`; the others are stored.
#[utoipa::path(post, path = "/v1/items", operation_id = "bulk", tag = "catalog",
    request_body(content((ItemsBody = "application/json"), (String = "application/x-ndjson")), description = "One item, an array of items, or one item per line."),
    responses((status = 200, description = "The receipt.", body = IngestReceipt),
        (status = 400, description = "No item is valid, or the request cannot be read.", content((IngestReceipt = "application/json"), (Problem = "application/problem+json"))),
        InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn change_items(
    api: Data<ApiState>,
    access: GrantedAccess,
    body: Result<Bytes, Error>,
) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let batch = span!("capture").in_scope(|| read_items(&body, api.rules.max_events, api.clock.now()))?;
    access.charge_batch(batch.records.len())?;
    let (mut entries, mut rejected) = (Vec::with_capacity(batch.records.len()), Vec::new());
    let mut indexes = Vec::with_capacity(batch.records.len());
    for (index, change) in (0_u64..).zip(batch.records) {
        match change {
            Ok(change) => match check_attribute_count(&api, &change) {
                Ok(()) => {
                    indexes.push(index);
                    entries.push(Entry::Item(change));
                }
                Err(error) => rejected.push(error.with_position(index, None)),
            },
            Err(error) => rejected.push(error),
        }
    }
    let outcome = ingest(&api.system.ingest, entries, None, FullQueuePolicy::Fail).await?;
    let refused = outcome.rejected.iter().filter_map(|(position, error)| {
        Some(ValidationError::from_vector_error(error).with_position(*indexes.get(*position)?, None))
    });
    rejected.extend(refused);
    rejected.sort_by_key(|error| error.index);
    Ok(IngestReceipt::new(outcome, rejected, batch.warnings).into_response())
}

/// Put an item
///
/// Creates the item, or replaces all of its attributes.
#[utoipa::path(put, path = "/v1/items/{item}", operation_id = "put", tag = "catalog", params(("item" = IdString, Path, description = "The item.")), request_body = ItemAttributesBody,
    responses((status = 200, description = "The receipt.", body = IngestReceipt), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn put_item(
    api: Data<ApiState>,
    item: Path<String>,
    body: Result<Bytes, Error>,
) -> Result<HttpResponse, Problem> {
    change_item(&api, item.into_inner(), body, read_item).await
}

/// Change attributes of an item
///
/// An absent attribute keeps its value; `null` removes it.
#[utoipa::path(patch, path = "/v1/items/{item}", operation_id = "patch", tag = "catalog", params(("item" = IdString, Path, description = "The item.")), request_body = ItemAttributesBody,
    responses((status = 200, description = "The receipt.", body = IngestReceipt), BadRequestResponse, NotFoundResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn patch_item(
    api: Data<ApiState>,
    item: Path<String>,
    body: Result<Bytes, Error>,
) -> Result<HttpResponse, Problem> {
    find_item(&api, &item)?;
    change_item(&api, item.into_inner(), body, read_item_patch).await
}

/// Delete an item
///
/// The item is no longer recommended until it is put again.
#[utoipa::path(delete, path = "/v1/items/{item}", operation_id = "delete", tag = "catalog", params(("item" = IdString, Path, description = "The item.")),
    responses((status = 200, description = "The receipt.", body = IngestReceipt), BadRequestResponse, NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn delete_item(api: Data<ApiState>, item: Path<String>) -> Result<HttpResponse, Problem> {
    find_item(&api, &item)?;
    let change =
        ItemChange { item_id: item.into_inner(), timestamp: api.clock.now(), operation: ItemOperation::Delete };
    append_change(&api, change, Vec::new()).await
}

/// An item of the catalog.
#[derive(Serialize, ToSchema)]
#[schema(as = CatalogItem)]
pub(in crate::http) struct CatalogItemBody {
    /// The item.
    item_id: String,
    #[serde(flatten)]
    #[schema(value_type = ItemSchema)]
    item: Item,
    /// The title.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// The address of the item's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The address of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// The free attributes by name. Absent without attributes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, AttributeValueBody>>)]
    attributes: Option<Value>,
    /// The vectors by name, rounded to 8 bits. Absent without vectors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    vectors: BTreeMap<String, Vec<f32>>,
}

/// Get an item
#[utoipa::path(get, path = "/v1/items/{item}", operation_id = "get", tag = "catalog", params(("item" = String, Path, description = "The item.")),
    responses((status = 200, description = "The item.", body = CatalogItemBody), BadRequestResponse, NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn get_item(
    api: Data<ApiState>,
    item: Path<String>,
) -> Result<Json<CatalogItemBody>, Problem> {
    let (number, catalog) = (find_item(&api, &item)?, api.system.recommender.catalog());
    let found = catalog.get(number).map(Item::from).ok_or_else(Problem::unknown_item)?;
    let vectors = catalog.vectors().vectors_of(number);
    let vectors = vectors.map(|(name, vector)| (name.to_owned(), vector.values().collect())).collect();
    let ItemDetails { title, url, image, attributes } = found.details.as_deref().cloned().unwrap_or_default();
    let [title, url, image] = [title, url, image].map(|text| text.map(|text| text.to_string()));
    let attributes = (!attributes.is_empty()).then(|| serde_json::to_value(attributes.views()).unwrap_or_default());
    let item_id = item.into_inner();
    Ok(Json(CatalogItemBody { item_id, item: found, title, url, image, attributes, vectors }))
}

/// Finds an item. An item is unknown if no event or catalog change has named it, or if it was
/// deleted.
fn find_item(api: &ApiState, item: &str) -> Result<ItemIx, Problem> {
    let number = api.system.recommender.dictionary().get(item).ok_or_else(Problem::unknown_item)?;
    api.system.recommender.catalog().get(number).map(|_| number).ok_or_else(Problem::unknown_item)
}

/// Checks that an item has not too many free attributes after a patch.
fn check_attribute_count(api: &ApiState, change: &ItemChange) -> Result<(), ValidationError> {
    let (ItemOperation::Patch(patch) | ItemOperation::PatchWithVectors(patch, _)) = &change.operation else {
        return Ok(());
    };
    let Some(patch) = patch.details.as_deref().and_then(|details| details.attributes.as_ref()) else { return Ok(()) };
    let recommender = &api.system.recommender;
    let catalog = recommender.catalog();
    let known = recommender.dictionary().get(&change.item_id).and_then(|number| catalog.get(number)?.details());
    let count = known.map_or(0, |details| details.attributes.len_after(patch));
    if count > MAX_ATTRIBUTES { Err(ValidationError::too_many_attributes(count)) } else { Ok(()) }
}

type ItemBodyParser = fn(&[u8], &mut dyn FnMut(ValidationError)) -> Result<ItemOperation, ValidationError>;

async fn change_item(
    api: &ApiState,
    item: String,
    body: Result<Bytes, Error>,
    parse: ItemBodyParser,
) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let mut warnings = Vec::new();
    let item_id = check_id("item_id", item).map_err(|error| Problem::invalid_item(&error))?;
    let operation =
        parse(&body, &mut |warning| warnings.push(warning)).map_err(|error| Problem::invalid_item(&error))?;
    let change = ItemChange { item_id, timestamp: api.clock.now(), operation };
    check_attribute_count(api, &change).map_err(|error| Problem::invalid_item(&error))?;
    append_change(api, change, warnings).await
}

async fn append_change(
    api: &ApiState,
    change: ItemChange,
    warnings: Vec<ValidationError>,
) -> Result<HttpResponse, Problem> {
    let outcome = ingest(&api.system.ingest, [Entry::Item(change)], None, FullQueuePolicy::Fail).await?;
    if let Some((_, error)) = outcome.rejected.first() {
        return Err(Problem::invalid_item(&ValidationError::from_vector_error(error)));
    }
    Ok(IngestReceipt::new(outcome, Vec::new(), warnings).into_response())
}
