use super::*;
use crate::domain::{Event, UserMerge};
use proptest::prelude::*;
use serde_json::json;

const NOW: Timestamp = 1_700_000_000_000;

fn read_single_message(message: Value) -> ParsedSegmentBatch {
    read_segment_batch(json!({ "batch": [message] }).to_string().as_bytes(), &ValidationRules::default(), NOW).unwrap()
}

fn parsed_events(messages: &ParsedSegmentBatch) -> Vec<&Event> {
    messages.entries.iter().filter_map(|entry| entry.value.as_event()).collect()
}

fn track_message(event: &str, properties: Value) -> Value {
    json!({ "type": "track", "userId": "ann", "event": event, "messageId": "m", "properties": properties })
}

#[test]
fn maps_commerce_events_to_kinds() {
    for (name, kind) in [
        ("Product Viewed", EventKind::View),
        ("product viewed", EventKind::View),
        ("Product Clicked", EventKind::Click),
        ("Product Added", EventKind::Cart),
        ("Product Added to Wishlist", EventKind::Like),
        ("Product Shared", EventKind::Share),
        ("Product Reviewed", EventKind::Rate),
        ("Product Removed", EventKind::Dismiss),
        ("Video Content Started", EventKind::Play),
    ] {
        let read =
            read_single_message(track_message(name, json!({ "product_id": "tea", "rating": "4.5", "price": 3 })));
        let [event] = parsed_events(&read)[..] else { panic!("{name}: {read:?}") };
        assert_eq!(
            (&event.kind, event.item_id.as_deref(), event.user_id.as_str()),
            (&kind, Some("tea"), "ann"),
            "{name}"
        );
        assert_eq!(event.value, (kind == EventKind::Rate).then_some(4.5), "{name}");
        assert_eq!((event.event_id.as_deref(), event.timestamp), (Some("m"), NOW));
        assert!(event.properties.as_deref().unwrap().contains("rating"));
    }
    let read = read_single_message(track_message("Products Searched", json!({ "query": "green tea" })));
    assert_eq!((&parsed_events(&read)[0].kind, &parsed_events(&read)[0].item_id), (&EventKind::Search, &None));
    let read =
        read_single_message(track_message("Product List Viewed", json!({ "products": [{ "product_id": "tea" }] })));
    assert_eq!((read.entries.len(), read.ignored, read.accepted), (0, 1, 0));
}

#[test]
fn order_yields_one_purchase_per_product() {
    let products =
        json!([{ "product_id": 7, "price": 2.5, "quantity": 3 }, { "sku": "S", "price": "4" }, { "id": "i" }]);
    let read = read_single_message(track_message("Order Completed", json!({ "order_id": "o", "products": products })));
    let found: Vec<_> = parsed_events(&read)
        .into_iter()
        .map(|event| (event.item_id.as_deref(), event.value, event.event_id.as_deref()))
        .collect();
    assert_eq!(
        found,
        [(Some("7"), Some(2.5), Some("m/0")), (Some("S"), Some(4.0), Some("m/1")), (Some("i"), None, Some("m/2"))]
    );
    assert!(parsed_events(&read).iter().all(|event| event.kind == EventKind::Purchase));
    let partial = read_single_message(track_message(
        "Order Completed",
        json!({ "products": [{ "product_id": "a" }, { "price": 3 }] }),
    ));
    assert_eq!(
        (partial.entries.len(), partial.errors[0].field),
        (0, Some("product_id")),
        "a message is accepted as a whole or not at all"
    );
}

#[test]
fn reads_anonymous_id_session_and_corrects_the_clock() {
    let at = |sent: Option<&str>| {
        let mut message = json!({
            "type": "track", "userId": null, "anonymousId": "anon", "event": "Product Viewed", "timestamp": "2023-11-14T20:00:00Z",
            "context": { "sessionId": 17 }, "properties": { "product_id": "tea" },
        });
        if let Some(sent) = sent {
            message["sentAt"] = json!(sent);
        }
        let read = read_single_message(message);
        let event = parsed_events(&read)[0];
        assert_eq!((event.user_id.as_str(), event.session_id.as_deref()), ("anon", Some("17")));
        event.timestamp
    };
    // `NOW` is 22:13:20 on the day of `sentAt`. An event ten seconds before `sentAt` happened ten
    // seconds before `NOW`.
    assert_eq!(at(None), NOW - (2 * 3600 + 13 * 60 + 20) * 1000);
    assert_eq!(at(Some("2023-11-14T20:00:10Z")), NOW - 10_000);
    assert_eq!(at(Some("1999")), at(None), "an unreadable `sentAt` is ignored");
}

