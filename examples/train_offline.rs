//! Trains a network on recorded events in several epochs, and tests it on the latest sessions:
//! `cargo run --release --example train_offline -- FILE`.
//!
//! Every line of the file is `user,item,seconds`, where `seconds` is the time of the event. The
//! lines are in time order. Without a file, the example uses a small synthetic recording.

use sequor::recommender::{
    Event, EventKind, EventKinds, NetworkSettings, OfflineSettings, OfflineTraining, Recording, score_sessions,
};
use std::error::Error;

fn view_event(user: &str, item: &str, seconds: i64) -> Event {
    Event {
        event_id: None,
        user_id: user.to_owned(),
        session_id: None,
        kind: EventKind::View,
        item_id: Some(item.to_owned()),
        value: None,
        timestamp: seconds * 1_000,
        properties: None,
        details: None,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let kinds = EventKinds::default();
    let mut recording = Recording::new(30 * 60 * 1_000);
    match std::env::args().nth(1) {
        Some(file) => {
            for line in std::fs::read_to_string(file)?.lines() {
                let fields: Vec<_> = line.split(',').collect();
                let [user, item, seconds] = fields.as_slice() else {
                    return Err(format!("not `user,item,seconds`: {line}").into());
                };
                recording.add_event(&view_event(user, item, seconds.parse()?), &kinds);
            }
        }
        None => {
            for step in 0..4_000_i64 {
                let user = step % 400;
                recording.add_event(
                    &view_event(&format!("user{user}"), &format!("item{}", (step / 400 + user) % 30), step),
                    &kinds,
                );
            }
        }
    }
    let settings = OfflineSettings { epochs: 3, ..OfflineSettings::default() };
    let corpus = recording.into_corpus(&settings);
    let network = NetworkSettings { hidden: 32, ..NetworkSettings::default() };
    let mut training = OfflineTraining::new(settings, network, kinds.clone(), &corpus)?;
    while !training.is_finished() {
        let report = training.train_epoch(&corpus, |_| ())?;
        println!("loss {:.4}", report.loss);
    }
    let scores = score_sessions(&training.best_weights(), &corpus.test, &kinds);
    println!("test sessions: Recall@20 {:.3}, MRR@20 {:.3}", scores.metrics.recall(), scores.metrics.mrr());
    Ok(())
}
