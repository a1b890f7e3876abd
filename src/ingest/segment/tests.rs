use super::*;
use crate::domain::{Event, UserMerge};
use proptest::prelude::*;
use serde_json::json;

const NOW: Timestamp = 1_700_000_000_000;

fn one(message: Value) -> ParsedSegmentBatch {
    read_segment_batch(json!({ "batch": [message] }).to_string().as_bytes(), &ValidationRules::default(), NOW).unwrap()
}

fn events(messages: &ParsedSegmentBatch) -> Vec<&Event> {
    messages.entries.iter().filter_map(|said| said.value.as_event()).collect()
}

fn track(event: &str, properties: Value) -> Value {
    json!({ "type": "track", "userId": "ann", "event": event, "messageId": "m", "properties": properties })
}

#[test]
fn the_commerce_events_are_the_kinds_that_they_mean() {
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
        let read = one(track(name, json!({ "product_id": "tea", "rating": "4.5", "price": 3 })));
        let [event] = events(&read)[..] else { panic!("{name}: {read:?}") };
        assert_eq!((&event.kind, event.item_id.as_deref(), event.user_id.as_str()), (&kind, Some("tea"), "ann"), "{name}");
        assert_eq!(event.value, (kind == EventKind::Rate).then_some(4.5), "{name}");
        assert_eq!((event.event_id.as_deref(), event.timestamp), (Some("m"), NOW));
        assert!(event.properties.as_deref().unwrap().contains("rating"));
    }
    let read = one(track("Products Searched", json!({ "query": "green tea" })));
    assert_eq!((&events(&read)[0].kind, &events(&read)[0].item_id), (&EventKind::Search, &None));
    let read = one(track("Product List Viewed", json!({ "products": [{ "product_id": "tea" }] })));
    assert_eq!((read.entries.len(), read.ignored, read.accepted), (0, 1, 0));
}

#[test]
fn an_order_is_a_purchase_of_each_product() {
    let products = json!([{ "product_id": 7, "price": 2.5, "quantity": 3 }, { "sku": "S", "price": "4" }, { "id": "i" }]);
    let read = one(track("Order Completed", json!({ "order_id": "o", "products": products })));
    let found: Vec<_> = events(&read).into_iter().map(|event| (event.item_id.as_deref(), event.value, event.event_id.as_deref())).collect();
    assert_eq!(found, [(Some("7"), Some(7.5), Some("m/0")), (Some("S"), Some(4.0), Some("m/1")), (Some("i"), None, Some("m/2"))]);
    assert!(events(&read).iter().all(|event| event.kind == EventKind::Purchase));
    let torn = one(track("Order Completed", json!({ "products": [{ "product_id": "a" }, { "price": 3 }] })));
    assert_eq!((torn.entries.len(), torn.errors[0].field), (0, Some("product_id")), "all of a message or nothing");
}

#[test]
fn an_anonymous_visitor_has_a_session_and_a_clock() {
    let at = |sent: Option<&str>| {
        let mut message = json!({
            "type": "track", "userId": null, "anonymousId": "anon", "event": "Product Viewed", "timestamp": "2023-11-14T20:00:00Z",
            "context": { "sessionId": 17 }, "properties": { "product_id": "tea" },
        });
        if let Some(sent) = sent {
            message["sentAt"] = json!(sent);
        }
        let read = one(message);
        let event = events(&read)[0];
        assert_eq!((event.user_id.as_str(), event.session_id.as_deref()), ("anon", Some("17")));
        event.timestamp
    };
    // NOW is 22:13:20 of that day. What happened ten seconds before it was sent happened ten seconds before it arrived.
    assert_eq!(at(None), NOW - (2 * 3600 + 13 * 60 + 20) * 1000);
    assert_eq!(at(Some("2023-11-14T20:00:10Z")), NOW - 10_000);
    assert_eq!(at(Some("1999")), at(None), "what cannot be read corrects nothing");
}

#[test]
fn a_page_is_taken_only_if_the_mapping_says_so_and_it_shows_an_item() {
    let page = |item: Value| json!({ "type": "page", "anonymousId": "anon", "name": "Home", "properties": { "id": item } });
    assert_eq!(one(page(json!("tea"))).ignored, 1);
    let said = [("page", Some(EventKind::View)), ("Quick Look", Some(EventKind::Click)), ("Product Viewed", None)];
    let rules = ValidationRules { segment_events: SegmentEventMapping::with_overrides(said), ..ValidationRules::default() };
    let read = |message: Value| read_segment_batch(json!({ "batch": [message] }).to_string().as_bytes(), &rules, NOW).unwrap();
    assert_eq!(events(&read(page(json!("tea"))))[0].kind, EventKind::View);
    assert_eq!(read(page(Value::Null)).ignored, 1);
    assert_eq!(events(&read(track("Quick look", json!({ "product_id": "tea" }))))[0].kind, EventKind::Click);
    assert_eq!(read(track("Product Viewed", json!({ "product_id": "tea" }))).ignored, 1);
}

