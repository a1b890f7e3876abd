//! Tests of the vectors that a site gives its items.

use super::*;
use crate::domain::{ItemPatch, ItemVector, VectorPatch};

const ITEMS: u64 = 80;

fn number_below(limit: u64, seed: u64) -> u64 {
    let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) % limit
}

/// The vector of an item: a part that all items share, a part of its group, and a random part.
fn vector_of(item: u64, group: u64) -> ItemVector {
    let random = |position: u64| number_below(1_000, item * 64 + position) as f32 / 1_000.0 - 0.5;
    let value = |position| 2.0 + if position / 4 == group { 2.0 } else { 0.0 } + random(position);
    ItemVector { name: "text".to_owned(), values: (0..8).map(value).collect() }
}

fn item_change(item: &str, operation: ItemOperation) -> Entry {
    Entry::Item(ItemChange { item_id: item.to_owned(), timestamp: 0, operation })
}

fn put_with_vector(item: u64) -> Entry {
    let operation = ItemOperation::PutWithVectors(Item::default(), vec![vector_of(item, item % 2)]);
    item_change(&format!("i{item}"), operation)
}

/// Sessions of five views of items of one group.
fn journal_of_groups(sessions: std::ops::Range<u64>) -> Vec<Entry> {
    let view = |number: u64| {
        let (session, at) = (number / 5, number as i64 * 1_000);
        let item = number_below(ITEMS / 2, number) * 2 + session % 2;
        Entry::Event(event_of_user(&format!("u{session}"), "view", &format!("i{item}"), at))
    };
    (sessions.start * 5..sessions.end * 5).map(view).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// How much more similar a new item is to the items of group 0 than to those of group 1.
fn similarity_to_group_0(fixture: &LearnerFixture, name: &str) -> f32 {
    let snapshot = fixture.learner.snapshot();
    let weights = snapshot.weights().unwrap();
    let new = weights.embedding(fixture.dictionary.get(name).unwrap()).unwrap();
    let to_group = |group: u64| {
        let items = (0..ITEMS).filter(|item| item % 2 == group);
        let numbers = items.map(|item| fixture.dictionary.get(&format!("i{item}")).unwrap());
        numbers.map(|item| cosine(new, weights.embedding(item).unwrap())).sum::<f32>() / (ITEMS / 2) as f32
    };
    to_group(0) - to_group(1)
}

#[test]
fn new_items_start_near_items_with_similar_vectors_even_after_a_restart() {
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    fixture.apply(&(0..ITEMS).map(put_with_vector).collect::<Vec<_>>());
    fixture.apply(&journal_of_groups(0..640));
    let mut fixture = fixture.decode_and_continue();
    let put = |group| ItemOperation::PutWithVectors(Item::default(), vec![vector_of(1_000 + group, group)]);
    let patch = VectorPatch::Change(vec![("text".to_owned(), Some(vector_of(2_000, 0).values))]);
    fixture.apply(&[
        item_change("near", put(0)),
        item_change("far", put(1)),
        item_change("later", ItemOperation::Put(Item::default())),
        item_change("plain", ItemOperation::Put(Item::default())),
    ]);
    fixture.apply(&[item_change("later", ItemOperation::PatchWithVectors(ItemPatch::default(), patch))]);
    // Two training intervals. None of the events is on the new items.
    fixture.apply(&journal_of_groups(640..648));
    let [near, far, later, plain] = ["near", "far", "later", "plain"].map(|name| similarity_to_group_0(&fixture, name));
    assert!(near > 0.3 && far < -0.3 && later > 0.3, "{near} {far} {later}; without a vector {plain}");
}

#[test]
fn the_state_with_vectors_does_not_depend_on_restarts() {
    let entries = [(0..ITEMS).map(put_with_vector).collect(), journal_of_groups(0..60)].concat();
    let mut whole = LearnerFixture::new(small_settings(), Arc::default(), None);
    whole.apply(&entries);
    let mut parts = LearnerFixture::new(small_settings(), Arc::default(), None);
    for part in entries.chunks(101) {
        parts.apply(part);
        parts = parts.decode_and_continue();
    }
    assert!(whole.state_bytes() == parts.state_bytes());
}
