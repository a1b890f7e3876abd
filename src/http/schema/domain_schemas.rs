//! OpenAPI schemas of the domain types that responses contain. The domain types do not depend on
//! HTTP, so their schemas are declared here. A test checks that they match the types.
#![cfg_attr(not(test), expect(dead_code, reason = "the types exist only for the OpenAPI document"))]

use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A response with ranked recommendations.
#[derive(Serialize, ToSchema)]
#[schema(as = Recommendation)]
pub(in crate::http) struct RecommendationSchema {
    /// The id of the response. The journal records the response under this id.
    recommendation_id: String,
    /// The version of the model weights that ranked the items.
    weights_version: u64,
    /// The items, best first.
    items: Vec<RecommendedItemSchema>,
    /// The reason why the response is less personal than requested or has too few ranked items.
    fallback: FallbackSchema,
    /// Numbers of ranked candidates that are missing in the list, by reason.
    removed: RemovalCountsSchema,
    /// The kind of the events whose values `interest` predicts: the kind with the most learned values.
    /// Absent before the first event with a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    interest_kind: Option<String>,
    /// The placement that the request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<String>,
    /// The rules that removed candidates. Present only if the request asks for an explanation and a
    /// rule removed candidates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed_by_rules: Vec<RuleRemovalsSchema>,
}

/// The predicted value of an event of a user with an item.
#[derive(Serialize, ToSchema)]
#[schema(as = PredictedInterest)]
pub(in crate::http) struct PredictedInterestSchema {
    /// The predicted value. On a logarithmic scale, it is the median of the predicted distribution.
    value: f32,
    /// One standard deviation below the predicted value, on the scale of the kind. About two thirds
    /// of the actual values are between `low` and `high`.
    low: f32,
    /// One standard deviation above the predicted value, on the scale of the kind.
    high: f32,
}

/// One recommended item of a response.
#[derive(Serialize, ToSchema)]
#[schema(as = RecommendedItem)]
pub(in crate::http) struct RecommendedItemSchema {
    /// The item's id.
    item_id: String,
    /// The ranking score. A higher score is better. Scores of different responses are not
    /// comparable.
    score: f32,
    /// The candidate source that generated the item.
    source: SourceNameSchema,
    /// The predicted value (rating, seconds played, …) of an event of the user with the item. Absent
    /// before the first event with a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    interest: Option<PredictedInterestSchema>,
    /// The explanation, if the request asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<ItemExplanationSchema>,
    /// The description from the catalog, if the request has `details` and the catalog describes the
    /// item.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<ItemDescriptionSchema>,
}

/// The catalog's description of an item, for display. An absent field has no value. Free attributes
/// are not included.
#[derive(Serialize, ToSchema)]
#[schema(as = ItemDescription)]
pub(in crate::http) struct ItemDescriptionSchema {
    /// The title.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// The address of the item's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The address of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// The price, in the site's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<f64>,
    /// The brand.
    #[serde(skip_serializing_if = "Option::is_none")]
    brand: Option<String>,
    /// The categories.
    categories: Vec<String>,
    /// The tags.
    tags: Vec<String>,
}

/// The candidate source that generated an item.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SourceName)]
pub(in crate::http) enum SourceNameSchema {
    /// The top items of the network over the whole catalog.
    Network,
    /// The newest items of the cluster of item embeddings that contains the user's last item.
    Clusters,
    /// Items that often followed the latest items of the session (item-to-item transition counts).
    Transitions,
    /// Items of the most similar past sessions (session kNN).
    Neighbours,
    /// Trending items, by exponentially decayed counts.
    Trending,
    /// The most recently added items.
    New,
    /// Items of the user's current session.
    Session,
    /// Items of the user's earlier sessions, and items that often followed them.
    Profile,
}

/// The reason why a response is less personal than requested or has too few ranked items.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Fallback)]
pub(in crate::http) enum FallbackSchema {
    /// The response is as requested: personalised, and filled with ranked items.
    None,
    /// The user is unknown. The response is the same for all unknown users.
    UnknownUser,
    /// None of the items in the request is known.
    UnknownItems,
    /// The model knows no items.
    EmptyCatalog,
    /// The rules of the request left too few candidates. The most popular items that satisfy the
    /// rules fill the rest of the list, if there are any.
    FilteredOut,
    /// Too few items can be recommended, and no rule of the request is the reason: the other items
    /// are unavailable, or the user dismissed them.
    Unavailable,
}

/// Numbers of ranked candidates that are missing in the response, by reason. A candidate that
/// violates several rules counts once, under the first of them.
#[derive(Serialize, ToSchema)]
#[schema(as = RemovalCounts)]
pub(in crate::http) struct RemovalCountsSchema {
    /// Excluded by the request. On a later page, also dismissed or purchased since the first page.
    excluded: usize,
    /// Left out because the user dismissed or purchased the item. If the request excludes seen
    /// items or kinds of events, also items that the user has seen or that have such events.
    seen: usize,
    /// Left out because the item was shown to the user too often, see `max_impressions`.
    fatigued: usize,
    /// Rejected by the filter.
    filtered: usize,
    /// Not recommendable: unavailable, not yet published, expired or deleted; or not in the catalog
    /// and chosen by too few users.
    unavailable: usize,
    /// Hidden by a rule.
    hidden: usize,
    /// Omitted because enough items of the same category rank higher.
    diversity: usize,
}

