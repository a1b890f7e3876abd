//! Lists sessions, and inspects how a user's recommendation is computed, stage by stage. These
//! requests change nothing.

use actix_web::web::{self, Data, Json, Path, Query};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::actors::error::RequestError;
use crate::domain::{
    Fallback, ItemIx, Offset, RecommendedItem, RemovalCounts, SourceName, Step, Timestamp, UserSequence,
};
use crate::http::routes::admin::query::ListLimit;
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::ingest::IdKind;
use crate::learner::{InspectedCandidate, InspectedPosition, RankingInspection, RecommendationRequest};
use crate::services::recommendation::to_recommended_item;

/// The query for a list of sessions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::http) struct SessionsQuery {
    pub(in crate::http) limit: ListLimit,
    /// The text with which the listed user ids must begin.
    pub(in crate::http) user: String,
}

/// A list of sessions.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SessionList {
    pub(in crate::http) sessions: Vec<SessionSummary>,
    /// Whether more sessions match the query than the list contains.
    #[serde(rename = "more")]
    pub(in crate::http) has_more: bool,
}

/// A session in a list.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SessionSummary {
    pub(in crate::http) user: String,
    /// Seconds since the last use of the session. Absent if the session is not in memory.
    pub(in crate::http) idle_seconds: Option<u64>,
    /// The number of sessions that the user has had.
    pub(in crate::http) sessions: u32,
    /// The number of events in the user's sequence, which holds only the latest events.
    pub(in crate::http) events: usize,
    pub(in crate::http) last_item: Option<String>,
    pub(in crate::http) last_at: Option<Timestamp>,
}

impl SessionList {
    /// Lists the sessions in memory first, the most recently used on top. The other stored sessions
    /// follow in the order of their user ids.
    ///
    /// # Errors
    /// A problem if the limit is out of range or the store cannot be read.
    pub(in crate::http) async fn collect(api: Data<ApiState>, query: &SessionsQuery) -> Result<Self, Problem> {
        let (limit, mut prefix) = (query.limit.validate()?, query.user.clone());
        // If the daemon pseudonymises ids, the prefix may be the beginning of a pseudonym or a
        // complete original id. If no stored user id begins with the prefix, it is treated as an
        // original id.
        let is_pseudonym =
            |prefix: &str| Ok::<_, RequestError>(api.system.store.sessions().iter_prefix(prefix)?.next().is_some());
        if !prefix.is_empty()
            && api.rules.pseudonymiser.is_some()
            && api.system.inspection.live_sessions(&prefix, 1).await?.is_empty()
            && !is_pseudonym(&prefix)?
        {
            prefix = api.rules.internal_id(IdKind::User, prefix);
        }
        let live = api.system.inspection.live_sessions(&prefix, limit + 1).await?;
        let read = web::block(move || {
            let stored = api.system.store.sessions();
            let mut summaries = Vec::new();
            let mut listed = FxHashSet::default();
            // The list skips damaged records. `sequor verify` reports them, and the next event of
            // the user repairs them.
            for (user, idle) in live {
                let session = stored.get(&user).ok().flatten().map(|record| record.sequence).unwrap_or_default();
                listed.insert(user.clone());
                summaries.push(session_summary(&api, user, Some(idle.as_secs()), &session));
            }
            for read in stored.iter_prefix(&prefix)? {
                if summaries.len() > limit {
                    break;
                }
                let Ok((user, record)) = read else { continue };
                if !listed.contains(&user) {
                    summaries.push(session_summary(&api, user, None, &record.sequence));
                }
            }
            let has_more = summaries.len() > limit;
            summaries.truncate(limit);
            Ok::<_, RequestError>(Self { sessions: summaries, has_more })
        });
        Ok(read.await.map_err(|_| Problem::internal())??)
    }
}

fn session_summary(api: &ApiState, user: String, idle_seconds: Option<u64>, session: &UserSequence) -> SessionSummary {
    let last = session.steps.last();
    SessionSummary {
        user,
        idle_seconds,
        sessions: session.session_number,
        events: session.steps.len(),
        last_item: session.steps.iter().rev().find_map(|step| item_name(api, step.item?)),
        last_at: last.map(|step| step.at),
    }
}

