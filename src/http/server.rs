//! The listening sockets.

use actix_cors::Cors;
use actix_web::dev::{Server, ServerHandle};
use actix_web::http::header::X_CONTENT_TYPE_OPTIONS;
use actix_web::middleware::{Compress, Condition, DefaultHeaders, from_fn};
use actix_web::rt::{self, task::JoinHandle};
use actix_web::web::{self, Data, JsonConfig, PathConfig, PayloadConfig, QueryConfig};
use actix_web::{App, HttpServer, web::ServiceConfig};
use governor::clock::DefaultClock;
use serde::Serialize;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use crate::http::listener::{self, ConnectionLimits};
use crate::http::middleware::auth::Authorizer;
use crate::http::middleware::body_timeout::BodyTimeout;
use crate::http::middleware::decompress::MaxBodyBytes;
use crate::http::middleware::host_check::AllowedHosts;
use crate::http::middleware::measure::EndpointLabels;
use crate::http::periodic::PeriodicTasks;
use crate::http::rate_limits::{RateLimitSettings, RateLimits};
use crate::http::router::{self, admin_routes, public_routes};
use crate::http::schema::error_mapping::json_problem;
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::http::status::history::StatusSampler;
use crate::http::status::sampler::spawn_sampler;
use crate::http::tls::{TlsCertificate, TlsError, TlsFiles};
use crate::services::id_generator::IdGenerator;
use crate::services::recommendation::RecommendationService;

use crate::actors::system::System;
use crate::auth::{KeyError, KeyStore};
use crate::clock::Clock;
use crate::http::middleware::auth;
use crate::http::middleware::check_request;
use crate::http::middleware::host_check;
use crate::http::middleware::measure;
use crate::ingest::ValidationRules;
use crate::metrics::Endpoint;
use crate::settings::LiveSettings;

/// Connections to the admin endpoint, at most.
const ADMIN_CONNECTIONS: usize = 256;

/// Where to listen and what to let in.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The public API's address.
    pub listen: SocketAddr,
    /// The admin endpoint's address.
    pub admin_listen: SocketAddr,
    /// Threads that serve the public API.
    pub workers: usize,
    /// The largest body that is read.
    pub max_body_bytes: usize,
    /// How long a read waits for the offset that it wants.
    pub read_wait: Duration,
    /// The most streams at once.
    pub max_streams: usize,
    /// Whether a key is asked for on loopback addresses, too; on any other it always is.
    pub requires_key: bool,
    /// Where the certificate is; `None`: no TLS.
    pub tls: Option<TlsFiles>,
    /// How much each key and each address may bring to the public API.
    pub rate_limits: RateLimitSettings,
    /// Names by which the admin endpoint may be asked for, beside localhost and addresses.
    pub allowed_admin_hosts: Vec<String>,
    /// The most connections to the public API.
    pub max_connections: usize,
    /// How long the head of a request may take.
    pub head_timeout: Duration,
    /// How long its body may take.
    pub body_timeout: Duration,
    /// How long a connection stays open without a request.
    pub idle_timeout: Duration,
    /// The origins whose pages may ask the public API from a browser; `*`: any.
    pub cors_origins: Vec<String>,
}

