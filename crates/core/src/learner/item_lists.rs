//! Candidates of non-personalised lists: popular items and similar items.

use crate::candidates::{EvidenceColumn, SessionIx};
use crate::domain::{Candidate, Catalog, CatalogItem, ItemIx, SourceName, Step, Timestamp};
use crate::nn::Weights;
use crate::ranking::{EligibilityRules, FeatureContext, ResultSelection, SourceAffinity};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

use super::scorer::{DEFAULT_CANDIDATE_LIMIT, ScoredUser, Scorer, ScoringWorkspace};
use super::sequence_state::{SequenceParams, SequenceState};
use super::snapshot::ModelSnapshot;

/// If the precomputed lists are too short, at most this many of the newest items are scanned. The
/// limit bounds the response time.
const MAX_SCANNED_ITEMS: usize = 1 << 16;

/// Maximum length of each of the four lists that [`add_similar_items`] combines.
const MAX_ITEMS_PER_EVIDENCE_LIST: usize = 200;

/// Calls `next` with each eligible item and its popularity, the most popular item first, until
/// `next` returns `false`. Skips the items in `visited_items`. Adds to them the trending items that
/// it reaches, and every other item that it passes to `next`.
pub(super) fn visit_popular_items(
    snapshot: &ModelSnapshot,
    rules: &EligibilityRules<'_>,
    visited_items: &mut FxHashSet<ItemIx>,
    next: &mut dyn FnMut(ItemIx, f32) -> bool,
) {
    for (item, popularity) in snapshot.sources.trending_items(snapshot.source_time) {
        if visited_items.insert(item) && rules.is_eligible(item) && !next(item, popularity) {
            return;
        }
    }
    let mut others: Vec<(f32, ItemIx)> = newest_items(snapshot)
        .filter(|item| !visited_items.contains(item) && rules.is_eligible(*item))
        .map(|item| (snapshot.sources.popularity(item, snapshot.source_time), item))
        .collect();
    others.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (popularity, item) in others {
        visited_items.insert(item);
        if !next(item, popularity) {
            return;
        }
    }
}

/// The newest items, oldest first.
pub(super) fn newest_items(snapshot: &ModelSnapshot) -> impl DoubleEndedIterator<Item = ItemIx> {
    let items = snapshot.item_count;
    (items.saturating_sub(MAX_SCANNED_ITEMS)..items).filter_map(|item| ItemIx::try_from(item).ok())
}

/// Returns the most popular items, with their decayed counts as scores, until `count` of them are
/// eligible. Items that rules hide are in the list, too, so that the selection counts them.
pub(super) fn popular_candidates(
    snapshot: &ModelSnapshot,
    rules: &EligibilityRules<'_>,
    count: usize,
) -> Vec<Candidate> {
    let (mut list, mut eligible) = (Vec::new(), 0);
    let visible = EligibilityRules { hide: &[], ..*rules };
    visit_popular_items(snapshot, &visible, &mut FxHashSet::default(), &mut |item, popularity| {
        list.push(Candidate { item, score: popularity, source: SourceName::Trending });
        eligible += usize::from(rules.is_eligible(item));
        eligible < count
    });
    list
}

/// Returns the items most similar to `item`, see `add_similar_items`.
#[must_use]
pub fn similar_items(
    snapshot: &ModelSnapshot,
    catalog: &Catalog,
    item: ItemIx,
    limit: usize,
    params: &SequenceParams,
    now: Timestamp,
) -> Vec<Candidate> {
    let items = [item];
    let unproven = Some(&snapshot.unproven);
    let rules = EligibilityRules { exclude: &items, unproven, ..EligibilityRules::new(catalog, now) };
    let mut selection = ResultSelection::new(rules, limit, limit);
    let workspace = &mut ScoringWorkspace::default();
    add_similar_items(snapshot, &rules, &items, params, &mut |_| {}, workspace, &mut selection);
    selection.into_parts().0
}