/// A user's session, and the stages of computing a recommendation for it.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SessionInspection {
    pub(in crate::http) user: String,
    /// The number of sessions that the user has had.
    pub(in crate::http) sessions: u32,
    /// The id that the client gave to the current session.
    pub(in crate::http) session_id: Option<String>,
    /// The first journal offset that the session does not include.
    pub(in crate::http) applied: Offset,
    /// The user's latest events, oldest first.
    pub(in crate::http) sequence: Vec<SequenceStep>,
    /// The hidden state of the network; absent without a network.
    pub(in crate::http) hidden: Option<HiddenStateView>,
    pub(in crate::http) candidates: CandidatesView,
    /// The best candidates, with the ranker's inputs of each.
    pub(in crate::http) ranking: Vec<RankedCandidate>,
    /// The recommendation, with explanations.
    pub(in crate::http) answer: RecommendationPreview,
}

/// An event in the user's sequence.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SequenceStep {
    pub(in crate::http) item: Option<String>,
    #[serde(rename = "type")]
    pub(in crate::http) kind: String,
    pub(in crate::http) at: Timestamp,
    pub(in crate::http) value: f32,
    /// Whether the event starts a session.
    #[serde(rename = "boundary")]
    pub(in crate::http) starts_session: bool,
}

/// The hidden state.
#[derive(Debug, Serialize)]
pub(in crate::http) struct HiddenStateView {
    /// The version of the weights with which the state was computed.
    pub(in crate::http) weights_version: u64,
    /// The norm of the output vector o. An item's score is the product of its embedding and o.
    pub(in crate::http) norm: f32,
    /// The vectors of the state: h of each layer (and c, if the cell has one), the memory m, the
    /// last input x and the output o.
    pub(in crate::http) vectors: Vec<HiddenVector>,
}

/// A named vector of the hidden state.
#[derive(Debug, Serialize)]
pub(in crate::http) struct HiddenVector {
    pub(in crate::http) name: String,
    pub(in crate::http) norm: f32,
    pub(in crate::http) values: Vec<f32>,
}

/// The candidates of each source.
#[derive(Debug, Serialize)]
pub(in crate::http) struct CandidatesView {
    /// The number of candidates that the sources generated, of which only the best were kept.
    #[serde(rename = "gathered")]
    pub(in crate::http) generated: usize,
    /// The number of candidates that were kept and ranked.
    pub(in crate::http) kept: usize,
    pub(in crate::http) sources: Vec<SourceCandidates>,
}

/// One source's best candidates.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SourceCandidates {
    pub(in crate::http) source: SourceName,
    /// The number of ranked candidates from this source.
    #[serde(rename = "brought")]
    pub(in crate::http) candidate_count: usize,
    pub(in crate::http) items: Vec<SourceCandidate>,
}

/// A candidate in the list of one source.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SourceCandidate {
    pub(in crate::http) item: String,
    /// The share of the item in the evidence of the source, in [0, 1]: the item's weight divided by
    /// the total weight.
    pub(in crate::http) share: f32,
    /// The item's rank among all ranked candidates, 1 for the best. Absent if the item was dropped
    /// before ranking, because the sources generated too many candidates.
    pub(in crate::http) rank: Option<usize>,
}

/// A ranked candidate.
#[derive(Debug, Serialize)]
pub(in crate::http) struct RankedCandidate {
    pub(in crate::http) item: String,
    pub(in crate::http) score: f32,
    pub(in crate::http) source: SourceName,
    /// The item's rank among the candidates of each source.
    pub(in crate::http) ranks: BTreeMap<&'static str, usize>,
    /// The item's share in each evidence column. A column contains the weights that one kind of
    /// evidence gives to items; a share is a weight divided by the total.
    #[serde(rename = "shares")]
    pub(in crate::http) evidence: BTreeMap<&'static str, f32>,
    /// The values of the ranker's features for the item.
    #[serde(rename = "facts")]
    pub(in crate::http) features: BTreeMap<&'static str, f32>,
}

/// The recommendation that the user would get.
#[derive(Debug, Serialize)]
pub(in crate::http) struct RecommendationPreview {
    /// The version of the weights that produced the ranking.
    pub(in crate::http) weights_version: u64,
    pub(in crate::http) items: Vec<RecommendedItem>,
    pub(in crate::http) fallback: Fallback,
    pub(in crate::http) removed: RemovalCounts,
}

/// Largest number of items in each list of an inspection.
const MAX_INSPECTED_ITEMS: usize = 20;

