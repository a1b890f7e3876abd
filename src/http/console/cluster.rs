//! The nodes of the cluster.

use actix_web::HttpResponse;
use actix_web::web::Data;
use maud::{Markup, html};

use crate::http::console::format::format_count;
use crate::http::console::layout::{page_or_problem, value_tile};
use crate::http::routes::admin::cluster::ClusterStatus;
use crate::http::state::ApiState;

/// Number of characters of a hash in the table.
const SHOWN_HASH_CHARS: usize = 12;

pub(in crate::http) async fn cluster_page(api: Data<ApiState>) -> HttpResponse {
    let content = ClusterStatus::collect(&api).map_or_else(single_node, |status| page_content(&status));
    page_or_problem("Cluster", "Cluster", Ok(content))
}

fn single_node() -> Markup {
    html! {
        section.card {
            p.empty { "This daemon is a single node." }
            p.note { "Several daemons share one journal if " code { "cluster.servers" } " names NATS servers." }
        }
    }
}

fn page_content(status: &ClusterStatus) -> Markup {
    let connection = if status.is_cut_off { "cut off from the servers" } else { "connected" };
    html! {
        p.lead { "Node " code { (status.node) } " of the cluster " code { (status.cluster) } ", " (connection) "." }
        dl.tiles {
            (value_tile("Nodes", &format_count(status.nodes.len() as u64), None, "that report their state"))
            (value_tile("Journal ends", &format_count(status.offset), None, "offset of the next entry"))
            (value_tile("Message", &format_count(status.sequence), None, &format!("of {} in the log", format_count(status.last_sequence))))
            (value_tile("Erased through", &format_count(status.erased_through), None, &format!("of {}, on nodes and servers", format_count(status.last_removal))))
            (value_tile("Lag", &format_count(status.lag_entries), None, "entries, at least"))
        }
        @if let Some(problem) = &status.problem {
            section.card { h2 { "This node is not ready" } p { (problem) } }
        }
        section.card id="nodes" data-fresh {
            h2 { "Nodes" }
            p.note { "Equal hashes at the same message mean equal journals. Equal hashes at the same offset mean equal learned states." }
            (node_table(status))
        }
    }
}

fn node_table(status: &ClusterStatus) -> Markup {
    let furthest = status.nodes.iter().map(|node| node.offset).max().unwrap_or_default();
    let hash = |hash: &str| hash.chars().take(SHOWN_HASH_CHARS).collect::<String>();
    html! {
        div.scroll tabindex="0" role="region" aria-label="Nodes" {
            table {
                thead { tr {
                    th scope="col" { "Node" } th scope="col" { "Role" } th.number scope="col" { "Offset" } th.number scope="col" { "Lag" }
                    th.number scope="col" { "Message" } th scope="col" { "Hash" } th scope="col" { "Learned state" } th scope="col" { "Version" } th scope="col" { "Problem" }
                } }
                tbody { @for node in &status.nodes {
                    tr {
                        th scope="row" { (node.node) }
                        td { (node.role.name()) }
                        td.number { (format_count(node.offset)) }
                        td.number { (format_count(furthest.saturating_sub(node.offset))) }
                        td.number { (format_count(node.sequence)) }
                        td { code { (hash(&node.chain)) } }
                        td { @if let Some(state) = node.states.last() { code { (hash(&state.digest)) } " at " (format_count(state.offset)) } }
                        td { (node.version) }
                        td { (node.problem) }
                    }
                } }
            }
        }
    }
}
