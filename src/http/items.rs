//! The catalog.

use actix_web::web::{self, Bytes, Data, Json, Path, ServiceConfig};
use actix_web::{Error, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::api::{ApiState, IngestReceipt, ingest, unreadable_body};
use super::lock::{GrantedAccess, RequiredAccess};
use super::openapi::{NotFoundResponse, ItemAttributesBody, BadRequestResponse, InvalidBodyResponse, ItemsBody, IdString, UnavailableResponse};
use super::problem::Problem;
use super::watch::protected_resource;
use crate::auth::Scope;
use crate::domain::{Entry, Item, ItemChange, ItemOperation};
use crate::ingest::{ValidationError, check_id, read_item, read_item_patch, read_items};
use crate::telemetry::span;

/// Where many items are changed at once.
pub(super) const ITEMS: &str = "/v1/items";
/// Where one item is.
pub(super) const ITEM: &str = "/v1/items/{item}";

pub(super) fn routes(config: &mut ServiceConfig) {
    let item = protected_resource(ITEM, "GET, PUT, PATCH, DELETE", RequiredAccess::Scope(Scope::Items));
    config
        .service(protected_resource(ITEMS, "POST", RequiredAccess::Scope(Scope::Items)).route(web::post().to(bulk)))
        .service(item.route(web::get().to(get)).route(web::put().to(put)).route(web::patch().to(patch)).route(web::delete().to(delete)));
}

/// Describes many items
///
/// Each object names its `item_id`, its attributes, and in `op` what is done with them. Those that
/// break a rule are named in `rejected`.
#[utoipa::path(post, path = ITEMS, tag = "catalog",
    request_body(content((ItemsBody = "application/json"), (String = "application/x-ndjson")), description = "One item, an array of them, or one a line."),
    responses((status = 200, description = "The receipt.", body = IngestReceipt),
        (status = 400, description = "None could be taken; or the request could not be read.", content((IngestReceipt = "application/json"), (Problem = "application/problem+json"))),
        InvalidBodyResponse, UnavailableResponse))]
pub(super) async fn bulk(api: Data<ApiState>, access: GrantedAccess, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let reading = span!("capture").in_scope(|| read_items(&body, api.rules.max_events, api.clock.now()))?;
    access.charge_batch(reading.records.len())?;
    let (mut entries, mut rejected) = (Vec::with_capacity(reading.records.len()), Vec::new());
    for change in reading.records {
        match change {
            Ok(change) => entries.push(Entry::Item(change)),
            Err(fault) => rejected.push(fault),
        }
    }
    ingest(&api, entries, rejected, reading.warnings).await
}

/// Describes an item
///
/// It is this from now on, whatever it was.
#[utoipa::path(put, path = ITEM, tag = "catalog", params(("item" = IdString, Path, description = "The item.")), request_body = ItemAttributesBody,
    responses((status = 200, description = "The receipt.", body = IngestReceipt), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(super) async fn put(api: Data<ApiState>, item: Path<String>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
    change(&api, item.into_inner(), body, read_item).await
}

/// Changes some attributes of an item
///
/// What is left out stays; `null` takes an attribute away.
#[utoipa::path(patch, path = ITEM, tag = "catalog", params(("item" = IdString, Path, description = "The item.")), request_body = ItemAttributesBody,
    responses((status = 200, description = "The receipt.", body = IngestReceipt), BadRequestResponse, NotFoundResponse, InvalidBodyResponse, UnavailableResponse))]
pub(super) async fn patch(api: Data<ApiState>, item: Path<String>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
    known(&api, &item)?;
    change(&api, item.into_inner(), body, read_item_patch).await
}

/// Takes an item out of the catalog
///
/// It is in no list any more, unless it is put again.
#[utoipa::path(delete, path = ITEM, tag = "catalog", params(("item" = IdString, Path, description = "The item.")),
    responses((status = 200, description = "The receipt.", body = IngestReceipt), BadRequestResponse, NotFoundResponse, UnavailableResponse))]
pub(super) async fn delete(api: Data<ApiState>, item: Path<String>) -> Result<HttpResponse, Problem> {
    known(&api, &item)?;
    let change = ItemChange { item_id: item.into_inner(), timestamp: api.clock.now(), operation: ItemOperation::Delete };
    ingest(&api, vec![Entry::Item(change)], Vec::new(), Vec::new()).await
}

/// An item as it is answered.
#[derive(Serialize, ToSchema)]
#[schema(as = Described)]
pub(super) struct CatalogItemBody {
    /// The item.
    item_id: String,
    #[serde(flatten)]
    item: Item,
}

/// What is known of an item
#[utoipa::path(get, path = ITEM, tag = "catalog", params(("item" = String, Path, description = "The item.")),
    responses((status = 200, description = "The item.", body = CatalogItemBody), BadRequestResponse, NotFoundResponse, UnavailableResponse))]
pub(super) async fn get(api: Data<ApiState>, item: Path<String>) -> Result<Json<CatalogItemBody>, Problem> {
    let known = known(&api, &item)?;
    Ok(Json(CatalogItemBody { item_id: item.into_inner(), item: known }))
}

/// What an item is that an event or the catalog has named.
fn known(api: &ApiState, item: &str) -> Result<Item, Problem> {
    let number = api.system.dictionary().get(item).ok_or_else(Problem::unknown_item)?;
    api.system.catalog().get(number).cloned().ok_or_else(Problem::unknown_item)
}

type ItemBodyParser = fn(&[u8], &mut dyn FnMut(ValidationError)) -> Result<ItemOperation, ValidationError>;

async fn change(api: &ApiState, item: String, body: Result<Bytes, Error>, read: ItemBodyParser) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let mut warnings = Vec::new();
    let item_id = check_id("item_id", item).map_err(|fault| Problem::invalid_item(&fault))?;
    let act = read(&body, &mut |warning| warnings.push(warning)).map_err(|fault| Problem::invalid_item(&fault))?;
    let change = ItemChange { item_id, timestamp: api.clock.now(), operation: act };
    ingest(api, vec![Entry::Item(change)], Vec::new(), warnings).await
}
