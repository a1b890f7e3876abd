//! The candidate sources, the item clusters and the map of the items.

use actix_web::HttpResponse;
use actix_web::web::Data;
use maud::{Markup, html};

use crate::http::console::format::{NO_VALUE_TEXT, detail_page_path, format_bytes, format_count};
use crate::http::console::layout::{page_or_problem, share_bar};
use crate::http::routes::admin::candidates::{CandidateSourcesView, ClusterView};
use crate::http::state::ApiState;

/// Largest number of clusters in the table.
const MAX_SHOWN_CLUSTERS: usize = 50;
/// Length of the longer side of the map, in SVG units.
const MAP_SIZE: f32 = 600.0;
/// Distance between the outermost points of the map and its border, in SVG units.
const MAP_MARGIN: f32 = 24.0;

pub(in crate::http) async fn candidates_page(api: Data<ApiState>) -> HttpResponse {
    page_or_problem("Recall", "Recall", CandidateSourcesView::collect(api).await.map(|recall| page_content(&recall)))
}

fn page_content(recall: &CandidateSourcesView) -> Markup {
    html! {
        p.lead { "The candidate sources and item clusters. Weights version " (format_count(recall.weights_version)) "." }
        section.card {
            h2 { "Sources" }
            (sources_section(recall))
        }
        section.card {
            h2 { "Map" }
            p.note {
                "Item embeddings, projected to their two principal components: " span.key-pos { (format_count(recall.clusters.len() as u64)) " clusters" } ", sized by their number of items, and the "
                span.key-neg { (format_count(recall.items.len() as u64)) " most popular items" } "."
            }
            @if recall.items.is_empty() { p.empty { "The network has no item embeddings yet." } } @else { (item_map_section(recall)) }
        }
        section.card {
            h2 { "Clusters" }
            @if recall.clusters.is_empty() {
                p.empty { "There are no clusters yet. Items are clustered every " code { "clusters.every" } " entries." }
            } @else {
                p.note { "The largest " (recall.clusters.len().min(MAX_SHOWN_CLUSTERS)) " of " (format_count(recall.clusters.len() as u64)) " clusters, with the most popular items of each." }
                (clusters_section(recall.clusters.get(..MAX_SHOWN_CLUSTERS).unwrap_or(&recall.clusters)))
            }
        }
    }
}

fn sources_section(recall: &CandidateSourcesView) -> Markup {
    let largest = recall.sources.iter().map(|source| source.bytes).max().unwrap_or(0).max(1) as f64;
    html! {
        div.scroll tabindex="0" role="region" aria-label="Sources" {
            table {
                thead { tr { th scope="col" { "Source" } th.number scope="col" { "Entries" } th scope="col" { "Memory" } } }
                tbody {
                    @for source in &recall.sources {
                        tr {
                            th scope="row" { (source.source.as_str()) }
                            // The network and its clusters report the size zero, because they
                            // consist of weights. The table shows no size for them.
                            @if source.bytes == 0 && source.entries == 0 { td.number { (NO_VALUE_TEXT) } td { (NO_VALUE_TEXT) } } @else {
                                td.number { (format_count(source.entries as u64)) }
                                td.metered { (share_bar(source.bytes as f64 / largest)) span { (format_bytes(source.bytes as u64)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn item_map_section(recall: &CandidateSourcesView) -> Markup {
    let points =
        || recall.clusters.iter().map(|cluster| cluster.position).chain(recall.items.iter().map(|item| item.position));
    let extent = |axis: usize| {
        let along = || points().filter_map(move |at| at.get(axis).copied());
        (along().fold(f32::INFINITY, f32::min), along().fold(f32::NEG_INFINITY, f32::max))
    };
    let ((left, right), (low, high)) = (extent(0), extent(1));
    let scale = (MAP_SIZE - 2.0 * MAP_MARGIN) / (right - left).max(high - low).max(f32::MIN_POSITIVE);
    let x = |at: [f32; 2]| format!("{:.1}", MAP_MARGIN + (at[0] - left) * scale);
    let y = |at: [f32; 2]| format!("{:.1}", MAP_MARGIN + (high - at[1]) * scale);
    let (width, height) = (2.0 * MAP_MARGIN + (right - left) * scale, 2.0 * MAP_MARGIN + (high - low) * scale);
    let largest = recall.clusters.iter().map(|cluster| cluster.size).max().unwrap_or(1).max(1) as f32;
    let label = format!(
        "Map of {} clusters and {} items; the clusters are in the table below",
        recall.clusters.len(),
        recall.items.len()
    );
    html! {
        svg.map viewBox=(format!("0 0 {width:.0} {height:.0}")) role="img" aria-label=(label) {
            @for item in &recall.items { circle.item cx=(x(item.position)) cy=(y(item.position)) r="1.8" { title { (item.item) } } }
            @for cluster in &recall.clusters {
                circle.cluster cx=(x(cluster.position)) cy=(y(cluster.position)) r=(format!("{:.1}", 2.0 + 12.0 * (cluster.size as f32 / largest).sqrt())) {
                    title { "Cluster " (cluster.cluster) ": " (cluster.size) " items, such as " (cluster.top_items.join(", ")) }
                }
            }
        }
    }
}

fn clusters_section(clusters: &[ClusterView]) -> Markup {
    let largest = clusters.iter().map(|cluster| cluster.size).max().unwrap_or(1).max(1) as f64;
    html! {
        div.scroll tabindex="0" role="region" aria-label="Clusters" {
            table {
                thead { tr { th.number scope="col" { "Cluster" } th scope="col" { "Items" } th scope="col" { "Most popular" } } }
                tbody {
                    @for cluster in clusters {
                        tr {
                            th.number scope="row" { (cluster.cluster) }
                            td.metered { (share_bar(cluster.size as f64 / largest)) span { (format_count(cluster.size as u64)) } }
                            td { span.tags { @for item in &cluster.top_items { a.tag href=(detail_page_path("/console/items", item)) { (item) } } } }
                        }
                    }
                }
            }
        }
    }
}
