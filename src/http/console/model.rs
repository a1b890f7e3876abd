//! The state of the model, and operations on it.

use actix_web::HttpResponse;
use actix_web::web::Data;
use maud::{Markup, html};

use crate::domain::InterestScale;
use crate::http::console::chart::{ChartLine, TimeChart};
use crate::http::console::features::features_section;
use crate::http::console::format::{NO_VALUE_TEXT, format_bytes, format_count, format_seconds, format_timestamp};
use crate::http::console::layout::{operation_form, page_or_problem, value_tile};
use crate::http::console::overview::format_clock_time;
use crate::http::routes::admin::features::FeaturesView;
use crate::http::routes::admin::model::{ModelStatus, model_status};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::http::status::service_status::{ServiceHistory, ServiceStatus};
use crate::learner::InterestErrors;

pub(in crate::http) async fn model_page(api: Data<ApiState>) -> HttpResponse {
    page_or_problem("Model", "Model", page_content(api).await)
}

async fn page_content(api: Data<ApiState>) -> Result<Markup, Problem> {
    let (status, history) = (ServiceStatus::collect(&api), ServiceHistory::collect(&api));
    let model = model_status(&api).await?;
    let learning = &status.learning;
    let loss = |loss: Option<f64>| loss.map_or(NO_VALUE_TEXT.to_owned(), |loss| format!("{loss:.4}"));
    let losses = history.samples.iter().filter_map(|sample| Some((sample.at as f64, sample.loss?)));
    let chart = TimeChart {
        id: "loss",
        title: "Training loss",
        x_axis: ("Time (UTC)", &format_clock_time),
        format_y: &|loss| format!("{loss:.3}"),
        lines: vec![ChartLine { name: "nats", points: losses.collect() }],
    };
    Ok(html! {
        dl.tiles.four {
            (value_tile("Weights", &format_count(learning.weights_version), Some(("learning.weights_version", "count")), "version in use"))
            (value_tile("Learned up to", &format_count(learning.next_offset), Some(("learning.next_offset", "count")), "journal offset"))
            (value_tile("Latest loss", &loss(learning.latest_loss), Some(("learning.latest_loss", "ratio")), "nats"))
            (value_tile("Mean loss", &loss(learning.mean_loss), Some(("learning.mean_loss", "ratio")), "nats, all batches"))
            (value_tile("Examples", &format_count(learning.examples), Some(("learning.examples", "count")), "trained"))
            (value_tile("Batches", &format_count(learning.batches), Some(("learning.batches", "count")), "trained"))
            (value_tile("Skipped", &format_count(learning.skipped_batches), Some(("learning.skipped_batches", "count")), "non-finite batches"))
            (value_tile("Event to weights", &format_seconds(learning.weights_lag_seconds), Some(("learning.weights_lag_seconds", "seconds")), "wait of the oldest untrained entry"))
        }
        div.charts { (chart.render()) (control_section(&model)) }
        (interest_section(&status.quality.interest))
        (features_section(&FeaturesView::new(&api.system.recommender.snapshot())))
        section.card {
            h2 { "Checkpoints" }
            p.note { "A rollback replaces the model by the state of a checkpoint. It is recorded in the journal, so that every replay repeats it. To undo a rollback, roll back to a later checkpoint." }
            (operation_form("/admin/model/checkpoint", None, "Checkpoint written at offset {offset}.", html! { button { "Write a checkpoint" } }))
            div id="checkpoints" data-fresh {
                @if model.checkpoints.is_empty() { p.empty { "There are no checkpoints yet." } } @else {
                    div.scroll tabindex="0" role="region" aria-label="Checkpoints" {
                        table {
                            thead { tr { th.number scope="col" { "Offset" } th scope="col" { "Roll back" } th.number scope="col" { "Size" } th scope="col" { "Written (UTC)" } } }
                            tbody {
                                @for (place, checkpoint) in model.checkpoints.iter().rev().enumerate() {
                                    tr {
                                        th.number scope="row" { (format_count(checkpoint.offset)) }
                                        td { (rollback_form(checkpoint.offset)) }
                                        td.number { (format_bytes(checkpoint.bytes)) }
                                        td { (format_timestamp(checkpoint.written_at)) @if place == 0 { " " span.badge { "newest" } } @if checkpoint.discarded { " " span.badge { "discarded" } } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        (operations_section(&model))
    })
}

/// The errors of the predicted event values.
fn interest_section(kinds: &[InterestErrors]) -> Markup {
    html! {
        section.card {
            h2 { "Predicted values" }
            p.note { "Errors over the latest events with a value. The baseline knows only the mean, and how much the user and the item deviate from it. The calibration is squared error / predicted variance: 1 means that the stated uncertainty is right." }
            div id="interest" data-fresh {
                @if kinds.is_empty() { p.empty { "No user has sent a second event with a value yet." } } @else {
                    div.scroll tabindex="0" role="region" aria-label="Predicted values" {
                        table {
                            thead { tr { th scope="col" { "Kind" } th.number scope="col" { "Events" } th.number scope="col" { "MSE" } th.number scope="col" { "Baseline MSE" } th.number scope="col" { "RMSE" } th.number scope="col" { "MAE" } th.number scope="col" { "Calibration" } } }
                            tbody {
                                @for kind in kinds {
                                    tr {
                                        th scope="row" { (kind.kind) @if kind.scale == InterestScale::Logarithmic { " (logarithms)" } }
                                        td.number { (format_count(kind.tests)) }
                                        @for error in [kind.mse, kind.baseline_mse, kind.rmse, kind.mae, kind.calibration] { td.number { (format!("{error:.3}")) } }
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

fn rollback_form(offset: u64) -> Markup {
    let question = format!(
        "Roll the model back to the checkpoint at offset {}? Later learning is discarded; the journal is unchanged.",
        format_count(offset)
    );
    operation_form(
        "/admin/model/rollback",
        Some(&question),
        "Rolled back to offset {to}.",
        html! {
            input type="hidden" name="to" value=(offset) data-type="number";
            button aria-label=(format!("Roll back to offset {}", format_count(offset))) { "Roll back" }
        },
    )
}

/// The forms that control learning.
fn control_section(model: &ModelStatus) -> Markup {
    html! {
        section.card {
            h2 { "Control" }
            p.note { "Each operation is recorded in the journal, so that every replay repeats it at the same offset." }
            dl.facts id="steering" data-fresh {
                div { dt { "Learning" } dd { @if model.paused { "paused" } @else { "running" } } }
                div { dt { "Learning rate" } dd { (model.learning_rate.map_or(NO_VALUE_TEXT.to_owned(), |rate| rate.to_string())) } }
            }
            div.row {
                (operation_form("/admin/model/pause", None, "Paused at offset {offset}.", html! { button disabled[model.paused] data-disabled-by="learning.paused" { "Pause learning" } }))
                (operation_form("/admin/model/resume", None, "Resumed at offset {offset}.", html! { button disabled[!model.paused] data-enabled-by="learning.paused" { "Resume learning" } }))
                (operation_form("/admin/recall/recluster", None, "Clustering starts at offset {offset}.", html! { button { "Recluster" } }))
            }
            (operation_form("/admin/model/learning-rate", None, "In effect from offset {offset} on.", html! {
                label for="rate" { "New learning rate" }
                input id="rate" name="value" data-type="number" inputmode="decimal" required title="above 0, at most 10" pattern="[0-9.eE+\\-]+" placeholder="0.05";
                button { "Set" }
            }))
        }
    }
}

fn operations_section(model: &ModelStatus) -> Markup {
    html! {
        section.card {
            h2 { "Operations" }
            p.note { "Operations on the model, newest first." }
            div id="acts" data-fresh {
                @if model.operations.is_empty() { p.empty { "There are no operations yet." } } @else {
                    div.scroll tabindex="0" role="region" aria-label="Operations" {
                        table {
                            thead { tr { th.number scope="col" { "Offset" } th scope="col" { "Time (UTC)" } th scope="col" { "Operation" } th.number scope="col" { "To" } th.number scope="col" { "Value" } th scope="col" { "Reason" } } }
                            tbody {
                                @for act in &model.operations {
                                    tr {
                                        th.number scope="row" { (format_count(act.offset)) }
                                        td { (format_timestamp(act.timestamp)) }
                                        td { (act.operation) }
                                        td.number { (act.rollback_to.map_or(NO_VALUE_TEXT.to_owned(), format_count)) }
                                        td.number { (act.value.map_or(NO_VALUE_TEXT.to_owned(), |value| value.to_string())) }
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
