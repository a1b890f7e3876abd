//! The candidates of one moment with the evidence that each source gave them.

use super::{Channel, Tally};
use crate::domain::ItemIx;

/// Lanes of a candidate's evidence: one per [`Channel`], the rest spare.
pub const CHANNELS: usize = 16;
/// Lanes of a candidate's facts: what sources tell of a candidate that is no share of anything. See [`Fact`].
pub const FACTS: usize = 16;

/// How many items a slate can gather before it is cut.
const GATHERED: usize = 8192;

/// What a source tells of a candidate beside its evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Logarithm of the number of sessions that held the item.
    Sessions,
    /// Logarithm of the number of events since it was last seen anywhere.
    Idle,
    /// 1 if it is the item of the last step.
    Last,
    /// 1 if this session holds it.
    Seen,
    /// 1 / its place from the session's end, 0 if the session does not hold it.
    Place,
    /// Logarithm of 1 + how often this session holds it.
    Times,
    /// How often the item is repeated once seen.
    Repeated,
    /// The same, if the session holds it.
    SeenRepeated,
    /// Logarithm of the number of events since it was first seen anywhere.
    Age,
    /// Logarithm of its popularity of the hour against that of the day.
    Rising,
    /// The network's log-probability, scaled.
    Network,
    /// 1 if the network lists it among its best.
    Listed,
    /// How many sources name it.
    Named,
    /// 1 if it is the item of the step before the last.
    BeforeLast,
    /// Log of how many neighbours hold it.
    Neighbours,
    /// Spare.
    Spare,
}

/// The workspace in which candidates are gathered, cut and described. Reused from moment to moment, it allocates nothing once warm.
#[derive(Debug, Clone)]
pub struct Slate {
    items: Tally,
    evidence: Vec<[f32; CHANNELS]>,
    facts: Vec<[f32; FACTS]>,
    totals: [f32; CHANNELS],
    order: Vec<(f32, u32)>,
    kept: Vec<u32>,
    /// Workspace of the neighbours: similarity and the place of the latest match, by session.
    pub(super) sessions: Tally,
    pub(super) similar: Vec<(f32, u32)>,
    pub(super) nearest: Vec<(f32, u32)>,
}

impl Default for Slate {
    fn default() -> Self {
        Self {
            items: Tally::new(GATHERED),
            evidence: Vec::new(),
            facts: Vec::new(),
            totals: [0.0; CHANNELS],
            order: Vec::new(),
            kept: Vec::new(),
            sessions: Tally::new(1 << 14),
            similar: Vec::new(),
            nearest: Vec::new(),
        }
    }
}

impl Slate {
    /// Begins a new moment.
    pub fn clear(&mut self) {
        self.items.clear();
        self.evidence.clear();
        self.facts.clear();
        self.totals = [0.0; CHANNELS];
        self.kept.clear();
    }

    /// Adds evidence to an item, which becomes a candidate by it.
    #[inline]
    pub fn add(&mut self, item: ItemIx, channel: Channel, weight: f32) {
        if let Some((place, new)) = self.items.enter(item) {
            if new {
                self.evidence.push([0.0; CHANNELS]);
            }
            self.evidence[place][channel as usize] += weight;
        }
    }

    /// Adds evidence to an item only if it is a candidate already.
    #[inline]
    pub fn note(&mut self, item: ItemIx, channel: Channel, weight: f32) {
        if let Some(place) = self.items.find(item) {
            self.evidence[place][channel as usize] += weight;
        }
    }

    /// Adds to the weight of which a channel's evidence is a share.
    pub fn weigh(&mut self, channel: Channel, total: f32) {
        self.totals[channel as usize] += total;
    }

    /// The weights of which the channels' evidence are shares.
    #[must_use]
    pub fn totals(&self) -> &[f32; CHANNELS] {
        &self.totals
    }

    /// How many items were gathered.
    #[must_use]
    pub fn gathered(&self) -> usize {
        self.evidence.len()
    }

    /// Keeps the `limit` candidates with the largest sum of shares, each channel's share multiplied by its weight.
    /// Ties go to the smaller item number.
    pub fn cut(&mut self, limit: usize, weights: &[f32; CHANNELS]) {
        let mut scale = [0.0; CHANNELS];
        for ((scale, weight), total) in scale.iter_mut().zip(weights).zip(&self.totals) {
            *scale = if *total > 0.0 { weight / total } else { 0.0 };
        }
        let items = self.items.keys();
        self.order.clear();
        for (place, evidence) in self.evidence.iter().enumerate() {
            let mut lanes = [0.0f32; CHANNELS];
            for ((lane, evidence), scale) in lanes.iter_mut().zip(evidence).zip(&scale) {
                *lane = evidence * scale;
            }
            self.order.push((lanes.iter().sum(), place as u32));
        }
        if self.order.len() > limit {
            let by = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then_with(|| items[a.1 as usize].cmp(&items[b.1 as usize]));
            self.order.select_nth_unstable_by(limit, by);
            self.order.truncate(limit);
        }
        self.kept.clear();
        self.kept.extend(self.order.iter().map(|&(_, place)| place));
        self.kept.sort_unstable();
        self.facts.clear();
        self.facts.resize(self.kept.len(), [0.0; FACTS]);
    }

    /// How many candidates were kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The kept candidates' items.
    pub fn items(&self) -> impl ExactSizeIterator<Item = ItemIx> {
        let items = self.items.keys();
        self.kept.iter().map(move |&place| items[place as usize])
    }

    /// The place of an item among the kept candidates.
    #[must_use]
    pub fn position(&self, item: ItemIx) -> Option<usize> {
        let place = self.items.find(item)? as u32;
        self.kept.binary_search(&place).ok()
    }

    /// The kept candidates: item, evidence and facts of each.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (ItemIx, &[f32; CHANNELS], &[f32; FACTS])> {
        let items = self.items.keys();
        self.kept.iter().zip(&self.facts).map(move |(&place, facts)| (items[place as usize], &self.evidence[place as usize], facts))
    }

    /// The kept candidates, to be described.
    pub fn describe(&mut self) -> impl Iterator<Item = (ItemIx, &mut [f32; CHANNELS], &mut [f32; FACTS])> {
        // The kept places ascend, so one pass over the evidence meets them all.
        let mut kept = self.kept.iter().copied().peekable();
        let mut facts = self.facts.iter_mut();
        self.items.keys().iter().zip(&mut self.evidence).enumerate().filter_map(move |(place, (&item, evidence))| {
            if kept.peek() != Some(&(place as u32)) {
                return None;
            }
            kept.next();
            facts.next().map(|facts| (item, evidence, facts))
        })
    }

    /// The best `limit` gathered items by one channel, best first, ties by the smaller number.
    pub fn best(&self, channel: Channel, limit: usize) -> Vec<(ItemIx, f32)> {
        let evidence = self.evidence.iter().map(|evidence| evidence[channel as usize]);
        let mut list: Vec<_> = self.items.keys().iter().copied().zip(evidence).filter(|&(_, weight)| weight > 0.0).collect();
        list.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        list.truncate(limit);
        list
    }
}

impl Slate {
    /// Whether an item was gathered at all, kept or not.
    #[must_use]
    pub fn gathered_item(&self, item: ItemIx) -> bool {
        self.items.find(item).is_some()
    }
}
