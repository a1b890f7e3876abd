//! Three `nats-server` processes with replicated JetStream storage, which can be killed, paused,
//! separated, restarted and wiped.
//!
//! The servers reach each other through proxies: one proxy for each direction of each pair. A server
//! listens on new ports after each start; the ports of the proxies stay the same.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use ureq::Agent;

use crate::daemon::{report_skipped, wait_for};
use crate::tcp_proxy::{LinkState, TargetPort, TcpProxy};

/// The stream of the log of the cluster `shop`.
pub(crate) const LOG_STREAM: &str = "SEQUOR_shop";

/// Number of servers, and of replicas of each stream.
pub(crate) const SERVER_COUNT: usize = 3;

/// One server process and its directory.
struct NatsServer {
    name: String,
    process: Option<Child>,
    client_port: TargetPort,
    route_port: TargetPort,
    monitoring_port: TargetPort,
    /// Keeps the address of the monitoring endpoint the same when the server restarts.
    monitoring: TcpProxy,
}

/// The servers of one cluster. All are killed when dropped.
pub(crate) struct NatsServers {
    program: PathBuf,
    home: TempDir,
    servers: Vec<NatsServer>,
    /// The proxies between servers: from, to, proxy.
    routes: Vec<(usize, usize, TcpProxy)>,
    /// How soon a server syncs a message, such as `always` or `2m`.
    sync_interval: String,
    /// More lines of the configuration of every server.
    more_config: String,
    agent: Agent,
}

/// The program that `tests/run` downloads; reports a skipped check if it is absent.
fn find_program(what: &str) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/nats/bin/nats-server");
    let runs = Command::new(&program).arg("--version").stdout(Stdio::null()).status();
    if runs.is_ok_and(|status| status.success()) {
        return Some(program);
    }
    report_skipped(&format!("{what}: nats-server is not installed (run tests/run)"));
    None
}

impl NatsServers {
    /// Starts servers that sync every message before they acknowledge it, and waits until they have
    /// elected a leader. `None` if the program is not installed; reports the skipped check.
    pub(crate) fn start(what: &str) -> Option<Self> {
        Self::start_with_config(what, "always", "")
    }

