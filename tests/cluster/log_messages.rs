//! Reads the messages of the cluster's log from the servers.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::daemon::wait_for;
use crate::nats_connection::NatsConnection;
use crate::nats_servers::{LOG_STREAM, NatsServers};

fn request(servers: &NatsServers, subject: &str, body: &str) -> Value {
    wait_for("a response of JetStream", || {
        NatsConnection::open(servers.client_port(0).get())?.request(&format!("$JS.API.{subject}.{LOG_STREAM}"), body)
    })
}

/// The numbers of the first and the last message of the log.
pub(crate) fn message_range(servers: &NatsServers) -> (u64, u64) {
    let state = request(servers, "STREAM.INFO", "")["state"].clone();
    (state["first_seq"].as_u64().unwrap(), state["last_seq"].as_u64().unwrap())
}

fn message(servers: &NatsServers, number: u64) -> Vec<u8> {
    let found = request(servers, "STREAM.MSG.GET", &json!({ "seq": number }).to_string());
    BASE64_STANDARD.decode(found["message"]["data"].as_str().unwrap()).unwrap()
}

/// The last message of the log: its number and its bytes.
pub(crate) fn last_message(servers: &NatsServers) -> (u64, Vec<u8>) {
    let (_, last) = message_range(servers);
    (last, message(servers, last))
}
