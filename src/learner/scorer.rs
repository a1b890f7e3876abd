//! "What next?": from a user's state and what is learned to a ranked list. The session actors
//! answer with it, and the fold tests with it.

use crate::candidates::{CandidateSources, ClusterSettings, Clusters, QueryContext, SessionIx};
use crate::domain::{ItemIx, Offset};
use crate::nn::{NetworkScratch, TopItems, Weights};
use crate::ranking::{NetworkScores, Ranker, RankingWorkspace, SourceAffinity};

use super::sequence_state::{SequenceParams, SequenceState};

/// Candidates that are ranked, at least.
const KEPT: usize = 256;
/// Items of the network's own list that become candidates.
const LISTED: usize = 40;

/// Working memory for answers: one a thread; it allocates nothing once warm.
#[derive(Debug)]
pub struct ScoringWorkspace {
    /// The network's.
    pub network: NetworkScratch,
    query: Vec<f32>,
    interest: Vec<f32>,
    /// The ranker's.
    pub ranking: RankingWorkspace,
}

impl Default for ScoringWorkspace {
    fn default() -> Self {
        Self { network: NetworkScratch::default(), query: Vec::new(), interest: Vec::new(), ranking: RankingWorkspace::new(KEPT) }
    }
}

impl ScoringWorkspace {
    /// The value that the network predicts of the follower last considered choosing an item; `None`
    /// if its interest head is off or the item unknown to it.
    #[must_use]
    pub fn interest(&self, weights: &Weights, item: ItemIx) -> Option<f32> {
        if self.interest.is_empty() { None } else { weights.interest(&self.interest, item) }
    }
}

/// Everything learned that a judgement needs, borrowed from the fold or from a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Scorer<'a> {
    pub(super) weights: Option<&'a Weights>,
    pub(super) clusters: Option<&'a Clusters>,
    pub(super) sources: &'a CandidateSources,
    pub(super) ranker: &'a Ranker,
    pub(super) cluster_settings: &'a ClusterSettings,
    pub(super) now: Offset,
}

impl Scorer<'_> {
    /// Gathers, describes and scores the candidates of a follower's next event; they lie on the
    /// workspace's desk then. `sequence` is the session's number among the sources' neighbours, if
    /// the asker knows it.
    pub fn score(
        &self,
        follower: &mut SequenceState,
        session: SessionIx,
        mood: &SourceAffinity,
        pace: &SequenceParams,
        workspace: &mut ScoringWorkspace,
    ) {
        let ScoringWorkspace { network, query, interest, ranking: desk } = workspace;
        // Before the first border the network knows no item, and has nothing to say.
        let weights = self.weights.filter(|weights| weights.item_count() > 0);
        let top = weights.map(|weights| {
            weights.query(follower.hidden(pace, weights, network), query);
            weights.interest_query(query, interest);
            self.top(weights, query, network)
        });
        let moment = QueryContext {
            steps: follower.sequence.current_session(),
            session,
            session_start: follower.sequence.session_start,
            now: self.now,
        };
        match (weights, &top) {
            (Some(weights), Some(top)) => {
                let near = self.near(weights, query, follower);
                // What the scan has given already spares fetching a row for every candidate.
                let logit = |item| network.approximate_logit(item).unwrap_or_else(|| weights.score(query, item));
                let view = NetworkScores { top: &top.items, log_partition: top.log_partition, logit: &logit };
                desk.score_candidates(self.sources, self.ranker, &moment, mood, Some(&view), &near);
            }
            _ => desk.score_candidates(self.sources, self.ranker, &moment, mood, None, &[]),
        }
    }

    /// The network's best: of the whole catalog while that is small, else of the clusters nearest
    /// to the query and of the items too new to be in one.
    fn top(&self, weights: &Weights, query: &[f32], scratch: &mut NetworkScratch) -> TopItems {
        match self.clusters.filter(|_| weights.item_count() > self.cluster_settings.exact_up_to) {
            None => weights.top(query, LISTED, scratch),
            Some(clusters) => {
                let probed = clusters.probe(query, self.cluster_settings.probes);
                let members = probed.iter().flat_map(|cluster| clusters.members(*cluster).iter().copied());
                let newer = clusters.item_count() as ItemIx..weights.item_count() as ItemIx;
                weights.top_among(query, members.chain(newer), LISTED, scratch)
            }
        }
    }

    /// Items of the last item's cluster that few know yet: the network alone can bring them.
    fn near(&self, weights: &Weights, query: &[f32], follower: &SequenceState) -> Vec<(ItemIx, f32)> {
        let last = follower.sequence.steps.iter().rev().find_map(|step| step.item);
        let (Some(clusters), Some(last)) = (self.clusters, last) else { return Vec::new() };
        let Some(embedding) = weights.embedding(last) else { return Vec::new() };
        let members = clusters.members(clusters.cluster_of(last, embedding)).iter().rev().take(LISTED);
        members.map(|&item| (item, weights.score(query, item))).collect()
    }
}
