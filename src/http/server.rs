//! Opens and closes both servers: the public API and the admin endpoint.

use actix_cors::Cors;
use actix_web::dev::{Server, ServerHandle};
use actix_web::http::header::{RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::{Compress, Condition, DefaultHeaders, from_fn};
use actix_web::rt::{self, task::JoinHandle};
use actix_web::web::{self, Data, JsonConfig, PathConfig, PayloadConfig, QueryConfig};
use actix_web::{App, web::ServiceConfig};
use governor::clock::DefaultClock;
use serde::Serialize;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use crate::http::listener::{self, ConnectionCounters, ConnectionLimits};
use crate::http::middleware::auth::Authorizer;
use crate::http::middleware::body_timeout::BodyTimeout;
use crate::http::middleware::decompress::MaxBodyBytes;
use crate::http::middleware::host_check::BrowserGuard;
use crate::http::middleware::measure::EndpointLabels;
use crate::http::middleware::queue_wait::MaxQueueWait;
use crate::http::origins::OriginRecorder;
use crate::http::periodic::PeriodicTasks;
use crate::http::rate_limits::{RateLimitSettings, RateLimits};
use crate::http::router::{self, admin_routes, public_routes};
use crate::http::schema::error_mapping::{json_problem, query_problem};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::http::status::history::StatusSampler;
use crate::http::status::sampler::spawn_sampler;
use crate::http::tls::{TlsCertificate, TlsError, TlsFiles};
use crate::services::id_generator::IdGenerator;
use crate::services::placements::PlacementService;
use crate::services::recommendation::RecommendationService;
use crate::services::reports::ReportService;

use crate::actors::system::System;
use crate::auth::{KeyError, KeyStore};
use crate::clock::Clock;
use crate::http::middleware::auth;
use crate::http::middleware::check_request;
use crate::http::middleware::cluster_headers::{self, OFFSET_HEADER, STALE_HEADER};
use crate::http::middleware::host_check;
use crate::http::middleware::measure;
use crate::http::middleware::queue_wait;
use crate::http::middleware::request_id::REQUEST_ID_HEADER;
use crate::ingest::ValidationRules;
use crate::learner::HiddenItems;
use crate::metrics::{Endpoint, RefusalReason, ThreadRole};
use crate::settings::LiveSettings;

/// Largest number of connections to the admin endpoint.
const MAX_ADMIN_CONNECTIONS: usize = 256;

/// The options of both servers: addresses, limits and access rules.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Address of the public API.
    pub listen: SocketAddr,
    /// Address of the admin endpoint.
    pub admin_listen: SocketAddr,
    /// Threads of the public API.
    pub workers: usize,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long dismissed and purchased items are hidden, if a request does not say how long.
    pub hidden_items: HiddenItems,
    /// Longest time that a read waits for its `min_offset`.
    pub read_wait: Duration,
    /// Largest number of open recommendation streams.
    pub max_streams: usize,
    /// Whether a server on a loopback address requires an API key. A server on any other address
    /// always requires a key.
    pub requires_key: bool,
    /// The certificate files; `None`: no TLS.
    pub tls: Option<TlsFiles>,
    /// Rate limits of the public API.
    pub rate_limits: RateLimitSettings,
    /// Accepted host names of a public API that requires no key, in addition to localhost, IP
    /// addresses and the hosts of `cors_origins`.
    pub allowed_api_hosts: Vec<String>,
    /// Accepted host names of the admin endpoint, in addition to localhost and IP addresses.
    pub allowed_admin_hosts: Vec<String>,
    /// Largest number of connections to the public API.
    pub max_connections: usize,
    /// Largest number of connections to the public API per client address.
    pub max_connections_per_address: usize,
    /// Largest number of requests in progress per HTTP/2 connection.
    pub max_http2_streams: usize,
    /// Time limit for the head of a request.
    pub head_timeout: Duration,
    /// Time limit for the body of a request.
    pub body_timeout: Duration,
    /// Longest time that a request waits for a thread; `None`: no limit.
    pub queue_wait: Option<Duration>,
    /// Longest time for which a client may stop reading a response.
    pub write_timeout: Duration,
    /// Time after which an idle connection is closed.
    pub idle_timeout: Duration,
    /// Origins whose pages can call the public API from a browser. The entry `*` stands for any
    /// origin.
    pub cors_origins: Vec<String>,
    /// Computes the origins of events and merges that the journal records.
    pub event_origins: OriginRecorder,
}