impl ServerOptions {
    /// What addresses begin with.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// The addresses in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ListenAddresses {
    /// The public API.
    pub api: SocketAddr,
    /// The admin endpoint.
    pub admin: SocketAddr,
}

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}; another process may hold it: choose another with `{flag}`, or port 0 for a free one")]
    Listen {
        /// The address.
        address: String,
        /// The flag that moves it.
        flag: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The keys cannot be read.
    #[error(transparent)]
    ReadKeys(#[from] KeyError),
    /// Nobody could come in.
    #[error(
        "{endpoint} at {address} asks for a key, and there is none that opens it; make one: `sequor key create NAME --scope {scope} --data-dir {}`",
        data_dir.display()
    )]
    MissingKey {
        /// Which door, in words.
        endpoint: &'static str,
        /// Where it is.
        address: SocketAddr,
        /// What a key for it may open.
        scope: &'static str,
        /// Where the keys are.
        data_dir: PathBuf,
    },
    /// The addresses could not be written down.
    #[error("cannot write {}", file.display())]
    WriteAddresses {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Both servers, listening.
pub struct HttpServers {
    /// Where.
    pub addresses: ListenAddresses,
    handles: [ServerHandle; 2],
    /// The status sampler and the periodic tasks. They stop first, so that their subscribers are not
    /// waited for.
    upkeep: [JoinHandle<()>; 2],
}

/// Whether requests to an address need a key.
fn asks(settings: &ServerOptions, address: SocketAddr) -> bool {
    settings.requires_key || !address.ip().to_canonical().is_loopback()
}

impl HttpServers {
    /// The keys of a data directory, if they open what they must: to be asked before anything is
    /// started.
    ///
    /// # Errors
    /// [`ServerError::ReadKeys`], or [`ServerError::MissingKey`].
    pub fn load_keys(settings: &ServerOptions, data_dir: &Path) -> Result<Arc<KeyStore>, ServerError> {
        let keys = KeyStore::open(data_dir)?;
        let (public, private) = (("the public API", "write,read"), ("the admin endpoint", "admin"));
        for ((door, scope), address) in [(public, settings.listen), (private, settings.admin_listen)] {
            if asks(settings, address) && !keys.key_ring().has_key_for(scope != private.1) {
                return Err(ServerError::MissingKey { endpoint: door, address, scope, data_dir: data_dir.to_owned() });
            }
        }
        Ok(Arc::new(keys))
    }

    /// Opens both. Must be called within an actix system.
    ///
    /// # Errors
    /// [`ServerError`] if an address cannot be listened on or written down.
    pub fn open(
        system: System,
        rules: ValidationRules,
        clock: Clock,
        settings: &ServerOptions,
        live: Arc<LiveSettings>,
        keys: Arc<KeyStore>,
        data_dir: &Path,
    ) -> Result<Self, ServerError> {
        let public = listen(settings.listen, "--listen")?;
        let private = listen(settings.admin_listen, "--admin-listen")?;
        let of = |listener: &TcpListener, flag| {
            listener.local_addr().map_err(|source| ServerError::Listen { address: String::new(), flag, source })
        };
        let addresses = ListenAddresses { api: of(&public, "--listen")?, admin: of(&private, "--admin-listen")? };
        let recommendations = RecommendationService::new(system.ingest.clone(), system.recommender.clone(), clock.clone());
        let request_ids = Arc::new(IdGenerator::new('q', clock.now()));
        system.metrics.streams_limit.set(settings.max_streams as f64);
        let (status_sampler, publisher) = StatusSampler::new();
        let shared = ApiState {
            system,
            rules,
            clock,
            recommendations,
            request_ids,
            status_sampler,
            max_body_bytes: settings.max_body_bytes,
            read_wait: settings.read_wait,
            stream_permits: Arc::new(Semaphore::new(settings.max_streams)),
            live_settings: live,
            key_store: Arc::clone(&keys),
        };
        let certificate = settings.tls.as_ref().map(TlsCertificate::open).transpose()?;
        let limits = Arc::new(RateLimits::new(settings.rate_limits, DefaultClock::default()));
        let chores = PeriodicTasks { api: shared.clone(), limits: Arc::clone(&limits), certificate: certificate.clone() };
        let upkeep = [spawn_sampler(shared.clone(), publisher), rt::spawn(chores.run())];
        let refused = Arc::new(shared.metrics().refused_requests.clone());
        let lock = |address, limits| Authorizer {
            keys: Arc::clone(&keys),
            requires_key: asks(settings, address),
            rate_limits: limits,
            refusal_counters: Arc::clone(&refused),
        };
        let side = |otherwise, lock| EndpointSetup {
            api: shared.clone(),
            default_endpoint: otherwise,
            authorizer: lock,
            certificate: certificate.clone(),
        };
        let servers = [
            serve(public, side(Endpoint::Other, lock(addresses.api, Some(limits))), settings, None, public_routes),
            // The admin endpoint has workers of its own, so that it answers when the API is busy.
            serve(
                private,
                side(Endpoint::Admin, lock(addresses.admin, None)),
                &ServerOptions { workers: 1, max_connections: ADMIN_CONNECTIONS, cors_origins: Vec::new(), ..settings.clone() },
                Some(AllowedHosts::new(&settings.allowed_admin_hosts, Arc::clone(&refused))),
                admin_routes,
            ),
        ];
        let mut handles = Vec::with_capacity(2);
        for server in servers {
            let server = server?;
            handles.push(server.handle());
            rt::spawn(server);
        }
        let scheme = settings.scheme();
        let file = data_dir.join("addresses.json");
        let text =
            serde_json::json!({ "api": format!("{scheme}://{}", addresses.api), "admin": format!("{scheme}://{}", addresses.admin) });
        std::fs::write(&file, format!("{text}\n")).map_err(|source| ServerError::WriteAddresses { file, source })?;
        let handles = <[ServerHandle; 2]>::try_from(handles).map_err(|_| ServerError::Listen {
            address: settings.listen.to_string(),
            flag: "--listen",
            source: io::Error::other("a server did not start"),
        })?;
        Ok(Self { addresses, handles, upkeep })
    }

    /// Lets nobody in any more and waits for the answers under way.
    pub async fn close(&self) {
        self.upkeep.iter().for_each(JoinHandle::abort);
        for handle in &self.handles {
            handle.stop(true).await;
        }
    }
}

/// What pages of other origins may ask: anything, and they may not bring what the browser knows of
/// its user.
fn across(origins: &[String]) -> Cors {
    let cors = Cors::default().allow_any_method().allow_any_header().max_age(3600);
    let cors = if origins.iter().any(|origin| origin == "*") { cors.allow_any_origin().send_wildcard() } else { cors };
    origins.iter().filter(|origin| *origin != "*").fold(cors, |cors, origin| cors.allowed_origin(origin))
}

fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).map_err(|source| ServerError::Listen { address: address.to_string(), flag, source })
}

