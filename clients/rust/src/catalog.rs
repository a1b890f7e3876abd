//! Items of the catalog.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An item of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The item.
    pub item_id: String,
    /// The categories.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Further labels.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether the item can be recommended.
    #[serde(default = "is_available_by_default")]
    pub available: bool,
    /// The brand.
    pub brand: Option<String>,
    /// The price.
    pub price: Option<f64>,
    /// The item is not recommended before this time, in milliseconds since 1970.
    pub published: Option<i64>,
    /// The item is not recommended from this time on, in milliseconds since 1970.
    pub expires: Option<i64>,
    /// The title.
    pub title: Option<String>,
    /// The address of the item's page.
    pub url: Option<String>,
    /// The address of an image.
    pub image: Option<String>,
    /// Free attributes.
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
    /// Vectors by name, such as embeddings.
    #[serde(default)]
    pub vectors: BTreeMap<String, Vec<f32>>,
}

fn is_available_by_default() -> bool {
    true
}

/// What an [`ItemChange`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemOperation {
    /// Replaces the item.
    Put,
    /// Changes the attributes that it names. `null` removes an attribute.
    Patch,
    /// Removes the item.
    Delete,
}

/// A change of an item.
///
/// ```
/// use sequor_client::ItemChange;
/// use serde_json::json;
///
/// let changes = [ItemChange::put("tea", json!({ "price": 4.5 })), ItemChange::delete("cup")];
/// # assert_eq!(serde_json::to_string(&changes[0])?, r#"{"item_id":"tea","op":"put","price":4.5}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemChange {
    /// The item.
    pub item_id: String,
    /// What the change does.
    #[serde(rename = "op")]
    pub operation: ItemOperation,
    /// Members of the item in the format of the API, such as `price`.
    #[serde(flatten)]
    pub attributes: Map<String, Value>,
}

impl ItemChange {
    /// Replaces the item by the attributes of a JSON object.
    #[must_use]
    pub fn put(item_id: impl Into<String>, attributes: Value) -> Self {
        Self::new(item_id, ItemOperation::Put, attributes)
    }

    /// Changes the attributes that a JSON object names.
    #[must_use]
    pub fn patch(item_id: impl Into<String>, attributes: Value) -> Self {
        Self::new(item_id, ItemOperation::Patch, attributes)
    }

    /// Removes the item.
    #[must_use]
    pub fn delete(item_id: impl Into<String>) -> Self {
        Self::new(item_id, ItemOperation::Delete, Value::Null)
    }

    /// A value that is not an object has no attributes.
    fn new(item_id: impl Into<String>, operation: ItemOperation, attributes: Value) -> Self {
        let attributes = match attributes {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        Self { item_id: item_id.into(), operation, attributes }
    }
}