/// The explanation of a recommended item.
#[derive(Serialize, ToSchema)]
#[schema(as = Explanation)]
pub(in crate::http) struct ItemExplanationSchema {
    /// The evidence for the item from each source that generated it, in (0, 1]. It is the item's
    /// share of the total weight that the source gives to items.
    sources: BTreeMap<&'static str, f32>,
    /// The event of the session that improved the rank of the item the most.
    moved_by: Option<InfluentialEventSchema>,
    /// The ids of the rules that moved the item or put it into the list, in the order of their
    /// application. A boost of a placement has the name `placement:NAME`. Absent if no rule did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<String>,
    /// What the objective of the placement added to the score. Absent without an objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    objective: Option<ObjectiveEffectSchema>,
}

/// The effect of an objective on the score of a recommended item.
#[derive(Serialize, ToSchema)]
#[schema(as = ObjectiveEffect)]
pub(in crate::http) struct ObjectiveEffectSchema {
    /// The objective.
    name: ObjectiveSchema,
    /// The difference of the scores with and without the objective.
    contribution: f32,
}

/// What the lists of a placement are ranked for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Objective)]
pub(in crate::http) enum ObjectiveSchema {
    /// Events on items that a recommendation has shown (click-through rate).
    Ctr,
    /// Purchases (conversion rate).
    Cvr,
    /// Purchases by their values.
    Revenue,
}

/// A rule that removed candidates from a list.
#[derive(Serialize, ToSchema)]
#[schema(as = RuleRemovals)]
pub(in crate::http) struct RuleRemovalsSchema {
    /// The id of the rule.
    rule: String,
    /// Number of removed candidates.
    count: usize,
}

/// An event that improved the rank of a recommended item.
#[derive(Serialize, ToSchema)]
#[schema(as = InfluentialEvent)]
pub(in crate::http) struct InfluentialEventSchema {
    /// The event's item.
    item_id: Option<String>,
    /// The event's kind.
    #[serde(rename = "type")]
    kind: String,
    /// Number of events in the session after this event.
    events_back: usize,
    /// The recommended item's rank among all candidates, 1 for the best.
    rank: usize,
    /// The rank that the recommended item would have without this event; `null` if it would not be
    /// a candidate.
    rank_without: Option<usize>,
}

/// The catalog attributes of an item.
#[derive(Serialize, ToSchema)]
#[schema(as = Item)]
pub(in crate::http) struct ItemSchema {
    /// The item's categories.
    categories: Vec<String>,
    /// The item's brand or maker.
    brand: Option<String>,
    /// The price in the site's own unit; at least 0.
    price: Option<f64>,
    /// The item's tags.
    tags: Vec<String>,
    /// Whether the item is available now. An unavailable item is never recommended.
    available: bool,
    /// The item is not recommended before this time.
    published: Option<i64>,
    /// The item is not recommended from this time on.
    expires: Option<i64>,
}

/// A rejected event or item, or a warning about an accepted one. Receipts list errors in `rejected`
/// and warnings in `warnings`.
///
/// Reasons never contain the id of a user, a session or an event, because they may be logged.
#[derive(Serialize, ToSchema)]
#[schema(as = ValidationError)]
pub(in crate::http) struct ValidationErrorSchema {
    /// Position of the record in the request or file, from 0.
    index: u64,
    /// Line of the record, from 1. Absent if the format has no lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// The invalid field; `null` if the error does not concern a single field.
    field: Option<&'static str>,
    /// Machine-readable code.
    code: ValidationErrorCodeSchema,
    /// Human-readable reason.
    reason: String,
}

