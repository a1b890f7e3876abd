use super::*;
use crate::domain::{EventDetails, EventKind, Impression, ImpressionItem, SourceName, UserErasure, UserMerge};
use crate::reports::ConversionTouch;
use proptest::prelude::*;

const MINUTE: Timestamp = 60_000;
const DAY: Timestamp = 24 * 60 * MINUTE;

fn impression(id: &str, user: &str, at: Timestamp, items: &[&str]) -> Entry {
    Entry::Impression(Impression {
        recommendation_id: id.to_owned(),
        user_id: user.to_owned(),
        timestamp: at,
        placement: (at >= DAY).then(|| "cart".to_owned()),
        items: items
            .iter()
            .map(|item| ImpressionItem {
                rules: if *item == "pot" { vec!["r1".to_owned(), "r2".to_owned()] } else { Vec::new() },
                ..ImpressionItem::new((*item).to_owned(), SourceName::Trending)
            })
            .collect(),
        ..Impression::default()
    })
}

fn event(user: &str, kind: &str, item: &str, at: Timestamp) -> Event {
    Event {
        event_id: None,
        user_id: user.to_owned(),
        session_id: None,
        kind: EventKind::from_name(kind),
        item_id: Some(item.to_owned()),
        value: None,
        timestamp: at,
        properties: None,
        details: None,
    }
}

fn purchase(user: &str, item: &str, at: Timestamp, value: f32, details: EventDetails) -> Entry {
    let bought = event(user, "purchase", item, at);
    Entry::Event(Event { value: Some(value), details: Some(Box::new(details)), ..bought })
}

fn report_by(entries: &[Entry], settings: AttributionSettings, group_by: GroupBy) -> AttributionReport {
    let mut fold = AttributionFold::new(settings, ReportWindow::default(), &[group_by]);
    entries.iter().for_each(|entry| fold.add_entry(entry));
    fold.into_report()
}

fn total(entries: &[Entry], settings: AttributionSettings) -> (u64, u64, u64) {
    let AttributionRow { impressions, clicks, conversions, .. } = report_by(entries, settings, GroupBy::Day).total;
    (impressions, clicks, conversions)
}

#[test]
fn a_purchase_counts_once_for_the_latest_clicked_impression() {
    let bought = EventDetails { currency: Some("EUR".to_owned()), quantity: Some(2), ..EventDetails::default() };
    let entries = [
        impression("a", "ann", 0, &["tea", "cup"]),
        Entry::Event(event("ann", "view", "tea", MINUTE)),
        impression("b", "ann", DAY, &["tea"]),
        Entry::Event(event("ann", "view", "tea", DAY + MINUTE)),
        impression("c", "ann", DAY + 2 * MINUTE, &["tea"]),
        purchase("ann", "tea", DAY + 3 * MINUTE, 19.99, bought),
        // Another user, and an item that was not shown.
        purchase("bob", "tea", DAY + 3 * MINUTE, 5.0, EventDetails::default()),
        purchase("ann", "pot", DAY + 3 * MINUTE, 5.0, EventDetails::default()),
    ];
    let report = report_by(&entries, AttributionSettings::default(), GroupBy::Placement);
    let counts: Vec<_> =
        report.tables[0].iter().map(|row| (&*row.group, row.impressions, row.clicks, row.conversions)).collect();
    assert_eq!(counts, [("(none)", 2, 1, 0), ("cart", 2, 1, 1)]);
    let [revenue] = &report.total.revenue[..] else { panic!("{:?}", report.total.revenue) };
    assert_eq!((&*revenue.currency, revenue.sum), ("EUR", 39.98));
    let by_impression = AttributionSettings { touch: ConversionTouch::Impression, ..AttributionSettings::default() };
    assert_eq!(total(&entries, by_impression), (4, 2, 1));
}

#[test]
fn windows_limit_clicks_and_conversions() {
    let settings = AttributionSettings::default();
    let entries = |click_at, bought_at| {
        [
            impression("a", "ann", 0, &["tea"]),
            Entry::Event(event("ann", "view", "tea", click_at)),
            purchase("ann", "tea", bought_at, 1.0, EventDetails::default()),
        ]
    };
    assert_eq!(total(&entries(60 * MINUTE, 7 * DAY), settings.clone()), (1, 1, 1));
    assert_eq!(total(&entries(60 * MINUTE + 1, 7 * DAY), settings.clone()), (1, 0, 0));
    assert_eq!(total(&entries(60 * MINUTE, 7 * DAY + 1), settings.clone()), (1, 1, 0));
    assert_eq!(total(&entries(-1, 7 * DAY), settings), (1, 0, 0), "the event is before the impression");
}

#[test]
fn a_named_recommendation_gets_the_click() {
    let named = EventDetails { recommendation_id: Some("a".to_owned()), ..EventDetails::default() };
    let click = Event { details: Some(Box::new(named.clone())), ..event("ann", "view", "tea", 2 * MINUTE) };
    let entries = [
        impression("a", "ann", 0, &["tea"]),
        impression("b", "ann", DAY, &["tea"]),
        Entry::Event(Event { timestamp: DAY + MINUTE, ..click.clone() }),
        Entry::Event(Event { details: None, timestamp: DAY + MINUTE, ..click }),
        purchase("ann", "tea", DAY + MINUTE, 1.0, named),
    ];
    let report = report_by(&entries, AttributionSettings::default(), GroupBy::Day);
    let counts: Vec<_> = report.tables[0].iter().map(|row| (&*row.group, row.clicks, row.conversions)).collect();
    // The named click is a day too late for the click window of recommendation a.
    assert_eq!(counts, [("1970-01-01", 0, 1), ("1970-01-02", 1, 0)]);
}

