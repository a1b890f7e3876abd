//! The model: its state, and the operations on it.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actors::error::RequestError;
use crate::domain::{ModelChange, ModelChangeCause, ModelOperation, Offset, Timestamp};
use crate::http::routes::admin::query::EmptyBody;
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::learner::{HealthMark, ModelHealth, NetworkSettings, is_rolled_back};

/// The state of the model.
#[derive(Debug, Serialize)]
pub(in crate::http) struct ModelStatus {
    pub(in crate::http) weights_version: u64,
    pub(in crate::http) learning_rate: Option<f32>,
    pub(in crate::http) paused: bool,
    /// Mean loss over all training batches, in nats.
    pub(in crate::http) mean_loss: Option<f64>,
    /// Current averages of ranking quality and loss: short-term averages, and long-term averages to
    /// compare them with.
    #[serde(rename = "now")]
    pub(in crate::http) current_health: HealthMark,
    /// Earlier values of `current_health`.
    #[serde(rename = "marks")]
    pub(in crate::http) health_history: Vec<HealthMark>,
    /// The checkpoints, ascending by offset.
    pub(in crate::http) checkpoints: Vec<CheckpointView>,
    /// The latest operations, newest first.
    #[serde(rename = "acts")]
    pub(in crate::http) operations: Vec<ModelOperationView>,
}

/// A checkpoint that the model can be rolled back to.
#[derive(Debug, Serialize)]
pub(in crate::http) struct CheckpointView {
    /// The first journal offset that the checkpoint does not include.
    pub(in crate::http) offset: Offset,
    pub(in crate::http) bytes: u64,
    pub(in crate::http) written_at: Timestamp,
    /// Whether a rollback to an earlier checkpoint has discarded this one.
    pub(in crate::http) discarded: bool,
}

/// An operation on the model.
#[derive(Debug, Serialize)]
pub(in crate::http) struct ModelOperationView {
    pub(in crate::http) offset: Offset,
    pub(in crate::http) timestamp: Timestamp,
    #[serde(rename = "act")]
    pub(in crate::http) operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "to")]
    pub(in crate::http) rollback_to: Option<Offset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) value: Option<f32>,
    pub(in crate::http) reason: &'static str,
}

impl ModelOperationView {
    fn new((offset, change): &(Offset, ModelChange)) -> Self {
        let (mut to, mut value) = (None, None);
        match change.operation {
            ModelOperation::Rollback { to: offset } => to = Some(offset),
            ModelOperation::LearningRate { value: rate } => value = Some(rate),
            ModelOperation::TrainingShare { halvings } => value = Some(0.5_f32.powi(i32::from(halvings))),
            ModelOperation::Pause | ModelOperation::Resume | ModelOperation::Recluster => {}
        }
        Self {
            offset: *offset,
            timestamp: change.timestamp,
            operation: change.operation.name(),
            rollback_to: to,
            value,
            reason: change.cause.name(),
        }
    }
}

/// Reads the state of the model from the learner actor.
///
/// # Errors
/// If the learner has stopped or the checkpoints cannot be read.
pub(in crate::http) async fn model_status(api: &ApiState) -> Result<ModelStatus, Problem> {
    let learner = api.system.model.status();
    let points = api.system.store.list_restore_points().map_err(RequestError::from)?;
    let health: &ModelHealth = &learner.health;
    Ok(ModelStatus {
        weights_version: api.system.recommender.snapshot().weights_version(),
        learning_rate: learner.report.learning_rate,
        paused: learner.report.is_paused,
        mean_loss: learner.report.training.mean_loss(),
        current_health: *health.current(),
        health_history: health.marks().copied().collect(),
        checkpoints: points
            .into_iter()
            .map(|point| CheckpointView {
                offset: point.offset,
                bytes: point.bytes,
                written_at: point.written_at,
                discarded: is_rolled_back(point.offset, &learner.operations),
            })
            .collect(),
        operations: learner.operations.iter().rev().map(ModelOperationView::new).collect(),
    })
}

pub(in crate::http) async fn get_model_status(api: Data<ApiState>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(model_status(&api).await?))
}

pub(in crate::http) async fn write_checkpoint(
    api: Data<ApiState>,
    _: Json<EmptyBody>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(json!({ "offset": api.system.model.write_checkpoint().await? })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RollbackRequest {
    to: Option<Offset>,
}

/// Rolls back to the requested checkpoint. If the request names none, rolls back to the newest
/// checkpoint that is not discarded.
pub(in crate::http) async fn roll_back_model(
    api: Data<ApiState>,
    Json(RollbackRequest { to }): Json<RollbackRequest>,
) -> Result<HttpResponse, Problem> {
    let to = match to {
        Some(to) => to,
        None => {
            let checkpoints = model_status(&api).await?.checkpoints;
            let newest =
                checkpoints.iter().rev().find(|checkpoint| !checkpoint.discarded).map(|checkpoint| checkpoint.offset);
            newest.ok_or_else(|| Problem::conflict("There is no checkpoint to roll back to yet."))?
        }
    };
    let offset = apply_model_operation(&api, ModelOperation::Rollback { to }).await?;
    Ok(HttpResponse::Ok().json(json!({ "offset": offset, "to": to })))
}

pub(in crate::http) async fn pause_learning(api: Data<ApiState>, _: Json<EmptyBody>) -> Result<HttpResponse, Problem> {
    offset_response(apply_model_operation(&api, ModelOperation::Pause).await?)
}

pub(in crate::http) async fn resume_learning(api: Data<ApiState>, _: Json<EmptyBody>) -> Result<HttpResponse, Problem> {
    offset_response(apply_model_operation(&api, ModelOperation::Resume).await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct LearningRateRequest {
    value: f32,
}

pub(in crate::http) async fn set_learning_rate(
    api: Data<ApiState>,
    Json(LearningRateRequest { value }): Json<LearningRateRequest>,
) -> Result<HttpResponse, Problem> {
    if !NetworkSettings::is_allowed_learning_rate(value) {
        return Err(Problem::out_of_range("value", value, NetworkSettings::ALLOWED_LEARNING_RATES));
    }
    offset_response(apply_model_operation(&api, ModelOperation::LearningRate { value }).await?)
}

pub(in crate::http) async fn recluster_items(api: Data<ApiState>, _: Json<EmptyBody>) -> Result<HttpResponse, Problem> {
    offset_response(apply_model_operation(&api, ModelOperation::Recluster).await?)
}

/// Applies an operation that an operator requested, and returns its journal offset.
pub(in crate::http) async fn apply_model_operation(
    api: &ApiState,
    operation: ModelOperation,
) -> Result<Offset, Problem> {
    let offset = api.system.model.apply_operation(operation, ModelChangeCause::Operator, api.clock.now()).await?;
    tracing::info!(offset, operation = operation.name(), "an operator changed the model");
    Ok(offset)
}

fn offset_response(offset: Offset) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(json!({ "offset": offset })))
}