impl SessionInspection {
    /// Inspects a user's session. The user's shard only provides the session. The ranking is
    /// computed on another thread, so that the shard can continue.
    ///
    /// # Errors
    /// A problem if the user is unknown or the session cannot be read.
    pub(in crate::http) async fn collect(api: Data<ApiState>, user: String) -> Result<Self, Problem> {
        let user = api.rules.internal_id(IdKind::User, user);
        let record = api.system.inspection.session_record(user.clone()).await.map_err(|error| match error {
            RequestError::Store(reason) => Problem::conflict(format!("{reason}.")),
            other => other.into(),
        })?;
        let record = record.ok_or_else(Problem::unknown_user)?;
        let request =
            RecommendationRequest { explain: true, ..RecommendationRequest::new(MAX_INSPECTED_ITEMS, api.clock.now()) };
        let inspect = move || {
            let (session, applied) = (record.sequence.clone(), record.applied_through);
            let inspection = api.system.inspection.inspect_ranking(&user, &record, &request);
            Self::new(&api, user, session, applied, inspection)
        };
        web::block(inspect).await.map_err(|_| Problem::internal())
    }

    fn new(
        api: &ApiState,
        user: String,
        session: UserSequence,
        applied: Offset,
        inspection: RankingInspection,
    ) -> Self {
        let RankingInspection { hidden_version, hidden, generated, retained, sources, ranking, answer } = inspection;
        let vectors: Vec<_> = hidden
            .into_iter()
            .map(|(name, values)| HiddenVector { name, norm: euclidean_norm(&values), values })
            .collect();
        let hidden = hidden_version.map(|weights_version| HiddenStateView {
            weights_version,
            norm: vectors.last().map_or(0.0, |vector| vector.norm),
            vectors,
        });
        let source_candidates = |(source, positions): (SourceName, Vec<InspectedPosition>)| SourceCandidates {
            source,
            candidate_count: SourceName::ALL
                .into_iter()
                .zip(answer.candidates_by_source)
                .find(|(other, _)| *other == source)
                .map_or(0, |(_, count)| count),
            items: positions
                .into_iter()
                .filter_map(|InspectedPosition { item, share, rank }| {
                    Some(SourceCandidate { item: item_name(api, item)?, share, rank })
                })
                .collect(),
        };
        Self {
            user,
            sessions: session.session_number,
            session_id: session.session_id,
            applied,
            sequence: session.steps.iter().map(|step| sequence_step(api, step)).collect(),
            hidden,
            candidates: CandidatesView {
                generated,
                kept: retained,
                sources: sources.into_iter().map(source_candidates).collect(),
            },
            ranking: ranking.into_iter().filter_map(|candidate| ranked_candidate(api, candidate)).collect(),
            answer: RecommendationPreview {
                weights_version: answer.weights_version,
                fallback: answer.fallback,
                removed: answer.removed,
                items: answer
                    .items
                    .into_iter()
                    .filter_map(|item| to_recommended_item(&api.system.recommender, item, false))
                    .collect(),
            },
        }
    }
}

fn euclidean_norm(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

fn item_name(api: &ApiState, item: ItemIx) -> Option<String> {
    api.system.recommender.dictionary().name(item).map(|name| name.to_string())
}

fn sequence_step(api: &ApiState, step: &Step) -> SequenceStep {
    SequenceStep {
        item: step.item.and_then(|item| item_name(api, item)),
        kind: api.system.recommender.kinds().names().nth(usize::from(step.kind)).unwrap_or_default().to_owned(),
        at: step.at,
        value: step.value,
        starts_session: step.starts_session,
    }
}

fn ranked_candidate(
    api: &ApiState,
    InspectedCandidate { candidate, ranks, evidence, features }: InspectedCandidate,
) -> Option<RankedCandidate> {
    Some(RankedCandidate {
        item: item_name(api, candidate.item)?,
        score: candidate.score,
        source: candidate.source,
        ranks: ranks.into_iter().map(|(source, rank)| (source.as_str(), rank)).collect(),
        evidence: evidence.into_iter().collect(),
        features: features.into_iter().collect(),
    })
}

pub(in crate::http) async fn list_sessions(
    api: Data<ApiState>,
    query: Query<SessionsQuery>,
) -> Result<Json<SessionList>, Problem> {
    Ok(Json(SessionList::collect(api, &query).await?))
}

pub(in crate::http) async fn inspect_session(
    api: Data<ApiState>,
    user: Path<String>,
) -> Result<Json<SessionInspection>, Problem> {
    Ok(Json(SessionInspection::collect(api, user.into_inner()).await?))
}
