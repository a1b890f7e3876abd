//! The catalog.

use actix_web::web::{self, Bytes, Data, Json, Path, ServiceConfig};
use actix_web::{Error, HttpResponse};
use serde::Serialize;

use super::api::{Api, take, unreadable};
use super::problem::Problem;
use super::watch::path;
use crate::capture::{Fault, check_item_id, read_item, read_items, read_patch};
use crate::domain::{Entry, Item, ItemAct, ItemChange};

/// Where many items are changed at once.
pub(super) const ITEMS: &str = "/v1/items";
/// Where one item is.
pub(super) const ITEM: &str = "/v1/items/{item}";

pub(super) fn routes(config: &mut ServiceConfig) {
    let item = path(ITEM, "GET, PUT, PATCH, DELETE");
    config
        .service(path(ITEMS, "POST").route(web::post().to(bulk)))
        .service(item.route(web::get().to(get)).route(web::put().to(put)).route(web::patch().to(patch)).route(web::delete().to(delete)));
}

async fn bulk(api: Data<Api>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable(&error, api.max_body))?;
    let reading = read_items(&body, api.rules.max_events, api.clock.now())?;
    let (mut entries, mut rejected) = (Vec::with_capacity(reading.records.len()), Vec::new());
    for change in reading.records {
        match change {
            Ok(change) => entries.push(Entry::Item(change)),
            Err(fault) => rejected.push(fault),
        }
    }
    take(&api, entries, rejected, reading.warnings).await
}

async fn put(api: Data<Api>, item: Path<String>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
    change(&api, item.into_inner(), body, read_item).await
}

async fn patch(api: Data<Api>, item: Path<String>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
    known(&api, &item)?;
    change(&api, item.into_inner(), body, read_patch).await
}

async fn delete(api: Data<Api>, item: Path<String>) -> Result<HttpResponse, Problem> {
    known(&api, &item)?;
    let change = ItemChange { item_id: item.into_inner(), timestamp: api.clock.now(), act: ItemAct::Delete };
    take(&api, vec![Entry::Item(change)], Vec::new(), Vec::new()).await
}

/// An item as it is answered.
#[derive(Serialize)]
struct Described {
    item_id: String,
    #[serde(flatten)]
    item: Item,
}

async fn get(api: Data<Api>, item: Path<String>) -> Result<Json<Described>, Problem> {
    let known = known(&api, &item)?;
    Ok(Json(Described { item_id: item.into_inner(), item: known }))
}

/// What an item is that an event or the catalog has named.
fn known(api: &Api, item: &str) -> Result<Item, Problem> {
    let number = api.system.dictionary().get(item).ok_or_else(Problem::unknown_item)?;
    api.system.catalog().get(number).cloned().ok_or_else(Problem::unknown_item)
}

type Read = fn(&[u8], &mut dyn FnMut(Fault)) -> Result<ItemAct, Fault>;

async fn change(api: &Api, item: String, body: Result<Bytes, Error>, read: Read) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable(&error, api.max_body))?;
    let mut warnings = Vec::new();
    let item_id = check_item_id(item).map_err(|fault| Problem::bad_item(&fault))?;
    let act = read(&body, &mut |warning| warnings.push(warning)).map_err(|fault| Problem::bad_item(&fault))?;
    let change = ItemChange { item_id, timestamp: api.clock.now(), act };
    take(api, vec![Entry::Item(change)], Vec::new(), warnings).await
}