/// What is served on one side, and to whom.
struct EndpointSetup {
    api: ApiState,
    /// What requests are counted as that have no kind of their own.
    default_endpoint: Endpoint,
    authorizer: Authorizer,
    certificate: Option<Arc<TlsCertificate>>,
}

fn serve(
    listener: TcpListener,
    side: EndpointSetup,
    settings: &ServerOptions,
    hosts: Option<AllowedHosts>,
    routes: fn(&mut ServiceConfig),
) -> Result<Server, ServerError> {
    let EndpointSetup { api, default_endpoint, authorizer, certificate } = side;
    let (max_body, shared, origins, body_timeout) =
        (api.max_body_bytes, Data::new(api), settings.cors_origins.clone(), settings.body_timeout);
    let app = move || {
        App::new()
            .app_data(Data::clone(&shared))
            .app_data(EndpointLabels { by_path: router::endpoint_label, default: default_endpoint })
            .app_data(PayloadConfig::new(max_body))
            .app_data(JsonConfig::default().limit(max_body).error_handler(move |error, _| json_problem(&error, max_body).into()))
            .app_data(QueryConfig::default().error_handler(|error, _| Problem::invalid_parameter("query", error.to_string()).into()))
            .app_data(PathConfig::default().error_handler(|error, _| Problem::invalid_parameter("path", error.to_string()).into()))
            .app_data(Data::new(authorizer.clone()))
            .app_data(BodyTimeout(body_timeout))
            .app_data(MaxBodyBytes(max_body))
            .app_data(Data::new(hosts.clone()))
            .wrap(Condition::new(hosts.is_some(), from_fn(host_check::check_host)))
            .wrap(from_fn(check_request::check_request))
            .wrap(Compress::default())
            .wrap(DefaultHeaders::new().add((X_CONTENT_TYPE_OPTIONS, "nosniff")))
            .wrap(Condition::new(!origins.is_empty(), across(&origins)))
            .wrap(from_fn(measure::measure_request))
            .configure(routes)
            .default_service(web::to(auth::not_found))
    };
    let bounds = ConnectionLimits {
        workers: settings.workers,
        max_connections_per_worker: settings.max_connections.div_ceil(settings.workers),
        head_timeout: settings.head_timeout,
        idle_timeout: settings.idle_timeout,
        shutdown_timeout_seconds: 10,
    };
    let failed = |source| ServerError::Listen { address: settings.listen.to_string(), flag: "--listen", source };
    let Some(certificate) = certificate else { return listener::serve(listener, bounds, app).map_err(failed) };
    // ALPN offers HTTP/2 first. That a handshake comes to its end is waited for as long as for a
    // head.
    let server = HttpServer::new(app)
        .workers(bounds.workers)
        .max_connections(bounds.max_connections_per_worker)
        .tls_handshake_timeout(bounds.head_timeout)
        .client_request_timeout(bounds.head_timeout)
        .keep_alive(bounds.idle_timeout)
        .disable_signals()
        .shutdown_timeout(bounds.shutdown_timeout_seconds)
        .listen_rustls_0_23(listener, certificate.server_config()?);
    Ok(server.map_err(failed)?.run())
}
