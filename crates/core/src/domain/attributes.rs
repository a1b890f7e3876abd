//! Free attributes: named values that a site gives its items, users and requests.

use super::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Largest number of attributes of an item or a user.
pub const MAX_ATTRIBUTES: usize = 64;
/// Largest length of the name of an attribute, in bytes.
pub const MAX_ATTRIBUTE_NAME_BYTES: usize = 32;
/// Largest length of a text of an attribute, in bytes.
pub const MAX_ATTRIBUTE_TEXT_BYTES: usize = 256;
/// Largest number of elements of a list.
pub const MAX_ATTRIBUTE_LIST_LEN: usize = 32;
/// Largest number of values in the context of a request or an event.
pub const MAX_CONTEXT_VALUES: usize = 8;
/// Largest length of a text of a context, in bytes.
pub const MAX_CONTEXT_TEXT_BYTES: usize = 64;

/// The value of an attribute. Clones share texts and lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AttributeValue {
    /// A text.
    Text(Arc<str>),
    /// A finite number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A list of texts.
    Texts(Arc<[Arc<str>]>),
    /// A list of finite numbers.
    Numbers(Arc<[f64]>),
}

/// A borrowed value of an attribute or of a field. It serialises as a plain JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AttributeView<'a> {
    /// A text.
    Text(&'a str),
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A list of texts.
    Texts(&'a [Arc<str>]),
    /// A list of numbers.
    Numbers(&'a [f64]),
}

impl AttributeValue {
    /// The value, borrowed.
    #[must_use]
    pub fn view(&self) -> AttributeView<'_> {
        match self {
            Self::Text(text) => AttributeView::Text(text),
            Self::Number(number) => AttributeView::Number(*number),
            Self::Boolean(boolean) => AttributeView::Boolean(*boolean),
            Self::Texts(texts) => AttributeView::Texts(texts),
            Self::Numbers(numbers) => AttributeView::Numbers(numbers),
        }
    }

    /// Replaces each text by the result of `share`.
    #[must_use]
    fn with_shared_texts(&self, share: &impl Fn(&Arc<str>) -> Arc<str>) -> Self {
        match self {
            Self::Text(text) => Self::Text(share(text)),
            Self::Texts(texts) => Self::Texts(texts.iter().map(share).collect()),
            Self::Number(_) | Self::Boolean(_) | Self::Numbers(_) => self.clone(),
        }
    }
}

/// A change of some attributes. The other attributes stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AttributesPatch {
    /// Removes all attributes.
    RemoveAll,
    /// Sets the attributes of these names, or removes those without a value.
    Change(Vec<(Arc<str>, Option<AttributeValue>)>),
}

/// Attributes by name, in the order of the names. 40 bytes an attribute, plus texts and lists.
///
/// ```
/// use sequor_core::domain::{AttributeValue, AttributeView, Attributes, AttributesPatch};
///
/// let attributes = Attributes::from_values([("size".into(), AttributeValue::Number(42.0))]);
/// let english = AttributeValue::Text("en".into());
/// let patch = AttributesPatch::Change(vec![("language".into(), Some(english))]);
/// let attributes = attributes.patched(&patch);
/// assert_eq!(attributes.get("language"), Some(AttributeView::Text("en")));
/// assert_eq!((attributes.len(), attributes.get("colour")), (2, None));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attributes(Box<[(Arc<str>, AttributeValue)]>);

impl Attributes {
    /// Creates attributes. If a name occurs twice, its last value applies.
    #[must_use]
    pub fn from_values(values: impl IntoIterator<Item = (Arc<str>, AttributeValue)>) -> Self {
        Self(values.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
    }

    /// The value of an attribute, borrowed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<AttributeView<'_>> {
        self.value(name).map(AttributeValue::view)
    }

