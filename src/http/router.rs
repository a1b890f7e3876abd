//! The route table: every path of the public API, of the admin endpoint and of the admin pages.
//!
//! A row names the path, the access that it needs, the metric label of its requests and one handler
//! per method. To add an endpoint, write its handler below [`crate::http::routes`] and add a row.
//! The table determines the configuration of both servers, the metric label of a request, the
//! `Allow` header of a 405, and the operations and security of the OpenAPI document.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actix_web::{Error, HttpResponse, Resource};
use std::sync::LazyLock;
use utoipa::OpenApi;

use crate::auth::Scope;
use crate::http::console;
use crate::http::middleware::auth::{self, RequiredAccess};
use crate::http::routes::openapi::DocumentSource;
use crate::http::routes::{
    admin, beacon, consents, events, impressions, items, merges, openapi, placements, predictions, rankings,
    recommendations, reports, rules, segment, stream, users, widget,
};
use crate::http::schema;
use crate::http::schema::problem::Problem;
use crate::metrics::Endpoint;

/// A row of the route table, without its handlers and its metric label.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct RouteInfo {
    pub(in crate::http) path: &'static str,
    /// The methods of the path, as in an `Allow` header.
    pub(in crate::http) methods: &'static str,
    pub(in crate::http) access: RequiredAccess,
}

/// The access that a row of the route table names: `Public`, or the scope of the key that the path
/// needs.
macro_rules! access {
    (Public) => {
        RequiredAccess::Public
    };
    ($scope:ident) => {
        RequiredAccess::Scope(Scope::$scope)
    };
}

/// Converts rows of the route table to [`RouteInfo`] values.
macro_rules! infos {
    ($( $path:literal $access:ident $label:ident => $first:ident $($head:ident)::+ $(, $method:ident $($handler:ident)::+)*; )*) => {
        &[$( RouteInfo {
            path: $path,
            methods: concat!(stringify!($first) $(, ", ", stringify!($method))*),
            access: access!($access),
        } ),*]
    };
}

/// Registers the paths and handlers of rows of the route table. `$prefix` is the path of the
/// actix-web scope that contains the paths.
macro_rules! register {
    ($config:ident, $prefix:literal, $infos:ident, $( $path:literal $access:ident $label:ident => $($method:ident $($handler:ident)::+),+; )*) => {
        let mut rows = $infos.iter();
        $( if let Some(info) = rows.next() {
            $config.service(route_resource(info, $prefix)$(.route(web::method(Method::$method).to($($handler)::+)))+);
        } )*
    };
}

/// The metric label of a path.
macro_rules! label {
    ($pattern:ident, $( $path:literal $access:ident $label:ident => $($method:ident $($handler:ident)::+),+; )*) => {
        match $pattern {
            $( $path => Some(Endpoint::$label), )*
            _ => None,
        }
    };
}

/// Declares the OpenAPI operations of rows of the route table. The attributes of the handlers
/// describe the operations.
macro_rules! operations {
    ($( $path:literal $access:ident $label:ident => $($method:ident $($handler:ident)::+),+; )*) => {
        /// The operations of the public API.
        #[derive(OpenApi)]
        #[openapi(paths($($($($handler)::+),+),*))]
        struct PublicOperations;
    };
}

macro_rules! route_table {
    (public { $($public:tt)* } admin { $($admin:tt)* } console { $($console:tt)* }) => {
        /// The paths of the public API.
        pub(in crate::http) const PUBLIC_ROUTES: &[RouteInfo] = infos!($($public)*);
        /// The paths of the admin endpoint, without its pages.
        pub(in crate::http) const ADMIN_ROUTES: &[RouteInfo] = infos!($($admin)*);
        /// The admin pages.
        pub(in crate::http) const CONSOLE_ROUTES: &[RouteInfo] = infos!($($console)*);

        operations!($($public)*);

        /// Registers the public API.
        pub(in crate::http) fn public_routes(config: &mut ServiceConfig) {
            config.app_data(Data::new(DocumentSource(openapi_json)));
            config.configure(beacon::provide_script).configure(widget::provide_widget);
            register!(config, "", PUBLIC_ROUTES, $($public)*);
        }

        /// Registers the admin endpoint and its pages.
        pub(in crate::http) fn admin_routes(config: &mut ServiceConfig) {
            register!(config, "", ADMIN_ROUTES, $($admin)*);
            console::register_pages(config, console_routes);
        }

        fn console_routes(config: &mut ServiceConfig) {
            register!(config, "/console", CONSOLE_ROUTES, $($console)*);
        }

        /// The metric label of a path of either server. `None` if no row has this path.
        pub(in crate::http) fn endpoint_label(pattern: &str) -> Option<Endpoint> {
            label!(pattern, $($public)* $($admin)* $($console)*)
        }
    };
}

