//! Parses access logs of web servers: each line is a request, and rules map requests to events.

mod format;

use super::digest::KeyedDigest;
use super::timestamp;
use super::validation::{RawEvent, ValidationRules};
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{EventKind, Timestamp, WithConsent};
use format::{AccessLogFormat, LogFields, expected_json_fields};
use percent_encoding::percent_decode_str;
use regex::Regex;
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// Lower-case substrings of the user agents of bots. The list is short on purpose: it holds agents
/// that identify themselves as bots, and common HTTP tools.
const BOT_MARKERS: [&str; 16] = [
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

/// How to parse an access log.
#[derive(Debug, Clone)]
pub struct AccessLogSettings {
    /// `combined`, `json`, or a regular expression with named groups.
    pub format: String,
    /// Field names of a JSON log that differ from the usual ones, as (field, name in the log).
    pub fields: Vec<(String, String)>,
    /// Rules `KIND=REGEX`, matched against the path. The first rule that matches decides the
    /// event's kind.
    pub rules: Vec<String>,
    /// Source of the user id: `cookie:NAME`, `field:NAME` or `address`.
    pub user: String,
    /// HTTP methods of requests that can be events.
    pub methods: Vec<String>,
    /// HTTP statuses of requests that can be events.
    pub statuses: RangeInclusive<u16>,
    /// Whether requests of bots can be events.
    pub keep_bots: bool,
    /// Source of the consent level: `cookie:NAME` or `field:NAME`; `None` if the log holds none.
    pub consent: Option<String>,
}

/// Why [`AccessLogSettings`] are invalid.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// A regular expression is invalid.
    #[error("invalid regular expression `{text}`")]
    Regex {
        /// The invalid expression.
        text: String,
        /// The syntax error.
        #[source]
        source: Box<regex::Error>,
    },
    /// The format lacks a required named group.
    #[error(
        "the format has no group `{0}`; add the groups time, status and either request or method and path, such as (?P<time>\\S+)"
    )]
    MissingGroup(&'static str),
    /// The field is not one of the log fields.
    #[error("unknown log field `{0}`; known fields are time, request, method, path, status, agent, address, cookie")]
    UnknownField(String),
    /// The rule is not of the form `KIND=REGEX`.
    #[error("invalid rule `{0}`; write KIND=REGEX, such as view=^/product/(?P<item>[^/?]+)")]
    RuleSyntax(String),
    /// The rule names an unknown kind of event.
    #[error("unknown event kind `{kind}` in a rule; known kinds are {known}")]
    UnknownKind {
        /// The unknown kind.
        kind: String,
        /// The known kinds, separated by commas.
        known: String,
    },
    /// The rule has no group named `item`.
    #[error("the rule `{0}` has no group named item, such as (?P<item>[^/?]+); only a search rule can omit it")]
    RuleWithoutItem(String),
    /// The list of rules is empty.
    #[error("no rule maps requests to events; add one, such as view=^/product/(?P<item>[^/?]+)")]
    NoRules,
    /// The source of the user id is invalid.
    #[error("invalid user source `{0}`; write cookie:NAME, field:NAME or address")]
    UserSyntax(String),
    /// The source of the consent level is invalid.
    #[error("invalid consent source `{0}`; write cookie:NAME or field:NAME")]
    ConsentSyntax(String),
}

/// Result of parsing a valid line.
#[derive(Debug, PartialEq)]
pub enum AccessLogOutcome {
    /// An event.
    Event(WithConsent),
    /// A request that is not an event.
    Skipped(SkipReason),
}

/// Why a request is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkipReason {
    /// No rule matches the path.
    NoMatchingRule,
    /// The settings exclude the method or the status, or the line holds no HTTP request.
    IneligibleRequest,
    /// The user agent is a bot.
    Bot,
    /// The line holds no user id, and no address to derive a pseudonym from.
    UnknownUser,
    /// The line of a JSON log lacks a required field, such as the path.
    MissingFields,
}