    /// The value of an attribute.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&AttributeValue> {
        let position = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.0.get(position).map(|(_, value)| value)
    }

    /// The attributes, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &AttributeValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The values by name, as JSON shows them.
    #[must_use]
    pub fn views(&self) -> BTreeMap<&str, AttributeView<'_>> {
        self.0.iter().map(|(name, value)| (&**name, value.view())).collect()
    }

    /// Number of attributes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no attributes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies a patch. If there would be more than [`MAX_ATTRIBUTES`], new names are added in the
    /// order of the patch until the limit is reached. The API refuses such a patch before.
    #[must_use]
    pub fn patched(&self, patch: &AttributesPatch) -> Self {
        let AttributesPatch::Change(changes) = patch else { return Self::default() };
        let mut values: BTreeMap<_, _> = self.0.iter().cloned().collect();
        for (name, _) in changes.iter().filter(|(_, value)| value.is_none()) {
            values.remove(name);
        }
        for (name, value) in changes {
            if let Some(value) = value
                && (values.len() < MAX_ATTRIBUTES || values.contains_key(name))
            {
                values.insert(Arc::clone(name), value.clone());
            }
        }
        Self(values.into_iter().collect())
    }

    /// Number of attributes after a patch, without the limit.
    #[must_use]
    pub fn len_after(&self, patch: &AttributesPatch) -> usize {
        let AttributesPatch::Change(changes) = patch else { return 0 };
        let removed = changes.iter().filter(|(name, value)| value.is_none() && self.get(name).is_some());
        let added = changes.iter().filter(|(name, value)| value.is_some() && self.get(name).is_none());
        self.len() + added.count() - removed.count()
    }

    /// Adds those of the other attributes whose names are new, up to [`MAX_ATTRIBUTES`] in all.
    #[must_use]
    pub fn merged_with(&self, other: &Self) -> Self {
        let new = other.0.iter().filter(|(name, _)| self.get(name).is_none());
        let added = new.take(MAX_ATTRIBUTES.saturating_sub(self.len()));
        Self::from_values(self.0.iter().chain(added).cloned())
    }

    /// Replaces each name and text by the result of `share`.
    #[must_use]
    pub(super) fn with_shared_texts(&self, share: &impl Fn(&Arc<str>) -> Arc<str>) -> Self {
        Self(self.0.iter().map(|(name, value)| (share(name), value.with_shared_texts(share))).collect())
    }
}

/// A change of a user's attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserAttributesChange {
    /// The user.
    pub user_id: String,
    /// The change.
    pub patch: AttributesPatch,
    /// The time at which the daemon received the change.
    pub timestamp: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(names: impl IntoIterator<Item = usize>) -> Attributes {
        Attributes::from_values(names.into_iter().map(|n| (format!("a{n}").into(), AttributeValue::Number(n as f64))))
    }

    #[test]
    fn a_patch_sets_and_removes_only_its_names() {
        let text = |text: &str| Some(AttributeValue::Text(text.into()));
        let changes =
            vec![("a1".into(), None), ("a2".into(), text("new")), ("b".into(), text("b")), ("c".into(), None)];
        let patched = numbered([1, 2, 3]).patched(&AttributesPatch::Change(changes));
        let names: Vec<_> = patched.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["a2", "a3", "b"]);
        assert_eq!(patched.get("a2"), Some(AttributeView::Text("new")));
        assert!(patched.patched(&AttributesPatch::RemoveAll).is_empty());
    }

    #[test]
    fn patches_and_merges_keep_the_limit() {
        let full = numbered(0..MAX_ATTRIBUTES);
        let number = Some(AttributeValue::Number(0.5));
        let changes = vec![("new".into(), number.clone()), ("a7".into(), number), ("a1".into(), None)];
        let patch = AttributesPatch::Change(changes);
        assert_eq!((full.len_after(&patch), full.len_after(&AttributesPatch::RemoveAll)), (MAX_ATTRIBUTES, 0));
        let patched = full.patched(&patch);
        assert_eq!((patched.len(), patched.get("a7")), (MAX_ATTRIBUTES, Some(AttributeView::Number(0.5))));
        assert!(patched.get("new").is_some() && patched.get("a1").is_none());
        let merged = numbered([1]).merged_with(&numbered((0..MAX_ATTRIBUTES).map(|n| n + 1)));
        assert_eq!((merged.len(), merged.get("a1")), (MAX_ATTRIBUTES, Some(AttributeView::Number(1.0))));
        let own = Attributes::from_values([("a1".into(), AttributeValue::Boolean(true))]);
        assert_eq!(own.merged_with(&numbered([1])), own, "own values win");
    }
}
