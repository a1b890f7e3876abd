//! Purges: removes the events and merges of an API key or of a client address.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

use crate::actors::error::RequestError;
use crate::actors::handles::PurgedEntryCounts;
use crate::auth::{KeyId, KeyRing};
use crate::domain::{Offset, OriginHash, Purge, Timestamp};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;

/// A time: milliseconds since 1970, or text in the format of RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum TimeParameter {
    Milliseconds(Timestamp),
    Text(String),
}

impl TimeParameter {
    fn parse(&self, field: &str) -> Result<Timestamp, Problem> {
        match self {
            Self::Milliseconds(time) => Ok(*time),
            Self::Text(text) => text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| {
                let allowed = "a time such as 2026-01-31T08:00:00Z, or milliseconds since 1970";
                Problem::out_of_range(field, text, allowed)
            }),
        }
    }
}

/// The request for a purge. At least one of `key` and `address` is required. If both are given, an
/// entry must come from both.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PurgeRequest {
    /// The id or the name of the API key. A revoked key has only its id.
    key: Option<String>,
    /// The address of the client.
    address: Option<String>,
    /// Only entries that arrived at this time or later.
    since: Option<TimeParameter>,
    /// Only entries that arrived before this time.
    until: Option<TimeParameter>,
    /// Only count the entries.
    #[serde(default)]
    dry_run: bool,
}

/// The outcome of a request for a purge.
#[derive(Debug, Serialize)]
struct PurgeResponse {
    dry_run: bool,
    /// The events and private events to remove.
    events: u64,
    /// The merges to remove.
    merges: u64,
    /// The users of these events and merges.
    users: u64,
    /// The offset of the purge's journal entry; absent if nothing is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    purge: Option<Offset>,
    /// What happens next.
    next: &'static str,
}

/// The progress of purges.
#[derive(Debug, Serialize)]
pub(in crate::http) struct PurgeProgressView {
    /// The purges whose entries are being removed from the journal.
    in_progress: Vec<PurgeInProgressView>,
    /// Whether the sessions and the model still contain purged entries. The daemon learns the
    /// journal again, and then restarts on the new state.
    unlearning: bool,
}

#[derive(Debug, Serialize)]
struct PurgeInProgressView {
    /// The offset of the purge's journal entry.
    purge: Offset,
    timestamp: Timestamp,
}

/// Purges the entries of an origin. Responds once the purge is in the journal; the removal and the
/// unlearning follow in the background.
pub(in crate::http) async fn purge_origin(
    api: Data<ApiState>,
    Json(request): Json<PurgeRequest>,
) -> Result<HttpResponse, Problem> {
    let purge = read_purge(&api, &request)?;
    check_complete_journal(&api)?;
    let (store, scanned) = (api.system.store.clone(), purge.clone());
    let count = move || store.count_purged_entries(&scanned).map_err(RequestError::from);
    let PurgedEntryCounts { events, merges, users } = web::block(count).await.map_err(|_| Problem::internal())??;
    let is_empty = events + merges == 0;
    if is_empty {
        check_origin_is_recorded(&api, &request)?;
    }
    let offset = if request.dry_run || is_empty {
        None
    } else {
        let offset = api.system.maintenance.request_purge(purge).await?;
        tracing::warn!(offset, events, merges, users, "a purge was requested");
        Some(offset)
    };
    let next = match offset {
        Some(_) => {
            "The entries are removed, and then the model is learned again without them. GET /admin/purge shows the progress."
        }
        None if is_empty => "The journal has no such entries.",
        None => "Nothing was changed. Send the request without `dry_run` to remove these entries.",
    };
    let status = if offset.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    let response = PurgeResponse { dry_run: request.dry_run, events, merges, users, purge: offset, next };
    Ok(HttpResponse::build(status).json(response))
}

/// Shows the progress of purges.
pub(in crate::http) async fn get_purge_progress(api: Data<ApiState>) -> Result<Json<PurgeProgressView>, Problem> {
    let read = move || {
        let purges = api.system.store.purges();
        let in_progress = purges
            .in_progress()?
            .into_iter()
            .map(|(offset, purge)| PurgeInProgressView { purge: offset, timestamp: purge.timestamp });
        Ok::<_, RequestError>(PurgeProgressView {
            in_progress: in_progress.collect(),
            unlearning: purges.finished_count()? > 0,
        })
    };
    Ok(Json(web::block(read).await.map_err(|_| Problem::internal())??))
}

