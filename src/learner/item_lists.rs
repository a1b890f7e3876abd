//! Lists that are nobody's own: what is popular, and what is like an item.

use crate::candidates::{EvidenceColumn, SessionIx};
use crate::domain::{Candidate, Catalog, Item, ItemIx, SourceName, Step, Timestamp};
use crate::nn::Weights;
use crate::ranking::{EligibilityRules, ItemFilter, ResultSelection, SourceAffinity};
use rustc_hash::{FxHashMap, FxHashSet};

use super::scorer::ScoringWorkspace;
use super::sequence_state::{SequenceParams, SequenceState};
use super::snapshot::ModelSnapshot;

/// Items that are looked at, newest first, where the lists kept do not suffice: a bound on the time
/// that an answer can take.
const SCANNED: usize = 1 << 16;

/// Places of each list that count towards likeness.
const COMPARED: usize = 200;

/// Hands the items that the terms allow, and that have not been passed over before, to `next` with
/// their popularity, the most popular first, until it says `false`.
pub(super) fn visit_popular_items(
    snapshot: &ModelSnapshot,
    terms: &EligibilityRules<'_>,
    passed: &mut FxHashSet<ItemIx>,
    next: &mut dyn FnMut(ItemIx, f32) -> bool,
) {
    for (item, popularity) in snapshot.sources.trending_items(snapshot.offset) {
        if passed.insert(item) && terms.is_eligible(item) && !next(item, popularity) {
            return;
        }
    }
    let mut others: Vec<(f32, ItemIx)> = newest(snapshot)
        .filter(|item| !passed.contains(item) && terms.is_eligible(*item))
        .map(|item| (snapshot.sources.popularity(item, snapshot.offset), item))
        .collect();
    others.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (popularity, item) in others {
        passed.insert(item);
        if !next(item, popularity) {
            return;
        }
    }
}

fn newest(snapshot: &ModelSnapshot) -> impl Iterator<Item = ItemIx> {
    let items = snapshot.item_count;
    (items.saturating_sub(SCANNED)..items).filter_map(|item| ItemIx::try_from(item).ok())
}

/// What is trending at a time, of one category or of all: the most popular first, each with its
/// decayed count.
#[must_use]
pub fn trending_items(snapshot: &ModelSnapshot, catalog: &Catalog, category: Option<&str>, limit: usize, now: Timestamp) -> Vec<Candidate> {
    let filter = category.map(ItemFilter::category);
    let terms = EligibilityRules { filter: filter.as_ref(), ..EligibilityRules::new(catalog, now) };
    let mut list = Vec::new();
    visit_popular_items(snapshot, &terms, &mut FxHashSet::default(), &mut |item, popularity| {
        list.push(Candidate { item, score: popularity, source: SourceName::Trending });
        list.len() < limit
    });
    list
}

