//! Web servers' access logs: a line is a request, and rules say which requests are events.

mod format;

use super::digest::KeyedDigest;
use super::timestamp;
use super::validation::{RawEvent, ValidationRules};
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{EventKind, Timestamp, WithConsent};
use format::{AccessLogFormat, LogFields};
use percent_encoding::percent_decode_str;
use regex::Regex;
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// What agents that are no people have in their names, in lower case. Short on purpose: what names itself a robot, and the common tools.
const BOTS: [&str; 16] = [
    "bot",
    "crawl",
    "spider",
    "slurp",
    "scrape",
    "monitor",
    "uptime",
    "headless",
    "lighthouse",
    "facebookexternalhit",
    "curl/",
    "wget/",
    "python-",
    "go-http-client",
    "okhttp",
    "libwww",
];

/// How an access log is read.
#[derive(Debug, Clone)]
pub struct AccessLogSettings {
    /// `combined`, `json`, or a regular expression with named groups.
    pub format: String,
    /// Under which names a JSON log has its fields, as (field, name).
    pub fields: Vec<(String, String)>,
    /// Rules as `KIND=REGEX` on the path; the first that matches makes the event.
    pub rules: Vec<String>,
    /// Who the user is: `cookie:NAME`, `raw_field:NAME` or `address`.
    pub user: String,
    /// The methods that count.
    pub methods: Vec<String>,
    /// The statuses that count.
    pub statuses: RangeInclusive<u16>,
    /// Whether robots count as users.
    pub keep_bots: bool,
    /// What says how far consent goes: `cookie:NAME` or `raw_field:NAME`; `None`: nothing does.
    pub consent: Option<String>,
}

/// Why a log cannot be read as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// A regular expression is none.
    #[error("`{text}` is no regular expression")]
    Regex {
        /// The text.
        text: String,
        /// Why not.
        #[source]
        source: Box<regex::Error>,
    },
    /// The format's groups do not tell enough.
    #[error("the format has no group `{0}`; it needs time and either request or method, path and status, such as (?P<time>\\S+)")]
    MissingGroup(&'static str),
    /// There is no such field.
    #[error("a log has no field `{0}`; there are time, request, method, path, status, agent, address, cookie")]
    UnknownField(String),
    /// A rule is not written as one.
    #[error("the rule `{0}` is not written as KIND=REGEX, such as view=^/product/(?P<item>[^/?]+)")]
    RuleSyntax(String),
    /// A rule's kind is unknown.
    #[error("the rule's kind `{kind}` is unknown; there are {known}")]
    UnknownKind {
        /// The kind.
        kind: String,
        /// Those that are known.
        known: String,
    },
    /// A rule finds no item.
    #[error("the rule `{0}` has no group named item, such as (?P<item>[^/?]+); only a search may go without")]
    RuleWithoutItem(String),
    /// No rule at all.
    #[error("no rule says which requests are events; write one such as view=^/product/(?P<item>[^/?]+)")]
    NoRules,
    /// The user is said in no known way.
    #[error("`{0}` says not who the user is; write cookie:NAME, field:NAME or address")]
    UserSyntax(String),
    /// The consent is said in no known way.
    #[error("`{0}` says not how far consent goes; write cookie:NAME or field:NAME")]
    ConsentSyntax(String),
}

/// What a line is.
#[derive(Debug, PartialEq)]
pub enum AccessLogOutcome {
    /// An event.
    Event(WithConsent),
    /// A request that is none.
    Skipped(SkipReason),
}

/// Why a request is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkipReason {
    /// No rule matches its path.
    NoMatchingRule,
    /// Its method or its status does not count, or it is no HTTP request.
    IneligibleRequest,
    /// A robot made it.
    Bot,
    /// It does not tell who made it.
    UnknownUser,
}

impl SkipReason {
    /// Says it in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoMatchingRule => "no rule matches",
            Self::IneligibleRequest => "method or status does not count",
            Self::Bot => "robots",
            Self::UnknownUser => "nobody known",
        }
    }
}

#[derive(Debug)]
struct AccessLogRule {
    kind: String,
    path: Regex,
}

#[derive(Debug)]
enum LogFieldSelector {
    Cookie(String),
    Field(String),
    Address,
}

/// Reads lines of an access log.
#[derive(Debug)]
pub struct AccessLogParser {
    format: AccessLogFormat,
    rules: Vec<AccessLogRule>,
    who: LogFieldSelector,
    methods: Vec<String>,
    statuses: RangeInclusive<u16>,
    keep_bots: bool,
    consent: Option<LogFieldSelector>,
    key: [u8; 16],
    events: ValidationRules,
}

fn regex(text: &str) -> Result<Regex, AccessLogError> {
    Regex::new(text).map_err(|source| AccessLogError::Regex { text: text.to_owned(), source: Box::new(source) })
}

