//! "What next?": from a user's state and what is learned to a ranked list. The session actors answer with it, and the fold tests with it.

use crate::domain::{Candidate, ItemIx, Offset, SourceName, Timestamp};
use crate::model::{Scratch, Weights};
use crate::ranking::{Features, Mood, Ranker, Work};
use crate::recall::{CHANNELS, Channel, ClusterSettings, Clusters, Moment, Slate, Sources};

use super::follower::{Follower, Pace};
use super::snapshot::Snapshot;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The longest list wanted.
    pub limit: usize,
    /// When.
    pub now: Timestamp,
}

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The version of the weights that ranked it.
    pub weights_version: u64,
    /// Best first; equals by the smaller item number.
    pub items: Vec<Candidate>,
}

/// Working memory for answers: one a thread; it allocates nothing once warm.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The network's.
    pub network: Scratch,
    query: Vec<f32>,
    pub(super) slate: Slate,
    pub(super) features: Features,
    pub(super) work: Work,
}

/// Everything learned that a judgement needs, borrowed from the fold or from a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    pub(super) weights: Option<&'a Weights>,
    pub(super) clusters: Option<&'a Clusters>,
    pub(super) sources: &'a Sources,
    pub(super) ranker: &'a Ranker,
    pub(super) settings: &'a ClusterSettings,
    pub(super) now: Offset,
}

/// Candidates that are ranked.
const KEPT: usize = 256;
/// Items of the network's own list that become candidates.
const LISTED: usize = 40;

impl Judge<'_> {
    /// Gathers, describes and scores the candidates of this moment; they stand in the workspace then.
    pub fn consider(&self, follower: &mut Follower, mood: &Mood, pace: &Pace, workspace: &mut Workspace) {
        let Workspace { network, query, slate, features, work } = workspace;
        let top = self.weights.map(|weights| {
            weights.query(follower.hidden(pace, weights, network), query);
            weights.top(query, LISTED, network)
        });
        let moment = Moment { steps: follower.session.current(), session: follower.session.begun as u32, now: self.now };
        self.sources.gather(&moment, slate);
        if let (Some(weights), Some(top)) = (self.weights, &top) {
            slate.weigh(Channel::Spare1, 1.0);
            for (item, _) in &top.items {
                slate.add(*item, Channel::Spare1, 0.0);
            }
            slate.cut(KEPT, &CUT);
            self.sources.describe(&moment, slate);
            for (item, evidence, _) in slate.describe() {
                evidence[Channel::Spare1 as usize] = (weights.score(query, item) - top.log_partition).exp();
            }
        } else {
            slate.cut(KEPT, &CUT);
            self.sources.describe(&moment, slate);
        }
        features.fill(slate, &moment, mood);
        self.ranker.score(features, slate.items(), work);
    }
}

impl Workspace {
    /// The place of an item among the candidates considered.
    #[must_use]
    pub fn place(&self, item: ItemIx) -> Option<usize> {
        self.slate.position(item)
    }

    /// The rank of an item among the candidates considered, 1 for the best; equals by the smaller number.
    #[must_use]
    pub fn rank(&self, item: ItemIx) -> Option<usize> {
        let score = *self.work.scores.get(self.place(item)?)?;
        let better = |&(other, other_score): &(ItemIx, f32)| other_score > score || (other_score == score && other < item);
        Some(1 + self.slate.items().zip(self.work.scores.iter().copied()).filter(better).count())
    }

    /// What each source gave the candidate at a place.
    #[must_use]
    pub fn shares(&self, place: Option<usize>) -> Option<&[f32]> {
        self.features.items.get(place?)?.get(..CHANNELS)
    }

    /// Teaches the ranker that the candidate at a place came.
    pub fn teach(&mut self, ranker: &mut Ranker, place: usize) {
        ranker.learn(&self.features, self.slate.items(), place, &mut self.work);
    }

    /// The best candidates considered.
    #[must_use]
    pub fn best(&self, limit: usize) -> Vec<Candidate> {
        let scored = self.slate.items().zip(&self.work.scores);
        let mut list: Vec<_> = scored.map(|(item, &score)| Candidate { item, score, source: SourceName::Network }).collect();
        list.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
        list.truncate(limit);
        list
    }
}

/// Answers a request from what a snapshot holds.
pub fn answer(snapshot: &Snapshot, follower: &mut Follower, pace: &Pace, request: &Request, workspace: &mut Workspace) -> Answer {
    snapshot.judge().consider(follower, &Mood::default(), pace, workspace);
    Answer { weights_version: snapshot.weights_version(), items: workspace.best(request.limit) }
}

const CUT: [f32; CHANNELS] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 0.5, 0.0, 0.5, 0.5, 100.0, 1.0, 0.0, 0.0];
