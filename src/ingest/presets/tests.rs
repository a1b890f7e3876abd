//! The presets on the sample files in `examples/feeds`, and on broken records.

use super::{EventPreset, Preset, PresetEventReader, PresetItemReader, SkippedEvents};
use crate::domain::{AttributeView, Event, Item, ItemChange, ItemOperation, Timestamp};
use crate::ingest::{ValidationError, ValidationErrorCode, ValidationRules};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// 2026-03-03T00:00:00Z, a day after the events of the samples.
const NOW: Timestamp = 1_772_496_000_000;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/feeds").join(name)
}

/// Writes a file and passes its path to `read`.
fn with_file<T>(name: &str, text: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    read(&file)
}

/// Kind, user, item, value and quantity of an event.
type EventRow<'e> = (&'e str, &'e str, &'e str, Option<f32>, Option<u32>);

#[derive(Default)]
struct ReadEvents {
    /// The line and the event.
    events: Vec<(u64, Event)>,
    errors: Vec<ValidationError>,
    skipped: SkippedEvents,
}

impl ReadEvents {
    fn of_file(preset: Preset, kinds: &[(&str, &str)], file: &Path) -> Self {
        let kinds: Vec<_> = kinds.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
        let (preset, rules) = (EventPreset::new(preset, &kinds).unwrap(), ValidationRules::default());
        let mut reader = PresetEventReader::open(file, preset, &rules, NOW).unwrap();
        let mut read = Self::default();
        while let Some(record) = reader.next() {
            let line = reader.line_number();
            match record.unwrap() {
                Ok(record) => read.events.extend(record.events.into_iter().map(|event| (line, event.value))),
                Err(error) => read.errors.push(error),
            }
        }
        read.skipped = reader.skipped().clone();
        read
    }

    fn of_text(preset: Preset, text: &str) -> Self {
        with_file("events.json", text.as_bytes(), |file| Self::of_file(preset, &[], file))
    }

    fn rows(&self) -> Vec<EventRow<'_>> {
        let mut rows = Vec::new();
        for (_, event) in &self.events {
            let quantity = event.details.as_ref().and_then(|details| details.quantity);
            let item = event.item_id.as_deref().unwrap_or("-");
            rows.push((event.kind.name(), event.user_id.as_str(), item, event.value, quantity));
        }
        rows
    }

    fn ids(&self) -> Vec<&str> {
        self.events.iter().map(|(_, event)| event.event_id.as_deref().unwrap()).collect()
    }

    fn error_codes(&self) -> Vec<(Option<u64>, Option<&str>, ValidationErrorCode)> {
        self.errors.iter().map(|error| (error.line, error.field, error.code)).collect()
    }
}

