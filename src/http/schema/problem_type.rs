//! The table of problem types. `docs/problems.md` describes every type.

use actix_web::http::StatusCode;
use serde::{Serialize, Serializer};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

/// The page that describes the types.
const DOCUMENTATION_PAGE: &str = "docs/problems.md";

macro_rules! problem_types {
    ($($variant:ident: $code:literal, $status:ident, $title:literal;)+) => {
        /// A type of problem (RFC 9457). The code, status and title of a type are part of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::http) enum ProblemType {
            $(#[doc = $title] $variant,)+
        }

        impl ProblemType {
            /// All types, in the order of the table.
            const ALL: &[Self] = &[$(Self::$variant),+];

            /// The last part of the member `type`.
            fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            /// The status of the response.
            pub(in crate::http) fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)+
                }
            }

            /// A short description of the type.
            pub(in crate::http) fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)+
                }
            }
        }
    };
}

problem_types! {
    MissingKey: "no-key", UNAUTHORIZED, "An API key is required";
    InvalidKey: "wrong-key", UNAUTHORIZED, "The API key is unknown";
    InsufficientScope: "other-scope", FORBIDDEN, "The API key lacks the required scope";
    InvalidBody: "bad-body", BAD_REQUEST, "The body cannot be read";
    BodyTimeout: "too-slow", REQUEST_TIMEOUT, "The body took too long";
    UnknownHost: "unknown-host", MISDIRECTED_REQUEST, "The host is unknown";
    CrossOrigin: "other-origin", FORBIDDEN, "The request comes from another origin";
    BodyTooLarge: "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    TooManyEvents: "too-many-events", PAYLOAD_TOO_LARGE, "Too many events in one request";
    TooManyItems: "too-many-items", PAYLOAD_TOO_LARGE, "Too many items in one request";
    InvalidItem: "bad-item", BAD_REQUEST, "The item is invalid";
    InvalidMessage: "bad-message", BAD_REQUEST, "The message is invalid";
    UnknownItem: "unknown-item", NOT_FOUND, "The item is unknown";
    UnsupportedMediaType: "unsupported-body", UNSUPPORTED_MEDIA_TYPE, "The body is not supported";
    OutOfRange: "out-of-range", BAD_REQUEST, "A parameter is out of range";
    InvalidParameter: "bad-parameter", BAD_REQUEST, "A parameter cannot be read";
    InvalidFilter: "bad-filter", BAD_REQUEST, "The filter cannot be read";
    UnknownRecommendation: "unknown-recommendation", NOT_FOUND, "The recommendation is unknown";
    UnknownUser: "unknown-user", NOT_FOUND, "The user is unknown";
    UnknownKey: "unknown-key", NOT_FOUND, "The API key does not exist";
    UnknownPlacement: "unknown-placement", NOT_FOUND, "The placement is unknown";
    UnknownRule: "unknown-rule", NOT_FOUND, "The rule is unknown";
    UnknownPath: "unknown-path", NOT_FOUND, "The path is unknown";
    Conflict: "not-done", CONFLICT, "The operation is not possible";
    MethodNotAllowed: "method-not-allowed", METHOD_NOT_ALLOWED, "The method is not allowed";
    AddressTooLong: "address-too-long", URI_TOO_LONG, "The URL is too long";
    TooManyRequests: "too-many-requests", TOO_MANY_REQUESTS, "Too many requests";
    OverCapacity: "over-capacity", SERVICE_UNAVAILABLE, "The service is at capacity";
    LearnerBehind: "learner-behind", SERVICE_UNAVAILABLE, "Learning cannot keep up";
    NotReady: "not-ready", SERVICE_UNAVAILABLE, "The service is not ready";
    OffsetNotReached: "not-yet", SERVICE_UNAVAILABLE, "The offset is not reached yet";
    DiskFull: "disk-full", SERVICE_UNAVAILABLE, "The disk is full";
    Internal: "internal", INTERNAL_SERVER_ERROR, "Internal error";
}

impl ProblemType {
    /// The member `type`: a path relative to the service.
    fn type_path(self) -> String {
        format!("/problems/{}", self.code())
    }

    /// The link to the description of the type, relative to the root of the repository.
    fn documentation_link(self) -> String {
        format!("{DOCUMENTATION_PAGE}#{}", self.code())
    }

    /// The schema of the member `type`. The extension `x-problem-types` links each type to its
    /// documentation.
    pub(in crate::http) fn schema() -> Schema {
        let links: serde_json::Map<_, _> =
            Self::ALL.iter().map(|one| (one.type_path(), one.documentation_link().into())).collect();
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("The kind of problem, as a path relative to the service."))
            .extensions(Some(Extensions::builder().add("x-problem-types", links).build()))
            .into()
    }
}

impl Serialize for ProblemType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.type_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique() {
        let codes: BTreeSet<_> = ProblemType::ALL.iter().map(|one| one.code()).collect();
        assert_eq!(codes.len(), ProblemType::ALL.len());
    }

    /// A row of the documentation page has the form `| anchor and code | status | title | cause and
    /// remedy |`.
    #[test]
    fn documentation_page_has_a_row_for_each_type() {
        let page =
            std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENTATION_PAGE)).unwrap();
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| <a id=")).collect();
        let expected: Vec<_> = ProblemType::ALL
            .iter()
            .map(|one| {
                format!("| <a id=\"{0}\"></a>`{0}` | {1} | {2} | ", one.code(), one.status().as_u16(), one.title())
            })
            .collect();
        assert_eq!(rows.len(), expected.len());
        for start in expected {
            assert!(rows.iter().any(|row| row.starts_with(&start)), "{DOCUMENTATION_PAGE} has no row `{start}`");
        }
    }
}
