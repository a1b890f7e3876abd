//! Checks the nodes against each other and against the history of the clients.
//!
//! The consistency model: all nodes have one journal. Writes are linearizable: if a client got a
//! receipt before another request was sent, then the entries of the first are before those of the
//! second. A read with the `min_offset` of a receipt, on any node, includes the acknowledged entries.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use sequor::domain::Entry;
use serde_json::{Value, json};

use crate::cluster_daemons::{ClusterDaemons, NODE_COUNT};
use crate::daemon::Daemon;
use crate::history::{History, SentEvent};
use crate::journal_dump::JournalDump;
use crate::load::USER_COUNT;

/// What a node would recommend to a user, and the user's state. Reading this changes nothing.
fn inspection(daemon: &Daemon, user: &str) -> Value {
    let view = daemon.get_admin(&format!("/admin/sessions/{user}")).json();
    json!([view["sequence"], view["hidden"], view["ranking"], view["answer"]["items"]])
}

/// Asserts that running nodes with equal offsets give the same lists.
pub(crate) fn assert_same_lists(daemons: &ClusterDaemons) {
    let users = (0..USER_COUNT).map(|user| format!("user{user}"));
    let mut listed = 0;
    for user in users {
        let expected = inspection(&daemons.daemon(0), &user);
        listed += expected[3].as_array().map_or(0, Vec::len);
        for node in 1..NODE_COUNT {
            let found = inspection(&daemons.daemon(node), &user);
            assert!(found == expected, "node {node} differs for {user}:\n{found}\n{expected}");
        }
    }
    assert!(listed > 0, "no node recommends anything");
}

/// Asserts that every running node knows the consents that clients set last.
pub(crate) fn assert_same_consents(daemons: &ClusterDaemons, history: &History) {
    for (user, level) in &history.consents {
        for node in 0..NODE_COUNT {
            let found = daemons.daemon(node).get(&format!("/v1/users/{user}/consent")).json();
            assert_eq!(found["consent"], *level, "node {node}, {user}: {found}");
        }
    }
}