fn counts(names: &[(&str, u64)]) -> BTreeMap<String, u64> {
    names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn ga4_sample() {
    let read = ReadEvents::of_file(Preset::Ga4, &[("quick_look", "click")], &sample("ga4-events.jsonl"));
    let (ann, bob, customer) = ("811.1772445598", "924.1772440001", "customer-17");
    let order =
        [("purchase", customer, "cup-blue", Some(9.0), Some(2)), ("purchase", customer, "tea-100", Some(4.5), Some(1))];
    let expected = [
        ("view", ann, "tea-100", None, None),
        ("click", ann, "cup-blue", None, None),
        ("cart", ann, "cup-blue", None, Some(2)),
        order[0],
        order[1],
        order[0],
        order[1],
        ("search", bob, "-", None, None),
        ("click", bob, "pot-1l", None, None),
        ("like", bob, "pot-1l", None, None),
        ("dismiss", bob, "tea-100", None, Some(1)),
    ];
    assert_eq!((read.rows(), read.errors.len()), (expected.to_vec(), 0));
    // The order was reported twice and counts once.
    assert_eq!(
        read.ids()[3..7],
        ["ga4/order/T-1001/0", "ga4/order/T-1001/1", "ga4/order/T-1001/0", "ga4/order/T-1001/1"]
    );
    assert_eq!(read.ids().into_iter().collect::<BTreeSet<_>>().len(), 9);
    let view = &read.events[0].1;
    assert_eq!((view.timestamp, view.session_id.as_deref()), (1_772_445_602_000, Some("1772445598")));
    let details = read.events[3].1.details.as_ref().unwrap();
    assert_eq!(details.currency.as_deref(), Some("EUR"));
    assert_eq!(read.events[7].1.properties.as_deref(), Some(r#"{"query":"teapot"}"#));
    assert_eq!(read.skipped.ignored, counts(&[("page_view", 1), ("session_start", 1), ("view_item_list", 1)]));
    let unmapped = ReadEvents::of_file(Preset::Ga4, &[], &sample("ga4-events.jsonl")).skipped.unmapped;
    assert_eq!(unmapped, counts(&[("quick_look", 1)]));
}

#[test]
fn ga4_errors_name_line_and_product() {
    let event = |fields: &str| format!("{{\"event_name\":\"view_item\",\"user_pseudo_id\":\"u\"{fields}}}\n");
    let at = ",\"event_timestamp\":\"1772445600000000\"";
    let text = [
        event(&format!("{at},\"items\":[{{\"item_id\":\"a\"}},{{\"item_id\":\"(not set)\"}},7,{{\"item_id\":\"b\"}}]")),
        "{\"event_name\":\"view_item\"\n".to_owned(),
        event(",\"items\":[{\"item_id\":\"a\"}]"),
        event(",\"event_timestamp\":\"soon\",\"items\":[{\"item_id\":\"a\"}]"),
        format!("{{\"event_name\":\"view_item\"{at},\"items\":[{{\"item_id\":\"a\"}}]}}\n"),
        event(at),
    ];
    let read = ReadEvents::of_text(Preset::Ga4, &text.concat());
    assert_eq!(read.rows().iter().map(|row| row.2).collect::<Vec<_>>(), ["a", "b"]);
    use ValidationErrorCode::{BadTimestamp, Missing, Syntax, WrongType};
    let expected = [
        (Some(1), Some("item_id"), Missing),
        (Some(1), Some("products"), WrongType),
        (Some(2), None, Syntax),
        (Some(3), Some("event_timestamp"), Missing),
        (Some(4), Some("event_timestamp"), BadTimestamp),
        (Some(5), Some("user_pseudo_id"), Missing),
        (Some(6), Some("item_id"), Missing),
    ];
    assert_eq!(read.error_codes(), expected);
    assert!(read.errors[0].reason.starts_with("product 2 of the event: "), "{}", read.errors[0].reason);
}

#[test]
fn matomo_sample() {
    let kinds = [("event:Add to wishlist", "like")];
    let read = ReadEvents::of_file(Preset::Matomo, &kinds, &sample("matomo-visits.json"));
    let (visitor, customer) = ("3fe21b09ac77d0e1", "customer-17");
    let expected = [
        ("search", visitor, "-", None, None),
        ("view", visitor, "pot-1l", None, None),
        ("like", visitor, "pot-1l", None, None),
        ("cart", visitor, "pot-1l", None, Some(1)),
        ("view", customer, "tea-100", None, None),
        ("purchase", customer, "cup-blue", Some(9.0), Some(2)),
        ("purchase", customer, "tea-100", Some(4.5), Some(1)),
    ];
    assert_eq!((read.rows(), read.errors.len()), (expected.to_vec(), 0));
    let ids = [
        "matomo/1/5102/88102",
        "matomo/1/5102/88103",
        "matomo/1/5102/88104",
        "matomo/1/5102/at/4/0",
        "matomo/1/5101/88090",
        "matomo/1/order/T-1001/0",
        "matomo/1/order/T-1001/1",
    ];
    assert_eq!(read.ids(), ids);
    assert_eq!((read.events[0].1.timestamp, read.events[0].1.session_id.as_deref()), (1_772_445_612_000, Some("5102")));
    assert_eq!(read.skipped.ignored, counts(&[("action", 1), ("goal", 1), ("outlink", 1)]));
    let unmapped = ReadEvents::of_file(Preset::Matomo, &[], &sample("matomo-visits.json")).skipped.unmapped;
    assert_eq!(unmapped, counts(&[("event:Add to wishlist", 1)]));
}

#[test]
fn matomo_errors_name_line_and_action() {
    let visit = |actions: &str| format!("{{\"idVisit\":1,\"visitorId\":\"v\",\"actionDetails\":[{actions}]}}");
    let search = "{\"type\":\"search\",\"timestamp\":1772445612}";
    let undated = visit(&format!("{{\"type\":\"search\"}},{search}"));
    let text = format!("[{undated},\n7,\n{{\"result\":\"error\"}},\n{},\n{}", visit(search), "{\"idVisit\":3");
    let read = ReadEvents::of_text(Preset::Matomo, &text);
    assert_eq!(read.events.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 4]);
    use ValidationErrorCode::{Missing, Syntax, WrongType};
    let expected = [
        (Some(1), Some("timestamp"), Missing),
        (Some(2), None, WrongType),
        (Some(3), Some("result"), WrongType),
        (Some(5), None, Syntax),
    ];
    assert_eq!(read.error_codes(), expected);
    assert!(read.errors[0].reason.starts_with("action 1 of the visit: "), "{}", read.errors[0].reason);
    // The same visits as JSON lines.
    let lines = format!("{}\n{}\n", visit(search), visit(search));
    assert_eq!(ReadEvents::of_text(Preset::Matomo, &lines).rows().len(), 2);
}

#[test]
fn posthog_sample() {
    let read = ReadEvents::of_file(Preset::Posthog, &[], &sample("posthog-events.jsonl"));
    let user = "visitor-4";
    let expected = [
        ("search", user, "-", None, None),
        ("view", user, "cup-blue", None, None),
        ("cart", user, "cup-blue", None, Some(2)),
        ("purchase", user, "cup-blue", Some(9.0), Some(2)),
        ("purchase", user, "tea-100", Some(4.5), Some(1)),
    ];
    assert_eq!((read.rows(), read.errors.len()), (expected.to_vec(), 0));
    assert_eq!(read.ids()[4], "posthog/0195a1c0-0000-7000-8000-000000000005/1");
    // Expected: date -u -d '2026-03-02 10:00:05' +%s gives 1772445605.
    assert_eq!(read.events[0].1.timestamp, 1_772_445_605_120);
    assert_eq!(read.events[0].1.session_id.as_deref(), Some("0195-visitor-4"));
    assert_eq!(read.skipped.ignored, counts(&[("$autocapture", 1), ("$pageview", 1)]));
    assert_eq!(read.skipped.unmapped, counts(&[("brewing guide opened", 1)]));
    let broken = "{\"uuid\":\"1\",\"event\":\"Product Viewed\",\"distinct_id\":\"u\",\"timestamp\":\"2026-03-02 10:00:00\",\"properties\":\"{\"}\n\
        {\"event\":\"Product Viewed\",\"distinct_id\":\"u\",\"timestamp\":\"2026-03-02 10:00:00\"}\n[]\n";
    use ValidationErrorCode::{Missing, Syntax, WrongType};
    let expected =
        [(Some(1), Some("properties"), Syntax), (Some(2), Some("uuid"), Missing), (Some(3), None, WrongType)];
    assert_eq!(ReadEvents::of_text(Preset::Posthog, broken).error_codes(), expected);
}

#[test]
fn snowplow_sample() {
    let kinds = [("struct:quick look", "view")];
    let read = ReadEvents::of_file(Preset::Snowplow, &kinds, &sample("snowplow-enriched.tsv"));
    let user = "b3a1c0de-1111-4222-8333-444455556666";
    let expected = [
        ("search", user, "-", None, None),
        ("click", user, "tea-100", None, None),
        ("view", user, "tea-100", None, None),
        ("cart", user, "tea-100", None, Some(2)),
        ("view", user, "cup-blue", None, None),
        ("purchase", "customer-17", "tea-100", Some(4.5), Some(2)),
    ];
    assert_eq!((read.rows(), read.errors.len()), (expected.to_vec(), 0));
    let ids = [
        "snowplow/5c1f3b2e-0000-4000-8000-000000000002",
        "snowplow/5c1f3b2e-0000-4000-8000-000000000004/0",
        "snowplow/5c1f3b2e-0000-4000-8000-000000000005/0",
        "snowplow/5c1f3b2e-0000-4000-8000-000000000007/0",
        "snowplow/5c1f3b2e-0000-4000-8000-000000000008",
        "snowplow/tea-shop/order/T-1003/0",
    ];
    assert_eq!(read.ids(), ids);
    assert_eq!(read.events[0].1.properties.as_deref(), Some(r#"{"query":"green tea"}"#));
    assert_eq!(read.events[0].1.timestamp, 1_772_445_604_150);
    assert_eq!(read.skipped.ignored, counts(&[("list_view", 1), ("page_ping", 1), ("page_view", 1)]));
    let unmapped = ReadEvents::of_file(Preset::Snowplow, &[], &sample("snowplow-enriched.tsv")).skipped.unmapped;
    assert_eq!(unmapped, counts(&[("struct:quick look", 1)]));
}

#[test]
fn snowplow_rows_that_are_cut_off_or_not_json_are_rejected() {
    let text = std::fs::read_to_string(sample("snowplow-enriched.tsv")).unwrap();
    let rows: Vec<_> = text.lines().collect();
    let (cut, broken) = (&rows[4][..rows[4].len() / 2], rows[4].replace("{\"type\"", "{type"));
    let read = ReadEvents::of_text(Preset::Snowplow, &format!("{cut}\n{broken}\n{}\n", rows[4]));
    use ValidationErrorCode::{Missing, Syntax};
    assert_eq!(read.error_codes(), [(Some(1), None, Missing), (Some(2), Some("unstruct_event"), Syntax)]);
    assert_eq!(read.rows().len(), 1);
}

/// The changes of a file, and its errors.
fn read_items(preset: Preset, file: &Path) -> (Vec<ItemChange>, Vec<ValidationError>) {
    let reader = PresetItemReader::open(file, preset, None, NOW).unwrap();
    let (mut changes, mut errors) = (Vec::new(), Vec::new());
    for change in reader {
        match change.unwrap() {
            Ok(change) => changes.push(change),
            Err(error) => errors.push(error),
        }
    }
    (changes, errors)
}

fn item(change: &ItemChange) -> (&str, &Item) {
    match &change.operation {
        ItemOperation::Put(item) => (change.item_id.as_str(), item),
        other => panic!("{other:?}"),
    }
}

/// Title, address and image of an item.
fn details(item: &Item) -> [Option<&str>; 3] {
    let details = item.details.as_ref().unwrap();
    [details.title.as_deref(), details.url.as_deref(), details.image.as_deref()]
}

fn attribute<'i>(item: &'i Item, name: &str) -> Option<AttributeView<'i>> {
    item.details.as_ref().unwrap().attributes.get(name)
}

#[test]
fn google_merchant_samples() {
    let (changes, errors) = read_items(Preset::GoogleMerchant, &sample("google-merchant.xml"));
    assert_eq!((changes.len(), errors.len()), (3, 0));
    let (id, tea) = item(&changes[0]);
    assert_eq!((id, tea.price, tea.available, tea.brand.as_deref()), ("tea-100", Some(4.5), true, Some("Leaf & Co")));
    assert_eq!(tea.categories, ["Drinks", "Tea", "Green tea"]);
    let expected = [
        Some("Green tea <100 g>"),
        Some("https://tea.example/green-tea?size=100&ref=feed"),
        Some("https://cdn.tea.example/tea-100.jpg"),
    ];
    assert_eq!(details(tea), expected);
    assert_eq!(attribute(tea, "sale_price"), Some(AttributeView::Number(3.9)));
    assert_eq!(attribute(tea, "currency"), Some(AttributeView::Text("EUR")));
    let (_, cup) = item(&changes[1]);
    assert_eq!((cup.available, attribute(cup, "color")), (false, Some(AttributeView::Text("blue"))));
    assert_eq!(cup.categories, ["Home & Garden", "Kitchen & Dining", "Cups"]);
    let (_, pot) = item(&changes[2]);
    // Expected: date -u -d '2031-06-30 10:00:00' +%s gives 1940580000.
    assert_eq!((pot.expires, details(pot)[0]), (Some(1_940_580_000_000), Some("Teapot 1\u{a0}l")));

    let (changes, errors) = read_items(Preset::GoogleMerchant, &sample("google-merchant-atom.xml"));
    let (id, tea) = item(&changes[0]);
    assert_eq!((id, changes.len(), errors.len()), ("tea-100", 1, 0));
    assert_eq!(details(tea)[1], Some("https://tea.example/green-tea"));

    let (changes, errors) = read_items(Preset::GoogleMerchant, &sample("google-merchant.tsv"));
    let (id, cup) = item(&changes[1]);
    assert_eq!((id, changes.len(), errors.len()), ("cup-blue", 2, 0));
    assert_eq!((details(cup)[0], cup.available), (Some("Cup, \"blue\""), false));
}

#[test]
fn google_merchant_errors_name_the_line_of_the_product() {
    let feed = "<rss><channel>\n<item><id>a</id></item>\n<item>\n<title>no id</title></item>\n\
        <item><id>b</id><price>cheap</price></item>\n<item><id>c</id><availability>maybe</availability></item></channel></rss>";
    let (changes, errors) = with_file("feed.xml", feed.as_bytes(), |file| read_items(Preset::GoogleMerchant, file));
    assert_eq!(changes.len(), 1);
    let found: Vec<_> = errors.iter().map(|error| (error.line, error.field)).collect();
    assert_eq!(found, [(Some(3), Some("id")), (Some(5), Some("price")), (Some(6), Some("availability"))]);
    for (broken, reason) in [
        ("<rss><channel><item><id>a</id></item>\n<item><id>b</item></channel></rss>", "not well-formed XML"),
        ("<rss><channel><item><id>a</id></item>\n<item><id>b</id>", "truncated"),
        (
            &format!("<rss><channel><item><id>a</id></item>\n<item><id>{}", "b".repeat(5_000_000)),
            "more than 4194304 bytes",
        ),
    ] {
        let outcomes = with_file("feed.xml", broken.as_bytes(), |file| {
            PresetItemReader::open(file, Preset::GoogleMerchant, None, NOW).unwrap().collect::<Vec<_>>()
        });
        assert_eq!(outcomes.len(), 2, "{reason}");
        let error = outcomes[1].as_ref().unwrap_err();
        let source = std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
        assert!(format!("{error} {source}").contains(reason), "{error} {source}");
    }
    let missing = with_file("feed.tsv", b"title\tlink\n", |file| {
        PresetItemReader::open(file, Preset::GoogleMerchant, None, NOW).unwrap_err().to_string()
    });
    assert!(missing.contains("the header lacks the column `id`"), "{missing}");
}

#[test]
fn shopify_sample() {
    let file = sample("shopify-products.csv");
    let (changes, errors) = read_items(Preset::Shopify, &file);
    assert_eq!((changes.len(), errors.len()), (3, 0));
    let (id, tea) = item(&changes[0]);
    assert_eq!((id, tea.price, tea.available, tea.brand.as_deref()), ("green-tea", Some(2.9), true, Some("Leaf & Co")));
    assert_eq!(tea.categories, ["Food, Beverages & Tobacco", "Beverages", "Tea"]);
    assert_eq!(tea.tags, ["green", "organic", "new"]);
    assert_eq!(details(tea), [Some("Green tea"), None, Some("https://cdn.tea.example/tea.jpg")]);
    assert_eq!(attribute(tea, "sku"), Some(AttributeView::Text("tea-100")));
    let available: Vec<_> = changes.iter().map(|change| item(change).1.available).collect();
    assert_eq!(available, [true, false, false], "the second is sold out, the third is a draft");

    // A row without a handle belongs to no product. Further rows do not complete a product whose first
    // row is invalid: only that row has its fields.
    let text = "Handle,Title,Variant Price\n,Nameless,1\na,A,4\na,,dear\na,,3\nb,B\n,Other,2\nc,C,-8\nc,,7\n";
    let (changes, errors) = with_file("a.csv", text.as_bytes(), |file| read_items(Preset::Shopify, file));
    assert_eq!(
        changes.iter().map(|change| (item(change).0, item(change).1.price)).collect::<Vec<_>>(),
        [("a", Some(3.0))]
    );
    let found: Vec<_> = errors.iter().map(|error| (error.line, error.field)).collect();
    assert_eq!(
        found,
        [
            (Some(2), Some("Handle")),
            (Some(4), Some("Variant Price")),
            (Some(6), None),
            (Some(7), Some("Handle")),
            (Some(8), Some("Variant Price"))
        ]
    );
    // The names of the columns in newer exports.
    let text = "Title,URL handle,Product image URL,Price,Inventory tracker,Inventory quantity,Continue selling when out of stock,Status\n\
        Tea,tea,https://cdn.example/t.jpg,4.50,shopify,0,DENY,Active\nTea,tea,,5,shopify,0,CONTINUE,Active\n";
    let (changes, _) = with_file("a.csv", text.as_bytes(), |file| read_items(Preset::Shopify, file));
    let (id, tea) = item(&changes[0]);
    assert_eq!((id, tea.price, tea.available), ("tea", Some(4.5), true));
}

#[test]
fn woocommerce_sample() {
    let (changes, errors) = read_items(Preset::Woocommerce, &sample("woocommerce-products.csv"));
    assert_eq!((changes.len(), errors.len()), (6, 0));
    let (id, cup) = item(&changes[0]);
    assert_eq!((id, cup.price, cup.available, cup.brand.as_deref()), ("41", Some(9.0), true, Some("Clay")));
    assert_eq!(cup.categories, ["Kitchen", "Cups", "Gifts"]);
    assert_eq!(details(cup), [Some("Blue cup"), None, Some("https://tea.example/cup-1.jpg")]);
    assert_eq!(attribute(cup, "sale_price"), Some(AttributeView::Number(7.5)));
    assert_eq!(item(&changes[1]).1.price, None);
    let patches: Vec<_> = changes[2..4]
        .iter()
        .map(|change| match &change.operation {
            ItemOperation::Patch(patch) => (change.item_id.as_str(), patch.price.unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(patches, [("44", Some(4.5)), ("44", Some(2.9))]);
    assert_eq!([4, 5].map(|index: usize| item(&changes[index]).1.available), [false, false], "draft, hidden");

    let text = "ID,Type,SKU,Name,Regular price,Parent\n1,variation,x,X,4,missing\n2,simple,y,Y,free,\n,simple,z,Z,3,\n\
        4,variable,,W,,\n5,variation,v,V,3,id:4\n6,variation,u,U,5,id:4\n";
    let (changes, errors) = with_file("a.csv", text.as_bytes(), |file| read_items(Preset::Woocommerce, file));
    assert_eq!(changes.iter().map(|change| change.item_id.as_str()).collect::<Vec<_>>(), ["4", "4"]);
    let found: Vec<_> = errors.iter().map(|error| (error.line, error.field)).collect();
    assert_eq!(found, [(Some(2), Some("Parent")), (Some(3), Some("Regular price")), (Some(4), Some("ID"))]);
}
