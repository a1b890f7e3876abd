//! A connection to a NATS server by its text protocol, for requests to the JetStream API.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// How long a client waits for a response before it asks another server.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// One connection. Every request waits for its response.
pub(crate) struct NatsConnection {
    reader: BufReader<TcpStream>,
    requests: u64,
}

impl NatsConnection {
    /// Connects to a loopback port; `None` if the server does not respond.
    pub(crate) fn open(port: u16) -> Option<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_read_timeout(Some(RESPONSE_TIMEOUT)).ok()?;
        let mut connection = Self { reader: BufReader::new(stream), requests: 0 };
        connection.write(&format!(
            "CONNECT {}\r\nSUB reply.* 1\r\n",
            json!({ "verbose": false, "pedantic": false, "headers": true, "no_responders": true })
        ))?;
        connection.read_line()?.starts_with("INFO ").then_some(connection)
    }

    fn write(&mut self, text: &str) -> Option<()> {
        self.reader.get_mut().write_all(text.as_bytes()).ok()
    }

    fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    }

    /// Sends a request and returns the response; `None` if no response comes.
    pub(crate) fn request(&mut self, subject: &str, body: &str) -> Option<Value> {
        self.requests += 1;
        let reply = format!("reply.{}", self.requests);
        self.write(&format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len()))?;
        loop {
            let line = self.read_line()?;
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["PING"] => self.write("PONG\r\n")?,
                // A message without headers: subject, subscription, length.
                ["MSG", subject, _, length] => {
                    let mut body = vec![0; length.parse::<usize>().ok()? + 2];
                    self.reader.read_exact(&mut body).ok()?;
                    if *subject == reply {
                        return serde_json::from_slice(&body).ok();
                    }
                }
                // Headers without a body say that nobody listens to the subject.
                ["HMSG", ..] | ["-ERR", ..] => return None,
                _ => {}
            }
        }
    }
}
