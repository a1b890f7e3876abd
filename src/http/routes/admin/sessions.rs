//! Who is there, and how one user's session would be answered: stage by stage, without changing
//! anything.

use actix_web::web::{self, Data, Json, Path, Query};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::actors::error::RequestError;
use crate::domain::{Fallback, ItemIx, Offset, RecommendedItem, RemovalCounts, SourceName, Step, Timestamp, UserSequence};
use crate::http::routes::admin::query::ListLimit;
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::ingest::IdKind;
use crate::learner::{InspectedCandidate, InspectedPosition, RankingInspection, RecommendationRequest};
use crate::services::recommendation::to_recommended_item;

/// Which users.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::http) struct SessionsQuery {
    pub(in crate::http) limit: ListLimit,
    /// With what their ids begin.
    pub(in crate::http) user: String,
}

/// Some users.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SessionList {
    pub(in crate::http) sessions: Vec<SessionSummary>,
    /// Whether there are more.
    #[serde(rename = "more")]
    pub(in crate::http) has_more: bool,
}

/// One user in a list.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SessionSummary {
    pub(in crate::http) user: String,
    /// Whether the session is in memory, and for how many seconds nobody has asked for it.
    pub(in crate::http) idle_seconds: Option<u64>,
    /// How many sessions the user has had.
    pub(in crate::http) sessions: u32,
    /// Events that are remembered.
    pub(in crate::http) events: usize,
    pub(in crate::http) last_item: Option<String>,
    pub(in crate::http) last_at: Option<Timestamp>,
}

impl SessionList {
    /// Those in memory first, who was there last at the top, then those in the store by their ids.
    ///
    /// # Errors
    /// A problem if the limit is out of range or the store cannot be read.
    pub(in crate::http) async fn read(api: Data<ApiState>, wanted: &SessionsQuery) -> Result<Self, Problem> {
        let (limit, mut prefix) = (wanted.limit.validate()?, wanted.user.clone());
        // What was typed may begin a pseudonym, or be the whole of an id that has one.
        let is_pseudonym = |prefix: &str| Ok::<_, RequestError>(api.system.store.sessions().iter_prefix(prefix)?.next().is_some());
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
            let mut lines = Vec::new();
            let mut known = FxHashSet::default();
            // A record that is damaged is named by `verify` and healed when its user comes back;
            // the list goes on without it.
            for (user, idle) in live {
                let session = stored.get(&user).ok().flatten().map(|record| record.sequence).unwrap_or_default();
                known.insert(user.clone());
                lines.push(line(&api, user, Some(idle.as_secs()), &session));
            }
            for read in stored.iter_prefix(&prefix)? {
                if lines.len() > limit {
                    break;
                }
                let Ok((user, record)) = read else { continue };
                if !known.contains(&user) {
                    lines.push(line(&api, user, None, &record.sequence));
                }
            }
            let more = lines.len() > limit;
            lines.truncate(limit);
            Ok::<_, RequestError>(Self { sessions: lines, has_more: more })
        });
        Ok(read.await.map_err(|_| Problem::internal())??)
    }
}

fn line(api: &ApiState, user: String, idle_seconds: Option<u64>, session: &UserSequence) -> SessionSummary {
    let last = session.steps.last();
    SessionSummary {
        user,
        idle_seconds,
        sessions: session.session_number,
        events: session.steps.len(),
        last_item: session.steps.iter().rev().find_map(|step| named(api, step.item?)),
        last_at: last.map(|step| step.at),
    }
}

/// How one user's session would be answered.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SessionInspection {
    pub(in crate::http) user: String,
    /// How many sessions the user has had.
    pub(in crate::http) sessions: u32,
    /// The site's own id of the visit under way.
    pub(in crate::http) session_id: Option<String>,
    /// The first journal entry that is not in it yet.
    pub(in crate::http) applied: Offset,
    /// Oldest first.
    pub(in crate::http) sequence: Vec<SequenceStep>,
    /// What the network holds of it; absent without a network.
    pub(in crate::http) hidden: Option<HiddenStateView>,
    pub(in crate::http) candidates: CandidatesView,
    /// The best of all candidates with what the ranker saw of each.
    pub(in crate::http) ranking: Vec<RankedCandidate>,
    /// What would be answered, with reasons.
    pub(in crate::http) answer: RecommendationPreview,
}

