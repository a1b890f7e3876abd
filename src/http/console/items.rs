//! The items, and what is known of one.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Query};
use maud::{Markup, html};

use crate::domain::Item;
use crate::http::console::format::{NO_VALUE, detail_path, format_count, format_timestamp};
use crate::http::console::layout::{page, share_bar, tile};
use crate::http::console::sessions::heat_strip;
use crate::http::routes::admin::items::{ItemSearchQuery, ItemSearchResult, ItemSummary, ItemView};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;

/// Where the items' pages are.
const HERE: &str = "/console/items";

pub(in crate::http) async fn list_page(api: Data<ApiState>, wanted: Query<ItemSearchQuery>) -> HttpResponse {
    page("Items", "Items", listed(api, wanted.into_inner()).await)
}

async fn listed(api: Data<ApiState>, wanted: ItemSearchQuery) -> Result<Markup, Problem> {
    let items = ItemSearchResult::read(api, &wanted).await?;
    Ok(html! {
        form.search action=(HERE) method="get" role="search" {
            label for="query" { "Item id holds" }
            input id="query" name="query" type="search" value=(wanted.query) autocomplete="off" spellcheck="false";
            button { "Search" }
        }
        section.card id="items" data-fresh {
            @if items.items.is_empty() {
                p.empty { @if wanted.query.is_empty() { "No item is known yet." } @else { "No item's id holds this." } }
            } @else {
                p.note { "The most popular " (format_count(items.items.len() as u64)) " of " (format_count(items.matching as u64)) ". Counts decay: by half every 300 entries, and every 5,000." }
                div.scroll tabindex="0" role="region" aria-label="Items" {
                    table {
                        thead { tr {
                            th scope="col" { "Item" }
                            th.number scope="col" { "Latest 300" }
                            th.number scope="col" { "Latest 5,000" }
                            th.number scope="col" { "Sessions" }
                            th scope="col" { "Category" }
                            th.number scope="col" { "Price" }
                            th scope="col" { "State" }
                        } }
                        tbody { @for line in &items.items { (row(line)) } }
                    }
                }
            }
        }
    })
}

fn row(line: &ItemSummary) -> Markup {
    let counts = line.counts.as_ref();
    let known = line.attributes.as_ref();
    html! {
        tr {
            th scope="row" { a href=(detail_path(HERE, &line.item)) { (line.item) } }
            td.number { (counts.map_or(NO_VALUE.to_owned(), |counts| format!("{:.1}", counts.hour))) }
            td.number { (counts.map_or(NO_VALUE.to_owned(), |counts| format!("{:.1}", counts.day))) }
            td.number { (counts.map_or(NO_VALUE.to_owned(), |counts| format_count(u64::from(counts.sessions)))) }
            td { (known.map(|item| item.categories.join(", ")).filter(|names| !names.is_empty()).unwrap_or_else(|| NO_VALUE.to_owned())) }
            td.number { (known.and_then(|item| item.price).map_or(NO_VALUE.to_owned(), |price| price.to_string())) }
            td { (state(known)) }
        }
    }
}

fn state(item: Option<&Item>) -> Markup {
    html! { @match item {
        None => span.badge data-state="bad" { "deleted" },
        Some(item) if !item.available => span.badge data-state="warn" { "not available" },
        Some(_) => span.badge data-state="good" { "available" },
    } }
}

pub(in crate::http) async fn item_page(api: Data<ApiState>, item: Path<String>) -> HttpResponse {
    let item = item.into_inner();
    let title = format!("Item {item}");
    page("Items", &title, ItemView::read(api, item).await.map(|view| shown(&view)))
}

fn shown(view: &ItemView) -> Markup {
    let counted = |figure: &dyn Fn(&crate::learner::ItemCounts) -> String| view.counts.as_ref().map_or(NO_VALUE.to_owned(), figure);
    let highest = view.similar.iter().map(|other| other.score).fold(f32::MIN_POSITIVE, f32::max);
    html! {
        p.lead { (state(view.attributes.as_ref())) " Number " (view.number) ", as the journal first named it." }
        dl.tiles.six {
            (tile("Latest 300", &counted(&|counts| format!("{:.1}", counts.hour)), None, "choices, halving every 300 entries"))
            (tile("Latest 5,000", &counted(&|counts| format!("{:.1}", counts.day)), None, "choices, halving every 5,000"))
            (tile("Sessions", &counted(&|counts| format_count(u64::from(counts.sessions))), None, "that chose it"))
            (tile("First choice", &counted(&|counts| format_count(counts.first)), None, "journal offset"))
            (tile("Latest choice", &counted(&|counts| format_count(counts.last)), None, "journal offset"))
            (tile("Cluster", &view.cluster.map_or(NO_VALUE.to_owned(), |cluster| cluster.to_string()), None, "of embeddings"))
        }
        @if let Some(item) = &view.attributes { (attributes(item)) }
        @if let Some(embedding) = &view.embedding {
            section.card {
                h2 { "Embedding" }
                p.note { "What the network scores the item by: " (embedding.len()) " numbers, " span.key-pos { "above 0" } " and " span.key-neg { "below" } "." }
                (heat_strip("embedding", embedding))
            }
        }
        section.card {
            h2 { "Similar items" }
            @if view.similar.is_empty() { p.empty { "None is known yet." } } @else {
                div.scroll tabindex="0" role="region" aria-label="Similar items" {
                    table {
                        thead { tr { th.number scope="col" { "#" } th scope="col" { "Item" } th scope="col" { "Likeness" } th scope="col" { "Source" } } }
                        tbody {
                            @for (place, other) in view.similar.iter().enumerate() {
                                tr {
                                    td.number { (place + 1) }
                                    th scope="row" { a href=(detail_path(HERE, &other.item_id)) { (other.item_id) } }
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

fn attributes(item: &Item) -> Markup {
    let or_none = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| NO_VALUE.to_owned());
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
            h2 { "What the catalog says" }
            dl.facts { @for (name, value) in rows { div { dt { (name) } dd { (value) } } } }
        }
    }
}