/// The checkpoint of a cleanly stopped daemon, which covers the whole journal.
fn read_checkpoint(daemons: &ClusterDaemons, node: usize, entries: u64) -> Vec<u8> {
    let file = format!("checkpoints/{entries:020}.checkpoint");
    let path: PathBuf = daemons.nodes[node].home.data_dir().join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Asserts that cleanly stopped nodes have the same journal and the same checkpoint. Returns the
/// journal.
pub(crate) fn assert_same_data(daemons: &ClusterDaemons) -> JournalDump {
    let mut dumps = daemons.nodes.iter().map(|node| JournalDump::read_from_copy(&node.home.data_dir()));
    let first = dumps.next().unwrap();
    let entries = first.entries.len() as u64;
    let checkpoint = read_checkpoint(daemons, 0, entries);
    for (node, dump) in (1..).zip(dumps) {
        let differing = first.entries.iter().zip(&dump.entries).position(|(expected, found)| expected != found);
        assert_eq!(
            (dump.entries.len() as u64, differing),
            (entries, None),
            "journal of node {node}: length, first differing entry"
        );
        let found = read_checkpoint(daemons, node, entries);
        let differing = checkpoint.iter().zip(&found).position(|(expected, found)| expected != found);
        assert_eq!(
            (found.len(), differing),
            (checkpoint.len(), None),
            "checkpoint of node {node}: length, first differing byte"
        );
    }
    first
}

/// Asserts that the journal has what the receipts promise, exactly once and in their order, and
/// nothing that no client sent.
pub(crate) fn check_history(dump: &JournalDump, history: &History) {
    let mut offsets = HashMap::new();
    for (offset, entry) in (0_u64..).zip(&dump.entries) {
        if let Some(event) = entry.as_event() {
            let id = event.event_id.as_deref().unwrap();
            assert!(offsets.insert(id, offset).is_none(), "{id} is in the journal twice");
        }
    }
    let sent: HashSet<_> = history.events.iter().map(SentEvent::id).collect();
    let foreign: Vec<_> = offsets.keys().filter(|id| !sent.contains(*id)).collect();
    assert!(foreign.is_empty(), "in the journal without being sent: {foreign:?}");
    for id in &history.withheld {
        assert!(!offsets.contains_key(id.as_str()), "{id} is stored without consent");
    }
    for event in &history.events {
        let Some(acknowledged) = &event.acknowledged else { continue };
        let offset = offsets.get(event.id());
        assert!(
            offset.is_some_and(|offset| *offset < acknowledged.offset),
            "acknowledged before {}, but at {offset:?}: {}",
            acknowledged.offset,
            event.body
        );
    }
    assert_real_time_order(&offsets, history);
    check_prices(dump, history);
    check_merges(dump, history);
}

/// Asserts that an event that was acknowledged before another event was first sent has the lower
/// offset. This includes the order of each user's events.
fn assert_real_time_order(offsets: &HashMap<&str, u64>, history: &History) {
    let mut receipts: Vec<(Instant, u64, &str)> = history
        .events
        .iter()
        .filter_map(|event| Some((event.acknowledged.as_ref()?.at, *offsets.get(event.id())?, event.id())))
        .collect();
    receipts.sort_unstable();
    let mut receipts = receipts.into_iter().peekable();
    let mut latest = None;
    // The history has the events in the order in which they were sent.
    for event in &history.events {
        while let Some((_, offset, id)) = receipts.next_if(|(at, ..)| *at < event.first_sent) {
            latest = latest.max(Some((offset, id)));
        }
        if let (Some(offset), Some((before, id))) = (offsets.get(event.id()), latest) {
            assert!(*offset > before, "{} at {offset} was sent after the receipt of {id} at {before}", event.id());
        }
    }
}

/// Asserts that every acknowledged change of an item is in the journal once, and the others at most
/// once.
fn check_prices(dump: &JournalDump, history: &History) {
    let mut counts: HashMap<u64, usize> = HashMap::new();
    dump.item_prices().iter().for_each(|price| *counts.entry(*price as u64).or_default() += 1);
    for price in &history.prices {
        assert_eq!(counts.remove(&(*price as u64)), Some(1), "an acknowledged change of an item, to {price}");
    }
    for price in &history.unknown_prices {
        assert!(counts.remove(&(*price as u64)).is_none_or(|count| count == 1), "a change of an item, to {price}");
    }
    assert!(counts.is_empty(), "changes of items that nobody sent: {counts:?}");
}

/// Asserts that a user is merged at most once and has no entries after that, and that acknowledged
/// merges are in the journal.
fn check_merges(dump: &JournalDump, history: &History) {
    let mut merged = HashSet::new();
    for entry in &dump.entries {
        let (user, from) = match entry {
            Entry::Event(event) | Entry::Private(event) => (&event.user_id, None),
            Entry::Impression(impression) => (&impression.user_id, None),
            Entry::Merge(merge) => (&merge.into, Some(&merge.from)),
            _ => continue,
        };
        assert!(!merged.contains(user), "{user} was merged before {entry:?}");
        assert!(from.is_none_or(|from| merged.insert(from)), "merged twice: {entry:?}");
    }
    for (from, is_acknowledged) in &history.merged {
        assert!(!is_acknowledged || merged.contains(from), "acknowledged: {from} was merged");
    }
    let acknowledged = history.merged.iter().filter(|(_, is_acknowledged)| *is_acknowledged);
    let mut confirmed = HashSet::new();
    acknowledged.for_each(|(from, _)| assert!(confirmed.insert(from), "two receipts confirm that {from} was merged"));
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use sequor::domain::{Event, EventKind};

    use super::*;
    use crate::daemon::view_event;

    fn event(id: &str) -> Entry {
        Entry::Event(Event {
            event_id: Some(id.to_owned()),
            user_id: "ann".to_owned(),
            session_id: None,
            kind: EventKind::View,
            item_id: Some("tea".to_owned()),
            value: None,
            timestamp: 1_700_000_000_000,
            properties: None,
            details: None,
        })
    }

    /// A history of events that were acknowledged one after the other, at these offsets.
    fn history(receipts: &[(&str, u64)]) -> History {
        let mut history = History::default();
        for (id, offset) in receipts {
            let first = history.add_events(&[view_event(id, "ann", "tea")]);
            history.acknowledge(first..first + 1, 0, *offset);
        }
        history
    }

    fn passes(ids: &[&str], history: &History) -> bool {
        let dump = JournalDump { entries: ids.iter().map(|id| event(id)).collect() };
        catch_unwind(AssertUnwindSafe(|| check_history(&dump, history))).is_ok()
    }

    #[test]
    fn violations_of_the_consistency_model_are_found() {
        let sent = history(&[("a", 1), ("b", 2), ("c", 3)]);
        assert!(passes(&["a", "b", "c"], &sent));
        for (journal, violation) in [
            (&["a", "c"][..], "a lost event"),
            (&["a", "b", "c", "b"], "an event that is stored twice"),
            (&["a", "c", "b"], "an order against that of the receipts"),
            (&["x", "a", "b", "c"], "an event that nobody sent"),
        ] {
            assert!(!passes(journal, &sent), "{violation}");
        }
        assert!(!passes(&["a", "b", "c"], &history(&[("a", 1), ("b", 1), ("c", 3)])), "a receipt with a low offset");
        let mut withheld = history(&[("a", 1)]);
        withheld.withheld.push("p".to_owned());
        withheld.events.extend(history(&[("p", 2)]).events);
        assert!(!passes(&["a", "p"], &withheld), "an event without consent");
        let mut unanswered = history(&[("a", 1)]);
        unanswered.add_events(&[view_event("b", "ann", "tea")]);
        assert!(passes(&["a", "b"], &unanswered) && passes(&["a"], &unanswered), "an event without a receipt");
        let mut priced = history(&[("a", 1)]);
        priced.prices.push(4.0);
        assert!(!passes(&["a"], &priced), "a lost change of an item");
    }
}