/// Reads the parameters of a purge.
fn read_purge(api: &ApiState, request: &PurgeRequest) -> Result<Purge, Problem> {
    if request.key.is_none() && request.address.is_none() {
        let detail = "Give `key` (the id or the name of an API key), `address` (the address of a client), or both.";
        return Err(Problem::invalid_parameter("key", detail));
    }
    let now = api.clock.now();
    let time = |field, time: &Option<TimeParameter>| time.as_ref().map(|time| time.parse(field)).transpose();
    let since = time("since", &request.since)?.unwrap_or(0);
    if since > now {
        return Err(Problem::invalid_parameter("since", format!("{since} is in the future; the time is {now}.")));
    }
    let key = request.key.as_ref().map(|key| find_key_id(&api.key_store.key_ring(), key)).transpose()?;
    let address = request.address.as_ref().map(|text| {
        let invalid = |_| Problem::out_of_range("address", text, "an IPv4 or IPv6 address such as 203.0.113.7");
        text.parse::<IpAddr>().map_err(invalid)
    });
    Ok(Purge {
        key: key.as_ref().map(|id| api.origins.hash_key(id)),
        address: address.transpose()?.map(|address| -> OriginHash { api.origins.hash_address(address) }),
        since,
        until: time("until", &request.until)?.unwrap_or(Timestamp::MAX),
        timestamp: now,
    })
}

/// Finds an API key by its id or its name. An id need not belong to a key, because the key may have
/// been revoked.
fn find_key_id(ring: &KeyRing, id_or_name: &str) -> Result<KeyId, Problem> {
    if let Ok(id) = id_or_name.parse() {
        return Ok(id);
    }
    let named: Vec<_> = ring.all().into_iter().filter(|key| key.name == id_or_name).collect();
    match named.as_slice() {
        [key] => Ok(key.id.clone()),
        [] => {
            let allowed = "the name of an API key, or the id of a current or revoked key (8 hexadecimal digits)";
            Err(Problem::out_of_range("key", id_or_name, allowed))
        }
        several => {
            let ids: Vec<_> = several.iter().map(|key| key.id.as_str()).collect();
            let detail =
                format!("Several API keys have the name {id_or_name}; give one of their ids: {}.", ids.join(", "));
            Err(Problem::invalid_parameter("key", detail))
        }
    }
}

/// Checks that the journal is complete. Otherwise the model could not be learned again.
fn check_complete_journal(api: &ApiState) -> Result<(), Problem> {
    let begin = api.system.store.journal().first_offset().map_err(RequestError::from)?;
    if begin == 0 {
        return Ok(());
    }
    Err(Problem::conflict(format!(
        "A purge learns the whole journal again, and the entries before offset {begin} are no longer retained (store.retain_entries). Roll the model back to a checkpoint from before the attack instead."
    )))
}

/// Checks that the settings record the kind of origin (API key, client address) that the request
/// names. Called if no entry matches a purge.
fn check_origin_is_recorded(api: &ApiState, request: &PurgeRequest) -> Result<(), Problem> {
    let recorded = api.origins.recorded();
    let missing = match request {
        PurgeRequest { key: Some(_), .. } if !recorded.includes_key() => "API keys",
        PurgeRequest { address: Some(_), .. } if !recorded.includes_address() => "client addresses",
        _ => return Ok(()),
    };
    Err(Problem::conflict(format!(
        "The journal does not record the {missing} of events: see the setting privacy.origins. There are no entries to purge."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{ApiKey, Scope, Scopes};

    #[test]
    fn keys_are_found_by_id_or_by_a_unique_name() {
        let key = |name: &str| ApiKey::generate(name, Scopes::new([Scope::Write]).unwrap(), None, 0).unwrap().0;
        let (shop, first, second) = (key("shop"), key("app"), key("app"));
        let (id, two) = (shop.id.clone(), [first.id.clone(), second.id.clone()]);
        let ring = KeyRing::new(vec![shop, first, second]).unwrap();
        assert_eq!(find_key_id(&ring, "shop").ok(), Some(id.clone()));
        assert_eq!(find_key_id(&ring, id.as_str()).ok(), Some(id));
        assert!(find_key_id(&ring, "0123abcd").is_ok(), "the id of a revoked key");
        assert!(find_key_id(&ring, "nobody").is_err());
        let problem = find_key_id(&ring, "app").unwrap_err();
        assert!(two.iter().all(|id| problem.detail_text().contains(id.as_str())), "{}", problem.detail_text());
    }

    #[test]
    fn times_are_milliseconds_or_rfc_3339() {
        let parse = |json: &str| serde_json::from_str::<TimeParameter>(json).unwrap().parse("since").ok();
        assert_eq!(parse("1700000000000"), Some(1_700_000_000_000));
        assert_eq!(parse(r#""2023-11-14T22:13:20Z""#), Some(1_700_000_000_000));
        assert_eq!(parse(r#""yesterday""#), None);
    }
}