impl SkipReason {
    /// Short label for reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoMatchingRule => "no rule matches",
            Self::IneligibleRequest => "method or status excluded",
            Self::Bot => "bots",
            Self::UnknownUser => "unknown user",
            Self::MissingFields => "fields of a request missing",
        }
    }
}

#[derive(Debug)]
struct AccessLogRule {
    kind: String,
    path: Regex,
}

/// Source of a value in a line.
#[derive(Debug)]
enum LogFieldSelector {
    Cookie(String),
    Field(String),
    Address,
}

/// Parses the lines of an access log into events.
#[derive(Debug)]
pub struct AccessLogParser {
    format: AccessLogFormat,
    rules: Vec<AccessLogRule>,
    user_source: LogFieldSelector,
    methods: Vec<String>,
    statuses: RangeInclusive<u16>,
    keep_bots: bool,
    consent_source: Option<LogFieldSelector>,
    key: [u8; 16],
    validation: ValidationRules,
}

fn compile_regex(text: &str) -> Result<Regex, AccessLogError> {
    Regex::new(text).map_err(|source| AccessLogError::Regex { text: text.to_owned(), source: Box::new(source) })
}

impl AccessLogParser {
    /// Creates a parser. `key` is the key of the digest that replaces addresses by pseudonyms;
    /// `validation` checks every event.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub fn new(
        settings: &AccessLogSettings,
        key: [u8; 16],
        validation: ValidationRules,
    ) -> Result<Self, AccessLogError> {
        let rules: Vec<_> =
            settings.rules.iter().map(|text| AccessLogRule::new(text, &validation)).collect::<Result<_, _>>()?;
        if rules.is_empty() {
            return Err(AccessLogError::NoRules);
        }
        let selector = |text: &str| match text.split_once(':') {
            Some(("cookie", name)) => Some(LogFieldSelector::Cookie(name.to_owned())),
            Some(("field", name)) => Some(LogFieldSelector::Field(name.to_owned())),
            _ => None,
        };
        let user_source = selector(&settings.user)
            .or_else(|| (settings.user == "address").then_some(LogFieldSelector::Address))
            .ok_or_else(|| AccessLogError::UserSyntax(settings.user.clone()))?;
        let consent_source = settings
            .consent
            .as_deref()
            .map(|text| selector(text).ok_or_else(|| AccessLogError::ConsentSyntax(text.to_owned())))
            .transpose()?;
        let format = AccessLogFormat::new(&settings.format, &settings.fields)?;
        Ok(Self {
            format,
            rules,
            user_source,
            methods: settings.methods.clone(),
            statuses: settings.statuses.clone(),
            keep_bots: settings.keep_bots,
            consent_source,
            key,
            validation,
        })
    }

    /// Lists the required fields of a JSON log, each with the names that the parser accepts for it.
    #[must_use]
    pub fn expected_json_fields() -> String {
        expected_json_fields()
    }

    /// Parses a line. If the line is an event, `event_id` becomes its id. Timestamps more than a
    /// day after `received_at` are rejected.
    ///
    /// # Errors
    /// If the line does not match the format, or its event breaks a validation rule. The caller
    /// adds the line number to the error.
    pub fn parse_line(
        &self,
        line: &[u8],
        event_id: &str,
        received_at: Timestamp,
    ) -> Result<AccessLogOutcome, ValidationError> {
        let line = std::str::from_utf8(line)
            .map_err(|_| ValidationError::new(None, ValidationErrorCode::NotUtf8, "the line is not UTF-8"))?;
        let fields = self.format.parse(line)?;
        if fields.missing_field().is_some() {
            return Ok(AccessLogOutcome::Skipped(SkipReason::MissingFields));
        }
        let Some((method, path)) = fields.method_and_path() else {
            return Ok(AccessLogOutcome::Skipped(SkipReason::IneligibleRequest));
        };
        if let Some(reason) = self.exclusion_reason(&fields, &method) {
            return Ok(AccessLogOutcome::Skipped(reason));
        }
        let Some((rule, captures)) = self.rules.iter().find_map(|rule| Some((rule, rule.path.captures(&path)?))) else {
            return Ok(AccessLogOutcome::Skipped(SkipReason::NoMatchingRule));
        };
        let group = |name: &str| {
            captures
                .name(name)
                .map(|text| percent_decode_str(text.as_str()).decode_utf8_lossy())
                .filter(|text| !text.is_empty())
        };
        let Some(user) = group("user").or_else(|| self.user_id(&fields)) else {
            return Ok(AccessLogOutcome::Skipped(SkipReason::UnknownUser));
        };
        let value = group("value").map(|value| {
            value
                .parse()
                .map_err(|_| ValidationError::new("value", ValidationErrorCode::WrongType, "`value` must be a number"))
        });
        // HTML forms encode a space in a query as a plus.
        let query = captures.name("query").map(|text| text.as_str().replace('+', " "));
        let query = query.as_deref().map(|text| percent_decode_str(text).decode_utf8_lossy());
        let time = fields
            .get("time")
            .ok_or_else(|| ValidationError::new("timestamp", ValidationErrorCode::Missing, "the line has no time"))?;
        let raw = RawEvent {
            event_id: Some(event_id.into()),
            user_id: Some(user),
            session_id: None,
            kind: Some(rule.kind.as_str().into()),
            item_id: group("item"),
            value: value.transpose()?,
            timestamp: Some(timestamp::from_access_log(&time)?),
            properties: query.map(|query| serde_json::json!({ "query": query }).to_string().into()),
            consent: self.consent_source.as_ref().and_then(|source| source.selected_value(&fields)),
            ..RawEvent::default()
        };
        self.validation.validate_event(raw, received_at).map(AccessLogOutcome::Event)
    }

    /// The reason why the settings exclude a request, or `None` if they admit it.
    fn exclusion_reason(&self, fields: &LogFields<'_>, method: &str) -> Option<SkipReason> {
        let status = fields.get("status").and_then(|status| status.parse().ok()).unwrap_or(0);
        if !self.methods.iter().any(|admitted| admitted == method) || !self.statuses.contains(&status) {
            return Some(SkipReason::IneligibleRequest);
        }
        let agent = fields.get("agent").unwrap_or_default().to_ascii_lowercase();
        (!self.keep_bots && BOT_MARKERS.iter().any(|marker| agent.contains(marker))).then_some(SkipReason::Bot)
    }

    /// The user id: the configured field, or else a pseudonym derived from address and user agent.
    fn user_id<'p>(&self, fields: &'p LogFields<'_>) -> Option<Cow<'p, str>> {
        self.user_source.selected_value(fields).or_else(|| {
            let (address, agent) = (fields.get("address")?, fields.get("agent").unwrap_or_default());
            Some(KeyedDigest::hex_digest_of_parts(&self.key, &[address.as_bytes(), agent.as_bytes()]).into())
        })
    }
}

impl LogFieldSelector {
    /// The value that the selector reads from a line.
    fn selected_value<'p>(&self, fields: &'p LogFields<'_>) -> Option<Cow<'p, str>> {
        match self {
            Self::Cookie(name) => fields.cookie_value(name),
            Self::Field(name) => fields.field_by_log_name(name),
            Self::Address => None,
        }
    }
}

impl AccessLogRule {
    fn new(text: &str, validation: &ValidationRules) -> Result<Self, AccessLogError> {
        let (name, path) = text.split_once('=').ok_or_else(|| AccessLogError::RuleSyntax(text.to_owned()))?;
        let kind = EventKind::from_name(name);
        if validation.kinds.id_of(&kind).is_none() {
            let known: Vec<_> = validation.kinds.names().collect();
            return Err(AccessLogError::UnknownKind { kind: name.to_owned(), known: known.join(", ") });
        }
        let path = compile_regex(path)?;
        let has_item = path.capture_names().flatten().any(|group| group == "item");
        if !has_item && kind != EventKind::Search {
            Err(AccessLogError::RuleWithoutItem(text.to_owned()))
        } else {
            Ok(Self { kind: name.to_owned(), path })
        }
    }
}

#[cfg(test)]
mod tests;
