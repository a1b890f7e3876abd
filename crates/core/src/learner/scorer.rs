//! The scorer: scores candidates for a user's next event. Session actors use it to recommend items,
//! the learner to test and train the model.

use crate::candidates::{
    CandidateChooser, CandidateSources, ClusterSettings, Clusters, QueryContext, SessionIx, UserProfile,
};
use crate::domain::ItemIx;
use crate::nn::{ItemRelation, NetworkScratch, RelationQuery, TopItems, Weights};
use crate::ranking::{
    FeatureContext, FeatureValues, NetworkScores, ObjectiveHead, Ranker, RankingWorkspace, SourceAffinity,
};

use super::declared_features::FeatureScorer;
use super::sequence_state::{SequenceParams, SequenceState};

/// Number of candidates that the learner ranks, and the first number of a request. Fewer cost less;
/// see docs/internals/learning-algorithm.md for their effect on quality.
pub(super) const DEFAULT_CANDIDATE_LIMIT: usize = 128;
/// Number of top items of the network by their approximate logits that become candidates. They
/// contain at least 99 % of the top 40 by exact logits.
const MAX_NETWORK_CANDIDATES: usize = 48;
/// Number of newest items of the last item's cluster that become candidates.
const MAX_CLUSTER_CANDIDATES: usize = 40;

/// Buffers for scoring. Each thread has its own workspace and reuses its buffers, so later calls
/// allocate nothing.
#[derive(Debug)]
pub struct ScoringWorkspace {
    /// Buffers of the network.
    pub network: NetworkScratch,
    query: RelationQuery,
    /// Buffers of the ranker, with the last scored candidates.
    pub ranking: RankingWorkspace,
    /// The declared features of the last scored candidates.
    pub(super) features: FeatureValues,
}

impl Default for ScoringWorkspace {
    fn default() -> Self {
        Self {
            network: NetworkScratch::default(),
            query: RelationQuery::default(),
            ranking: RankingWorkspace::new(DEFAULT_CANDIDATE_LIMIT),
            features: FeatureValues::default(),
        }
    }
}

/// What the scorer knows of a user apart from the sequence.
#[derive(Debug, Clone, Copy)]
pub struct ScoredUser<'a> {
    /// Number of the user's current session, or [`SessionIx::MAX`] if the caller does not know it.
    pub session: SessionIx,
    /// How well each source has predicted the current session so far.
    pub affinity: &'a SourceAffinity,
    /// The long-term profile; `None` if the user has no earlier session.
    pub profile: Option<&'a UserProfile>,
    /// Whether the next event begins a session.
    pub begins_session: bool,
    /// The values that declared features read.
    pub declared: FeatureContext<'a>,
}

/// The parts of the model that scoring needs, borrowed from the learner or from a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Scorer<'a> {
    pub(super) weights: Option<&'a Weights>,
    pub(super) clusters: Option<&'a Clusters>,
    pub(super) sources: &'a CandidateSources,
    pub(super) ranker: &'a Ranker,
    /// The declared features; `None` if none are declared.
    pub(super) features: Option<FeatureScorer<'a>>,
    pub(super) cluster_settings: &'a ClusterSettings,
    /// The time of the candidate sources, in journal entries.
    pub(super) now: u64,
    /// The head that changes the scores towards an objective.
    pub(super) head: Option<&'a ObjectiveHead>,
}

impl Scorer<'_> {
    /// Generates and scores candidates for the user's next event in the workspace.
    pub fn score(
        &self,
        user: &mut SequenceState,
        about: &ScoredUser<'_>,
        params: &SequenceParams,
        workspace: &mut ScoringWorkspace,
    ) {
        self.score_chosen(user, about, params, None, workspace);
    }

    /// Like [`Scorer::score`]. The chooser decides which candidates are scored.
    pub(super) fn score_chosen(
        &self,
        user: &mut SequenceState,
        about: &ScoredUser<'_>,
        params: &SequenceParams,
        chooser: Option<&mut dyn CandidateChooser>,
        workspace: &mut ScoringWorkspace,
    ) {
        let ScoringWorkspace { network, query, ranking, features: values } = workspace;
        // Before the first training boundary the network knows no items.
        let weights = self.weights.filter(|weights| weights.item_count() > 0);
        let top = weights.map(|weights| {
            let last = user.sequence.last_item();
            weights.compute_relation_query(user.fresh_hidden_state(params, weights, network), last, query);
            self.network_top_items(weights, query.output(), network)
        });
        let context = QueryContext {
            steps: user.sequence.current_session(),
            session: about.session,
            session_start: user.sequence.session_start,
            now: self.now,
            profile: about.profile,
            clusters: self.clusters,
            begins_session: about.begins_session,
        };
        match (weights, &top) {
            (Some(weights), Some(top)) => {
                let near = self.items_of_last_item_cluster(weights, user, query.output(), network);
                let relate = |items: &[ItemIx], out: &mut Vec<ItemRelation>| weights.relate_items(query, items, out);
                let network_scores = NetworkScores {
                    top: &top.items,
                    clusters: &near,
                    log_partition: top.log_partition,
                    relate: &relate,
                };
                let network = Some(&network_scores);
                ranking.score_candidates(self.sources, self.ranker, &context, about.affinity, network, chooser);
            }
            _ => ranking.score_candidates(self.sources, self.ranker, &context, about.affinity, None, chooser),
        }
        if let Some(features) = &self.features {
            features.add_scores(&about.declared, ranking, values);
        }
        if let Some(head) = self.head {
            ranking.add_head(head);
        }
    }

    /// Returns the top items of the network. In a small catalog, scores all items. In a large
    /// catalog, scores only the items of the clusters nearest to the query and the items newer than
    /// the clustering.
    fn network_top_items(&self, weights: &Weights, query: &[f32], scratch: &mut NetworkScratch) -> TopItems {
        let clusters = self.clusters.filter(|_| weights.row_order().is_some());
        let probed = clusters.map(|clusters| clusters.nearest_clusters(query, self.cluster_settings.probes));
        weights.approximate_top_items(query, MAX_NETWORK_CANDIDATES, probed.as_deref(), scratch)
    }

    /// Returns the newest items of the cluster of the user's last item, with their logits. Among
    /// them are items with few events, which no counting source generates.
    ///
    /// The logits are those of the last scan if it scored the items, to avoid reading their
    /// embeddings.
    fn items_of_last_item_cluster(
        &self,
        weights: &Weights,
        user: &SequenceState,
        query: &[f32],
        scratch: &NetworkScratch,
    ) -> Vec<(ItemIx, f32)> {
        let (Some(clusters), Some(last)) = (self.clusters, user.sequence.last_item()) else { return Vec::new() };
        let Some(embedding) = weights.embedding(last) else { return Vec::new() };
        let members = clusters.items_in_cluster(clusters.cluster_of(last, embedding));
        let newest = members.get(members.len().saturating_sub(MAX_CLUSTER_CANDIDATES)..).unwrap_or_default();
        let mut of_newest = Vec::with_capacity(newest.len());
        weights.logits_of(query, newest, scratch, &mut of_newest);
        newest.iter().copied().zip(of_newest).rev().collect()
    }
}
