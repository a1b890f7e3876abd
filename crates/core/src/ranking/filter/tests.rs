use super::*;
use crate::domain::{AttributeValue, Item, ItemDetails};
use proptest::prelude::*;
use std::collections::BTreeMap;

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

/// A value as the naive evaluator sees it.
#[derive(Debug, Clone, PartialEq)]
enum PlainValue {
    Text(&'static str),
    Number(i32),
    Boolean(bool),
    Texts(Vec<&'static str>),
}

type PlainValues = BTreeMap<&'static str, PlainValue>;

/// One side of a comparison, for the naive evaluator.
#[derive(Debug, Clone, PartialEq)]
enum Side {
    Named(&'static str, &'static str),
    Literal(PlainValue),
}

/// An expression for the naive evaluator.
#[derive(Debug, Clone)]
enum PlainExpression {
    Compare(Side, &'static str, Side),
    In(Side, Vec<Side>),
    Has(Side),
    Not(Box<PlainExpression>),
    And(Box<PlainExpression>, Box<PlainExpression>),
    Or(Box<PlainExpression>, Box<PlainExpression>),
}

const FIELDS: [&str; 3] = ["category", "price", "available"];

impl Side {
    fn text(&self) -> String {
        match self {
            Self::Named(scope, name) => format!("{scope}.{name}"),
            Self::Literal(PlainValue::Text(text)) => format!("'{text}'"),
            Self::Literal(PlainValue::Number(number)) => number.to_string(),
            Self::Literal(PlainValue::Boolean(boolean)) => boolean.to_string(),
            Self::Literal(PlainValue::Texts(_)) => unreachable!("an expression has no list"),
        }
    }

    fn value(&self, values: &BTreeMap<&str, PlainValues>) -> Option<PlainValue> {
        match self {
            Self::Named(scope, name) => values[scope].get(name).cloned(),
            Self::Literal(value) => Some(value.clone()),
        }
    }

    fn is_field(&self) -> bool {
        matches!(self, Self::Named("item", name) if FIELDS.contains(name))
    }
}

fn are_equal(left: &PlainValue, right: &PlainValue) -> bool {
    let elements = |value: &PlainValue| match value {
        PlainValue::Texts(texts) => texts.iter().map(|text| PlainValue::Text(text)).collect(),
        value => vec![value.clone()],
    };
    elements(left).iter().any(|element| elements(right).contains(element))
}

impl PlainExpression {
    fn text(&self) -> String {
        match self {
            Self::Compare(left, operator, right) => format!("{} {operator} {}", left.text(), right.text()),
            Self::In(left, list) => {
                format!("{} in ({})", left.text(), list.iter().map(Side::text).collect::<Vec<_>>().join(", "))
            }
            Self::Has(side) => format!("has {}", side.text()),
            Self::Not(inner) => format!("not ({})", inner.text()),
            Self::And(left, right) => format!("({}) and ({})", left.text(), right.text()),
            Self::Or(left, right) => format!("({}) or ({})", left.text(), right.text()),
        }
    }

    fn holds(&self, values: &BTreeMap<&str, PlainValues>) -> bool {
        match self {
            Self::Compare(left, operator, right) => match (left.value(values), right.value(values)) {
                (Some(l), Some(r)) => match (*operator, &l, &r) {
                    ("=", ..) => are_equal(&l, &r),
                    ("!=", ..) => !are_equal(&l, &r),
                    ("<", PlainValue::Number(l), PlainValue::Number(r)) => l < r,
                    (">=", PlainValue::Number(l), PlainValue::Number(r)) => l >= r,
                    _ => false,
                },
                (None, Some(_)) => *operator == "!=" && left.is_field(),
                (Some(_), None) => *operator == "!=" && right.is_field(),
                (None, None) => false,
            },
            Self::In(left, list) => list.iter().any(|right| match (left.value(values), right.value(values)) {
                (Some(left), Some(right)) => are_equal(&left, &right),
                _ => false,
            }),
            Self::Has(side) => side.value(values).is_some(),
            Self::Not(inner) => !inner.holds(values),
            Self::And(left, right) => left.holds(values) && right.holds(values),
            Self::Or(left, right) => left.holds(values) || right.holds(values),
        }
    }
}

fn any_plain_value() -> impl Strategy<Value = PlainValue> {
    let text = || proptest::sample::select(vec!["en", "de", "tea"]);
    prop_oneof![
        3 => text().prop_map(PlainValue::Text),
        3 => (0..3).prop_map(PlainValue::Number),
        1 => any::<bool>().prop_map(PlainValue::Boolean),
        1 => proptest::collection::vec(text(), 1..3).prop_map(PlainValue::Texts),
    ]
}

fn any_plain_values() -> impl Strategy<Value = PlainValues> {
    proptest::collection::btree_map(proptest::sample::select(vec!["language", "size", "gift"]), any_plain_value(), 0..4)
}

/// The values of an item, with fields of the right type.
fn any_plain_item() -> impl Strategy<Value = PlainValues> {
    let categories = proptest::collection::vec(proptest::sample::select(vec!["en", "tea"]), 0..3);
    (categories, proptest::option::of(0..3), any::<bool>(), any_plain_values()).prop_map(
        |(categories, price, available, mut values)| {
            if !categories.is_empty() {
                values.insert("category", PlainValue::Texts(categories));
            }
            if let Some(price) = price {
                values.insert("price", PlainValue::Number(price));
            }
            values.insert("available", PlainValue::Boolean(available));
            values
        },
    )
}

fn any_named_side() -> impl Strategy<Value = Side> {
    let names = [("item", "category"), ("item", "price"), ("item", "available")].into_iter();
    let free = ["language", "size", "gift"];
    let free = ["item", "user", "context"].into_iter().flat_map(move |scope| free.map(|name| (scope, name)));
    proptest::sample::select(names.chain(free).collect::<Vec<_>>()).prop_map(|(scope, name)| Side::Named(scope, name))
}

/// A named operand, and another operand or a literal of a fitting type.
fn any_sides() -> impl Strategy<Value = (Side, Side)> {
    let literal = any_plain_value().prop_map(|value| match value {
        PlainValue::Texts(_) => PlainValue::Text("en"),
        value => value,
    });
    (any_named_side(), any_named_side(), literal, any::<bool>()).prop_map(|(left, other, literal, is_literal)| {
        let fitting = match &left {
            Side::Named("item", "category") => PlainValue::Text("tea"),
            Side::Named("item", "price") => PlainValue::Number(1),
            Side::Named("item", "available") => PlainValue::Boolean(true),
            _ => literal,
        };
        (left, if is_literal { Side::Literal(fitting) } else { other })
    })
}

fn any_plain_expression() -> impl Strategy<Value = PlainExpression> {
    let operator = proptest::sample::select(vec!["=", "!=", "<", ">="]);
    let leaf = prop_oneof![
        4 => (any_sides(), operator).prop_map(|((left, right), operator)| PlainExpression::Compare(left, operator, right)),
        1 => (any_sides(), any_named_side()).prop_map(|((left, right), third)| PlainExpression::In(left, vec![right, third])),
        1 => any_named_side().prop_map(PlainExpression::Has),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed.clone().prop_map(PlainExpression::Not),
            (boxed.clone(), boxed.clone()).prop_map(|(left, right)| PlainExpression::And(left, right)),
            (boxed.clone(), boxed).prop_map(|(left, right)| PlainExpression::Or(left, right)),
        ]
    })
}

fn to_attributes(values: &PlainValues) -> Attributes {
    let value = |value: &PlainValue| match value {
        PlainValue::Text(text) => AttributeValue::Text((*text).into()),
        PlainValue::Number(number) => AttributeValue::Number(f64::from(*number)),
        PlainValue::Boolean(boolean) => AttributeValue::Boolean(*boolean),
        PlainValue::Texts(texts) => AttributeValue::Texts(texts.iter().map(|text| (*text).into()).collect()),
    };
    let free = values.iter().filter(|(name, _)| !FIELDS.contains(name));
    Attributes::from_values(free.map(|(name, known)| ((*name).into(), value(known))))
}

fn to_catalog_item(values: &PlainValues) -> CatalogItem {
    let mut item = Item::default();
    if let Some(PlainValue::Texts(categories)) = values.get("category") {
        item.categories = categories.iter().map(|&name| name.to_owned()).collect();
    }
    if let Some(PlainValue::Number(price)) = values.get("price") {
        item.price = Some(f64::from(*price));
    }
    item.available = values.get("available") == Some(&PlainValue::Boolean(true));
    item.details = ItemDetails { attributes: to_attributes(values), ..ItemDetails::default() }.into_shared();
    CatalogItem::from(&item)
}

proptest! {
    #[test]
    fn a_filter_agrees_with_the_naive_evaluator(
        expression in any_plain_expression(), items in proptest::collection::vec(any_plain_item(), 1..8),
        user in any_plain_values(), context in any_plain_values(),
    ) {
        // Expressions that compare fields of different types are refused.
        let Ok(filter) = ItemFilter::parse(&expression.text()) else { return Ok(()) };
        let bound = filter.with_context(&to_attributes(&context)).with_user(&to_attributes(&user));
        prop_assert!(!bound.reads_user());
        for item in items {
            let held = to_catalog_item(&item);
            let values = BTreeMap::from([("item", item.clone()), ("user", user.clone()), ("context", context.clone())]);
            prop_assert_eq!(bound.matches(&held), expression.holds(&values), "{} {:?}", expression.text(), values);
            let unbound = BTreeMap::from([("item", item), ("user", PlainValues::new()), ("context", PlainValues::new())]);
            prop_assert_eq!(filter.matches(&held), expression.holds(&unbound), "{} {:?}", expression.text(), unbound);
        }
    }
}

#[test]
fn operands_match_as_documented() {
    let text = |text: &str| AttributeValue::Text(text.into());
    let texts = |texts: &[&str]| AttributeValue::Texts(texts.iter().map(|&text| text.into()).collect());
    let attributes = Attributes::from_values([
        ("language".into(), text("en")),
        ("sizes".into(), AttributeValue::Numbers([41.0, 42.0].into())),
        ("organic".into(), AttributeValue::Boolean(true)),
    ]);
    let details = ItemDetails { title: Some("Green tea".into()), attributes, ..ItemDetails::default() };
    let item =
        Item { price: Some(4.5), brand: Some("leaf".into()), published: Some(1_396_314_941_000), ..Item::default() };
    let item = CatalogItem::from(&Item { details: details.into_shared(), ..item });
    let user = [
        ("language".into(), text("en")),
        ("brands".into(), texts(&["root", "leaf"])),
        ("size".into(), AttributeValue::Number(42.0)),
    ];
    let context = [("max_price".into(), AttributeValue::Number(5.0)), ("since".into(), text("2014-01-01T00:00:00Z"))];
    let (user, context) = (Attributes::from_values(user), Attributes::from_values(context));
    let matches = |expression: &str| {
        ItemFilter::parse(expression).unwrap().with_context(&context).with_user(&user).matches(&item)
    };
    for expression in [
        "item.language = user.language and price <= context.max_price",
        "context.max_price > item.price",
        "brand in user.brands",
        "user.brands has item.brand",
        "item.sizes has user.size",
        "item.sizes has 42 and not item.sizes has 43",
        "item.language in (de, en)",
        "item.language in ('de', user.language)",
        "brand in (root, user.none, leaf)",
        "item.organic = true",
        "item.title = 'Green tea'",
        "item.price = 4.5 and item.brand = leaf",
        "published > context.since",
        "has item.language and has user.size and not has user.none",
        "item.language != de",
        "not (item.none = 1)",
        "brand = leaf and brand != 'user.brands'",
        "category != user.language",
    ] {
        assert!(matches(expression), "{expression}");
    }
    for expression in [
        "item.none != 1",
        "item.language != user.none",
        "price < context.none",
        "item.language = 1",
        "item.language < 1",
        "item.organic = 'true'",
        "published < context.since",
    ] {
        assert!(!matches(expression), "{expression}");
    }
}

#[test]
fn errors_of_operands_point_at_their_positions() {
    let long = format!("item.{} = 1", "x".repeat(33));
    for (text, column, reason) in [
        ("item.Size = 1", 1, "`item.Size` has no valid name"),
        ("price < 5 and item. = 1", 15, "`item.` has no valid name"),
        (long.as_str(), 1, "has no valid name"),
        ("item.size", 10, "expected a comparison, `in` or `has`, found the end"),
        ("item.size < big", 13, "expected a number"),
        ("item.size = item.size", 1, "the same operand on both sides"),
        ("available and user.a != user.a", 15, "the same operand on both sides"),
        ("price = item.brand", 1, "never true: its left side is a number, its right side a text"),
        ("price < item.published", 1, "never true: its left side is a number, its right side a time"),
        ("item.title = 5", 1, "never true: its left side is a text, its right side a number"),
        ("brand < user.brand", 1, "only numbers and times have an order"),
        ("item.size in 42", 14, "expected `(`, found `4`"),
        ("item.size in (42", 17, "expected `,` or `)`, found the end"),
        ("shop.size = 1", 1, "unknown field `shop.size`"),
    ] {
        let error = ItemFilter::parse(text).unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.reason.contains(reason), "{text}: {error}");
    }
}
