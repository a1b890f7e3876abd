//! A node without a connection to the servers: it answers reads, refuses writes and catches up.

use serde_json::json;

use crate::cluster_daemons::ClusterDaemons;
use crate::daemon::{Daemon, view_event, wait_for};
use crate::nats_servers::NatsServers;
use crate::tcp_proxy::LinkState;

const LIST: &str = "/v1/users/ann/recommendations?exclude_seen=false";

fn is_stale(daemon: &Daemon) -> bool {
    let response = daemon.get(LIST);
    assert_eq!(response.status, 200, "a node that is cut off answers reads: {}", response.body);
    response.headers.contains_key("x-sequor-stale")
}

#[test]
fn node_that_is_cut_off_answers_reads_refuses_writes_and_catches_up() {
    let Some(servers) = NatsServers::start("a node that is cut off") else { return };
    let daemons = ClusterDaemons::start(&servers);
    let (cut, other) = (daemons.daemon(1), daemons.daemon(0));
    let first: Vec<_> =
        (0..6).map(|number| view_event(&format!("a{number}"), "ann", &format!("item{number}"))).collect();
    other.send_events(&first);
    daemons.wait_until_equal();
    for link in [LinkState::Hung, LinkState::Refused] {
        assert!(!is_stale(&cut));
        daemons.nodes[1].set_links(link);
        wait_for("the node to notice", || is_stale(&cut).then_some(()));
        let refused = cut.post("/v1/events", &json!([view_event(&format!("{link:?}"), "ann", "item1")]).to_string());
        assert_eq!(
            (refused.status, refused.content_type.as_str()),
            (503, "application/problem+json"),
            "{}",
            refused.body
        );
        assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
        assert!(!is_stale(&other), "the other nodes are not cut off");
        // The other nodes go on.
        let missed = view_event(&format!("missed {link:?}"), "ann", "item7");
        let offset = other.send_events(std::slice::from_ref(&missed))["offset"].as_u64().unwrap();
        assert!(cut.next_offset() < offset, "an entry passed the cut link");
        daemons.nodes[1].set_links(LinkState::Up);
        // The node catches up by itself. Whether the refused event is in the journal is unknown
        // until its client sends the event again.
        wait_for("the node to catch up", || (!is_stale(&cut)).then_some(()));
        let again = wait_for("the event to be accepted", || {
            let response =
                cut.post("/v1/events", &json!([view_event(&format!("{link:?}"), "ann", "item1")]).to_string());
            (response.status == 200).then(|| response.json())
        });
        assert!(again["offset"].as_u64().unwrap() > offset, "{again}");
        assert_eq!(cut.send_events(&[missed])["duplicates"], 1);
        daemons.wait_until_equal();
    }
}
