//! The demo's shop: a small storefront whose pages use the beacon and the widget as a real site does.
//!
//! Its server runs in the process of the demo, on an address of its own. It has static pages only; all
//! events and lists go from the browser to the daemon.
//!
//! - `product`: titles, prices and addresses of the simulated items.
//! - `pictures`: their pictures.
//! - `pages`: the pages, from the HTML templates of this folder.

mod pages;
mod pictures;
mod product;

use actix_web::dev::Server;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ContentType, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, Data, Path, Query};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::Context;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::TcpListener;

use super::super::daemon_client::{ApiRequest, DaemonClient};
use crate::domain::ItemChange;
use pages::ShopPages;
use pictures::draw_picture;
use product::ProductShelf;

/// Largest number of ids in a request for titles.
const MAX_TITLES: usize = 100;

/// The shop, before its server runs.
pub(super) struct Storefront {
    listener: TcpListener,
    /// The address of the shop, as `http://host:port`.
    pub(super) url: String,
    shelf: ProductShelf,
}

/// Adds the products of item changes to the shop.
#[derive(Debug, Clone)]
pub(super) struct ProductDescriber {
    url: String,
    shelf: ProductShelf,
}

impl ProductDescriber {
    /// Adds the product of an item change to the shop, and its title and addresses to the change.
    pub(super) fn describe(&self, change: &mut ItemChange) {
        self.shelf.add(change, &self.url);
    }
}

impl Storefront {
    /// Listens on an address. Port 0 selects a free port.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub(super) fn bind(address: &str) -> anyhow::Result<Self> {
        let hint = "choose another address with `--shop-listen`, or port 0 for a free port";
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}; {hint}"))?;
        let url = format!("http://{}", listener.local_addr()?);
        Ok(Self { listener, url, shelf: ProductShelf::default() })
    }

    /// What adds products to this shop.
    pub(super) fn describer(&self) -> ProductDescriber {
        ProductDescriber { url: self.url.clone(), shelf: self.shelf.clone() }
    }

    /// The server of the pages. The browser finds the API at `api`.
    ///
    /// # Errors
    /// If the listener cannot be used.
    pub(super) fn into_server(self, api: &str) -> anyhow::Result<Server> {
        let pages = Data::new(ShopPages { api: api.to_owned(), shelf: self.shelf });
        // Scripts come from this server and from the daemon only, and nothing is inline.
        let policy = format!(
            "default-src 'none'; script-src 'self' {api}; style-src 'self'; img-src 'self'; connect-src 'self' {api}; \
             form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        );
        let app = move || {
            let headers = DefaultHeaders::new()
                .add((CONTENT_SECURITY_POLICY, policy.as_str()))
                .add((X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .add((REFERRER_POLICY, "no-referrer"))
                .add((CACHE_CONTROL, "no-cache"));
            App::new()
                .app_data(Data::clone(&pages))
                .wrap(headers)
                .route("/", web::get().to(home))
                .route("/categories/{name}", web::get().to(category))
                .route("/products/{id}", web::get().to(product))
                .route("/cart", web::get().to(cart))
                .route("/pictures/{id}.svg", web::get().to(picture))
                .route("/titles.json", web::get().to(titles))
                .route("/shop.css", web::get().to(|| asset("text/css; charset=utf-8", include_str!("shop.css"))))
                .route("/shop.js", web::get().to(|| asset("text/javascript; charset=utf-8", include_str!("shop.js"))))
                .route("/icon.svg", web::get().to(|| asset("image/svg+xml", include_str!("icon.svg"))))
                .default_service(web::to(missing))
        };
        let server = HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(1);
        Ok(server.listen(self.listener).context("cannot serve the shop")?.run())
    }
}

/// Creates the placements of the shop's pages.
///
/// # Errors
/// If the daemon does not accept a placement.
pub(super) async fn create_placements(daemon: &DaemonClient) -> anyhow::Result<()> {
    for (name, placement) in [
        ("home", json!({ "type": "for-you", "limit": 8 })),
        ("popular", json!({ "type": "trending", "limit": 4 })),
        ("similar", json!({ "type": "similar", "limit": 4 })),
        ("together", json!({ "type": "bought-together", "limit": 4 })),
        ("next", json!({ "type": "next-items", "limit": 4, "exclude_seen": true })),
        ("cart", json!({ "type": "bought-together", "limit": 4 })),
    ] {
        daemon.send_until_accepted(ApiRequest::put_placement_request(name, &placement)).await?;
    }
    Ok(())
}

fn html(page: String) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::html()).body(page)
}

async fn asset(content_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type(content_type).body(text)
}

async fn home(pages: Data<ShopPages>) -> HttpResponse {
    html(pages.home())
}

/// The page of a category that a request names.
#[derive(Deserialize)]
struct CategoryQuery {
    page: Option<usize>,
}

async fn category(pages: Data<ShopPages>, name: Path<String>, query: Query<CategoryQuery>) -> HttpResponse {
    pages.category(&name, query.page.unwrap_or(1)).map_or_else(|| not_found(&pages), html)
}

async fn product(pages: Data<ShopPages>, id: Path<String>) -> HttpResponse {
    pages.product(&id).map_or_else(|| not_found(&pages), html)
}

async fn cart(pages: Data<ShopPages>) -> HttpResponse {
    html(pages.cart())
}

async fn missing(pages: Data<ShopPages>) -> HttpResponse {
    not_found(&pages)
}

fn not_found(pages: &ShopPages) -> HttpResponse {
    HttpResponse::NotFound().content_type(ContentType::html()).body(pages.missing())
}

async fn picture(pages: Data<ShopPages>, id: Path<String>) -> HttpResponse {
    match pages.shelf.get(&id) {
        Some(product) => {
            let drawn = draw_picture(&product.category, product.number());
            HttpResponse::Ok().content_type("image/svg+xml").body(drawn)
        }
        None => HttpResponse::NotFound().finish(),
    }
}

/// The ids, separated by commas, whose titles a request asks for.
#[derive(Deserialize)]
struct TitlesQuery {
    ids: String,
}

async fn titles(pages: Data<ShopPages>, query: Query<TitlesQuery>) -> HttpResponse {
    let products = query.ids.split(',').take(MAX_TITLES).filter_map(|id| pages.shelf.get(id));
    let titles: BTreeMap<_, _> = products.map(|product| (product.id.clone(), product.title.clone())).collect();
    HttpResponse::Ok().json(titles)
}
