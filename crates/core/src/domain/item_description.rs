//! The description of an item for display.

use super::CatalogItem;
use serde::Serialize;
use std::sync::Arc;

/// The catalog's description of an item, for display. It has no free attributes, because visitors
/// of a page can read it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ItemDescription {
    /// The title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    /// The address of the item's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Arc<str>>,
    /// The address of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
    /// The price, in the site's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// The brand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brand: Option<Arc<str>>,
    /// The categories.
    pub categories: Vec<Arc<str>>,
    /// The tags.
    pub tags: Vec<Arc<str>>,
}

impl From<&CatalogItem> for ItemDescription {
    fn from(item: &CatalogItem) -> Self {
        let details = item.details();
        Self {
            title: details.and_then(|details| details.title.clone()),
            url: details.and_then(|details| details.url.clone()),
            image: details.and_then(|details| details.image.clone()),
            price: item.price(),
            brand: item.brand().cloned(),
            categories: item.categories().to_vec(),
            tags: item.tags().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AttributeValue, Attributes, Item, ItemDetails};

    #[test]
    fn a_description_has_no_free_attributes() {
        let attributes = Attributes::from_values([("margin".into(), AttributeValue::Number(0.4))]);
        let details = ItemDetails { title: Some("Tea".into()), attributes, ..ItemDetails::default() };
        let item = Item { price: Some(4.5), details: details.into_shared(), ..Item::default() };
        let description = ItemDescription::from(&CatalogItem::from(&item));
        let json = serde_json::to_string(&description).unwrap();
        assert_eq!(json, r#"{"title":"Tea","price":4.5,"categories":[],"tags":[]}"#);
    }
}
