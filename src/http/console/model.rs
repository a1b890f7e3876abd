//! What has been learned, and the operator's hand on it.

use actix_web::HttpResponse;
use actix_web::web::Data;
use maud::{Markup, html};

use crate::http::console::chart::{ChartLine, TimeChart};
use crate::http::console::format::{NO_VALUE, format_bytes, format_count, format_seconds, format_timestamp};
use crate::http::console::layout::{act, page as written, tile};
use crate::http::console::overview::format_clock_time;
use crate::http::routes::admin::model::{ModelStatus, model_status};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::http::status::service_status::{ServiceHistory, ServiceStatus};

pub(in crate::http) async fn page(api: Data<ApiState>) -> HttpResponse {
    written("Model", "Model", content(api).await)
}

async fn content(api: Data<ApiState>) -> Result<Markup, Problem> {
    let (status, history) = (ServiceStatus::read(&api).await?, ServiceHistory::read(&api).await?);
    let model = model_status(&api).await?;
    let learning = &status.learning;
    let loss = |loss: Option<f64>| loss.map_or(NO_VALUE.to_owned(), |loss| format!("{loss:.4}"));
    let losses = history.samples.iter().filter_map(|moment| Some((moment.at as f64, moment.loss?)));
    let chart = TimeChart {
        id: "loss",
        title: "Loss of the latest training",
        x_axis: ("Time (UTC)", &format_clock_time),
        format_y: &|loss| format!("{loss:.3}"),
        lines: vec![ChartLine { name: "nats", points: losses.collect() }],
    };
    Ok(html! {
        dl.tiles.four {
            (tile("Weights", &format_count(learning.weights_version), Some(("learning.weights_version", "count")), "version in use"))
            (tile("Learned up to", &format_count(learning.next_offset), Some(("learning.next_offset", "count")), "journal offset"))
            (tile("Latest loss", &loss(learning.latest_loss), Some(("learning.latest_loss", "ratio")), "nats"))
            (tile("Mean loss", &loss(learning.mean_loss), Some(("learning.mean_loss", "ratio")), "nats, all trainings"))
            (tile("Examples", &format_count(learning.examples), Some(("learning.examples", "count")), "trained on"))
            (tile("Batches", &format_count(learning.batches), Some(("learning.batches", "count")), "trained on"))
            (tile("Left out", &format_count(learning.skipped_batches), Some(("learning.skipped_batches", "count")), "batches that were not finite"))
            (tile("Event to weights", &format_seconds(learning.weights_lag_seconds), Some(("learning.weights_lag_seconds", "seconds")), "oldest entry not in"))
        }
        div.charts { (chart.render()) (steering(&model)) }
        section.card {
            h2 { "Checkpoints" }
            p.note { "Rolling back puts the learned state of a checkpoint in place of the present one, at a journal offset, so that every fold of the journal does the same. To go forward again, roll back to a later one." }
            (act("/admin/model/checkpoint", None, "Written, up to offset {offset}.", html! { button { "Write one now" } }))
            div id="checkpoints" data-fresh {
                @if model.checkpoints.is_empty() { p.empty { "None has been written yet." } } @else {
                    div.scroll tabindex="0" role="region" aria-label="Checkpoints" {
                        table {
                            thead { tr { th.number scope="col" { "Offset" } th scope="col" { "Roll back" } th.number scope="col" { "Size" } th scope="col" { "Written (UTC)" } } }
                            tbody {
                                @for (place, checkpoint) in model.checkpoints.iter().rev().enumerate() {
                                    tr {
                                        th.number scope="row" { (format_count(checkpoint.offset)) }
                                        td { (roll_back(checkpoint.offset)) }
                                        td.number { (format_bytes(checkpoint.bytes)) }
                                        td { (format_timestamp(checkpoint.written_at)) @if place == 0 { " " span.badge { "newest" } } @if checkpoint.discarded { " " span.badge { "set aside" } } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        (acts(&model))
    })
}

fn roll_back(offset: u64) -> Markup {
    let question = format!(
        "Roll the model back to the checkpoint at offset {}? What was learned since then is set aside; the journal keeps everything.",
        format_count(offset)
    );
    act(
        "/admin/model/rollback",
        Some(&question),
        "Rolled back to offset {to}.",
        html! {
            input type="hidden" name="to" value=(offset) data-type="number";
            button aria-label=(format!("Roll back to offset {}", format_count(offset))) { "Roll back" }
        },
    )
}

/// What changes learning from here on.
fn steering(model: &ModelStatus) -> Markup {
    html! {
        section.card {
            h2 { "Steering" }
            p.note { "Each act is a record in the journal: it holds for every fold from its offset on." }
            dl.facts id="steering" data-fresh {
                div { dt { "Learning" } dd { @if model.paused { "paused" } @else { "under way" } } }
                div { dt { "Learning rate" } dd { (model.learning_rate.map_or(NO_VALUE.to_owned(), |rate| rate.to_string())) } }
            }
            div.row {
                (act("/admin/model/pause", None, "Paused at offset {offset}.", html! { button { "Pause learning" } }))
                (act("/admin/model/resume", None, "Resumed at offset {offset}.", html! { button { "Resume learning" } }))
                (act("/admin/recall/recluster", None, "Clustering begins at offset {offset}.", html! { button { "Cluster anew" } }))
            }
            (act("/admin/model/learning-rate", None, "In force from offset {offset} on.", html! {
                label for="rate" { "New learning rate" }
                input id="rate" name="value" data-type="number" inputmode="decimal" required pattern="[0-9.eE+\\-]+" placeholder="0.05";
                button { "Set" }
            }))
        }
    }
}

fn acts(model: &ModelStatus) -> Markup {
    html! {
        section.card {
            h2 { "Acts" }
            p.note { "What changed learning, the newest first." }
            div id="acts" data-fresh {
                @if model.operations.is_empty() { p.empty { "Nobody has changed anything yet." } } @else {
                    div.scroll tabindex="0" role="region" aria-label="Acts" {
                        table {
                            thead { tr { th.number scope="col" { "Offset" } th scope="col" { "When (UTC)" } th scope="col" { "Act" } th.number scope="col" { "To" } th.number scope="col" { "Value" } th scope="col" { "Reason" } } }
                            tbody {
                                @for act in &model.operations {
                                    tr {
                                        th.number scope="row" { (format_count(act.offset)) }
                                        td { (format_timestamp(act.timestamp)) }
                                        td { (act.operation) }
                                        td.number { (act.rollback_to.map_or(NO_VALUE.to_owned(), format_count)) }
                                        td.number { (act.value.map_or(NO_VALUE.to_owned(), |value| value.to_string())) }
                                        td { (act.reason) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
