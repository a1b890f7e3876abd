//! `weight` of kinds of events: a higher weight improves the lists for the events of the kind, and
//! the quality is reported by kind.

use std::path::Path;

use serde_json::{Value, json};

use crate::daemon::{DaemonHome, event_of_kind};
use crate::replay::{replay_metrics, simulated_shop_csv, write_temp_file};

/// The quality of a replay of a simulated shop, without the network, by kind of target event.
fn quality_by_kind(file: &Path, more: &[&str]) -> impl Fn(&str, &str) -> f64 + use<> {
    let arguments = ["--idle-gap", "30m", "--without", "network", "--evaluate-from", "0.5"];
    let report: Value = replay_metrics(file, &[&arguments[..], more].concat());
    move |kind: &str, metric: &str| {
        let of_kind = report["kinds"].as_array().unwrap().iter().find(|quality| quality["kind"] == kind);
        of_kind.unwrap_or_else(|| panic!("{report}"))[metric].as_f64().unwrap()
    }
}

#[test]
fn a_weight_improves_the_lists_for_the_events_of_a_kind() {
    let (_folder, file) = write_temp_file("shop.csv", simulated_shop_csv(12_000));
    let (equal, weighted) = (
        quality_by_kind(&file, &["--set", "events.kinds.purchase.weight=1"]),
        quality_by_kind(&file, &["--set", "events.kinds.purchase.weight=20"]),
    );
    assert!(equal("purchase", "steps") > 50.0);
    let change = |metric: &str| weighted("purchase", metric) - equal("purchase", metric);
    // A purchase mostly follows the cart event of the same item, so its recall is high with any weight.
    assert!(change("recall_at_20") >= 0.0, "{}", change("recall_at_20"));
    assert!(change("mrr_at_20") > 0.0, "{}", change("mrr_at_20"));
}

#[test]
fn metrics_and_restarts_keep_the_kinds_apart() {
    let home = DaemonHome::new();
    let weight = ["events.kinds.purchase.weight=5"];
    let daemon = home.start(&weight);
    let mut events = Vec::new();
    for number in 0..60_u64 {
        let (user, step) = (number % 6, number / 6);
        let kind = if step == 9 { "purchase" } else { "view" };
        let mut event = event_of_kind(&format!("e{number}"), &format!("u{user}"), &format!("i{}", step % 5), kind);
        event["timestamp"] = json!(1_700_000_000_000_u64 + number * 1_000);
        events.push(event);
    }
    daemon.send_events(&events);
    daemon.wait_until_learned(60);
    let quality = |kind: &str| daemon.metric_value(&format!("sequor_live_recall_at_20_by_kind{{kind=\"{kind}\"}}"));
    assert!(quality("view") > 0.0 && quality("purchase") > 0.0 && quality("cart").is_nan());
    let list = daemon.recommended_items("u1");
    assert!(daemon.terminate().success());

    // With the same weight, the next start continues from the checkpoint.
    let daemon = home.start(&weight);
    daemon.wait_until_learned(60);
    assert_eq!(daemon.recommended_items("u1"), list);
    assert!(daemon.terminate().success());
    // With another weight, it learns the journal again.
    let daemon = home.start(&[]);
    daemon.wait_until_learned(60);
    daemon.assert_healthy();
}
