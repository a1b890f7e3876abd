//! "What next?": from a user's state and what is learned to a ranked list. The session actors answer with it, and the fold tests with it.

use crate::domain::{Candidate, ItemIx, Offset, Timestamp};
use crate::model::{Scratch, Weights};
use crate::ranking::{Features, Mood, NetworkView, Ranker, Work};
use crate::recall::{ClusterSettings, Clusters, Moment, Slate, Sources};

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
