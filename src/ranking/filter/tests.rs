use super::*;
use proptest::prelude::*;

fn tea() -> Item {
    Item {
        categories: vec!["tea".to_owned(), "green tea".to_owned()],
        brand: Some("it's".to_owned()),
        price: Some(4.5),
        tags: vec!["new".to_owned()],
        available: true,
        published: Some(1_396_314_941_000),
        expires: None,
    }
}

#[test]
fn every_test_says_what_it_means() {
    let holds = [
        "category = tea",
        "category=\"green tea\"",
        "category != coffee",
        "category in (coffee, 'green tea')",
        "tags has new",
        "tags = new and category has tea",
        r"brand = 'it\'s'",
        "brand != leaf",
        "price = 4.5",
        "price < 5",
        "price <= 4.5",
        "price >= 4.5e0",
        "price > -1",
        "price != 5",
        "price in (1, 4.5)",
        "available",
        "available = true",
        "has price",
        "has tags and has brand and has published",
        "published = 1396314941000",
        "published < \"2014-04-01T01:15:42Z\"",
        "published >= 2014-04-01T03:15:41+02:00",
        "expires != 0",
        "NOT price > 5 AND (category = coffee OR category = tea)",
        "category = coffee or category = tea and price < 5",
        "not (category = tea and price > 5)",
        "not not available",
    ];
    for text in holds {
        assert!(ItemFilter::parse(text).unwrap().matches(&tea()), "{text}");
        assert!(!ItemFilter::parse(&format!("not ({text})")).unwrap().matches(&tea()), "not ({text})");
    }
    let nothing = Item::default();
    for text in
        ["price < 5", "price >= 0", "brand = leaf", "category in (tea)", "has price", "has category", "expires < 99", "available = false"]
    {
        assert!(!ItemFilter::parse(text).unwrap().matches(&nothing), "{text}");
    }
    assert!(ItemFilter::parse("price != 5 and category != tea").unwrap().matches(&nothing), "!= is the opposite of =");
}

#[test]
fn and_binds_before_or() {
    let filter = ItemFilter::parse("category = tea or category = tea and price > 100").unwrap();
    assert!(filter.matches(&tea()));
    assert!(!ItemFilter::parse("(category = tea or category = tea) and price > 100").unwrap().matches(&tea()));
}

#[test]
fn a_fault_is_pointed_at() {
    let deep = format!("{}available{}", "(".repeat(33), ")".repeat(33));
    let long = format!("category = {}", "x".repeat(1024));
    let table = [
        ("", 1, "a field is expected; there are category, brand"),
        ("prise < 5", 1, "there is no field `prise`"),
        ("price", 6, "a comparison, `in` or `has` is expected, not the end"),
        ("price < five", 9, "a number is expected"),
        ("price < inf", 9, "a number is expected"),
        ("price < 5 category = tea", 11, "`and`, `or` or the end is expected, not `c`"),
        ("price < 5 and", 14, "a field is expected"),
        ("(price < 5", 11, "`)` is expected, not the end"),
        ("category in tea", 13, "`(` is expected, not `t`"),
        ("category in (tea coffee)", 18, "`,` or `)` is expected, not `c`"),
        ("category in ()", 14, "a word or a quoted text is expected, not `)`"),
        ("category = and", 12, "a word or a quoted text is expected"),
        ("category < tea", 10, "only price, published and expires have an order"),
        ("brand = 'tea", 9, "the quoted text never ends"),
        ("ä = 1", 1, "there is no field `ä`"),
        ("brand = 'ä' ? 1", 13, "`and`, `or` or the end is expected, not `?`"),
        ("available = yes", 13, "`true` or `false` is expected"),
        ("expires < today", 11, "a date and time with an offset"),
        (deep.as_str(), 33, "nested more than 32 levels deep"),
        (long.as_str(), 1, "at most 1024 are allowed"),
    ];
    for (text, column, reason) in table {
        let fault = ItemFilter::parse(text).unwrap_err();
        assert_eq!(fault.column, column, "{text}: {fault}");
        assert!(fault.reason.contains(reason), "{text}: {fault}");
    }
}

/// An expression as it is written, and whether it holds for [`tea`].
fn written() -> impl Strategy<Value = (String, bool)> {
    let tests = [
        ("category = tea", true),
        ("price>5", false),
        ("brand in ('x', \"it's\")", true),
        ("available=false", false),
        ("has expires", false),
    ];
    let leaf = proptest::sample::select(tests.to_vec()).prop_map(|(text, holds)| (text.to_owned(), holds));
    leaf.prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|(text, holds)| (format!("not ({text})"), !holds)),
            (inner.clone(), inner.clone()).prop_map(|((a, x), (b, y))| (format!("({a}) and ({b})"), x && y)),
            (inner.clone(), inner).prop_map(|((a, x), (b, y))| (format!(" ( {a} )or({b})"), x || y)),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_holds_as_logic_has_it((text, holds) in written()) {
        prop_assume!(text.len() <= ItemFilter::MAX_BYTES);
        prop_assert_eq!(ItemFilter::parse(&text).unwrap().matches(&tea()), holds, "{}", text);
    }

    #[test]
    fn any_text_is_answered_and_a_fault_lies_within_it(text in "(category|price|and|or|not|in|has|[=<>!(),'\"]|[a-z0-9]| |\\PC){0,60}") {
        if let Err(fault) = ItemFilter::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&fault.column));
        }
    }
}
