//! Lists of items.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// An item of a list. Scores of different lists are not comparable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecommendedItem {
    /// The item.
    pub item_id: String,
    /// The score, by which the list is ordered.
    pub score: f64,
    /// The source that proposed the item.
    pub source: String,
    /// Why the item is in the list, with `explain`.
    pub explanation: Option<Value>,
    /// The predicted values of the item for the user.
    pub interest: Option<BTreeMap<String, f64>>,
    /// The attributes of the item, with `details`.
    pub details: Option<Value>,
}

/// A list of recommended items, best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendations {
    /// The id of the list. Events that respond to the list name it.
    pub recommendation_id: String,
    /// The version of the network's weights.
    pub weights_version: u64,
    /// The items.
    pub items: Vec<RecommendedItem>,
    /// What the list lacks; `none` is nothing.
    pub fallback: String,
    /// Number of removed candidates by reason.
    #[serde(default)]
    pub removed: BTreeMap<String, u64>,
    /// The placement of the list.
    pub placement: Option<String>,
    /// The kind of event whose values `interest` predicts.
    pub interest_kind: Option<String>,
    /// The items that rules removed, with `explain`.
    #[serde(default)]
    pub removed_by_rules: Option<Vec<Value>>,
    /// The journal position of a list of a stream.
    #[serde(default)]
    pub offset: Option<u64>,
}

impl Recommendations {
    /// The ids of the items, best first.
    #[must_use]
    pub fn item_ids(&self) -> Vec<&str> {
        self.items.iter().map(|item| item.item_id.as_str()).collect()
    }
}

/// A list that is not personalised: similar or trending items, best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemList {
    /// The items.
    pub items: Vec<RecommendedItem>,
    /// The placement of the list.
    pub placement: Option<String>,
}

/// An item to rank, or a shown item.
///
/// ```
/// use sequor_client::ListItem;
///
/// let items = [ListItem::from("tea"), ListItem::from("cup").relevance(0.5)];
/// # assert_eq!(items[1].relevance, Some(0.5));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListItem {
    /// The item.
    pub item_id: String,
    /// The site's own score of the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relevance: Option<f64>,
    /// Only for shown items: the score of the model in a response of `rank`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_score: Option<f64>,
}

impl ListItem {
    /// Sets the site's own score of the item.
    #[must_use]
    pub fn relevance(mut self, relevance: f64) -> Self {
        self.relevance = Some(relevance);
        self
    }

    /// Sets the score of the model in a response of `rank`, for a shown item.
    #[must_use]
    pub fn model_score(mut self, score: f64) -> Self {
        self.model_score = Some(score);
        self
    }
}

impl From<&str> for ListItem {
    fn from(item_id: &str) -> Self {
        item_id.to_owned().into()
    }
}

impl From<String> for ListItem {
    fn from(item_id: String) -> Self {
        Self { item_id, relevance: None, model_score: None }
    }
}

/// An item of a ranked list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedItem {
    /// The item.
    pub item_id: String,
    /// The place of the item in the request, from 0.
    pub position: u32,
    /// The score of the model; `None` if the model does not know the item.
    pub score: Option<f64>,
    /// What the model knows of the item, such as `learned` or `unknown`.
    pub status: String,
    /// Whether the item can be recommended.
    pub is_available: bool,
    /// The source that knows the item.
    pub source: Option<String>,
    /// Why the item has its place, with `explain`.
    pub explanation: Option<Value>,
    /// The predicted values of the item for the user.
    pub interest: Option<BTreeMap<String, f64>>,
    /// How relevance and score are combined, with `explain`.
    pub combination: Option<Value>,
}

/// The items of a request in the order for the user, best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedList {
    /// The version of the network's weights.
    pub weights_version: u64,
    /// Whether the order depends on the user.
    pub is_personalised: bool,
    /// The items.
    pub items: Vec<RankedItem>,
    /// The id of the recorded list, with `log`.
    pub recommendation_id: Option<String>,
    /// The placement of the list.
    pub placement: Option<String>,
    /// The items that rules removed, with `explain`.
    #[serde(default)]
    pub removed_by_rules: Option<Vec<Value>>,
}