    /// Starts servers with a `sync_interval`, such as `always` or `2m`, and more lines of
    /// configuration.
    pub(crate) fn start_with_config(what: &str, sync_interval: &str, more_config: &str) -> Option<Self> {
        let program = find_program(what)?;
        let server = |number| {
            let monitoring_port = TargetPort::default();
            NatsServer {
                name: format!("nats{number}"),
                process: None,
                client_port: TargetPort::default(),
                route_port: TargetPort::default(),
                monitoring: TcpProxy::start(monitoring_port.clone()),
                monitoring_port,
            }
        };
        let servers: Vec<_> = (0..SERVER_COUNT).map(server).collect();
        let pairs = (0..SERVER_COUNT).flat_map(|from| (0..SERVER_COUNT).map(move |to| (from, to)));
        let routes = pairs
            .filter(|(from, to)| from != to)
            .map(|(from, to)| (from, to, TcpProxy::start(servers[to].route_port.clone())))
            .collect();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(5)))
            .build()
            .into();
        let (sync_interval, more_config) = (sync_interval.to_owned(), more_config.to_owned());
        let home = tempfile::tempdir().unwrap();
        let mut cluster = Self { program, home, servers, routes, sync_interval, more_config, agent };
        (0..SERVER_COUNT).for_each(|server| cluster.launch(server));
        cluster.wait_until_healthy();
        Some(cluster)
    }

    fn dir(&self, server: usize) -> PathBuf {
        self.home.path().join(&self.servers[server].name)
    }

    /// The directory of a server's streams.
    pub(crate) fn store_dir(&self, server: usize) -> PathBuf {
        self.dir(server).join("store")
    }

    /// The port for clients of a server, which changes at each start.
    pub(crate) fn client_port(&self, server: usize) -> TargetPort {
        self.servers[server].client_port.clone()
    }

    fn write_config(&self, server: usize) -> PathBuf {
        let dir = self.dir(server);
        fs::create_dir_all(dir.join("ports")).unwrap();
        let routes = self.routes.iter().filter(|(from, ..)| *from == server);
        let routes: Vec<_> =
            routes.map(|(_, _, proxy)| format!("\"nats-route://127.0.0.1:{}\"", proxy.port())).collect();
        // The servers advertise no addresses of their own, so that all traffic uses the proxies. The
        // advertised address of routes belongs to no process.
        let config = format!(
            "server_name: {name}\nlisten: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\nports_file_dir: {ports:?}\n\
             jetstream {{ store_dir: {store:?}, max_memory_store: 67108864, max_file_store: 4294967296, sync_interval: {sync} }}\n\
             cluster {{ name: routed, listen: \"127.0.0.1:-1\", advertise: \"127.0.0.1:1\", no_advertise: true, routes: [{routes}] }}\n{more}",
            name = self.servers[server].name,
            ports = dir.join("ports"),
            store = self.store_dir(server),
            sync = self.sync_interval,
            routes = routes.join(", "),
            more = self.more_config,
        );
        let path = dir.join("nats.conf");
        fs::write(&path, config).unwrap();
        path
    }

    /// Starts a server that is down, and waits until it listens.
    pub(crate) fn launch(&mut self, server: usize) {
        let config = self.write_config(server);
        let dir = self.dir(server);
        let log = dir.join("log");
        let written = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(written.try_clone().unwrap()).stderr(written);
        let mut child = command.spawn().unwrap();
        let ports_file = dir.join(format!("ports/nats-server_{}.ports", child.id()));
        let ports: Value = wait_for("the ports of a NATS server", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("nats-server did not start ({status}):\n{}", fs::read_to_string(&log).unwrap());
            }
            // A partly written file is not valid JSON yet.
            serde_json::from_str(&fs::read_to_string(&ports_file).ok()?).ok()
        });
        let port = |name: &str| {
            let url = ports[name][0].as_str().unwrap_or_else(|| panic!("no port of {name}: {ports}"));
            url.rsplit(':').next().unwrap().parse().unwrap()
        };
        let started = &mut self.servers[server];
        started.process = Some(child);
        started.client_port.set(port("nats"));
        started.route_port.set(port("cluster"));
        started.monitoring_port.set(port("monitoring"));
    }

    fn signal(&self, server: usize, name: &str) {
        let process = self.servers[server].process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").arg(format!("-{name}")).arg(process).status().unwrap().success());
    }

    /// Kills a server with SIGKILL.
    pub(crate) fn kill(&mut self, server: usize) {
        let killed = &mut self.servers[server];
        if let Some(mut process) = killed.process.take() {
            killed.client_port.set(0);
            killed.route_port.set(0);
            killed.monitoring_port.set(0);
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Stops a server's threads with SIGSTOP.
    pub(crate) fn pause(&self, server: usize) {
        self.signal(server, "STOP");
    }

    /// Continues a paused server.
    pub(crate) fn resume(&self, server: usize) {
        self.signal(server, "CONT");
    }

    /// Sets the links between a server and the other servers.
    pub(crate) fn set_routes(&self, server: usize, link: LinkState) {
        for (_, _, proxy) in self.routes.iter().filter(|(from, to, _)| *from == server || *to == server) {
            proxy.set_link(link);
        }
    }

    /// Deletes everything that a server stored. The server must be down.
    pub(crate) fn wipe(&self, server: usize) {
        assert!(self.servers[server].process.is_none());
        fs::remove_dir_all(self.store_dir(server)).unwrap();
    }

    /// The base URLs of the servers' monitoring endpoints.
    pub(crate) fn monitoring_urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("http://127.0.0.1:{}", server.monitoring.port())).collect()
    }

    /// The response of a server's monitoring endpoint; `None` if there is none.
    fn monitor(&self, server: usize, path: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.servers[server].monitoring.port());
        let mut response = self.agent.get(url).call().ok()?;
        serde_json::from_str(&response.body_mut().read_to_string().ok()?).ok()
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..SERVER_COUNT).filter(|server| self.servers[*server].process.is_some())
    }

    /// Whether all running servers agree on one leader and have the newest state of every stream.
    fn is_healthy(&self) -> bool {
        let leader = |server| {
            let status = self.monitor(server, "/jsz")?;
            status["meta_cluster"]["leader"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
        };
        let leaders: Vec<_> = self.running().map(leader).collect();
        let is_up_to_date = |server| self.monitor(server, "/healthz").is_some_and(|health| health["status"] == "ok");
        leaders.iter().all(|leader| leader.is_some() && *leader == leaders[0]) && self.running().all(is_up_to_date)
    }

    /// Waits until the running servers have elected a leader and each has the newest state.
    pub(crate) fn wait_until_healthy(&self) {
        wait_for("healthy NATS servers", || self.is_healthy().then_some(()));
    }

    /// The server that leads the log's stream, which is the one that is no bucket and has no results of
    /// trainings. `None` during an election.
    pub(crate) fn stream_leader(&self) -> Option<usize> {
        let asked = self.running().next()?;
        let status = self.monitor(asked, "/jsz?streams=true")?;
        let streams =
            status["account_details"].as_array()?.iter().filter_map(|account| account["stream_detail"].as_array());
        let is_other = |name: &str| name.starts_with("KV_") || name.starts_with("OBJ_") || name.ends_with("_training");
        let log = streams.flatten().find(|stream| stream["name"].as_str().is_some_and(|name| !is_other(name)))?;
        let leader = log["cluster"]["leader"].as_str()?;
        self.servers.iter().position(|server| server.name == leader)
    }

    /// The logs of all servers.
    pub(crate) fn logs(&self) -> String {
        let log = |server| fs::read_to_string(self.dir(server).join("log")).unwrap_or_default();
        (0..SERVER_COUNT).map(log).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for NatsServers {
    fn drop(&mut self) {
        (0..SERVER_COUNT).for_each(|server| self.kill(server));
        if std::thread::panicking() {
            eprintln!("the logs of the NATS servers:\n{}", self.logs());
        }
    }
}