impl ServerOptions {
    /// The URL scheme of both servers.
    #[must_use]
    pub fn url_scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The options of the admin endpoint. The admin endpoint has its own worker, so that it
    /// responds even if the public API is busy.
    fn for_admin(&self) -> Self {
        Self {
            workers: 1,
            max_connections: MAX_ADMIN_CONNECTIONS,
            max_connections_per_address: MAX_ADMIN_CONNECTIONS / 2,
            cors_origins: Vec::new(),
            queue_wait: None,
            ..self.clone()
        }
    }
}

/// The addresses that the servers listen on. If the settings say port 0, the address has the port
/// that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ListenAddresses {
    /// The public API.
    pub api: SocketAddr,
    /// The admin endpoint.
    pub admin: SocketAddr,
}

impl ListenAddresses {
    /// Writes the addresses to `addresses.json` of the data directory.
    fn write_file(&self, data_dir: &Path, scheme: &str) -> Result<(), ServerError> {
        let file = data_dir.join("addresses.json");
        let text = serde_json::json!({ "api": format!("{scheme}://{}", self.api), "admin": format!("{scheme}://{}", self.admin) });
        std::fs::write(&file, format!("{text}\n")).map_err(|source| ServerError::WriteAddresses { file, source })
    }
}

/// Errors of opening the servers.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The listening socket cannot be opened.
    #[error(
        "cannot listen on {address}; another process may use it: choose another address with `{flag}`, or port 0 for a free port"
    )]
    Listen {
        /// The address.
        address: String,
        /// The command-line flag that sets the address.
        flag: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The keys cannot be read.
    #[error(transparent)]
    ReadKeys(#[from] KeyError),
    /// The server requires a key, and no key grants access to it.
    #[error(
        "{endpoint} at {address} requires an API key, and no key grants access to it; create one: `sequor key create NAME --scope {scope} --data-dir {}`",
        data_dir.display()
    )]
    MissingKey {
        /// The name of the server in the message.
        endpoint: &'static str,
        /// Its address.
        address: SocketAddr,
        /// The scopes that a key for the server needs.
        scope: &'static str,
        /// The data directory with the keys.
        data_dir: PathBuf,
    },
    /// The file with the addresses cannot be written.
    #[error("cannot write {}", file.display())]
    WriteAddresses {
        /// The file.
        file: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Both servers, running.
pub struct HttpServers {
    /// The addresses that the servers listen on. If the settings say port 0, the address has the
    /// port that was chosen.
    pub addresses: ListenAddresses,
    handles: [ServerHandle; 2],
    /// The tasks of the status sampler and of [`PeriodicTasks`]. They are stopped before the
    /// servers. This ends the status streams, so that the shutdown does not wait for them.
    background_tasks: [JoinHandle<()>; 2],
}

/// Whether a server that listens on `address` requires an API key.
fn requires_key(settings: &ServerOptions, address: SocketAddr) -> bool {
    settings.requires_key || !address.ip().to_canonical().is_loopback()
}

/// The state that every handler shares.
pub(in crate::http) fn shared_state(
    system: System,
    rules: ValidationRules,
    clock: Clock,
    settings: &ServerOptions,
    live: Arc<LiveSettings>,
    keys: &Arc<KeyStore>,
    status_sampler: StatusSampler,
) -> ApiState {
    let recommendations = RecommendationService::new(system.ingest.clone(), system.recommender.clone(), clock.clone());
    let placements = PlacementService::new(system.ingest.clone(), system.recommender.clone());
    let reports = ReportService::new(system.clone());
    let request_ids = Arc::new(IdGenerator::new('q', clock.now()));
    ApiState {
        system,
        rules,
        clock,
        recommendations,
        placements,
        reports,
        request_ids,
        status_sampler,
        hidden_items: settings.hidden_items,
        origins: settings.event_origins.clone(),
        max_body_bytes: settings.max_body_bytes,
        read_wait: settings.read_wait,
        stream_permits: Arc::new(Semaphore::new(settings.max_streams)),
        live_settings: live,
        key_store: Arc::clone(keys),
    }
}

impl HttpServers {
    /// Loads the keys of a data directory and checks that, for each server that requires a key, one
    /// of the keys grants access. Must be called before the daemon starts.
    ///
    /// # Errors
    /// [`ServerError::ReadKeys`], or [`ServerError::MissingKey`].
    pub fn load_keys(settings: &ServerOptions, data_dir: &Path) -> Result<Arc<KeyStore>, ServerError> {
        let keys = KeyStore::open(data_dir)?;
        let (public, admin) = (("the public API", "write,read"), ("the admin endpoint", "admin"));
        for ((endpoint, scope), address) in [(public, settings.listen), (admin, settings.admin_listen)] {
            if requires_key(settings, address) && !keys.key_ring().has_key_for_listener(scope != admin.1) {
                return Err(ServerError::MissingKey { endpoint, address, scope, data_dir: data_dir.to_owned() });
            }
        }
        Ok(Arc::new(keys))
    }

    /// Opens both servers. Must be called within an actix system.
    ///
    /// # Errors
    /// [`ServerError`] if an address cannot be used or the file with the addresses cannot be
    /// written.
    pub fn open(
        system: System,
        rules: ValidationRules,
        clock: Clock,
        settings: &ServerOptions,
        live: Arc<LiveSettings>,
        keys: Arc<KeyStore>,
        data_dir: &Path,
    ) -> Result<Self, ServerError> {
        let (public, api) = bind_and_get_address(settings.listen, "--listen")?;
        let (admin, admin_address) = bind_and_get_address(settings.admin_listen, "--admin-listen")?;
        let addresses = ListenAddresses { api, admin: admin_address };
        system.metrics.streams_limit.set(settings.max_streams as f64);
        let (status_sampler, publisher) = StatusSampler::new();
        let shared = shared_state(system, rules, clock, settings, live, &keys, status_sampler);
        let certificate = settings.tls.as_ref().map(TlsCertificate::open).transpose()?;
        let limits = Arc::new(RateLimits::new(settings.rate_limits, DefaultClock::default()));
        let periodic_tasks =
            PeriodicTasks { api: shared.clone(), limits: Arc::clone(&limits), certificate: certificate.clone() };
        let background_tasks = [spawn_sampler(shared.clone(), publisher), rt::spawn(periodic_tasks.run())];
        let servers =
            build_servers((public, admin), addresses, &shared, &keys, certificate.as_ref(), limits, settings)?;
        let handles = servers.map(|server| {
            let handle = server.handle();
            rt::spawn(server);
            handle
        });
        addresses.write_file(data_dir, settings.url_scheme())?;
        Ok(Self { addresses, handles, background_tasks })
    }

    /// Stops accepting requests, and waits until the open requests are complete.
    pub async fn close(&self) {
        self.background_tasks.iter().for_each(JoinHandle::abort);
        for handle in &self.handles {
            handle.stop(true).await;
        }
    }
}

/// Builds the public server and the admin server over their listeners.
fn build_servers(
    (public, admin): (TcpListener, TcpListener),
    addresses: ListenAddresses,
    api: &ApiState,
    keys: &Arc<KeyStore>,
    certificate: Option<&Arc<TlsCertificate>>,
    limits: Arc<RateLimits>,
    settings: &ServerOptions,
) -> Result<[Server; 2], ServerError> {
    let refusal_counters = Arc::new(api.metrics().refused_requests.clone());
    let setup = |default_endpoint, address, rate_limits| EndpointSetup {
        api: api.clone(),
        default_endpoint,
        authorizer: Authorizer {
            keys: Arc::clone(keys),
            requires_key: requires_key(settings, address),
            rate_limits,
            refusal_counters: Arc::clone(&refusal_counters),
            clock: api.clock.clone(),
        },
        certificate: certificate.cloned(),
    };
    let (hosts, origins) = (&settings.allowed_api_hosts, &settings.cors_origins);
    // An API that requires keys needs no guard, because a page of another site has no key.
    let api_guard = (!requires_key(settings, addresses.api))
        .then(|| BrowserGuard::for_api(hosts, origins, Arc::clone(&refusal_counters)));
    let admin_guard = BrowserGuard::for_admin(&settings.allowed_admin_hosts, Arc::clone(&refusal_counters));
    let public_setup = setup(Endpoint::Other, addresses.api, Some(limits));
    let admin_setup = setup(Endpoint::Admin, addresses.admin, None);
    Ok([
        serve_endpoint(public, public_setup, settings, api_guard, public_routes)?,
        serve_endpoint(admin, admin_setup, &settings.for_admin(), Some(admin_guard), admin_routes)?,
    ])
}

/// The CORS policy: pages of the listed origins can send any request, without the browser's
/// credentials, and can read the headers of a response that a client acts on.
fn cors_policy(origins: &[String]) -> Cors {
    let readable = [REQUEST_ID_HEADER, RETRY_AFTER, OFFSET_HEADER, STALE_HEADER];
    let cors = Cors::default().allow_any_method().allow_any_header().expose_headers(readable).max_age(3600);
    let cors = if origins.iter().any(|origin| origin == "*") { cors.allow_any_origin().send_wildcard() } else { cors };
    origins.iter().filter(|origin| *origin != "*").fold(cors, |cors, origin| cors.allowed_origin(origin))
}

/// Listens on an address. Returns the listener and its actual address, which differs if `address`
/// has port 0.
fn bind_and_get_address(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), ServerError> {
    let listener = bind_listener(address, flag)?;
    let local =
        listener.local_addr().map_err(|source| ServerError::Listen { address: address.to_string(), flag, source })?;
    Ok((listener, local))
}

fn bind_listener(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).map_err(|source| ServerError::Listen { address: address.to_string(), flag, source })
}