/// Machine-readable error codes. There are no other codes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ValidationErrorCode)]
pub(in crate::http) enum ValidationErrorCodeSchema {
    /// The text is not valid JSON or CSV.
    Syntax,
    /// The text is not UTF-8.
    NotUtf8,
    /// The value has the wrong type for its field.
    WrongType,
    /// A required field or column is absent.
    Missing,
    /// An id is empty.
    Empty,
    /// An id or a line has too many bytes.
    TooLong,
    /// An id contains a control character.
    ControlCharacter,
    /// The kind of event is neither built in nor configured.
    UnknownKind,
    /// The value is NaN, infinite or out of the range of its type.
    NotFinite,
    /// The timestamp has none of the accepted formats.
    BadTimestamp,
    /// The timestamp is before 1970. Or it is a number that means a time in 1970 when read as
    /// milliseconds, so it probably has another unit.
    TooEarly,
    /// The timestamp is more than a day after the time of arrival.
    TooLate,
    /// The properties have too many bytes.
    TooLarge,
    /// The properties are nested too deeply.
    TooDeep,
    /// A list has too many elements.
    TooMany,
    /// A number is out of range.
    OutOfRange,
    /// The operation on an item is not put, patch or delete.
    UnknownOp,
    /// The consent level is unknown.
    UnknownConsent,
    /// A field occurs twice.
    Repeated,
    /// The record has an unknown field. The record is accepted; this is a warning.
    UnknownField,
    /// A user id is a placeholder that many visitors share, so it is not merged.
    PlaceholderId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Fallback, InfluentialEvent, Item, ItemDescription, ItemExplanation, Objective, ObjectiveEffect,
        PredictedInterest, Recommendation, RecommendedItem, RemovalCounts, RuleRemovals, SourceName,
    };
    use crate::ingest::{ValidationError, ValidationErrorCode};
    use serde_json::{Value, to_value};
    use std::collections::BTreeSet;
    use utoipa::PartialSchema;

    fn schema_json<T: PartialSchema>() -> Value {
        to_value(T::schema()).unwrap()
    }

    fn object_keys(object: &Value) -> BTreeSet<&String> {
        object.as_object().unwrap().keys().collect()
    }

    /// Checks that a schema has the fields of `value`. All optional fields of `value` must be
    /// present.
    fn assert_same_fields<T: PartialSchema>(value: &impl Serialize) {
        assert_eq!(object_keys(&to_value(value).unwrap()), object_keys(&schema_json::<T>()["properties"]));
    }

    /// Checks that a schema has all variants of a domain type. If the list of variants is
    /// incomplete, the `match` does not compile.
    macro_rules! assert_same_variants {
        ($domain:ident, $schema:ident: $($variant:ident)+) => {
            let convert = |value: $domain| match value {
                $($domain::$variant => to_value($schema::$variant).unwrap(),)+
            };
            let values = [$($domain::$variant),+];
            for value in values {
                assert_eq!(to_value(value).unwrap(), convert(value));
            }
            assert_eq!(schema_json::<$schema>()["enum"], Value::Array(values.map(convert).to_vec()));
        };
    }

    #[test]
    fn schemas_have_the_fields_of_the_domain_types() {
        let moved_by =
            InfluentialEvent { item_id: None, kind: "view".to_owned(), events_back: 1, rank: 2, rank_without: None };
        assert_same_fields::<InfluentialEventSchema>(&moved_by);
        let objective = ObjectiveEffect { name: Objective::Cvr, contribution: 0.5 };
        assert_same_fields::<ObjectiveEffectSchema>(&objective);
        let explanation = ItemExplanation {
            sources: BTreeMap::new(),
            moved_by: Some(moved_by),
            rules: vec!["sale".to_owned()],
            objective: Some(objective),
        };
        assert_same_fields::<ItemExplanationSchema>(&explanation);
        let interest = PredictedInterest { value: 4.0, low: 3.0, high: 5.0 };
        assert_same_fields::<PredictedInterestSchema>(&interest);
        let description = ItemDescription {
            title: Some("Tea".into()),
            url: Some("/tea".into()),
            image: Some("/tea.svg".into()),
            price: Some(4.5),
            brand: Some("leaf".into()),
            categories: vec!["drinks".into()],
            tags: vec!["green".into()],
        };
        assert_same_fields::<ItemDescriptionSchema>(&description);
        let item = RecommendedItem {
            item_id: "tea".to_owned(),
            score: 1.0,
            source: SourceName::New,
            interest: Some(interest),
            explanation: Some(explanation),
            details: Some(Box::new(description)),
            rules: Vec::new(),
        };
        assert_same_fields::<RecommendedItemSchema>(&item);
        let removals = RuleRemovals { rule: "sale".to_owned(), count: 1 };
        assert_same_fields::<RuleRemovalsSchema>(&removals);
        let removed = RemovalCounts::default();
        assert_same_fields::<RemovalCountsSchema>(&removed);
        let recommendation = Recommendation {
            recommendation_id: "r1".to_owned(),
            weights_version: 1,
            items: vec![item],
            fallback: Fallback::None,
            removed,
            interest_kind: Some("rate".to_owned()),
            placement: Some("home".to_owned()),
            removed_by_rules: vec![removals.clone()],
        };
        assert_same_fields::<RecommendationSchema>(&recommendation);
        assert_same_fields::<ItemSchema>(&Item::default());
        let error = ValidationError {
            index: 0,
            line: Some(1),
            field: None,
            code: ValidationErrorCode::Syntax,
            reason: String::new(),
        };
        assert_same_fields::<ValidationErrorSchema>(&error);
    }

    #[test]
    fn schemas_have_the_values_of_the_domain_types() {
        assert_same_variants!(Objective, ObjectiveSchema: Ctr Cvr Revenue);
        assert_same_variants!(SourceName, SourceNameSchema: Network Clusters Transitions Neighbours Trending New Session Profile);
        assert_same_variants!(Fallback, FallbackSchema: None UnknownUser UnknownItems EmptyCatalog FilteredOut Unavailable);
        assert_same_variants!(
            ValidationErrorCode, ValidationErrorCodeSchema:
            Syntax NotUtf8 WrongType Missing Empty TooLong ControlCharacter UnknownKind
            NotFinite BadTimestamp TooEarly TooLate TooLarge TooDeep TooMany
            OutOfRange UnknownOp UnknownConsent Repeated UnknownField PlaceholderId
        );
    }
}
