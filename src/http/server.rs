//! The listening sockets.

use actix_cors::Cors;
use actix_web::dev::{Server, ServerHandle};
use actix_web::error::JsonPayloadError;
use actix_web::middleware::{Compress, Condition, from_fn};
use actix_web::rt::task::JoinHandle;
use actix_web::web::{self, Data, JsonConfig, PathConfig, PayloadConfig, QueryConfig};
use actix_web::{App, HttpServer, web::ServiceConfig};
use serde::Serialize;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use super::api::{Api, Names};
use super::lock::Token;
use super::problem::Problem;
use super::pulse::Pulse;
use super::watch::Otherwise;
use super::{admin, api, console, lock, watch};
use crate::actors::system::System;
use crate::capture::Rules;
use crate::clock::Clock;
use crate::metrics::Endpoint;
use crate::settings::Live;

/// Where to listen and what to let in.
#[derive(Debug, Clone)]
pub struct DoorSettings {
    /// The public API's address.
    pub listen: String,
    /// The admin endpoint's address.
    pub admin_listen: String,
    /// Threads that serve the public API.
    pub workers: usize,
    /// The largest body that is read.
    pub max_body_bytes: usize,
    /// How long a read waits for the offset that it wants.
    pub read_wait: Duration,
    /// The most streams at once.
    pub streams_max: usize,
    /// What whoever comes to the admin endpoint must know; empty: nothing.
    pub admin_token: String,
    /// The origins whose pages may ask the public API from a browser; `*`: any.
    pub cors_origins: Vec<String>,
}

/// The addresses in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// The public API.
    pub api: SocketAddr,
    /// The admin endpoint.
    pub admin: SocketAddr,
}

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
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
    /// The addresses could not be written down.
    #[error("cannot write {}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Both servers, listening.
pub struct Door {
    /// Where.
    pub addresses: Addresses,
    handles: [ServerHandle; 2],
    /// Ended first: whoever listens would else be waited for.
    pulse: JoinHandle<()>,
}

impl Door {
    /// Opens both. Must be called within an actix system.
    ///
    /// # Errors
    /// [`DoorError`] if an address cannot be listened on or written down.
    pub fn open(
        system: System,
        rules: Rules,
        clock: Clock,
        settings: &DoorSettings,
        live: Arc<Live>,
        data_dir: &Path,
    ) -> Result<Self, DoorError> {
        let public = listen(&settings.listen, "--listen")?;
        let private = listen(&settings.admin_listen, "--admin-listen")?;
        let of = |listener: &TcpListener, flag| {
            listener.local_addr().map_err(|source| DoorError::Listen { address: String::new(), flag, source })
        };
        let addresses = Addresses { api: of(&public, "--listen")?, admin: of(&private, "--admin-listen")? };
        let [names, request_ids] = ['r', 'q'].map(|letter| Arc::new(Names::new(letter, clock.now())));
        system.metrics_handles().streams_limit.set(settings.streams_max as f64);
        let (pulse, teller) = Pulse::new();
        let shared = Api {
            system,
            rules,
            clock,
            names,
            request_ids,
            pages: Arc::default(),
            pulse,
            max_body: settings.max_body_bytes,
            read_wait: settings.read_wait,
            streams: Arc::new(Semaphore::new(settings.streams_max)),
            live,
        };
        let pulse = Pulse::beat(shared.clone(), teller);
        let token = Token::new(&settings.admin_token);
        let servers = [
            serve(public, shared.clone(), settings.workers, Endpoint::Other, None, &settings.cors_origins, api::routes),
            serve(private, shared, 1, Endpoint::Admin, token, &[], private_routes),
        ];
        let mut handles = Vec::with_capacity(2);
        for server in servers {
            let server = server.map_err(|source| DoorError::Listen { address: settings.listen.clone(), flag: "--listen", source })?;
            handles.push(server.handle());
            actix_web::rt::spawn(server);
        }
        let file = data_dir.join("addresses.json");
        let text = serde_json::json!({ "api": format!("http://{}", addresses.api), "admin": format!("http://{}", addresses.admin) });
        std::fs::write(&file, format!("{text}\n")).map_err(|source| DoorError::Write { file, source })?;
        let handles = <[ServerHandle; 2]>::try_from(handles).map_err(|_| DoorError::Listen {
            address: settings.listen.clone(),
            flag: "--listen",
            source: io::Error::other("a server did not start"),
        })?;
        Ok(Self { addresses, handles, pulse })
    }

    /// Lets nobody in any more and waits for the answers under way.
    pub async fn close(&self) {
        self.pulse.abort();
        for handle in &self.handles {
            handle.stop(true).await;
        }
    }
}

/// What is wrong with a JSON body.
fn bad_json(error: &JsonPayloadError, max_body: usize) -> Problem {
    match error {
        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => Problem::body_too_large(max_body),
        JsonPayloadError::Payload(error) => api::bad_payload(error, max_body),
        JsonPayloadError::ContentType => Problem::unsupported_body("application/json"),
        JsonPayloadError::Deserialize(error) => Problem::bad_members(error, "what the API's description says"),
        other => Problem::bad_body(other.to_string()),
    }
}

/// What pages of other origins may ask: anything, and they may not bring what the browser knows of its user.
fn across(origins: &[String]) -> Cors {
    let cors = Cors::default().allow_any_method().allow_any_header().max_age(3600);
    let cors = if origins.iter().any(|origin| origin == "*") { cors.allow_any_origin().send_wildcard() } else { cors };
    origins.iter().filter(|origin| *origin != "*").fold(cors, |cors, origin| cors.allowed_origin(origin))
}

fn listen(address: &str, flag: &'static str) -> Result<TcpListener, DoorError> {
    TcpListener::bind(address).map_err(|source| DoorError::Listen { address: address.to_owned(), flag, source })
}

/// The admin endpoint, and its pages.
fn private_routes(config: &mut ServiceConfig) {
    config.configure(admin::routes).configure(console::routes);
}

fn serve(
    listener: TcpListener,
    shared: Api,
    workers: usize,
    otherwise: Endpoint,
    token: Option<Token>,
    origins: &[String],
    routes: fn(&mut ServiceConfig),
) -> io::Result<Server> {
    let (max_body, shared, origins) = (shared.max_body, Data::new(shared), origins.to_vec());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::clone(&shared))
            .app_data(Otherwise(otherwise))
            .app_data(PayloadConfig::new(max_body))
            .app_data(JsonConfig::default().limit(max_body).error_handler(move |error, _| bad_json(&error, max_body).into()))
            .app_data(QueryConfig::default().error_handler(|error, _| Problem::bad_parameter("query", error.to_string()).into()))
            .app_data(PathConfig::default().error_handler(|error, _| Problem::bad_parameter("path", error.to_string()).into()))
            .app_data(Data::new(token.clone()))
            .wrap(Condition::new(token.is_some(), from_fn(lock::unlocked)))
            .wrap(from_fn(watch::understood))
            .wrap(Compress::default())
            .wrap(Condition::new(!origins.is_empty(), across(&origins)))
            .wrap(from_fn(watch::measured))
            .configure(routes)
            .default_service(web::to(|| async { Err::<&str, Problem>(Problem::unknown_path()) }))
    })
    .workers(workers)
    .disable_signals()
    .shutdown_timeout(10)
    .listen_auto_h2c(listener)?;
    Ok(server.run())
}
