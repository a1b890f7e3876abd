//! The state of the store, and its maintenance.

use actix_web::HttpResponse;
use actix_web::web::Data;
use maud::{Markup, html};

use crate::http::console::format::{format_bytes, format_count, format_timestamp};
use crate::http::console::layout::{operation_form, page_or_problem, value_tile};
use crate::http::routes::admin::store::{QuarantineView, StoreView};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;

pub(in crate::http) async fn store_page(api: Data<ApiState>) -> HttpResponse {
    page_or_problem("Store", "Store", page_content(api).await)
}

async fn page_content(api: Data<ApiState>) -> Result<Markup, Problem> {
    let (store, quarantine) = (StoreView::collect(Data::clone(&api)).await?, QuarantineView::collect(api).await?);
    let written: u64 = store.checkpoints.iter().map(|checkpoint| checkpoint.bytes).sum();
    Ok(html! {
        p.lead { "Data directory: " code { (store.directory.display()) } "." }
        dl.tiles.six {
            (value_tile("Database", &format_bytes(store.bytes_on_disk), Some(("journal.bytes_on_disk", "bytes")), "on disk"))
            (value_tile("Checkpoints", &format_bytes(written), None, &format!("in {} files", store.checkpoints.len())))
            (value_tile("Journal begins", &format_count(store.journal.begin), None, "first retained offset"))
            (value_tile("Journal ends", &format_count(store.journal.end), Some(("journal.next_offset", "count")), "offset of the next entry"))
            (value_tile("Sessions", &format_count(store.sessions as u64), None, "stored"))
            (value_tile("Quarantine", &format_count(store.quarantined as u64), Some(("quarantined", "count")), "skipped entries"))
        }
        div.charts {
            section.card {
                h2 { "Back up" }
                p.note { "Writes a backup to a new directory of this machine, or to a new " code { ".tar.gz" } " file, while the daemon runs. The backup includes every write that was acknowledged before it began." }
                (operation_form("/admin/backup", None, "Backed up: {entries} journal entries, {sessions} sessions, {items} items.", html! {
                    label for="target" { "Absolute path" }
                    input.wide id="target" name="target" required pattern="/.+" placeholder="/backups/monday" autocomplete="off" spellcheck="false";
                    button { "Back up" }
                }))
            }
            section.card {
                h2 { "Compact" }
                p.note { "Releases the disk space of overwritten and removed data." }
                (operation_form("/admin/store/compact", None, "Compacted from {bytes_before} to {bytes_after} bytes.", html! { button { "Compact" } }))
            }
        }
        section.card id="checkpoints" data-fresh {
            h2 { "Checkpoints" }
            @if store.checkpoints.is_empty() { p.empty { "There are no checkpoints yet." } } @else {
                div.scroll tabindex="0" role="region" aria-label="Checkpoints" {
                    table {
                        thead { tr { th.number scope="col" { "Offset" } th.number scope="col" { "Size" } th scope="col" { "Written (UTC)" } } }
                        tbody { @for checkpoint in &store.checkpoints {
                            tr { th.number scope="row" { (format_count(checkpoint.offset)) } td.number { (format_bytes(checkpoint.bytes)) } td { (format_timestamp(checkpoint.written_at)) } }
                        } }
                    }
                }
            }
        }
        section.card id="quarantine" data-fresh {
            h2 { "Quarantine" }
            @if quarantine.entries.is_empty() { p.empty { "The quarantine is empty." } } @else {
                p.note { "These entries stay in the journal. The named reader skips them, because processing them failed." }
                div.scroll tabindex="0" role="region" aria-label="Quarantine" {
                    table {
                        thead { tr { th.number scope="col" { "Offset" } th scope="col" { "Skipped by" } th scope="col" { "Reason" } th scope="col" { "Entry" } } }
                        tbody { @for passed in &quarantine.entries {
                            tr {
                                th.number scope="row" { (format_count(passed.record.offset)) }
                                td { (format!("{:?}", passed.record.reader).to_lowercase()) }
                                td { (passed.record.reason) }
                                td { @match &passed.entry {
                                    Some(entry) => details { summary { "Show" } code { (serde_json::to_string(entry).unwrap_or_default()) } },
                                    None => "no longer in the journal",
                                } }
                            }
                        } }
                    }
                }
            }
        }
    })
}
