//! The servers alone: a stream with three replicas keeps every acknowledged message through the
//! faults that the other tests cause.

use serde_json::json;

use crate::daemon::wait_for;
use crate::nats_connection::NatsConnection;
use crate::nats_servers::{NatsServers, SERVER_COUNT};
use crate::tcp_proxy::{LinkState, TcpProxy};

/// Publishes one message through any server that responds, `last` after the others. Returns the
/// message's sequence number.
fn publish(proxies: &[TcpProxy], last: usize) -> u64 {
    let others = (1..=SERVER_COUNT).map(|step| &proxies[(last + step) % SERVER_COUNT]);
    wait_for("an acknowledged message", || {
        others.clone().find_map(|proxy| {
            let receipt = NatsConnection::open(proxy.port())?.request("numbers", "message")?;
            receipt["seq"].as_u64()
        })
    })
}

#[test]
fn replicated_stream_survives_the_faults_of_one_server() {
    let Some(mut servers) = NatsServers::start("faults of replicated servers") else { return };
    let proxies: Vec<_> = (0..SERVER_COUNT).map(|server| TcpProxy::start(servers.client_port(server))).collect();
    let stream = json!({ "name": "NUMBERS", "subjects": ["numbers"], "num_replicas": SERVER_COUNT, "storage": "file" });
    let request = |port: u16, subject: &str, body: &str| {
        wait_for("a response of JetStream", || NatsConnection::open(port)?.request(subject, body))
    };
    let created = request(proxies[0].port(), "$JS.API.STREAM.CREATE.NUMBERS", &stream.to_string());
    assert!(created["error"].is_null(), "{created}");
    let mut last = publish(&proxies, 0);

    for fault in 0..5 {
        let leader = wait_for("the leader of the stream", || servers.stream_leader());
        match fault {
            0 | 4 => servers.kill(leader),
            1 => servers.pause(leader),
            // Clients can still reach the separated server.
            2 => servers.set_routes(leader, LinkState::Hung),
            _ => servers.set_routes(leader, LinkState::Refused),
        }
        for _ in 0..3 {
            let next = publish(&proxies, leader);
            assert!(next > last, "fault {fault}: message {next} after {last}");
            last = next;
        }
        match fault {
            0 => servers.launch(leader),
            1 => servers.resume(leader),
            2 | 3 => servers.set_routes(leader, LinkState::Up),
            _ => {
                servers.wait_until_healthy();
                servers.wipe(leader);
                servers.launch(leader);
            }
        }
        servers.wait_until_healthy();
    }
    // Every server has every message.
    for (server, proxy) in proxies.iter().enumerate() {
        let info = request(proxy.port(), "$JS.API.STREAM.INFO.NUMBERS", "");
        assert_eq!((&info["state"]["last_seq"], &info["state"]["first_seq"]), (&json!(last), &json!(1)), "{server}");
        assert_eq!(info["cluster"]["replicas"].as_array().unwrap().len(), SERVER_COUNT - 1);
    }
}

#[test]
fn proxy_separates_a_client_from_its_server() {
    let Some(servers) = NatsServers::start("a client that is cut off") else { return };
    let proxy = TcpProxy::start(servers.client_port(0));
    assert!(NatsConnection::open(proxy.port()).is_some());
    proxy.set_link(LinkState::Refused);
    assert!(NatsConnection::open(proxy.port()).is_none());
    proxy.set_link(LinkState::Up);
    let mut connection = NatsConnection::open(proxy.port()).unwrap();
    proxy.set_link(LinkState::Hung);
    // The request arrives after the link is up again.
    let response = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| connection.request("$JS.API.INFO", ""));
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!waiting.is_finished(), "a response passed the hung link");
        proxy.set_link(LinkState::Up);
        waiting.join().unwrap()
    });
    assert!(response.is_some_and(|response| response["error"].is_null()));
}