#[test]
fn accepts_a_page_only_if_mapped_and_with_an_item() {
    let page =
        |item: Value| json!({ "type": "page", "anonymousId": "anon", "name": "Home", "properties": { "id": item } });
    assert_eq!(read_single_message(page(json!("tea"))).ignored, 1);
    let overrides = [("page", Some(EventKind::View)), ("Quick Look", Some(EventKind::Click)), ("Product Viewed", None)];
    let rules = ValidationRules {
        segment_events: SegmentEventMapping::with_overrides(overrides),
        ..ValidationRules::default()
    };
    let read =
        |message: Value| read_segment_batch(json!({ "batch": [message] }).to_string().as_bytes(), &rules, NOW).unwrap();
    assert_eq!(parsed_events(&read(page(json!("tea"))))[0].kind, EventKind::View);
    assert_eq!(read(page(Value::Null)).ignored, 1);
    assert_eq!(
        parsed_events(&read(track_message("Quick look", json!({ "product_id": "tea" }))))[0].kind,
        EventKind::Click
    );
    assert_eq!(read(track_message("Product Viewed", json!({ "product_id": "tea" }))).ignored, 1);
}

#[test]
fn error_rejects_only_its_own_message_and_uses_segment_names() {
    let good = track_message("Product Viewed", json!({ "product_id": "tea" }));
    let long = "x".repeat(300);
    let table = [
        (json!(7), None, ValidationErrorCode::WrongType),
        (json!({ "type": "trak" }), Some("type"), ValidationErrorCode::UnknownKind),
        (json!({ "userId": "ann" }), Some("type"), ValidationErrorCode::Missing),
        (json!({ "type": "track", "userId": "ann" }), Some("event"), ValidationErrorCode::Missing),
        (json!({ "type": "track", "event": "Product Viewed" }), Some("userId"), ValidationErrorCode::Missing),
        (
            json!({ "type": "track", "event": "Product Viewed", "userId": [] }),
            Some("userId"),
            ValidationErrorCode::WrongType,
        ),
        (
            json!({ "type": "track", "event": "Product Viewed", "userId": long, "properties": { "id": 1 } }),
            Some("userId"),
            ValidationErrorCode::TooLong,
        ),
        (track_message("Product Viewed", json!({})), Some("product_id"), ValidationErrorCode::Missing),
        (track_message("Product Viewed", json!([])), Some("properties"), ValidationErrorCode::WrongType),
        (
            track_message("Product Reviewed", json!({ "product_id": "tea", "rating": "good" })),
            Some("rating"),
            ValidationErrorCode::WrongType,
        ),
        (
            track_message("Order Completed", json!({ "products": [3] })),
            Some("products"),
            ValidationErrorCode::WrongType,
        ),
    ];
    for (bad, field, code) in table {
        let body = json!({ "batch": [good, bad, good] }).to_string();
        let read = read_segment_batch(body.as_bytes(), &ValidationRules::default(), NOW).unwrap();
        assert_eq!((read.entries.len(), read.accepted), (2, 2), "{body}");
        let [error] = &read.errors[..] else { panic!("{body}") };
        assert_eq!((error.index, error.field, error.code), (1, field, code), "{body}");
        assert!(!error.reason.contains("user_id") && !error.reason.contains("item_id"), "{}", error.reason);
    }
}

#[test]
fn reports_unmapped_event_names() {
    let read = read_single_message(track_message("Moon Landed", json!({ "product_id": "tea" })));
    assert_eq!((read.entries.len(), read.errors.len(), read.unmapped.len()), (0, 0, 1));
    assert!(read.unmapped[0].reason.contains("`Moon Landed`"));
}