impl AccessLogParser {
    /// Reads logs as the settings say. Under the key addresses become pseudonyms; `events` is what every event is held against.
    ///
    /// # Errors
    /// If the settings are no good.
    pub fn new(settings: &AccessLogSettings, key: [u8; 16], events: ValidationRules) -> Result<Self, AccessLogError> {
        let rules: Vec<_> = settings.rules.iter().map(|text| AccessLogRule::new(text, &events)).collect::<Result<_, _>>()?;
        if rules.is_empty() {
            return Err(AccessLogError::NoRules);
        }
        let said = |text: &str| match text.split_once(':') {
            Some(("cookie", name)) => Some(LogFieldSelector::Cookie(name.to_owned())),
            Some(("field", name)) => Some(LogFieldSelector::Field(name.to_owned())),
            _ => None,
        };
        let who = said(&settings.user).or_else(|| (settings.user == "address").then_some(LogFieldSelector::Address));
        let who = who.ok_or_else(|| AccessLogError::UserSyntax(settings.user.clone()))?;
        let consent =
            settings.consent.as_deref().map(|text| said(text).ok_or_else(|| AccessLogError::ConsentSyntax(text.to_owned()))).transpose()?;
        let format = AccessLogFormat::new(&settings.format, &settings.fields)?;
        let methods = settings.methods.clone();
        Ok(Self { format, rules, who, methods, statuses: settings.statuses.clone(), keep_bots: settings.keep_bots, consent, key, events })
    }

    /// Reads a line. The event gets that id; `received_at` is the moment against which "too far in the future" is judged.
    ///
    /// # Errors
    /// If the line is not in the log's format, or the event that it makes breaks a rule; without a place.
    pub fn parse_line(&self, line: &[u8], event_id: &str, received_at: Timestamp) -> Result<AccessLogOutcome, ValidationError> {
        let line =
            std::str::from_utf8(line).map_err(|_| ValidationError::new(None, ValidationErrorCode::NotUtf8, "the line is not UTF-8"))?;
        let parts = self.format.parse(line)?;
        let Some((method, path)) = parts.request() else { return Ok(AccessLogOutcome::Skipped(SkipReason::IneligibleRequest)) };
        let status = parts.get("status").and_then(|status| status.parse().ok()).unwrap_or(0);
        if !self.methods.iter().any(|counts| *counts == method) || !self.statuses.contains(&status) {
            return Ok(AccessLogOutcome::Skipped(SkipReason::IneligibleRequest));
        }
        let agent = parts.get("agent").unwrap_or_default().to_ascii_lowercase();
        if !self.keep_bots && BOTS.iter().any(|bot| agent.contains(bot)) {
            return Ok(AccessLogOutcome::Skipped(SkipReason::Bot));
        }
        let Some((rule, found)) = self.rules.iter().find_map(|rule| Some((rule, rule.path.captures(&path)?))) else {
            return Ok(AccessLogOutcome::Skipped(SkipReason::NoMatchingRule));
        };
        let group =
            |name: &str| found.name(name).map(|text| percent_decode_str(text.as_str()).decode_utf8_lossy()).filter(|text| !text.is_empty());
        let Some(user) = group("user").or_else(|| self.user(&parts)) else { return Ok(AccessLogOutcome::Skipped(SkipReason::UnknownUser)) };
        let value = group("value").map(|value| {
            value.parse().map_err(|_| ValidationError::new("value", ValidationErrorCode::WrongType, "`value` must be a number"))
        });
        // In a query a plus is a space, as forms write it.
        let query = found.name("query").map(|text| text.as_str().replace('+', " "));
        let query = query.as_deref().map(|text| percent_decode_str(text).decode_utf8_lossy());
        let time =
            parts.get("time").ok_or_else(|| ValidationError::new("timestamp", ValidationErrorCode::Missing, "the line has no time"))?;
        let draft = RawEvent {
            event_id: Some(event_id.into()),
            user_id: Some(user),
            session_id: None,
            kind: Some(rule.kind.as_str().into()),
            item_id: group("item"),
            value: value.transpose()?,
            timestamp: Some(timestamp::from_access_log(&time)?),
            properties: query.map(|query| serde_json::json!({ "query": query }).to_string().into()),
            consent: self.consent.as_ref().and_then(|consent| consent.of(&parts)),
        };
        self.events.validate_event(draft, received_at).map(AccessLogOutcome::Event)
    }

    /// Who made the request: what the log says, or else a pseudonym for address and agent.
    fn user<'p>(&self, parts: &'p LogFields<'_>) -> Option<Cow<'p, str>> {
        self.who.of(parts).or_else(|| {
            let (address, agent) = (parts.get("address")?, parts.get("agent").unwrap_or_default());
            Some(KeyedDigest::of_parts(&self.key, &[address.as_bytes(), agent.as_bytes()]).into())
        })
    }
}

impl LogFieldSelector {
    /// What a line says there.
    fn of<'p>(&self, parts: &'p LogFields<'_>) -> Option<Cow<'p, str>> {
        match self {
            Self::Cookie(name) => parts.cookie(name),
            Self::Field(name) => parts.raw_field(name),
            Self::Address => None,
        }
    }
}

impl AccessLogRule {
    fn new(text: &str, events: &ValidationRules) -> Result<Self, AccessLogError> {
        let (kind, path) = text.split_once('=').ok_or_else(|| AccessLogError::RuleSyntax(text.to_owned()))?;
        let known = EventKind::from_name(kind);
        if events.kinds.id(&known).is_none() {
            let known: Vec<_> = events.kinds.names().collect();
            return Err(AccessLogError::UnknownKind { kind: kind.to_owned(), known: known.join(", ") });
        }
        let path = regex(path)?;
        let finds_item = path.capture_names().flatten().any(|name| name == "item");
        if !finds_item && known != EventKind::Search {
            Err(AccessLogError::RuleWithoutItem(text.to_owned()))
        } else {
            Ok(Self { kind: kind.to_owned(), path })
        }
    }
}

#[cfg(test)]
mod tests;
