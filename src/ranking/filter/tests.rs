use super::*;
use crate::domain::Item;
use proptest::prelude::*;

fn tea_item() -> CatalogItem {
    CatalogItem::from(&Item {
        categories: vec!["tea".to_owned(), "green tea".to_owned()],
        brand: Some("it's".to_owned()),
        price: Some(4.5),
        tags: vec!["new".to_owned()],
        available: true,
        published: Some(1_396_314_941_000),
        expires: None,
        details: None,
    })
}

#[test]
fn every_operator_matches_as_documented() {
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
        assert!(ItemFilter::parse(text).unwrap().matches(&tea_item()), "{text}");
        assert!(!ItemFilter::parse(&format!("not ({text})")).unwrap().matches(&tea_item()), "not ({text})");
    }
    let nothing = CatalogItem::from(&Item::default());
    for text in [
        "price < 5",
        "price >= 0",
        "brand = leaf",
        "category in (tea)",
        "has price",
        "has category",
        "expires < 99",
        "available = false",
    ] {
        assert!(!ItemFilter::parse(text).unwrap().matches(&nothing), "{text}");
    }
    assert!(ItemFilter::parse("price != 5 and category != tea").unwrap().matches(&nothing), "!= is the negation of =");
}

#[test]
fn and_binds_more_tightly_than_or() {
    let filter = ItemFilter::parse("category = tea or category = tea and price > 100").unwrap();
    assert!(filter.matches(&tea_item()));
    assert!(!ItemFilter::parse("(category = tea or category = tea) and price > 100").unwrap().matches(&tea_item()));
}

#[test]
fn errors_point_at_the_first_unexpected_character() {
    let deep = format!("{}available{}", "(".repeat(33), ")".repeat(33));
    let long = format!("category = {}", "x".repeat(1024));
    let table = [
        ("", 1, "expected a field; the fields are category, brand"),
        ("prise < 5", 1, "unknown field `prise`"),
        ("price", 6, "expected a comparison, `in` or `has`, found the end"),
        ("price < five", 9, "expected a number"),
        ("price < inf", 9, "expected a number"),
        ("price < 5 category = tea", 11, "expected `and`, `or` or the end, found `c`"),
        ("price < 5 and", 14, "expected a field"),
        ("(price < 5", 11, "expected `)`, found the end"),
        ("category in tea", 13, "expected `(`, found `t`"),
        ("category in (tea coffee)", 18, "expected `,` or `)`, found `c`"),
        ("category in ()", 14, "expected a word or a quoted text, found `)`"),
        ("category = and", 12, "expected a word or a quoted text"),
        ("category < tea", 10, "only price, published and expires have an order"),
        ("brand = 'tea", 9, "the quoted text has no closing quote"),
        ("ä = 1", 1, "unknown field `ä`"),
        ("brand = 'ä' ? 1", 13, "expected `and`, `or` or the end, found `?`"),
        ("available = yes", 13, "expected `true` or `false`"),
        ("expires < today", 11, "expected a date and time with an offset"),
        (deep.as_str(), 33, "nested more than 32 levels deep"),
        (long.as_str(), 1, "more than the allowed 1024"),
    ];
    for (text, column, reason) in table {
        let error = ItemFilter::parse(text).unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.reason.contains(reason), "{text}: {error}");
    }
}

/// Generates filter expressions, each with the expected result for [`tea_item`].
fn generated_expression() -> impl Strategy<Value = (String, bool)> {
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
    fn generated_expressions_evaluate_by_boolean_logic((text, holds) in generated_expression()) {
        prop_assume!(text.len() <= ItemFilter::MAX_EXPRESSION_BYTES);
        prop_assert_eq!(ItemFilter::parse(&text).unwrap().matches(&tea_item()), holds, "{}", text);
    }

    #[test]
    fn an_error_column_is_within_the_text(text in "(category|price|and|or|not|in|has|[=<>!(),'\"]|[a-z0-9]| |\\PC){0,60}") {
        if let Err(error) = ItemFilter::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
        }
    }
}