/// One step of the sequence.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SequenceStep {
    pub(in crate::http) item: Option<String>,
    #[serde(rename = "type")]
    pub(in crate::http) kind: String,
    pub(in crate::http) at: Timestamp,
    pub(in crate::http) value: f32,
    /// Whether it began a session.
    #[serde(rename = "boundary")]
    pub(in crate::http) starts_session: bool,
}

/// The hidden state.
#[derive(Debug, Serialize)]
pub(in crate::http) struct HiddenStateView {
    /// The version of the weights that it was computed with.
    pub(in crate::http) weights_version: u64,
    /// The length of o, against which items are scored.
    pub(in crate::http) norm: f32,
    /// By name: of each layer h (and c), the memory m, the last input x, and o.
    pub(in crate::http) vectors: Vec<HiddenVector>,
}

/// One row of the hidden state.
#[derive(Debug, Serialize)]
pub(in crate::http) struct HiddenVector {
    pub(in crate::http) name: String,
    pub(in crate::http) norm: f32,
    pub(in crate::http) values: Vec<f32>,
}

/// The candidates by source.
#[derive(Debug, Serialize)]
pub(in crate::http) struct CandidatesView {
    /// Items that the sources gathered, before the cut.
    #[serde(rename = "gathered")]
    pub(in crate::http) generated: usize,
    /// Candidates that were ranked.
    pub(in crate::http) kept: usize,
    pub(in crate::http) sources: Vec<SourceCandidates>,
}

/// One source's best candidates.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SourceCandidates {
    pub(in crate::http) source: SourceName,
    /// How many of the ranked candidates it named.
    #[serde(rename = "brought")]
    pub(in crate::http) candidate_count: usize,
    pub(in crate::http) items: Vec<SourceCandidate>,
}

/// A candidate in the list of one source.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SourceCandidate {
    pub(in crate::http) item: String,
    /// Its share of the source's evidence, in [0, 1].
    pub(in crate::http) share: f32,
    /// Its rank among all candidates; absent if it did not pass the cut.
    pub(in crate::http) rank: Option<usize>,
}

/// A ranked candidate.
#[derive(Debug, Serialize)]
pub(in crate::http) struct RankedCandidate {
    pub(in crate::http) item: String,
    pub(in crate::http) score: f32,
    pub(in crate::http) source: SourceName,
    /// The rank that each source that named it gives it alone.
    pub(in crate::http) ranks: BTreeMap<&'static str, usize>,
    /// Its share on each channel of evidence.
    #[serde(rename = "shares")]
    pub(in crate::http) evidence: BTreeMap<&'static str, f32>,
    /// What else the ranker is told of it.
    #[serde(rename = "facts")]
    pub(in crate::http) features: BTreeMap<&'static str, f32>,
}

/// The list that would be answered.
#[derive(Debug, Serialize)]
pub(in crate::http) struct RecommendationPreview {
    /// The version of the weights that ranked it.
    pub(in crate::http) weights_version: u64,
    pub(in crate::http) items: Vec<RecommendedItem>,
    pub(in crate::http) fallback: Fallback,
    pub(in crate::http) removed: RemovalCounts,
}

/// Items that an X-ray shows of each list.
const SHOWN: usize = 20;