#[test]
fn an_item_with_several_rules_counts_once_in_the_total() {
    let entries = [impression("a", "ann", 0, &["pot", "tea"]), Entry::Event(event("ann", "view", "pot", MINUTE))];
    let report = report_by(&entries, AttributionSettings::default(), GroupBy::Rule);
    let counts: Vec<_> = report.tables[0].iter().map(|row| (&*row.group, row.impressions, row.clicks)).collect();
    assert_eq!(counts, [("(none)", 1, 0), ("r1", 1, 1), ("r2", 1, 1)]);
    assert_eq!((report.total.impressions, report.total.clicks), (2, 1));
    assert_eq!(report.total.ctr, Some(0.5));
}

#[test]
fn merges_move_impressions_and_erasures_remove_them() {
    let merge = |timestamp| Entry::Merge(UserMerge { from: "guest".to_owned(), into: "ann".to_owned(), timestamp });
    let shown = impression("a", "guest", 0, &["tea"]);
    let click = Entry::Event(event("ann", "view", "tea", MINUTE));
    assert_eq!(total(&[shown.clone(), merge(1), click.clone()], AttributionSettings::default()), (1, 1, 0));
    let erasure = Entry::Erase(UserErasure { user_id: "ann".to_owned(), unlearn: false, timestamp: 2 });
    assert_eq!(total(&[shown, merge(1), erasure, click], AttributionSettings::default()), (1, 0, 0));
}

#[test]
fn a_dismissal_is_no_click() {
    let dismissal = Event { value: Some(-1.0), ..event("ann", "view", "tea", MINUTE) };
    let entries = [impression("a", "ann", 0, &["tea"]), Entry::Event(dismissal)];
    assert_eq!(total(&entries, AttributionSettings::default()), (1, 0, 0));
}

#[test]
fn an_item_counts_once_per_recommendation() {
    let entries = [
        impression("a", "ann", 0, &["tea", "cup", "tea"]),
        impression("a", "ann", 1, &["cup", "pot"]),
        impression("a", "bob", 1, &["cup"]),
        impression("b", "ann", 2, &["cup"]),
    ];
    assert_eq!(total(&entries, AttributionSettings::default()), (5, 0, 0));
}

#[test]
fn a_list_that_the_site_reported_has_no_source() {
    let shown = ImpressionItem { position: 1, ..ImpressionItem::new("tea".to_owned(), SourceName::Trending) };
    let list = Impression { items: vec![shown], ..Impression::default() };
    let ranked = Impression { request_digest: 7, recommendation_id: "b".to_owned(), ..list.clone() };
    let report = report_by(&[Entry::Impression(list), Entry::Impression(ranked)], Default::default(), GroupBy::Source);
    let groups: Vec<_> = report.tables[0].iter().map(|row| (&*row.group, row.impressions)).collect();
    assert_eq!(groups, [("(none)", 1), ("trending", 1)]);
}

/// The definition, by search over all pairs: without windows that prune, merges or names.
fn clicks_by_definition(entries: &[Entry], window: Timestamp) -> u64 {
    let mut shown: Vec<(&str, &str, Timestamp, bool)> = Vec::new();
    for entry in entries {
        match entry {
            Entry::Impression(list) => {
                shown.extend(list.items.iter().map(|item| (&*list.user_id, &*item.item_id, list.timestamp, false)));
            }
            Entry::Event(event) => {
                let is_match = |(user, item, at, is_clicked): &(&str, &str, Timestamp, bool)| {
                    *user == event.user_id
                        && Some(*item) == event.item_id.as_deref()
                        && (0..=window).contains(&(event.timestamp - at))
                        && !is_clicked
                };
                if let Some(found) = shown.iter().rposition(is_match) {
                    shown[found].3 = true;
                }
            }
            _ => {}
        }
    }
    shown.iter().filter(|(.., is_clicked)| *is_clicked).count() as u64
}

proptest! {
    #[test]
    fn clicks_equal_their_definition(actions in prop::collection::vec((0_u8..3, 0_u8..4, 0_i64..90, any::<bool>()), 0..60)) {
        let mut at = 0;
        let entries: Vec<_> = actions
            .into_iter()
            .enumerate()
            .map(|(number, (user, item, minutes, is_shown))| {
                at += minutes * MINUTE / 4;
                let (user, item) = (format!("u{user}"), format!("i{item}"));
                if is_shown {
                    impression(&format!("r{number}"), &user, at, &[&item])
                } else {
                    Entry::Event(event(&user, "view", &item, at))
                }
            })
            .collect();
        let settings = AttributionSettings::default();
        let expected = clicks_by_definition(&entries, settings.click_window_ms);
        prop_assert_eq!(total(&entries, settings).1, expected);
    }
}