/// Adds the items most similar to `items` to the selection, best first. `reorder` may change the
/// scores and the order of the candidates before that.
///
/// Similarity combines four lists for each of `items`: items that follow the item, items that
/// precede it, items in neighbouring sessions, and items with similar network embeddings. In each
/// list, the shares of the items add up to 1. The score of an item is the sum of its shares. The
/// source of an item is the list with its largest share. If the lists contain too few items, items
/// that share attributes with `items` follow.
pub(super) fn add_similar_items(
    snapshot: &ModelSnapshot,
    rules: &EligibilityRules<'_>,
    items: &[ItemIx],
    params: &SequenceParams,
    reorder: &mut dyn FnMut(&mut Vec<Candidate>),
    workspace: &mut ScoringWorkspace,
    selection: &mut ResultSelection<'_>,
) {
    let mut shares = SimilarityShares::default();
    for item in items {
        add_similarity_shares(snapshot, *item, params, rules.now, workspace, &mut shares);
    }
    let mut visited_items: FxHashSet<ItemIx> = selection.selected().iter().map(|listed| listed.item).collect();
    shares.retain(|item, _| !visited_items.contains(item));
    let mut ranked: Vec<_> =
        shares.into_iter().map(|(item, (score, _, source))| Candidate { item, score, source }).collect();
    ranked.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
    reorder(&mut ranked);
    ranked.iter().for_each(|candidate| selection.add_ranked(*candidate));
    visited_items.extend(ranked.iter().map(|candidate| candidate.item));
    for item in items.iter().rev() {
        if !selection.needs_more() {
            return;
        }
        for other in items_sharing_attributes(snapshot, rules.catalog, *item) {
            if visited_items.insert(other) {
                let score = selection.selected().last().map_or(0.0, |last| last.score * 0.5);
                selection.add_ranked(Candidate { item: other, score, source: SourceName::New });
            }
        }
    }
}

/// By item: the sum of its shares, its largest share and the source of the largest share.
type SimilarityShares = FxHashMap<ItemIx, (f32, f32, SourceName)>;

/// Adds the shares of the items that are similar to `item`.
fn add_similarity_shares(
    snapshot: &ModelSnapshot,
    item: ItemIx,
    params: &SequenceParams,
    now: Timestamp,
    workspace: &mut ScoringWorkspace,
    shares: &mut SimilarityShares,
) {
    let mut user = SequenceState::default();
    let step = Step { item: Some(item), kind: 0, starts_session: false, at: now, value: 0.0 };
    user.advance(0, step, None, params, None, &mut workspace.network);
    let about = ScoredUser {
        session: SessionIx::MAX,
        affinity: &SourceAffinity::default(),
        profile: None,
        begins_session: false,
        declared: FeatureContext::default(),
    };
    workspace.ranking.set_limit(DEFAULT_CANDIDATE_LIMIT, &[]);
    // Similarity is evidence alone, so the features of the candidates are not needed.
    Scorer { features: None, ..snapshot.scorer() }.score(&mut user, &about, params, workspace);
    let mut add_shares = |list: Vec<(ItemIx, f32)>, source: SourceName| {
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
    let candidates = workspace.ranking.candidates();
    for column in [EvidenceColumn::WindowTransitions, EvidenceColumn::ReverseTransitions, EvidenceColumn::Neighbours] {
        add_shares(candidates.best_by_column(column, MAX_ITEMS_PER_EVIDENCE_LIST), column.source());
    }
    if let Some(weights) = snapshot.weights() {
        add_shares(nearest_items_by_embedding(weights, item, workspace), SourceName::Network);
    }
}

/// Returns the items whose embeddings have the largest cosine with the embedding of `item`, best
/// first, with the squared cosine. Only the items with the largest inner products with the
/// embedding are compared.
fn nearest_items_by_embedding(weights: &Weights, item: ItemIx, workspace: &mut ScoringWorkspace) -> Vec<(ItemIx, f32)> {
    let Some(embedding) = weights.embedding(item) else { return Vec::new() };
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let query = weights.to_query(embedding);
    let top = weights.top_items(&query, 2 * MAX_ITEMS_PER_EVIDENCE_LIST, None, &mut workspace.network);
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
    near.truncate(MAX_ITEMS_PER_EVIDENCE_LIST);
    near
}

/// Returns the items that share attributes with `item`. The item with the most shared attributes
/// comes first; among equal numbers, the more popular item.
fn items_sharing_attributes(snapshot: &ModelSnapshot, catalog: &Catalog, item: ItemIx) -> Vec<ItemIx> {
    let Some(known) = catalog.get(item) else { return Vec::new() };
    if known.categories().is_empty() && known.tags().is_empty() && known.brand().is_none() {
        return Vec::new();
    }
    let mut others: Vec<(usize, f32, ItemIx)> = newest_items(snapshot)
        .filter_map(|other| Some((shared_attribute_count(known, catalog.get(other)?), other)))
        .filter(|(shared_attribute_count, _)| *shared_attribute_count > 0)
        .map(|(shared_attribute_count, other)| {
            (shared_attribute_count, snapshot.sources.popularity(other, snapshot.source_time), other)
        })
        .collect();
    others.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
    others.into_iter().map(|(.., other)| other).collect()
}

/// Counts the categories, tags and brands that two items have in common.
fn shared_attribute_count(a: &CatalogItem, b: &CatalogItem) -> usize {
    let common = |a: &[Arc<str>], b: &[Arc<str>]| a.iter().filter(|value| b.contains(value)).count();
    common(a.categories(), b.categories())
        + common(a.tags(), b.tags())
        + usize::from(a.brand().is_some() && a.brand() == b.brand())
}
