//! The desk and the ranker, driven by small streams.

use super::*;
use crate::candidates::{CandidateSettings, CandidateSources, QueryContext};
use crate::domain::{Candidate, EventKinds, ItemIx, Step};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

struct World {
    sources: CandidateSources,
    ranker: Ranker,
    desk: RankingWorkspace,
    mood: SourceAffinity,
    steps: Vec<Step>,
    session: u32,
    now: u64,
    teaches: bool,
}

fn step(item: ItemIx, value: f32) -> Step {
    Step { item: Some(item), kind: if value < 0.0 { 11 } else { 0 }, starts_session: false, at: 0, value }
}

impl World {
    fn new() -> Self {
        Self {
            sources: CandidateSources::new(&CandidateSettings::default(), &EventKinds::default()).unwrap(),
            ranker: Ranker::new(1),
            desk: RankingWorkspace::new(256),
            mood: SourceAffinity::default(),
            steps: Vec::new(),
            session: 0,
            now: 0,
            teaches: true,
        }
    }

    fn consider(&mut self) {
        let moment = QueryContext { steps: &self.steps, session: self.session, session_start: u64::from(self.session), now: self.now };
        self.desk.score_candidates(&self.sources, &self.ranker, &moment, &self.mood, None, &[]);
    }

    /// Tests, then teaches; the loss and the rank of what came, if it was a candidate.
    fn arrive(&mut self, item: ItemIx) -> Option<(f32, usize)> {
        self.consider();
        let rank = self.desk.rank_of(item);
        self.mood.update(self.desk.shares_of(item), self.steps.iter().any(|step| step.item == Some(item)));
        let loss = if self.teaches { self.desk.train(&mut self.ranker, item) } else { self.desk.train(&mut self.ranker.clone(), item) };
        self.sources.learn(
            &QueryContext { steps: &self.steps, session: self.session, session_start: u64::from(self.session), now: self.now },
            &step(item, 1.0),
        );
        self.steps.push(step(item, 1.0));
        self.now += 1;
        loss.zip(rank)
    }

    /// Sessions of four items, in which item i is followed by i + 1 three times of four, and by any item else.
    fn run(&mut self, seed: u64, events: u64) -> Vec<(f32, usize)> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut seen = Vec::new();
        for event in 0..events {
            if event % 4 == 0 {
                self.steps.clear();
                self.session += 1;
                self.mood = SourceAffinity::default();
            }
            let draw = random.next_u64();
            let next = self.steps.last().and_then(|step| step.item).map_or(0, |item| (item + 1) % 100);
            let item = if draw % 4 == 0 || self.steps.is_empty() { (draw >> 8) as ItemIx % 100 } else { next };
            seen.extend(self.arrive(item));
        }
        seen
    }
}

#[test]
fn the_ranker_learns_what_the_sources_are_worth() {
    let mut world = World::new();
    let seen = world.run(7, 4_000);
    let loss = |part: &[(f32, usize)]| part.iter().map(|(loss, _)| loss).sum::<f32>() / part.len() as f32;
    let first = |part: &[(f32, usize)]| part.iter().filter(|(_, rank)| *rank == 1).count() as f32 / part.len() as f32;
    let late = &seen[seen.len() - 400..];
    let mut untaught = World { teaches: false, ..World::new() };
    let unlearned = untaught.run(7, 4_000);
    let unlearned = &unlearned[unlearned.len() - 400..];
    assert!(loss(late) < loss(unlearned) - 0.3, "loss {} untaught, {} taught", loss(unlearned), loss(late));
    // Three of four steps a session can be foreseen, three times of four.
    assert!(first(late) > 0.45, "first in {}", first(late));
}

#[test]
fn the_same_stream_gives_the_same_bytes() {
    let run = || {
        let mut world = World::new();
        world.run(3, 800);
        bincode::serde::encode_to_vec((&world.ranker, &world.mood), bincode::config::standard()).unwrap()
    };
    assert_eq!(run(), run());
}

#[test]
fn the_best_are_in_order_and_agree_with_the_rank() {
    let mut world = World::new();
    world.run(3, 801);
    world.consider();
    let mut best: Vec<Candidate> = Vec::new();
    world.desk.best(20, |_| true, &mut best);
    assert_eq!(best.len(), 20);
    assert!(best.windows(2).all(|pair| pair[0].score > pair[1].score || (pair[0].score == pair[1].score && pair[0].item < pair[1].item)));
    for (place, candidate) in best.iter().enumerate() {
        assert_eq!(world.desk.rank_of(candidate.item), Some(place + 1));
    }
    let banned = best[0].item;
    world.desk.best(20, |item| item != banned, &mut best);
    assert!(best.iter().all(|candidate| candidate.item != banned));
}

#[test]
fn an_empty_world_has_no_candidates_and_teaches_nothing() {
    let mut world = World::new();
    world.consider();
    let mut best = Vec::new();
    world.desk.best(20, |_| true, &mut best);
    assert!(best.is_empty());
    assert_eq!(world.arrive(4), None);
}

#[test]
fn what_was_waved_away_is_not_offered_in_this_session_and_stands_lower_after() {
    let mut world = World::new();
    world.run(3, 801);
    world.consider();
    let mut best = Vec::new();
    world.desk.best(1, |_| true, &mut best);
    let (item, score) = (best[0].item, best[0].score);
    world.desk.train_dismissal(&mut world.ranker, item);
    world.consider();
    world.desk.best(256, |_| true, &mut best);
    let after = best.iter().find(|candidate| candidate.item == item).map(|candidate| candidate.score);
    assert!(after.is_some_and(|after| after < score));
    world.steps.push(step(item, -1.0));
    world.consider();
    assert_eq!(world.desk.rank_of(item), None);
}

#[test]
fn the_network_brings_candidates_and_its_word_counts() {
    let mut world = World::new();
    world.run(3, 401);
    let steps = world.steps.clone();
    let moment = QueryContext { steps: &steps, session: world.session, session_start: u64::from(world.session), now: world.now };
    let network = NetworkScores { top: &[(500, 3.0), (501, 2.0)], log_partition: 4.0, logit: &|item| if item >= 500 { 3.0 } else { -9.0 } };
    world.desk.score_candidates(&world.sources, &world.ranker, &moment, &world.mood, Some(&network), &[(502, 1.0)]);
    let mut best = Vec::new();
    world.desk.best(256, |_| true, &mut best);
    let source = |item| best.iter().find(|candidate| candidate.item == item).map(|candidate| candidate.source);
    assert_eq!(source(500), Some(crate::domain::SourceName::Network));
    assert_eq!(source(502), Some(crate::domain::SourceName::Clusters));
}
