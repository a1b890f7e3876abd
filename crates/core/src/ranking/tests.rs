//! Tests of the workspace and the ranker on small event streams.

use super::*;
use crate::candidates::{CandidateSettings, CandidateSources, QueryContext};
use crate::domain::{Candidate, EventKinds, ItemIx, Step};
use crate::nn::ItemRelation;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

struct RankerSimulation {
    sources: CandidateSources,
    ranker: Ranker,
    workspace: RankingWorkspace,
    affinity: SourceAffinity,
    steps: Vec<Step>,
    session: u32,
    now: u64,
    trains_ranker: bool,
}

fn step_on_item(item: ItemIx, value: f32) -> Step {
    Step { item: Some(item), kind: if value < 0.0 { 11 } else { 0 }, starts_session: false, at: 0, value }
}

impl RankerSimulation {
    fn new() -> Self {
        Self {
            sources: CandidateSources::new(&CandidateSettings::default(), &EventKinds::default()).unwrap(),
            ranker: Ranker::new(1),
            workspace: RankingWorkspace::new(256),
            affinity: SourceAffinity::default(),
            steps: Vec::new(),
            session: 0,
            now: 0,
            trains_ranker: true,
        }
    }

    fn score_query(&mut self) {
        let context = QueryContext {
            steps: &self.steps,
            session: self.session,
            session_start: u64::from(self.session),
            now: self.now,
            ..QueryContext::default()
        };
        self.workspace.score_candidates(&self.sources, &self.ranker, &context, &self.affinity, None, None);
    }

    /// Scores the candidates, then trains on an event of `item`. Returns the loss and the rank of
    /// the item if it was a candidate.
    fn score_and_train(&mut self, item: ItemIx) -> Option<(f32, usize)> {
        self.score_query();
        let rank = self.workspace.rank_of(item);
        self.affinity
            .update(self.workspace.share_features_of(item), self.steps.iter().any(|step| step.item == Some(item)));
        let loss = if self.trains_ranker {
            self.workspace.train_ranker(&mut self.ranker, item, 1.0)
        } else {
            self.workspace.train_ranker(&mut self.ranker.clone(), item, 1.0)
        };
        self.sources.learn(
            &QueryContext {
                steps: &self.steps,
                session: self.session,
                session_start: u64::from(self.session),
                now: self.now,
                ..QueryContext::default()
            },
            &step_on_item(item, 1.0),
        );
        self.steps.push(step_on_item(item, 1.0));
        self.now += 1;
        loss.zip(rank)
    }

    /// Runs sessions of four items each. With probability 3/4, item i is followed by item i + 1;
    /// otherwise by a random item.
    fn run_sessions(&mut self, seed: u64, events: u64) -> Vec<(f32, usize)> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut seen = Vec::new();
        for event in 0..events {
            if event % 4 == 0 {
                self.steps.clear();
                self.session += 1;
                self.affinity = SourceAffinity::default();
            }
            let draw = rng.next_u64();
            let next = self.steps.last().and_then(|step| step.item).map_or(0, |item| (item + 1) % 100);
            let item = if draw % 4 == 0 || self.steps.is_empty() { (draw >> 8) as ItemIx % 100 } else { next };
            seen.extend(self.score_and_train(item));
        }
        seen
    }
}

#[test]
fn training_reduces_the_loss_and_ranks_predictable_items_first() {
    let mut simulation = RankerSimulation::new();
    let seen = simulation.run_sessions(7, 4_000);
    let loss = |part: &[(f32, usize)]| part.iter().map(|(loss, _)| loss).sum::<f32>() / part.len() as f32;
    let first = |part: &[(f32, usize)]| part.iter().filter(|(_, rank)| *rank == 1).count() as f32 / part.len() as f32;
    let late = &seen[seen.len() - 400..];
    let mut untrained = RankerSimulation { trains_ranker: false, ..RankerSimulation::new() };
    let untrained_results = untrained.run_sessions(7, 4_000);
    let untrained_results = &untrained_results[untrained_results.len() - 400..];
    assert!(
        loss(late) < loss(untrained_results) - 0.3,
        "loss {} untrained, {} trained",
        loss(untrained_results),
        loss(late)
    );
    // Of the four steps of a session, the last three can each be predicted with probability 3/4.
    assert!(first(late) > 0.45, "first in {}", first(late));
}