/// The state and authorization of one server.
struct EndpointSetup {
    api: ApiState,
    /// The metric label of paths outside the route table.
    default_endpoint: Endpoint,
    authorizer: Authorizer,
    certificate: Option<Arc<TlsCertificate>>,
}

fn serve_endpoint(
    listener: TcpListener,
    setup: EndpointSetup,
    settings: &ServerOptions,
    guard: Option<BrowserGuard>,
    routes: fn(&mut ServiceConfig),
) -> Result<Server, ServerError> {
    let EndpointSetup { api, default_endpoint, authorizer, certificate } = setup;
    let counters = ConnectionCounters {
        refused: api.metrics().refused_requests.with_label(RefusalReason::AddressConnections).clone(),
        stalled: api.metrics().stalled_connections.clone(),
    };
    let queue_wait = MaxQueueWait(settings.queue_wait);
    let is_member = api.system.cluster.is_some();
    let (max_body, shared, origins, body_timeout) =
        (api.max_body_bytes, Data::new(api), settings.cors_origins.clone(), settings.body_timeout);
    let role = if default_endpoint == Endpoint::Admin { ThreadRole::Admin } else { ThreadRole::Api };
    let app = move || {
        // Every worker thread builds its own app.
        role.name_current_thread();
        App::new()
            .app_data(Data::clone(&shared))
            .app_data(EndpointLabels { by_path: router::endpoint_label, default: default_endpoint })
            .app_data(PayloadConfig::new(max_body))
            .app_data(
                JsonConfig::default()
                    .limit(max_body)
                    .error_handler(move |error, _| json_problem(&error, max_body).into()),
            )
            .app_data(QueryConfig::default().error_handler(|error, _| query_problem(&error.to_string()).into()))
            .app_data(
                PathConfig::default()
                    .error_handler(|error, _| Problem::invalid_parameter("path", error.to_string()).into()),
            )
            .app_data(Data::new(authorizer.clone()))
            .app_data(BodyTimeout(body_timeout))
            .app_data(MaxBodyBytes(max_body))
            .app_data(Data::new(queue_wait))
            .app_data(Data::new(guard.clone()))
            .wrap(Condition::new(guard.is_some(), from_fn(host_check::check_host)))
            .wrap(Condition::new(is_member, from_fn(cluster_headers::add_cluster_headers)))
            .wrap(from_fn(queue_wait::limit_queue_wait))
            .wrap(from_fn(check_request::check_request))
            .wrap(Compress::default())
            .wrap(DefaultHeaders::new().add((X_CONTENT_TYPE_OPTIONS, "nosniff")))
            .wrap(Condition::new(!origins.is_empty(), cors_policy(&origins)))
            .wrap(from_fn(measure::measure_request))
            .configure(routes)
            .default_service(web::to(auth::not_found))
    };
    // Each worker has a limit of its own. Rounding down keeps their sum within the limit.
    let workers = settings.workers.clamp(1, settings.max_connections.max(1));
    let limits = ConnectionLimits {
        workers,
        max_connections_per_worker: settings.max_connections / workers,
        max_connections_per_address: settings.max_connections_per_address,
        max_streams: settings.max_http2_streams,
        head_timeout: settings.head_timeout,
        idle_timeout: settings.idle_timeout,
        write_timeout: settings.write_timeout,
        shutdown_timeout_seconds: 10,
    };
    let failed = |source| ServerError::Listen { address: settings.listen.to_string(), flag: "--listen", source };
    let tls = certificate.map(|certificate| certificate.server_config()).transpose()?;
    listener::serve(listener, limits, tls, counters, app).map_err(failed)
}
