//! Learns from a stream of events and recommends items for a user: `cargo run --example recommend`.

use sequor::recommender::{Event, EventKind, LearnerConfig, LearnerError, RecommendationRequest, Recommender};

fn main() -> Result<(), LearnerError> {
    let mut recommender = Recommender::new(LearnerConfig::default())?;
    // Twenty users view fifty items in the same cyclic order. Each user starts at a different item.
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
    let report = recommender.report();
    println!("Recall@20 of the last {} tests: {:.3}", report.live.steps, report.live.recall());
    println!("Next for user3:");
    for (item, score) in recommender.recommend("user3", &RecommendationRequest::new(5, 5_000_000)) {
        println!("  {item:<8} {score:.3}");
    }
    Ok(())
}
