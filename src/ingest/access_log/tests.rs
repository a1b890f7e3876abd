use super::*;
use crate::domain::Event;
use proptest::prelude::*;

const NOW: Timestamp = 1_700_000_000_000;
const FIREFOX_USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Firefox/115.0";

fn combined_log_settings() -> AccessLogSettings {
    AccessLogSettings {
        format: "combined".to_owned(),
        fields: Vec::new(),
        rules: vec![
            "cart=^/cart/add/(?P<item>[^/?]+)".to_owned(),
            "search=^/search\\?q=(?P<query>[^&]+)".to_owned(),
            "view=^/product/(?P<item>[^/?]+)".to_owned(),
        ],
        user: "address".to_owned(),
        methods: vec!["GET".to_owned()],
        statuses: 200..=399,
        keep_bots: false,
        consent: None,
    }
}

fn parser_with(settings: &AccessLogSettings) -> AccessLogParser {
    AccessLogParser::new(settings, [7; 16], ValidationRules::default()).unwrap()
}

fn combined_log_line(request: &str, status: u16, agent: &str, rest: &str) -> String {
    format!(r#"192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] "{request}" {status} 2326 "-" "{agent}"{rest}"#)
}

fn parse_event(parser: &AccessLogParser, line: &str) -> Event {
    match parser.parse_line(line.as_bytes(), "id", NOW).unwrap() {
        AccessLogOutcome::Event(event) => event.value,
        AccessLogOutcome::Skipped(reason) => panic!("{reason:?}: {line}"),
    }
}

fn parse_skip_reason(parser: &AccessLogParser, line: &str) -> SkipReason {
    match parser.parse_line(line.as_bytes(), "id", NOW).unwrap() {
        AccessLogOutcome::Skipped(reason) => reason,
        AccessLogOutcome::Event(event) => panic!("{event:?}"),
    }
}

#[test]
fn the_first_matching_rule_decides_the_event() {
    let log = parser_with(&combined_log_settings());
    let view = parse_event(
        &log,
        &combined_log_line("GET /product/gr%C3%BCner%20tee?ref=1 HTTP/1.1", 200, FIREFOX_USER_AGENT, ""),
    );
    assert_eq!(
        (view.kind, view.item_id.as_deref(), view.timestamp),
        (EventKind::View, Some("grüner tee"), 971_211_336_000)
    );
    let search = parse_event(
        &log,
        &combined_log_line("GET /search?q=green+tea%21&page=2 HTTP/1.1", 304, FIREFOX_USER_AGENT, ""),
    );
    assert_eq!(
        (search.kind, search.item_id, search.properties.as_deref()),
        (EventKind::Search, None, Some(r#"{"query":"green tea!"}"#))
    );
    assert_eq!(
        parse_skip_reason(&log, &combined_log_line("GET /about HTTP/1.1", 200, FIREFOX_USER_AGENT, "")),
        SkipReason::NoMatchingRule
    );
}

#[test]
fn skips_ineligible_requests_and_bots() {
    let log = parser_with(&combined_log_settings());
    for (request, status) in
        [("POST /product/1 HTTP/1.1", 200), ("GET /product/1 HTTP/1.1", 404), (r"\x16\x03\x01", 400), ("-", 408)]
    {
        assert_eq!(
            parse_skip_reason(&log, &combined_log_line(request, status, FIREFOX_USER_AGENT, "")),
            SkipReason::IneligibleRequest,
            "{request}"
        );
    }
    for agent in ["Mozilla/5.0 (compatible; Googlebot/2.1)", "curl/8.1", "python-requests/2.31"] {
        assert_eq!(
            parse_skip_reason(&log, &combined_log_line("GET /product/1 HTTP/1.1", 200, agent, "")),
            SkipReason::Bot,
            "{agent}"
        );
    }
    let kept = AccessLogSettings { keep_bots: true, ..combined_log_settings() };
    parse_event(&parser_with(&kept), &combined_log_line("GET /product/1 HTTP/1.1", 200, "curl/8.1", ""));
    let truncated = log.parse_line(b"192.0.2.7 - - [10/Oct", "id", NOW).unwrap_err();
    assert_eq!(truncated.code, ValidationErrorCode::Syntax);
}

#[test]
fn user_id_comes_from_cookie_field_or_pseudonym() {
    let request = "GET /product/1 HTTP/1.1";
    let by = |user: &str, line: &str| {
        parse_event(&parser_with(&AccessLogSettings { user: user.to_owned(), ..combined_log_settings() }), line).user_id
    };
    assert_eq!(
        by("cookie:uid", &combined_log_line(request, 200, FIREFOX_USER_AGENT, r#" "a=b; uid=ann; c=d""#)),
        "ann"
    );
    assert_eq!(
        by("field:remote_user", &combined_log_line(request, 200, FIREFOX_USER_AGENT, "").replace("- - [", "- bob [")),
        "bob"
    );
    let pseudonym = by("cookie:uid", &combined_log_line(request, 200, FIREFOX_USER_AGENT, ""));
    assert_eq!((pseudonym.len(), pseudonym.contains("192.0.2.7")), (32, false));
    assert_eq!(by("address", &combined_log_line(request, 200, FIREFOX_USER_AGENT, "")), pseudonym);
    assert_ne!(by("address", &combined_log_line(request, 200, "Another/1.0", "")), pseudonym);
    let other_key = AccessLogParser::new(&combined_log_settings(), [8; 16], ValidationRules::default()).unwrap();
    assert_ne!(parse_event(&other_key, &combined_log_line(request, 200, FIREFOX_USER_AGENT, "")).user_id, pseudonym);
}

#[test]
fn reads_json_and_custom_formats() {
    let json = parser_with(&AccessLogSettings {
        format: "json".to_owned(),
        fields: vec![("time".to_owned(), "when".to_owned())],
        user: "field:uid".to_owned(),
        ..combined_log_settings()
    });
    let seen = parse_event(
        &json,
        r#"{"when":971211336.25,"request":"GET /product/1 HTTP/2.0","status":200,"uid":17,"remote_addr":"::1"}"#,
    );
    assert_eq!((seen.user_id.as_str(), seen.timestamp), ("17", 971_211_336_250));
    assert_eq!(json.parse_line(b"[1]", "id", NOW).unwrap_err().code, ValidationErrorCode::WrongType);
    let custom = parser_with(&AccessLogSettings {
        format: r"^(?P<time>\S+) (?P<method>\S+) (?P<path>\S+) (?P<status>\d+) (?P<uid>\S+)$".to_owned(),
        user: "field:uid".to_owned(),
        ..combined_log_settings()
    });
    assert_eq!(parse_event(&custom, "2000-10-10T20:55:36Z GET /product/1 200 ann").timestamp, 971_211_336_000);
    assert_eq!(parse_skip_reason(&custom, "2000-10-10T20:55:36Z GET /product/1 200 -"), SkipReason::UnknownUser);
}

#[test]
fn rejects_invalid_settings() {
    let error = |change: fn(&mut AccessLogSettings)| {
        let mut settings = combined_log_settings();
        change(&mut settings);
        AccessLogParser::new(&settings, [0; 16], ValidationRules::default()).unwrap_err().to_string()
    };
    assert!(error(|settings| settings.rules.clear()).contains("no rule maps"));
    assert!(error(|settings| settings.rules = vec!["view=^/p/(".to_owned()]).contains("invalid regular expression"));
    assert!(
        error(|settings| settings.rules = vec!["glance=^/p/(?P<item>.)".to_owned()])
            .contains("unknown event kind `glance` in a rule; known kinds are view,")
    );
    assert!(error(|settings| settings.rules = vec!["view=^/p/".to_owned()]).contains("group named item"));
    assert!(error(|settings| settings.format = "(?P<time>.)".to_owned()).contains("no group `method`"));
    assert!(error(|settings| settings.user = "who".to_owned()).contains("cookie:NAME"));
    assert!(
        error(|settings| settings.fields = vec![("colour".to_owned(), "c".to_owned())])
            .contains("unknown log field `colour`")
    );
}

proptest! {
    #[test]
    fn parses_any_line_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parser_with(&combined_log_settings()).parse_line(&bytes, "id", NOW);
    }
}
