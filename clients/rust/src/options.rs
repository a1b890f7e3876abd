//! Parameters of lists.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::error::SequorError;
use crate::event::Consent;
use crate::receipts::After;
use crate::setters::setters;

/// What a list does with items that were shown too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImpressionLimitAction {
    /// Leaves them out.
    Drop,
    /// Moves them behind the other items.
    Demote,
}

/// Parameters of a list. `docs/recommendations.md` describes them.
///
/// ```
/// use sequor_client::ListOptions;
///
/// let options = ListOptions::default().limit(5).exclude(["tea"]).context("page", "cart");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListOptions {
    /// Number of items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Items that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whether items that the user has seen are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_seen: Option<bool>,
    /// A condition on the attributes of the items, such as `price < 20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Texts, numbers and booleans for filters and rules.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, Value>,
    /// Largest number of items of a category.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diversity: Option<u32>,
    /// Whether the list says why each item is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<bool>,
    /// Whether the list has the attributes of the items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<bool>,
    /// How long dismissed items are left out, such as `30d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dismissed_for: Option<String>,
    /// How long purchased items are left out, such as `30d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purchased_for: Option<String>,
    /// Leaves out items with an event of a kind, such as `purchase:365d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_events: Option<String>,
    /// How often an item may be shown, such as `3/24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_impressions: Option<String>,
    /// What the list does with items that were shown too often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impression_limit_action: Option<ImpressionLimitAction>,
    /// What may be stored of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
    /// The placement of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// The item of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// The items of the cart, for placements that complete it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
    /// The list includes the journal entries before this offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_offset: Option<u64>,
}

impl ListOptions {
    setters! {
        /// Sets the number of items.
        limit: u32,
        /// Leaves out items that the user has seen.
        exclude_seen: bool,
        /// Sets a condition on the attributes of the items, such as `price < 20`.
        filter: impl Into<String>,
        /// Sets the largest number of items of a category.
        diversity: u32,
        /// Makes the list say why each item is in it.
        explain: bool,
        /// Makes the list have the attributes of the items.
        details: bool,
        /// Sets how long dismissed items are left out, such as `30d`.
        dismissed_for: impl Into<String>,
        /// Sets how long purchased items are left out, such as `30d`.
        purchased_for: impl Into<String>,
        /// Leaves out items with an event of a kind, such as `purchase:365d`.
        exclude_events: impl Into<String>,
        /// Sets how often an item may be shown, such as `3/24h`.
        max_impressions: impl Into<String>,
        /// Sets what the list does with items that were shown too often.
        impression_limit_action: ImpressionLimitAction,
        /// Sets what may be stored of the user.
        consent: Consent,
        /// Sets the placement of the list.
        placement: impl Into<String>,
        /// Sets the item of the page.
        item: impl Into<String>,
    }

    /// Leaves out items. An id in a query cannot contain a comma.
    #[must_use]
    pub fn exclude(mut self, items: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.exclude = items.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the items of the cart. An id in a query cannot contain a comma.
    #[must_use]
    pub fn items(mut self, items: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.items = items.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a text, a number or a boolean to the context.
    #[must_use]
    pub fn context(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.context.insert(name.into(), value.into());
        self
    }

    /// Makes the list include the records of a receipt, or the entries before a journal offset.
    #[must_use]
    pub fn after(mut self, after: impl Into<After>) -> Self {
        self.min_offset = after.into().0;
        self
    }
}

/// Parameters of [`rank`](crate::SequorClient::rank).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RankOptions {
    /// The user for whom the list is ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The items of a session, oldest first, if there is no user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items_in_session: Vec<String>,
    /// The placement of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// Texts, numbers and booleans for rules.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, Value>,
    /// Whether the list says why each item has its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<bool>,
    /// Whether the daemon records the list as shown. Such a request is not repeated if its outcome
    /// is unknown, because each request records a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
    /// The list includes the journal entries before this offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_offset: Option<u64>,
}

impl RankOptions {
    /// Orders the list for a user.
    #[must_use]
    pub fn user(user_id: impl Into<String>) -> Self {
        Self { user_id: Some(user_id.into()), ..Self::default() }
    }

