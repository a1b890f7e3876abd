//! Log formats: split a line into named fields.

use super::{AccessLogError, compile_regex};
use crate::ingest::validation_error::{ValidationError, ValidationErrorCode};
use regex::{Captures, Regex};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The "combined" format of nginx and Apache. Sites can append fields to this format. The group
/// `rest` matches these fields, in which the parser also looks for cookies.
const COMBINED_FORMAT_REGEX: &str = r#"^(?P<address>\S+) \S+ (?P<remote_user>.*?) \[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) \S+(?: "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"(?P<rest>.*))?$"#;

/// The fields of a line, each with its common names in JSON logs. A name with dots is a path into
/// nested objects, as in the logs of Caddy.
const LOG_FIELD_NAMES: [(&str, &[&str]); 8] = [
    ("time", &["time", "time_iso8601", "time_local", "msec", "timestamp", "ts", "@timestamp"]),
    ("request", &["request"]),
    ("method", &["method", "request_method", "request.method"]),
    ("path", &["path", "request_uri", "uri", "url", "request.uri"]),
    ("status", &["status"]),
    ("agent", &["agent", "http_user_agent", "user_agent", "request.headers.User-Agent"]),
    ("address", &["address", "remote_addr", "client_ip", "remote_ip", "request.client_ip", "request.remote_ip"]),
    ("cookie", &["cookie", "http_cookie", "request.headers.Cookie"]),
];

/// How to split a line into fields.
#[derive(Debug)]
pub(super) enum AccessLogFormat {
    Text(Regex),
    /// The fields whose names differ from the usual ones, as (field, name in the log).
    Json(Vec<(String, String)>),
}

/// The fields of one line.
#[derive(Debug)]
pub(super) enum LogFields<'l> {
    Text(Captures<'l>),
    Json(Map<String, Value>, &'l [(String, String)]),
}

impl AccessLogFormat {
    pub(super) fn new(text: &str, fields: &[(String, String)]) -> Result<Self, AccessLogError> {
        if let Some((field, _)) =
            fields.iter().find(|(field, _)| !LOG_FIELD_NAMES.iter().any(|(known, _)| known == field))
        {
            return Err(AccessLogError::UnknownField(field.clone()));
        }
        match text {
            "json" => Ok(Self::Json(fields.to_vec())),
            "combined" => Ok(Self::Text(compile_regex(COMBINED_FORMAT_REGEX)?)),
            text => {
                let format = compile_regex(text)?;
                let has = |name: &str| format.capture_names().flatten().any(|group| group == name);
                let needed =
                    if has("request") { &["time", "status"][..] } else { &["time", "method", "path", "status"] };
                match needed.iter().find(|name| !has(name)) {
                    Some(name) => Err(AccessLogError::MissingGroup(name)),
                    None => Ok(Self::Text(format)),
                }
            }
        }
    }

    pub(super) fn parse<'l>(&'l self, line: &'l str) -> Result<LogFields<'l>, ValidationError> {
        match self {
            Self::Text(format) => format.captures(line).map(LogFields::Text).ok_or_else(|| {
                ValidationError::new(
                    None,
                    ValidationErrorCode::Syntax,
                    "the line is not in the log's format (--format)",
                )
            }),
            Self::Json(names) => match serde_json::from_str(line) {
                Ok(Value::Object(object)) => Ok(LogFields::Json(object, names)),
                Ok(_) => {
                    Err(ValidationError::new(None, ValidationErrorCode::WrongType, "the line is not a JSON object"))
                }
                Err(error) => {
                    Err(ValidationError::new(None, ValidationErrorCode::Syntax, format!("not JSON: {error}")))
                }
            },
        }
    }
}

/// The value of a member by its name, or by a path of names separated by dots.
fn nested_value<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    object.get(name).or_else(|| {
        let (outer, inner) = name.split_once('.')?;
        nested_value(object.get(outer)?.as_object()?, inner)
    })
}

/// Lists the accepted names of the required fields of a JSON log, for messages.
pub(super) fn expected_json_fields() -> String {
    let field = |(field, names): &(&str, &[&str])| format!("{field} ({})", names.join(", "));
    LOG_FIELD_NAMES
        .iter()
        .filter(|(field, _)| ["time", "request", "method", "path", "status"].contains(field))
        .map(field)
        .collect::<Vec<_>>()
        .join("; ")
}

impl LogFields<'_> {
    /// The value of one of [`LOG_FIELD_NAMES`], if the line has it.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let Self::Json(_, names) = self else { return self.field_by_log_name(name) };
        if let Some((_, renamed)) = names.iter().find(|(field, _)| field == name) {
            return self.field_by_log_name(renamed);
        }
        LOG_FIELD_NAMES.iter().find(|(field, _)| *field == name)?.1.iter().find_map(|name| self.field_by_log_name(name))
    }

    /// The value of a field by its name in the log; `None` if it is empty or `-`.
    pub(super) fn field_by_log_name(&self, name: &str) -> Option<Cow<'_, str>> {
        let text = match self {
            Self::Text(captures) => Cow::Borrowed(captures.name(name)?.as_str()),
            Self::Json(object, _) => match nested_value(object, name)? {
                Value::String(text) => Cow::Borrowed(text.as_str()),
                Value::Number(number) => Cow::Owned(number.to_string()),
                // Caddy logs a header as a list of its values.
                Value::Array(values) => Cow::Borrowed(values.first()?.as_str()?),
                _ => return None,
            },
        };
        (!text.is_empty() && text != "-").then_some(text)
    }

    /// The value of a cookie: from a field `cookie_NAME`, the `Cookie` header or `rest`.
    pub(super) fn cookie_value(&self, name: &str) -> Option<Cow<'_, str>> {
        let find = |header: &str| {
            let pairs = header.split([';', ' ', '"']).filter_map(|pair| pair.split_once('='));
            pairs
                .into_iter()
                .find(|(found, value)| *found == name && !value.is_empty())
                .map(|(_, value)| Cow::Owned(value.to_owned()))
        };
        self.field_by_log_name(&format!("cookie_{name}"))
            .or_else(|| find(&self.get("cookie").or_else(|| self.field_by_log_name("rest"))?))
    }

    /// The name of a required field that is missing in this line of a JSON log; `None` if all are
    /// present.
    pub(super) fn missing_field(&self) -> Option<&'static str> {
        let Self::Json(..) = self else { return None };
        let is_missing = |name: &&str| self.get(name).is_none();
        let request = if is_missing(&"request") { &["method", "path"][..] } else { &[] };
        request.iter().chain(&["status", "time"]).copied().find(is_missing)
    }

    /// Method and path; `None` if the line holds no HTTP request.
    pub(super) fn method_and_path(&self) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
        if let (Some(method), Some(path)) = (self.get("method"), self.get("path")) {
            return Some((method, path));
        }
        let request = self.get("request")?;
        let mut words = request.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        path.starts_with('/').then(|| (Cow::Owned(method.to_owned()), Cow::Owned(path.to_owned())))
    }
}