#[test]
fn a_fault_costs_only_its_own_message_and_speaks_its_words() {
    let good = track("Product Viewed", json!({ "product_id": "tea" }));
    let long = "x".repeat(300);
    let table = [
        (json!(7), None, ValidationErrorCode::WrongType),
        (json!({ "type": "trak" }), Some("type"), ValidationErrorCode::UnknownKind),
        (json!({ "userId": "ann" }), Some("type"), ValidationErrorCode::Missing),
        (json!({ "type": "track", "userId": "ann" }), Some("event"), ValidationErrorCode::Missing),
        (json!({ "type": "track", "event": "Product Viewed" }), Some("userId"), ValidationErrorCode::Missing),
        (json!({ "type": "track", "event": "Product Viewed", "userId": [] }), Some("userId"), ValidationErrorCode::WrongType),
        (
            json!({ "type": "track", "event": "Product Viewed", "userId": long, "properties": { "id": 1 } }),
            Some("userId"),
            ValidationErrorCode::TooLong,
        ),
        (track("Product Viewed", json!({})), Some("product_id"), ValidationErrorCode::Missing),
        (track("Product Viewed", json!([])), Some("properties"), ValidationErrorCode::WrongType),
        (track("Product Reviewed", json!({ "product_id": "tea", "rating": "good" })), Some("rating"), ValidationErrorCode::WrongType),
        (track("Order Completed", json!({ "products": [3] })), Some("products"), ValidationErrorCode::WrongType),
    ];
    for (bad, field, code) in table {
        let body = json!({ "batch": [good, bad, good] }).to_string();
        let read = read_segment_batch(body.as_bytes(), &ValidationRules::default(), NOW).unwrap();
        assert_eq!((read.entries.len(), read.accepted), (2, 2), "{body}");
        let [fault] = &read.errors[..] else { panic!("{body}") };
        assert_eq!((fault.index, fault.field, fault.code), (1, field, code), "{body}");
        assert!(!fault.reason.contains("user_id") && !fault.reason.contains("item_id"), "{}", fault.reason);
    }
}

#[test]
fn a_name_that_is_not_known_is_told() {
    let read = one(track("Moon Landed", json!({ "product_id": "tea" })));
    assert_eq!((read.entries.len(), read.errors.len(), read.unmapped.len()), (0, 0, 1));
    assert!(read.unmapped[0].reason.contains("`Moon Landed`"));
}

#[test]
fn bodies_that_are_none_and_too_much_are_refused_whole() {
    let rules = ValidationRules { max_events: 2, ..ValidationRules::default() };
    let refused = |body: &str| read_segment_batch(body.as_bytes(), &rules, NOW).unwrap_err();
    assert_eq!(refused(" "), BodyError::Empty { record: "message" });
    for body in ["{", "[]", "{}", r#"{"batch":{}}"#] {
        assert!(matches!(refused(body), BodyError::Unreadable { .. }), "{body}");
    }
    let good = track("Product Viewed", json!({ "product_id": "tea" }));
    let too_many = |record| BodyError::TooMany { record, records: 3, limit: 2 };
    assert_eq!(refused(&json!({ "batch": [good, good, good] }).to_string()), too_many("message"));
    let order = track("Order Completed", json!({ "products": [{ "id": 1 }, { "id": 2 }, { "id": 3 }] }));
    assert_eq!(refused(&json!({ "batch": [order] }).to_string()), too_many("event"));
    assert!(matches!(read_segment_call(b"[]", SegmentCall::Track, &rules, NOW), Err(BodyError::Unreadable { .. })));
    assert!(read_segment_call(good.to_string().as_bytes(), SegmentCall::Track, &rules, NOW).unwrap().errors.is_empty());
}

#[test]
fn properties_beyond_the_bounds_cost_the_event_nothing() {
    let read = one(track("Product Viewed", json!({ "product_id": "tea", "text": "x".repeat(20_000) })));
    assert_eq!(events(&read)[0].properties, None);
}

#[test]
fn consent_is_the_least_of_what_is_said() {
    let refusals = [("Functional", Consent::None), ("Personalization", Consent::Session)];
    let rules =
        ValidationRules { consent_if_refused: refusals.map(|(name, level)| (name.to_owned(), level)).into(), ..ValidationRules::default() };
    let read = |consent: Value| {
        let mut message = track("Product Viewed", json!({ "product_id": "tea" }));
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
    let fault = &read(json!({ "level": "ann@example.com" })).errors[0];
    assert_eq!((fault.field, fault.code), (Some("context.consent.level"), ValidationErrorCode::UnknownConsent));
    assert!(!fault.reason.contains("ann"), "{}", fault.reason);
}

#[test]
fn who_is_known_by_two_ids_is_one_user() {
    let merged = |message: Value| match &one(message.clone()).entries[..] {
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
    assert_eq!(one(json!({ "type": "alias", "userId": "ann" })).errors[0].field, Some("previousId"));
    let long = "x".repeat(300);
    assert_eq!(one(json!({ "type": "identify", "anonymousId": long, "userId": "ann" })).errors[0].field, Some("anonymousId"));
}

proptest! {
    #[test]
    fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_segment_batch(&body, &ValidationRules::default(), NOW);
        let _ = read_segment_call(&body, SegmentCall::Identify, &ValidationRules::default(), NOW);
    }
}