#[test]
fn the_same_events_give_the_same_ranker() {
    let run = || {
        let mut simulation = RankerSimulation::new();
        simulation.run_sessions(3, 800);
        bincode::serde::encode_to_vec((&simulation.ranker, &simulation.affinity), bincode::config::standard()).unwrap()
    };
    assert_eq!(run(), run());
}

#[test]
fn best_candidates_are_sorted_and_agree_with_their_ranks() {
    let mut simulation = RankerSimulation::new();
    simulation.run_sessions(3, 801);
    simulation.score_query();
    let mut best: Vec<Candidate> = Vec::new();
    simulation.workspace.best_candidates(|_, score| score, &mut best);
    assert!(best.len() > 20);
    assert!(
        best.windows(2).all(
            |pair| pair[0].score > pair[1].score || (pair[0].score == pair[1].score && pair[0].item < pair[1].item)
        )
    );
    for (position, candidate) in best.iter().enumerate() {
        assert_eq!(simulation.workspace.rank_of(candidate.item), Some(position + 1));
    }
    let (lowered, count) = (best[0], best.len());
    let lower = |item, score| if item == lowered.item { score - 1e6 } else { score };
    simulation.workspace.best_candidates(lower, &mut best);
    assert_eq!((best.len(), best[count - 1].item), (count, lowered.item));
    assert_eq!(best[count - 1].score, lowered.score - 1e6);
}

#[test]
fn without_data_there_are_no_candidates_and_no_training() {
    let mut simulation = RankerSimulation::new();
    simulation.score_query();
    let mut best = Vec::new();
    simulation.workspace.best_candidates(|_, score| score, &mut best);
    assert!(best.is_empty());
    assert_eq!(simulation.score_and_train(4), None);
}

#[test]
fn a_dismissal_removes_the_item_from_the_session_and_lowers_its_score() {
    let mut simulation = RankerSimulation::new();
    simulation.run_sessions(3, 801);
    simulation.score_query();
    let mut best = Vec::new();
    simulation.workspace.best_candidates(|_, score| score, &mut best);
    let (item, score) = (best[0].item, best[0].score);
    simulation.workspace.train_dismissal(&mut simulation.ranker, item);
    simulation.score_query();
    simulation.workspace.best_candidates(|_, score| score, &mut best);
    let after = best.iter().find(|candidate| candidate.item == item).map(|candidate| candidate.score);
    assert!(after.is_some_and(|after| after < score));
    simulation.steps.push(step_on_item(item, -1.0));
    simulation.score_query();
    assert_eq!(simulation.workspace.rank_of(item), None);
}

#[test]
fn network_and_cluster_candidates_are_attributed_to_their_source() {
    let mut simulation = RankerSimulation::new();
    simulation.run_sessions(3, 401);
    let steps = simulation.steps.clone();
    let context = QueryContext {
        steps: &steps,
        session: simulation.session,
        session_start: u64::from(simulation.session),
        now: simulation.now,
        ..QueryContext::default()
    };
    let network = NetworkScores {
        top: &[(500, 3.0), (501, 2.0)],
        clusters: &[(502, 1.0)],
        log_partition: 4.0,
        relate: &|items, relations| {
            let logit = |item: &ItemIx| if *item >= 500 { 3.0 } else { -9.0 };
            let relation = |logit| ItemRelation { logit, input_logit: 0.0, bias: 0.0, last_item_similarity: 0.0 };
            relations.clear();
            relations.extend(items.iter().map(logit).map(relation));
        },
    };
    simulation.workspace.score_candidates(
        &simulation.sources,
        &simulation.ranker,
        &context,
        &simulation.affinity,
        Some(&network),
        None,
    );
    let mut best = Vec::new();
    simulation.workspace.best_candidates(|_, score| score, &mut best);
    let source = |item| best.iter().find(|candidate| candidate.item == item).map(|candidate| candidate.source);
    assert_eq!(source(500), Some(crate::domain::SourceName::Network));
    assert_eq!(source(502), Some(crate::domain::SourceName::Clusters));
}