route_table! {
    public {
        "/v1/events" Write Events => POST events::ingest_events;
        "/v1/events/rules" Write Other => GET events::get_ingest_info;
        "/v1/events/validate" Write Other => POST events::validate_events;
        "/v1/impressions" Write Events => POST impressions::report_impression;
        "/v1/users/{user}/recommendations" Read Recommendations => GET recommendations::get_recommendations;
        "/v1/users/{user}/recommendations/stream" Read Streams => GET stream::stream_recommendations;
        "/v1/recommendations" Read InlineRecommendations => POST recommendations::recommend_for_item_session;
        "/v1/predict" Read Predictions => POST predictions::predict_interest;
        "/v1/rank" Read ListRankings => POST rankings::rank_list;
        "/v1/items/{item}/similar" Read NonPersonalised => GET recommendations::get_similar_items;
        "/v1/trending" Read NonPersonalised => GET recommendations::get_trending_items;
        "/v1/items" Items Items => POST items::change_items;
        "/v1/items/{item}" Items Items => GET items::get_item, PUT items::put_item, PATCH items::patch_item, DELETE items::delete_item;
        "/v1/placements" Items Items => GET placements::list_placements;
        "/v1/placements/{placement}" Items Items => GET placements::get_placement, PUT placements::put_placement, DELETE placements::delete_placement;
        "/v1/rules" Items Items => GET rules::list_rules;
        "/v1/rules/{rule}" Items Items => GET rules::get_rule, PUT rules::put_rule, DELETE rules::delete_rule;
        "/v1/reports/attribution" Items Other => GET reports::get_attribution;
        "/v1/users/{user}/merge" Write Other => POST merges::merge_users;
        "/v1/users/{user}" Users Other => GET users::export_user, PATCH users::change_attributes, DELETE users::erase_user;
        "/v1/users/{user}/consent" Users Other => GET consents::get_consent, PUT consents::set_consent;
        "/v1/track" Write Segment => POST segment::track;
        "/v1/page" Write Segment => POST segment::page;
        "/v1/screen" Write Segment => POST segment::screen;
        "/v1/identify" Write Segment => POST segment::identify;
        "/v1/alias" Write Segment => POST segment::alias;
        "/v1/group" Write Segment => POST segment::group;
        "/v1/batch" Write Segment => POST segment::ingest_segment_batch;
        "/v1/capture.js" Public Other => GET beacon::get_beacon_script;
        "/v1/widget.js" Public Other => GET widget::get_widget_script;
        "/openapi.json" Public Other => GET openapi::get_description;
        "/docs" Public Other => GET openapi::get_docs;
    }
    admin {
        "/" Admin Admin => GET console::redirect_to_console;
        "/metrics" Metrics Admin => GET admin::probes::get_metrics, HEAD admin::probes::get_metrics;
        "/healthz" Public Admin => GET admin::probes::get_liveness, HEAD admin::probes::get_liveness;
        "/healthz/journal" Public Admin => GET admin::probes::get_journal_health, HEAD admin::probes::get_journal_health;
        "/readyz" Public Admin => GET admin::probes::get_readiness, HEAD admin::probes::get_readiness;
        "/admin/model" Admin Admin => GET admin::model::get_model_status, HEAD admin::model::get_model_status;
        "/admin/model/checkpoint" Admin Admin => POST admin::model::write_checkpoint;
        "/admin/model/rollback" Admin Admin => POST admin::model::roll_back_model;
        "/admin/model/pause" Admin Admin => POST admin::model::pause_learning;
        "/admin/model/resume" Admin Admin => POST admin::model::resume_learning;
        "/admin/model/learning-rate" Admin Admin => POST admin::model::set_learning_rate;
        "/admin/recall/recluster" Admin Admin => POST admin::model::recluster_items;
        "/admin/settings" Admin Admin => GET admin::settings::get_settings, HEAD admin::settings::get_settings;
        "/admin/settings/reload" Admin Admin => POST admin::settings::reload_settings;
        "/admin/log-level" Admin Admin => POST admin::settings::set_log_level;
        "/admin/drain" Admin Admin => POST admin::settings::set_draining;
        "/admin/keys" Admin Admin => GET admin::keys::list_keys, POST admin::keys::create_key;
        "/admin/keys/{id}" Admin Admin => DELETE admin::keys::revoke_key;
        "/admin/status" Admin Admin => GET admin::status::get_status, HEAD admin::status::get_status;
        "/admin/senders" Admin Admin => GET admin::status::list_senders;
        "/admin/history" Admin Admin => GET admin::status::get_history;
        "/admin/stream" Admin Admin => GET admin::status::stream_status;
        "/admin/cluster" Admin Admin => GET admin::cluster::get_cluster;
        "/admin/store" Admin Admin => GET admin::store::get_store;
        "/admin/quarantine" Admin Admin => GET admin::store::get_quarantine, HEAD admin::store::get_quarantine;
        "/admin/backup" Admin Admin => POST admin::store::create_backup;
        "/admin/store/compact" Admin Admin => POST admin::store::compact_store;
        "/admin/erasures" Admin Admin => GET admin::store::list_erasures;
        "/admin/purge" Admin Admin => GET admin::purge::get_purge_progress, POST admin::purge::purge_origin;
        "/admin/journal" Admin Admin => GET admin::store::export_journal_range;
        "/admin/sessions" Admin Admin => GET admin::sessions::list_sessions;
        "/admin/sessions/{user}" Admin Admin => GET admin::sessions::inspect_session;
        "/admin/items" Admin Admin => GET admin::items::list_items;
        "/admin/items/{item}" Admin Admin => GET admin::items::get_item_view;
        "/admin/placements" Admin Admin => GET placements::list_placements;
        "/admin/placements/{placement}" Admin Admin => GET placements::get_placement, PUT placements::put_placement, DELETE placements::delete_placement;
        "/admin/rules" Admin Admin => GET rules::list_rules;
        "/admin/rules/{rule}" Admin Admin => GET rules::get_rule, PUT rules::put_rule, DELETE rules::delete_rule;
        "/admin/rule-preview" Admin Admin => POST admin::rule_preview::preview_rule;
        "/admin/reports/attribution" Admin Admin => GET reports::get_attribution;
        "/admin/features" Admin Admin => GET admin::features::get_features;
        "/admin/recall" Admin Admin => GET admin::candidates::get_candidate_sources;
    }
    console {
        "/console" Admin Admin => GET console::overview::overview_page;
        "/console/sessions" Admin Admin => GET console::sessions::list_page;
        "/console/sessions/{user}" Admin Admin => GET console::sessions::session_detail_page;
        "/console/items" Admin Admin => GET console::items::list_page;
        "/console/items/{item}" Admin Admin => GET console::items::item_detail_page;
        "/console/placements" Admin Admin => GET console::placements::placements_page;
        "/console/attribution" Admin Admin => GET console::attribution::attribution_page;
        "/console/model" Admin Admin => GET console::model::model_page;
        "/console/recall" Admin Admin => GET console::candidates::candidates_page;
        "/console/store" Admin Admin => GET console::store::store_page;
        "/console/cluster" Admin Admin => GET console::cluster::cluster_page;
        "/console/console.css" Admin Admin => GET console::style_sheet;
        "/console/console.js" Admin Admin => GET console::script;
        "/console/placements.js" Admin Admin => GET console::placements_script;
        "/console/icon.svg" Admin Admin => GET console::icon;
    }
}

