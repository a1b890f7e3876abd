//! The details of an item: attributes that few catalogs have, and that are for display or for
//! filters only.

use super::{Attributes, AttributesPatch};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Largest length of a title, in bytes.
pub const MAX_TITLE_BYTES: usize = 256;
/// Largest length of the address of an item or of its image, in bytes.
pub const MAX_URL_BYTES: usize = 2048;

/// Title, addresses and free attributes of an item. The `ingest` module has already checked that
/// all values are within their limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemDetails {
    /// The title.
    pub title: Option<Arc<str>>,
    /// The address of the item's page.
    pub url: Option<Arc<str>>,
    /// The address of an image.
    pub image: Option<Arc<str>>,
    /// The free attributes.
    pub attributes: Attributes,
}

impl ItemDetails {
    /// The details behind a pointer; `None` if there are none.
    #[must_use]
    pub fn into_shared(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }
}

/// A change of some details. A field that is `None` leaves its value unchanged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemDetailsPatch {
    /// See [`ItemDetails::title`]; `Some(None)` removes it.
    pub title: Option<Option<Arc<str>>>,
    /// See [`ItemDetails::url`]; `Some(None)` removes it.
    pub url: Option<Option<Arc<str>>>,
    /// See [`ItemDetails::image`]; `Some(None)` removes it.
    pub image: Option<Option<Arc<str>>>,
    /// The change of the free attributes.
    pub attributes: Option<AttributesPatch>,
}

impl ItemDetailsPatch {
    /// The patch behind a pointer; `None` if it changes nothing.
    #[must_use]
    pub fn into_boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// The details of an item after this change.
    #[must_use]
    pub fn applied_to(&self, known: Option<&ItemDetails>) -> ItemDetails {
        let mut details = known.cloned().unwrap_or_default();
        for (text, change) in
            [(&mut details.title, &self.title), (&mut details.url, &self.url), (&mut details.image, &self.image)]
        {
            if let Some(new) = change {
                text.clone_from(new);
            }
        }
        if let Some(patch) = &self.attributes {
            details.attributes = details.attributes.patched(patch);
        }
        details
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AttributeValue;

    #[test]
    fn a_patch_changes_only_its_fields() {
        let details = ItemDetails {
            title: Some("Tea".into()),
            url: Some("https://shop.example/tea".into()),
            image: None,
            attributes: Attributes::from_values([("organic".into(), AttributeValue::Boolean(true))]),
        };
        let patch = ItemDetailsPatch { title: Some(None), image: Some(Some("/tea.png".into())), ..Default::default() };
        let patched = patch.applied_to(Some(&details));
        assert_eq!((patched.title.as_deref(), patched.image.as_deref()), (None, Some("/tea.png")));
        assert_eq!((&patched.url, &patched.attributes), (&details.url, &details.attributes));
        let removal = ItemDetailsPatch {
            title: Some(None),
            url: Some(None),
            image: Some(None),
            attributes: Some(AttributesPatch::RemoveAll),
        };
        assert_eq!(removal.applied_to(Some(&patched)).into_shared(), None);
        assert_eq!(ItemDetailsPatch::default().into_boxed(), None);
    }
}
