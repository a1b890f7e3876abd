//! Sorts a given list of items for a user by the network's scores: `cargo run --example
//! score_list`.

use sequor::recommender::{Event, EventKind, LearnerConfig, LearnerError, Recommender};

fn main() -> Result<(), LearnerError> {
    let mut recommender = Recommender::new(LearnerConfig::default())?;
    for step in 0..5_000_i64 {
        let user = step % 20;
        recommender.learn(&Event {
            event_id: None,
            user_id: format!("user{user}"),
            session_id: None,
            kind: EventKind::View,
            item_id: Some(format!("item{}", (step / 20 + user) % 50)),
            value: None,
            timestamp: step * 1_000,
            properties: None,
            details: None,
        })?;
    }
    // The list to sort: for example, the results of the site's own search.
    let results = ["item7", "item1", "item2", "item40", "unknown"];
    let mut ranked: Vec<_> = results.into_iter().zip(recommender.score_items("user0", &results)).collect();
    ranked.sort_by(|(_, one), (_, other)| other.partial_cmp(one).unwrap_or(std::cmp::Ordering::Equal));
    for (item, score) in ranked {
        match score {
            Some(score) => println!("{item:<8} {score:.3}"),
            None => println!("{item:<8} unknown to the network"),
        }
    }
    Ok(())
}