/// The resource of a row, before the handlers are added. It checks the access of every request, and
/// responds with 405 if there is no handler for the method.
fn route_resource(
    info: &RouteInfo,
    prefix: &str,
) -> Resource<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse, Error = Error, InitError = ()> + use<>,
> {
    let RouteInfo { path, methods, access } = *info;
    web::resource(path.strip_prefix(prefix).unwrap_or(path))
        .default_service(web::to(move || async move { Err::<HttpResponse, _>(Problem::method_not_allowed(methods)) }))
        .wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| auth::require_access(access, request, next)))
}

/// The scope that a path of the public API needs.
fn required_scope(path: &str) -> Option<Scope> {
    match PUBLIC_ROUTES.iter().find(|route| route.path == path)?.access {
        RequiredAccess::Scope(scope) => Some(scope),
        RequiredAccess::Public | RequiredAccess::AnyKey => None,
    }
}

/// The OpenAPI document of the public API. `requires_key` tells whether the API requires keys.
pub(in crate::http) fn openapi_document(requires_key: bool) -> utoipa::openapi::OpenApi {
    schema::openapi::build_document(PublicOperations::openapi(), requires_key, required_scope)
}

/// The document as JSON, rendered once.
fn openapi_json(requires_key: bool) -> Bytes {
    static DOCUMENT_WITHOUT_KEYS: LazyLock<Bytes> = LazyLock::new(|| render_openapi_json(false));
    static DOCUMENT_WITH_KEYS: LazyLock<Bytes> = LazyLock::new(|| render_openapi_json(true));
    Bytes::clone(if requires_key { &DOCUMENT_WITH_KEYS } else { &DOCUMENT_WITHOUT_KEYS })
}

fn render_openapi_json(requires_key: bool) -> Bytes {
    openapi_document(requires_key).to_json().unwrap_or_default().into()
}