#[test]
fn rejects_malformed_and_oversized_bodies_as_a_whole() {
    let rules = ValidationRules { max_events: 2, ..ValidationRules::default() };
    let error = |body: &str| read_segment_batch(body.as_bytes(), &rules, NOW).unwrap_err();
    assert_eq!(error(" "), BodyError::Empty { record: "message" });
    for body in ["{", "[]", "{}", r#"{"batch":{}}"#] {
        assert!(matches!(error(body), BodyError::Unreadable { .. }), "{body}");
    }
    let good = track_message("Product Viewed", json!({ "product_id": "tea" }));
    let too_many = |record| BodyError::TooMany { record, records: 3, limit: 2 };
    assert_eq!(error(&json!({ "batch": [good, good, good] }).to_string()), too_many("message"));
    let order = track_message("Order Completed", json!({ "products": [{ "id": 1 }, { "id": 2 }, { "id": 3 }] }));
    assert_eq!(error(&json!({ "batch": [order] }).to_string()), too_many("event"));
    assert!(matches!(read_segment_call(b"[]", SegmentCall::Track, &rules, NOW), Err(BodyError::Unreadable { .. })));
    assert!(read_segment_call(good.to_string().as_bytes(), SegmentCall::Track, &rules, NOW).unwrap().errors.is_empty());
}

#[test]
fn drops_oversized_properties_and_accepts_the_event() {
    let read = read_single_message(track_message(
        "Product Viewed",
        json!({ "product_id": "tea", "text": "x".repeat(20_000) }),
    ));
    assert_eq!(parsed_events(&read)[0].properties, None);
}

#[test]
fn consent_is_the_minimum_of_level_and_refusals() {
    let refusals = [("Functional", Consent::None), ("Personalization", Consent::Session)];
    let rules = ValidationRules {
        consent_if_refused: refusals.map(|(name, level)| (name.to_owned(), level)).into(),
        ..ValidationRules::default()
    };
    let read = |consent: Value| {
        let mut message = track_message("Product Viewed", json!({ "product_id": "tea" }));
        message["context"] = json!({ "consent": consent });
        read_segment_call(message.to_string().as_bytes(), SegmentCall::Track, &rules, NOW).unwrap()
    };
    let preferences = |pairs: Value| json!({ "categoryPreferences": pairs });
    for (consent, expected) in [
        (Value::Null, None),
        (json!({}), None),
        (preferences(json!({ "Functional": true, "Advertising": false })), None),
        (preferences(json!({ "Functional": true, "Personalization": false })), Some(Consent::Session)),
        (preferences(json!({ "Functional": false, "Personalization": false })), Some(Consent::None)),
        (json!({ "level": "full", "categoryPreferences": { "Personalization": false } }), Some(Consent::Session)),
        (json!({ "level": "none" }), Some(Consent::None)),
    ] {
        assert_eq!(read(consent.clone()).entries[0].consent, expected, "{consent}");
    }
    let error = &read(json!({ "level": "ann@example.com" })).errors[0];
    assert_eq!((error.field, error.code), (Some("context.consent.level"), ValidationErrorCode::UnknownConsent));
    assert!(!error.reason.contains("ann"), "{}", error.reason);
}

#[test]
fn identify_and_alias_merge_two_ids() {
    let merged = |message: Value| match &read_single_message(message.clone()).entries[..] {
        [WithConsent { value: Entry::Merge(UserMerge { from, into, timestamp }), .. }] if *timestamp == NOW => {
            Some((from.clone(), into.clone()))
        }
        [] => None,
        other => panic!("{message}: {other:?}"),
    };
    let two = Some(("a".to_owned(), "ann".to_owned()));
    assert_eq!(merged(json!({ "type": "identify", "anonymousId": "a", "userId": "ann", "traits": {} })), two);
    assert_eq!(merged(json!({ "type": "alias", "previousId": "a", "userId": "ann" })), two);
    assert_eq!(merged(json!({ "type": "identify", "userId": "ann" })), None);
    assert_eq!(merged(json!({ "type": "identify", "anonymousId": "ann", "userId": "ann" })), None);
    assert_eq!(read_single_message(json!({ "type": "alias", "userId": "ann" })).errors[0].field, Some("previousId"));
    let long = "x".repeat(300);
    assert_eq!(
        read_single_message(json!({ "type": "identify", "anonymousId": long, "userId": "ann" })).errors[0].field,
        Some("anonymousId")
    );
}

proptest! {
    #[test]
    fn parses_any_bytes_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_segment_batch(&body, &ValidationRules::default(), NOW);
        let _ = read_segment_call(&body, SegmentCall::Identify, &ValidationRules::default(), NOW);
    }
}