/// Items like one: what follows it and what it follows, what neighbouring sessions hold beside it,
/// and what lies near it in the network. An item's score is the sum of its shares in these lists,
/// so that one with much evidence in it counts for its items more than one with little, and its
/// source the list that gives it most. Where these are too few, items that share its attributes
/// come after them.
#[must_use]
pub fn similar_items(
    snapshot: &ModelSnapshot,
    catalog: &Catalog,
    item: ItemIx,
    limit: usize,
    pace: &SequenceParams,
    now: Timestamp,
) -> Vec<Candidate> {
    let mut workspace = ScoringWorkspace::default();
    let mut follower = SequenceState::default();
    let step = Step { item: Some(item), kind: 0, starts_session: false, at: now, value: 0.0 };
    follower.advance(0, step, None, pace, None, &mut workspace.network);
    snapshot.scorer().score(&mut follower, SessionIx::MAX, &SourceAffinity::default(), pace, &mut workspace);

    let mut shares: FxHashMap<ItemIx, (f32, f32, SourceName)> = FxHashMap::default();
    let mut count = |list: Vec<(ItemIx, f32)>, source: SourceName| {
        let total: f32 = list.iter().map(|(_, weight)| weight).sum();
        for (other, weight) in list {
            let share = weight / total.max(f32::MIN_POSITIVE);
            let (sum, largest, of) = shares.entry(other).or_insert((0.0, 0.0, source));
            *sum += share;
            if share > *largest {
                (*largest, *of) = (share, source);
            }
        }
    };
    let slate = workspace.ranking.candidates();
    for channel in [EvidenceColumn::WindowTransitions, EvidenceColumn::ReverseTransitions, EvidenceColumn::Neighbours] {
        count(slate.best(channel, COMPARED), channel.source());
    }
    if let Some(weights) = snapshot.weights() {
        count(nearest(weights, item, &mut workspace), SourceName::Network);
    }
    let mut ranked: Vec<_> = shares.into_iter().map(|(item, (score, _, source))| Candidate { item, score, source }).collect();
    ranked.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));

    let exclude = [item];
    let terms = EligibilityRules { exclude: &exclude, ..EligibilityRules::new(catalog, now) };
    let mut selection = ResultSelection::new(terms, limit, limit);
    ranked.iter().for_each(|candidate| selection.add_ranked(*candidate));
    if selection.needs_more() {
        let passed: FxHashSet<ItemIx> = ranked.iter().map(|candidate| candidate.item).collect();
        alike(snapshot, catalog, item).into_iter().filter(|other| !passed.contains(other)).for_each(|other| {
            let score = selection.selected().last().map_or(0.0, |last| last.score * 0.5);
            selection.add_ranked(Candidate { item: other, score, source: SourceName::New });
        });
    }
    selection.into_parts().0
}

/// The items whose embeddings have the largest cosine with that of this one, with its square, best
/// first; of those with the largest products.
fn nearest(weights: &Weights, item: ItemIx, workspace: &mut ScoringWorkspace) -> Vec<(ItemIx, f32)> {
    let Some(embedding) = weights.embedding(item) else { return Vec::new() };
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let top = weights.top(embedding, 2 * COMPARED, &mut workspace.network);
    let length = product(embedding, embedding).sqrt();
    let mut near: Vec<(ItemIx, f32)> = top
        .items
        .into_iter()
        .filter(|(other, _)| *other != item)
        .filter_map(|(other, _)| {
            let row = weights.embedding(other)?;
            Some((other, product(embedding, row) / (length * product(row, row).sqrt()).max(f32::MIN_POSITIVE)))
        })
        .filter(|(_, cosine)| *cosine > 0.0)
        .map(|(other, cosine)| (other, cosine * cosine))
        .collect();
    near.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    near.truncate(COMPARED);
    near
}

/// Items that share attributes with one: those that share the most first, of equals the more
/// popular.
fn alike(snapshot: &ModelSnapshot, catalog: &Catalog, item: ItemIx) -> Vec<ItemIx> {
    let Some(known) = catalog.get(item) else { return Vec::new() };
    if known.categories.is_empty() && known.tags.is_empty() && known.brand.is_none() {
        return Vec::new();
    }
    let mut others: Vec<(usize, f32, ItemIx)> = newest(snapshot)
        .filter_map(|other| Some((shared(known, catalog.get(other)?), other)))
        .filter(|(shared, _)| *shared > 0)
        .map(|(shared, other)| (shared, snapshot.sources.popularity(other, snapshot.offset), other))
        .collect();
    others.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
    others.into_iter().map(|(.., other)| other).collect()
}

/// How many categories, tags and brands two items share.
fn shared(a: &Item, b: &Item) -> usize {
    let common = |a: &[String], b: &[String]| a.iter().filter(|value| b.contains(value)).count();
    common(&a.categories, &b.categories) + common(&a.tags, &b.tags) + usize::from(a.brand.is_some() && a.brand == b.brand)
}
