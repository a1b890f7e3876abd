//! The list of items, and the page of one item.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Query};
use maud::{Markup, html};

use crate::domain::Item;
use crate::http::console::format::{NO_VALUE_TEXT, detail_page_path, format_count, format_timestamp};
use crate::http::console::layout::{page_or_problem, share_bar, value_tile};
use crate::http::console::sessions::render_heat_strip;
use crate::http::routes::admin::items::{ItemSearchQuery, ItemSearchResult, ItemSummary, ItemView};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;

/// The path of the list of items. The page of an item is below this path.
const ITEMS_PATH: &str = "/console/items";

pub(in crate::http) async fn list_page(api: Data<ApiState>, query: Query<ItemSearchQuery>) -> HttpResponse {
    page_or_problem("Items", "Items", list_content(api, query.into_inner()).await)
}

async fn list_content(api: Data<ApiState>, query: ItemSearchQuery) -> Result<Markup, Problem> {
    let items = ItemSearchResult::collect(api, &query).await?;
    Ok(html! {
        form.search action=(ITEMS_PATH) method="get" role="search" {
            label for="query" { "Item id contains" }
            input id="query" name="query" type="search" value=(query.query) autocomplete="off" spellcheck="false";
            button { "Search" }
        }
        section.card id="items" data-fresh {
            @if items.items.is_empty() {
                p.empty { @if query.query.is_empty() { "There are no items yet." } @else { "No item id contains this text." } }
            } @else {
                p.note { "The " (format_count(items.items.len() as u64)) " of " (format_count(items.matching as u64)) " items, most popular first. Counts decay with a half-life of 300 or 5,000 entries." }
                div.scroll tabindex="0" role="region" aria-label="Items" {
                    table {
                        thead { tr {
                            th scope="col" { "Item" }
                            th.number scope="col" { "Half-life 300" }
                            th.number scope="col" { "Half-life 5,000" }
                            th.number scope="col" { "Sessions" }
                            th scope="col" { "Category" }
                            th.number scope="col" { "Price" }
                            th scope="col" { "State" }
                        } }
                        tbody { @for line in &items.items { (item_row(line)) } }
                    }
                }
            }
        }
    })
}

fn item_row(line: &ItemSummary) -> Markup {
    let counts = line.counts.as_ref();
    let known = line.attributes.as_ref();
    html! {
        tr {
            th scope="row" { a href=(detail_page_path(ITEMS_PATH, &line.item)) { (line.item) } }
            td.number { (counts.map_or(NO_VALUE_TEXT.to_owned(), |counts| format!("{:.1}", counts.hour))) }
            td.number { (counts.map_or(NO_VALUE_TEXT.to_owned(), |counts| format!("{:.1}", counts.day))) }
            td.number { (counts.map_or(NO_VALUE_TEXT.to_owned(), |counts| format_count(u64::from(counts.sessions)))) }
            td { (known.map(|item| item.categories.join(", ")).filter(|names| !names.is_empty()).unwrap_or_else(|| NO_VALUE_TEXT.to_owned())) }
            td.number { (known.and_then(|item| item.price).map_or(NO_VALUE_TEXT.to_owned(), |price| price.to_string())) }
            td { (availability_badge(known)) }
        }
    }
}

fn availability_badge(item: Option<&Item>) -> Markup {
    html! { @match item {
        None => span.badge data-state="bad" { "deleted" },
        Some(item) if !item.available => span.badge data-state="warn" { "not available" },
        Some(_) => span.badge data-state="good" { "available" },
    } }
}

pub(in crate::http) async fn item_detail_page(api: Data<ApiState>, item: Path<String>) -> HttpResponse {
    let item = item.into_inner();
    let title = format!("Item {item}");
    page_or_problem("Items", &title, ItemView::collect(api, item).await.map(|view| item_content(&view)))
}

fn item_content(view: &ItemView) -> Markup {
    let format_counts = |format: &dyn Fn(&crate::learner::ItemCounts) -> String| {
        view.counts.as_ref().map_or(NO_VALUE_TEXT.to_owned(), format)
    };
    let highest = view.similar.iter().map(|other| other.score).fold(f32::MIN_POSITIVE, f32::max);
    html! {
        p.lead { (availability_badge(view.attributes.as_ref())) " Item number " (view.number) "." }
        dl.tiles.six {
            (value_tile("Half-life 300", &format_counts(&|counts| format!("{:.1}", counts.hour)), None, "target events, decayed"))
            (value_tile("Half-life 5,000", &format_counts(&|counts| format!("{:.1}", counts.day)), None, "target events, decayed"))
            (value_tile("Sessions", &format_counts(&|counts| format_count(u64::from(counts.sessions))), None, "with a target event"))
            (value_tile("First event", &format_counts(&|counts| format_count(counts.first)), None, "journal offset"))
            (value_tile("Latest event", &format_counts(&|counts| format_count(counts.last)), None, "journal offset"))
            (value_tile("Cluster", &view.cluster.map_or(NO_VALUE_TEXT.to_owned(), |cluster| cluster.to_string()), None, "nearest cluster"))
        }
        @if let Some(item) = &view.attributes { (attributes_section(item)) }
        @if let Some(embedding) = &view.embedding {
            section.card {
                h2 { "Embedding" }
                p.note { "The item's vector in the network: " (embedding.len()) " values, " span.key-pos { "above 0" } " and " span.key-neg { "below 0" } "." }
                (render_heat_strip("embedding", embedding))
            }
        }
        section.card {
            h2 { "Similar items" }
            @if view.similar.is_empty() { p.empty { "There are no similar items yet." } } @else {
                div.scroll tabindex="0" role="region" aria-label="Similar items" {
                    table {
                        thead { tr { th.number scope="col" { "#" } th scope="col" { "Item" } th scope="col" { "Similarity" } th scope="col" { "Source" } } }
                        tbody {
                            @for (place, other) in view.similar.iter().enumerate() {
                                tr {
                                    td.number { (place + 1) }
                                    th scope="row" { a href=(detail_page_path(ITEMS_PATH, &other.item_id)) { (other.item_id) } }
                                    td.metered { (share_bar(f64::from(other.score / highest))) span { (format!("{:.3}", other.score)) } }
                                    td { (other.source.as_str()) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn attributes_section(item: &Item) -> Markup {
    let or_none =
        |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| NO_VALUE_TEXT.to_owned());
    let rows = [
        ("Categories", or_none(Some(item.categories.join(", ")))),
        ("Brand", or_none(item.brand.clone())),
        ("Price", or_none(item.price.map(|price| price.to_string()))),
        ("Tags", or_none(Some(item.tags.join(", ")))),
        ("Published", or_none(item.published.map(format_timestamp))),
        ("Expires", or_none(item.expires.map(format_timestamp))),
    ];
    html! {
        section.card {
            h2 { "Catalog attributes" }
            dl.facts { @for (name, value) in rows { div { dt { (name) } dd { (value) } } } }
        }
    }
}
