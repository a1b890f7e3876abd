//! A TCP proxy on a loopback port that can be cut, to separate processes from each other.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Timeout of a connection to a loopback port. A stopped process still accepts connections.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The port of a process, which changes when the process restarts. 0 while the process is down.
#[derive(Clone, Default)]
pub(crate) struct TargetPort(Arc<AtomicU16>);

impl TargetPort {
    pub(crate) fn set(&self, port: u16) {
        self.0.store(port, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> u16 {
        self.0.load(Ordering::SeqCst)
    }

    fn address(&self) -> Option<SocketAddr> {
        let port = self.get();
        (port != 0).then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }
}

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Forwards them.
    Up,
    /// Holds them back, as a network that loses all packets. Connections stay open.
    Hung,
    /// Closes every connection, as a network whose router answers with a reset.
    Refused,
}

struct ProxyState {
    link: LinkState,
    /// Both ends of the open connections.
    connections: Vec<[TcpStream; 2]>,
    is_stopped: bool,
}

struct SharedProxy {
    state: Mutex<ProxyState>,
    changed: Condvar,
    target: TargetPort,
}

impl SharedProxy {
    /// Waits while the link is hung. Returns whether bytes may pass.
    fn wait_until_passable(&self) -> bool {
        let state = self.state.lock().unwrap();
        let state = self.changed.wait_while(state, |state| state.link == LinkState::Hung && !state.is_stopped).unwrap();
        state.link == LinkState::Up && !state.is_stopped
    }

    fn close_connections(&self) {
        for [client, server] in self.state.lock().unwrap().connections.drain(..) {
            for stream in [client, server] {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Opens the connection to the target and forwards bytes in both directions until one end closes.
    fn serve(self: Arc<Self>, client: TcpStream) {
        if !self.wait_until_passable() {
            return;
        }
        let Some(server) =
            self.target.address().and_then(|target| TcpStream::connect_timeout(&target, CONNECT_TIMEOUT).ok())
        else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (Ok(client_copy), Ok(server_copy)) = (client.try_clone(), server.try_clone()) else { return };
        {
            let mut state = self.state.lock().unwrap();
            if state.link == LinkState::Refused || state.is_stopped {
                return;
            }
            state.connections.retain(|[client, _]| client.peer_addr().is_ok());
            state.connections.push([client_copy, server_copy]);
        }
        let (Ok(from_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { return };
        let shared = Arc::clone(&self);
        let backward = thread::spawn(move || shared.forward(from_server, to_client));
        self.forward(client, server);
        let _ = backward.join();
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default();
            if !self.wait_until_passable() || to.write_all(bytes).is_err() {
                break;
            }
        }
        for stream in [&from, &to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A proxy on its own loopback port, which stays the same for the proxy's life.
pub(crate) struct TcpProxy {
    shared: Arc<SharedProxy>,
    port: u16,
}

impl TcpProxy {
    pub(crate) fn start(target: TargetPort) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = ProxyState { link: LinkState::Up, connections: Vec::new(), is_stopped: false };
        let shared = Arc::new(SharedProxy { state: Mutex::new(state), changed: Condvar::new(), target });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.state.lock().unwrap().is_stopped {
                    return;
                }
                let shared = Arc::clone(&accepting);
                thread::spawn(move || shared.serve(client));
            }
        });
        Self { shared, port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set_link(&self, link: LinkState) {
        self.shared.state.lock().unwrap().link = link;
        self.shared.changed.notify_all();
        if link == LinkState::Refused {
            self.shared.close_connections();
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().is_stopped = true;
        self.shared.changed.notify_all();
        self.shared.close_connections();
        // Wakes the accepting thread.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}