    /// Orders the list for a session that has these items, oldest first.
    #[must_use]
    pub fn session(items: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { items_in_session: items.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    setters! {
        /// Sets the placement of the list.
        placement: impl Into<String>,
        /// Makes the list say why each item has its place.
        explain: bool,
        /// Records the list as shown.
        log: bool,
    }

    /// Adds a text, a number or a boolean to the context.
    #[must_use]
    pub fn context(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.context.insert(name.into(), value.into());
        self
    }

    /// Makes the list include the records of a receipt, or the entries before a journal offset.
    #[must_use]
    pub fn after(mut self, after: impl Into<After>) -> Self {
        self.min_offset = after.into().0;
        self
    }
}

/// Parameters of [`similar_items`](crate::SequorClient::similar_items).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SimilarOptions {
    /// Number of items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The placement of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// Whether the list says why each item is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<bool>,
}

impl SimilarOptions {
    setters! {
        /// Sets the number of items.
        limit: u32,
        /// Sets the placement of the list.
        placement: impl Into<String>,
        /// Makes the list say why each item is in it.
        explain: bool,
    }
}

/// Parameters of [`trending_items`](crate::SequorClient::trending_items).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrendingOptions {
    /// Number of items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The placement of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// The category of the items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
}

impl TrendingOptions {
    setters! {
        /// Sets the number of items.
        limit: u32,
        /// Sets the placement of the list.
        placement: impl Into<String>,
        /// Sets the category of the items.
        category: impl Into<String>,
    }
}

/// Parameters of [`report_impression`](crate::SequorClient::report_impression).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImpressionOptions {
    /// The id of the list. Without it, the client makes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommendation_id: Option<String>,
    /// The placement of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// What may be stored of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
}

impl ImpressionOptions {
    setters! {
        /// Sets the id of the list.
        recommendation_id: impl Into<String>,
        /// Sets the placement of the list.
        placement: impl Into<String>,
        /// Sets what may be stored of the user.
        consent: Consent,
    }
}

/// The parameters of a query: texts, numbers, booleans and lists of ids by name. The members of
/// `context` are parameters of their own.
///
/// # Errors
/// [`SequorError::InvalidArgument`] if a value has no form in a query.
pub(crate) fn query_of_options(options: &impl Serialize) -> Result<Vec<(String, String)>, SequorError> {
    let encoded = serde_json::to_value(options).map_err(|error| SequorError::invalid(error.to_string()))?;
    let Value::Object(members) = encoded else { return Ok(Vec::new()) };
    let mut query = Vec::new();
    for (name, value) in members {
        match value {
            Value::Object(context) => {
                for (member, value) in context {
                    let name = format!("{name}.{member}");
                    query.push((name.clone(), query_text(&name, value)?));
                }
            }
            value => query.push((name.clone(), query_text(&name, value)?)),
        }
    }
    Ok(query)
}

fn query_text(name: &str, value: Value) -> Result<String, SequorError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Array(ids) => {
            let ids: Vec<String> = ids.into_iter().map(|id| query_text(name, id)).collect::<Result<_, _>>()?;
            match ids.iter().find(|id| id.contains(',')) {
                None => Ok(ids.join(",")),
                Some(id) => Err(SequorError::invalid(format!(
                    "`{name}` has the id `{id}`; the query separates ids by commas, so an id cannot contain one"
                ))),
            }
        }
        Value::Null | Value::Object(_) => {
            Err(SequorError::invalid(format!("`{name}` is {value}; it must be a text, a finite number or a boolean")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipts::Receipt;

    #[test]
    fn the_query_has_each_parameter_that_is_set() {
        let receipt = Receipt { offset: Some(7), ..Receipt::default() };
        let options = ListOptions::default()
            .limit(5)
            .exclude(["a", "b"])
            .exclude_seen(true)
            .context("max_price", 10)
            .context("page", "käse")
            .consent(Consent::Session)
            .after(&receipt);
        let query = query_of_options(&options).unwrap();
        let expected = [
            ("consent", "session"),
            ("context.max_price", "10"),
            ("context.page", "käse"),
            ("exclude", "a,b"),
            ("exclude_seen", "true"),
            ("limit", "5"),
            ("min_offset", "7"),
        ];
        assert_eq!(query, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(query_of_options(&ListOptions::default()).unwrap(), []);
    }

    #[test]
    fn a_value_without_a_form_in_a_query_is_an_error() {
        let message = |options: ListOptions| query_of_options(&options).unwrap_err().to_string();
        assert_eq!(
            message(ListOptions::default().exclude(["a,b"])),
            "`exclude` has the id `a,b`; the query separates ids by commas, so an id cannot contain one"
        );
        assert_eq!(
            message(ListOptions::default().context("price", f64::NAN)),
            "`context.price` is null; it must be a text, a finite number or a boolean"
        );
    }
}