impl SessionInspection {
    /// Looks at a user's session. Computed beside the shards, which are only asked for what they
    /// hold.
    ///
    /// # Errors
    /// A problem if the user is not known, or the session cannot be read.
    pub(in crate::http) async fn read(api: Data<ApiState>, user: String) -> Result<Self, Problem> {
        let user = api.rules.internal_id(IdKind::User, user);
        let record = api.system.inspection.session_record(user.clone()).await.map_err(|error| match error {
            RequestError::Store(reason) => Problem::conflict(format!("{reason}.")),
            other => other.into(),
        })?;
        let record = record.ok_or_else(Problem::unknown_user)?;
        let request = RecommendationRequest { explain: true, ..RecommendationRequest::new(SHOWN, api.clock.now()) };
        let look = move || {
            let (session, applied) = (record.sequence.clone(), record.applied_through);
            Self::new(&api, user, session, applied, api.system.inspection.inspect_ranking(record, &request))
        };
        web::block(look).await.map_err(|_| Problem::internal())
    }

    fn new(api: &ApiState, user: String, session: UserSequence, applied: Offset, inside: RankingInspection) -> Self {
        let RankingInspection { hidden_version, hidden, generated: gathered, retained: kept, sources, ranking, answer } = inside;
        let vectors: Vec<_> = hidden.into_iter().map(|(name, values)| HiddenVector { name, norm: norm(&values), values }).collect();
        let hidden = hidden_version.map(|weights_version| HiddenStateView {
            weights_version,
            norm: vectors.last().map_or(0.0, |vector| vector.norm),
            vectors,
        });
        let listed = |(source, places): (SourceName, Vec<InspectedPosition>)| SourceCandidates {
            source,
            candidate_count: SourceName::ALL
                .into_iter()
                .zip(answer.candidates_by_source)
                .find(|(other, _)| *other == source)
                .map_or(0, |(_, count)| count),
            items: places
                .into_iter()
                .filter_map(|InspectedPosition { item, share, rank }| Some(SourceCandidate { item: named(api, item)?, share, rank }))
                .collect(),
        };
        Self {
            user,
            sessions: session.session_number,
            session_id: session.session_id,
            applied,
            sequence: session.steps.iter().map(|step| sequence_step(api, step)).collect(),
            hidden,
            candidates: CandidatesView { generated: gathered, kept, sources: sources.into_iter().map(listed).collect() },
            ranking: ranking.into_iter().filter_map(|considered| ranked(api, considered)).collect(),
            answer: RecommendationPreview {
                weights_version: answer.weights_version,
                fallback: answer.fallback,
                removed: answer.removed,
                items: answer.items.into_iter().filter_map(|pick| to_recommended_item(&api.system.recommender, pick)).collect(),
            },
        }
    }
}

fn norm(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

fn named(api: &ApiState, item: ItemIx) -> Option<String> {
    api.system.recommender.dictionary().name(item).map(|name| name.to_string())
}

fn sequence_step(api: &ApiState, step: &Step) -> SequenceStep {
    SequenceStep {
        item: step.item.and_then(|item| named(api, item)),
        kind: api.system.recommender.kinds().names().nth(usize::from(step.kind)).unwrap_or_default().to_owned(),
        at: step.at,
        value: step.value,
        starts_session: step.starts_session,
    }
}

fn ranked(
    api: &ApiState,
    InspectedCandidate { candidate, ranks, evidence: shares, features: facts }: InspectedCandidate,
) -> Option<RankedCandidate> {
    Some(RankedCandidate {
        item: named(api, candidate.item)?,
        score: candidate.score,
        source: candidate.source,
        ranks: ranks.into_iter().map(|(source, rank)| (source.as_str(), rank)).collect(),
        evidence: shares.into_iter().collect(),
        features: facts.into_iter().collect(),
    })
}

pub(in crate::http) async fn list(api: Data<ApiState>, wanted: Query<SessionsQuery>) -> Result<Json<SessionList>, Problem> {
    Ok(Json(SessionList::read(api, &wanted).await?))
}

pub(in crate::http) async fn look(api: Data<ApiState>, user: Path<String>) -> Result<Json<SessionInspection>, Problem> {
    Ok(Json(SessionInspection::read(api, user.into_inner()).await?))
}
