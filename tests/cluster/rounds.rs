//! Clients write and read through all nodes while nodes and servers fail.
//!
//! `SEQUOR_CLUSTER_ROUNDS` sets the number of faults (default 11, so that each kind occurs once),
//! `SEQUOR_CLUSTER_SEED` the seed of their order and targets, and `SEQUOR_CLUSTER_FAULT` a part of
//! the names of the kinds of fault (default: all kinds).

use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use crate::checker::{assert_same_consents, assert_same_data, assert_same_lists, check_history};
use crate::cluster_daemons::{ClusterDaemons, NODE_COUNT};
use crate::daemon::wait_for;
use crate::faults::{Fault, FaultSchedule};
use crate::load::{LoadClient, SharedLoad};
use crate::nats_servers::NatsServers;

const CLIENT_COUNT: u64 = 4;

fn number_from_environment<T: FromStr<Err: std::fmt::Debug>>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Waits until some nodes have acknowledged more batches.
fn wait_for_receipts(shared: &SharedLoad<'_>, what: &str, more: u64, nodes: impl Fn(usize) -> bool) {
    let count = || {
        let receipts = shared.history.lock().unwrap().receipts;
        (0..NODE_COUNT).filter(|node| nodes(*node)).map(|node| receipts[node]).sum::<u64>()
    };
    let before = count();
    wait_for(what, || (count() >= before + more).then_some(()));
}

/// Causes one fault under load and ends it. While at most one server and one node are down, the other
/// nodes acknowledge. Afterwards, all do.
fn run_round(fault: &Fault, servers: &mut NatsServers, shared: &SharedLoad<'_>) {
    fault.begin(servers, shared.daemons);
    if let Some(affected) = fault.nodes_that_may_refuse() {
        wait_for_receipts(shared, &format!("receipts during {fault:?}"), 10, |node| !affected.contains(&node));
    }
    thread::sleep(fault.further_duration());
    fault.end(servers, shared.daemons);
    for node in 0..NODE_COUNT {
        wait_for_receipts(shared, &format!("receipts of node {node} after {fault:?}"), 3, |found| found == node);
    }
}

#[test]
fn faults_of_nodes_and_servers_lose_nothing_and_leave_equal_nodes() {
    let Some(mut servers) = NatsServers::start("faults of several daemons on replicated servers") else { return };
    let rounds: usize = number_from_environment("SEQUOR_CLUSTER_ROUNDS", 11);
    let seed = number_from_environment("SEQUOR_CLUSTER_SEED", 1);
    // The last node uses the weights that a learner publishes, and trains itself if there is none.
    let role = |node| if node + 1 == NODE_COUNT { "replica" } else { "learner" };
    // The stream is trimmed below the snapshots, so that a wiped node joins from one of them.
    let daemons = ClusterDaemons::start_each(&servers, |node| {
        vec![format!("cluster.role={}", role(node)), "cluster.snapshot_every=20000".to_owned()]
    });
    let shared = SharedLoad::new(&daemons);
    thread::scope(|scope| {
        for number in 0..CLIENT_COUNT {
            let shared = &shared;
            scope.spawn(move || LoadClient::new(number, seed, shared).run());
        }
        let stop = StopAtEnd(&shared);
        wait_for_receipts(&shared, "first receipts", 20, |_| true);
        let mut schedule = FaultSchedule::new(seed);
        for round in 0..rounds {
            let fault = schedule.next_fault(&servers);
            let started = Instant::now();
            run_round(&fault, &mut servers, &shared);
            eprintln!("round {round}: {fault:?}, {:.1} s", started.elapsed().as_secs_f64());
        }
        drop(stop);
    });
    // A request to pause learning can take effect after its client has given up.
    assert_eq!(daemons.daemon(0).admin_request("POST", "/admin/model/resume", "{}").status, 200);
    let entries = daemons.wait_until_equal();
    let history = shared.history.into_inner().unwrap();
    assert!(history.events.iter().all(|event| event.acknowledged.is_some()), "an event has no receipt");
    assert!(history.reads_of_own_writes > 20, "{} reads", history.reads_of_own_writes);
    assert_same_lists(&daemons);
    assert_same_consents(&daemons, &history);
    assert_eq!(daemons.wait_until_equal(), entries, "reading changed the journal");
    daemons.nodes.iter().for_each(|node| node.terminate());
    let dump = assert_same_data(&daemons);
    assert_eq!(dump.entries.len() as u64, entries);
    check_history(&dump, &history);
    eprintln!(
        "{rounds} rounds, seed {seed}: {entries} entries, {} receipts, {} reads of own writes, {} refusals",
        history.receipt_count(),
        history.reads_of_own_writes,
        history.refused
    );
}

/// Stops the clients, also if a round panics.
struct StopAtEnd<'a>(&'a SharedLoad<'a>);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.is_stopping.store(true, Ordering::SeqCst);
    }
}
