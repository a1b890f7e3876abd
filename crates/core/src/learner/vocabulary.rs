//! The attribute vocabulary: assigns numbers to the brands, categories and tags of items, for the
//! network's attribute embeddings.

use crate::domain::{CatalogItem, ItemIx};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The numbers of attribute values (brands, categories, tags). Values are numbered in the order in
/// which the journal first names them. If the vocabulary is full, new values get no number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "StoredVocabulary", into = "StoredVocabulary")]
pub struct AttributeVocabulary {
    numbers: FxHashMap<String, u32>,
    /// For each attribute value, the latest items that have it. The index is the number of the
    /// value.
    items_by_value: Vec<VecDeque<ItemIx>>,
    max_values: usize,
}

/// Serialised form of [`AttributeVocabulary`]. The values are sorted by number, so that equal
/// vocabularies have equal bytes.
#[derive(Serialize, Deserialize)]
struct StoredVocabulary {
    values: Vec<String>,
    items_by_value: Vec<VecDeque<ItemIx>>,
    max_values: usize,
}

impl From<AttributeVocabulary> for StoredVocabulary {
    fn from(vocabulary: AttributeVocabulary) -> Self {
        let mut values: Vec<_> = vocabulary.numbers.into_iter().collect();
        values.sort_unstable_by_key(|(_, number)| *number);
        Self {
            values: values.into_iter().map(|(value, _)| value).collect(),
            items_by_value: vocabulary.items_by_value,
            max_values: vocabulary.max_values,
        }
    }
}

impl From<StoredVocabulary> for AttributeVocabulary {
    fn from(stored: StoredVocabulary) -> Self {
        Self {
            numbers: stored.values.into_iter().zip(0..).collect(),
            items_by_value: stored.items_by_value,
            max_values: stored.max_values,
        }
    }
}

impl AttributeVocabulary {
    /// Maximum number of items that are kept per attribute value.
    const MAX_ITEMS_PER_VALUE: usize = 32;
    /// Maximum number of items that [`AttributeVocabulary::similar_items`] returns.
    const MAX_SIMILAR_ITEMS: usize = 16;

    /// Creates an empty vocabulary of at most `max_values` values.
    #[must_use]
    pub fn new(max_values: usize) -> Self {
        Self { numbers: FxHashMap::default(), items_by_value: Vec::new(), max_values }
    }

    /// Returns the numbers of the brand, the categories and the tags of an item. Assigns numbers to
    /// new values.
    pub fn attribute_numbers(&mut self, item: &CatalogItem) -> Box<[u32]> {
        let brand = item.brand().into_iter().map(|value| ("brand", value));
        let categories = item.categories().iter().map(|value| ("category", value));
        let tags = item.tags().iter().map(|value| ("tag", value));
        brand
            .chain(categories)
            .chain(tags)
            .filter_map(|(field, value)| self.number_of_value(format!("{field}:{value}")))
            .collect()
    }

    /// Returns items that have some of the attribute values `values`. The item with the most of
    /// these values comes first; among equals, the item with the higher item number.
    #[must_use]
    pub fn similar_items(&self, values: &[u32]) -> Vec<ItemIx> {
        let mut shared: FxHashMap<ItemIx, usize> = FxHashMap::default();
        for holder in values.iter().filter_map(|value| self.items_by_value.get(*value as usize)).flatten() {
            *shared.entry(*holder).or_default() += 1;
        }
        let mut similar: Vec<_> = shared.into_iter().collect();
        similar.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(b.0.cmp(&a.0)));
        similar.into_iter().map(|(item, _)| item).take(Self::MAX_SIMILAR_ITEMS).collect()
    }

    /// Records that an item has the attribute values with these numbers.
    pub fn record_item(&mut self, item: ItemIx, values: &[u32]) {
        for value in values {
            let index = *value as usize;
            if index >= self.items_by_value.len() {
                self.items_by_value.resize(index + 1, VecDeque::new());
            }
            if let Some(items) = self.items_by_value.get_mut(index).filter(|items| !items.contains(&item)) {
                if items.len() >= Self::MAX_ITEMS_PER_VALUE {
                    items.pop_front();
                }
                items.push_back(item);
            }
        }
    }

    fn number_of_value(&mut self, value: String) -> Option<u32> {
        if let Some(number) = self.numbers.get(&value) {
            return Some(*number);
        }
        let number = u32::try_from(self.numbers.len()).ok().filter(|number| (*number as usize) < self.max_values)?;
        self.numbers.insert(value, number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Item;

    fn item_with(brand: &str, tags: &[&str]) -> CatalogItem {
        CatalogItem::from(&Item {
            brand: Some(brand.to_owned()),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..Item::default()
        })
    }

    #[test]
    fn values_are_numbered_in_order_and_equal_values_of_two_fields_differ() {
        let mut vocabulary = AttributeVocabulary::new(3);
        assert_eq!(*vocabulary.attribute_numbers(&item_with("tea", &["tea"])), [0, 1]);
        assert_eq!(*vocabulary.attribute_numbers(&item_with("cup", &["tea", "pot"])), [2, 1], "the vocabulary is full");
        let mut restored = AttributeVocabulary::from(StoredVocabulary::from(vocabulary));
        assert_eq!(*restored.attribute_numbers(&item_with("cup", &["tea", "pot"])), [2, 1]);
    }

    #[test]
    fn the_vocabulary_never_exceeds_its_limit_and_keeps_the_first_values() {
        const LIMIT: usize = 20;
        let mut vocabulary = AttributeVocabulary::new(LIMIT);
        for item in 0..10 * LIMIT {
            let tags: Vec<_> = (0..3).map(|tag| format!("{item} {tag}")).collect();
            let tags: Vec<_> = tags.iter().map(String::as_str).collect();
            let numbers = vocabulary.attribute_numbers(&item_with(&format!("brand {item}"), &tags));
            vocabulary.record_item(item as ItemIx, &numbers);
            assert!(vocabulary.numbers.len() <= LIMIT && vocabulary.items_by_value.len() <= LIMIT);
        }
        assert_eq!(*vocabulary.attribute_numbers(&item_with("brand 0", &["0 0", "new"])), [0, 1]);
    }

    #[test]
    fn similar_items_are_ordered_by_shared_values() {
        let mut vocabulary = AttributeVocabulary::new(10);
        for (number, values) in [(1, &[0, 1][..]), (2, &[0]), (3, &[1, 0]), (4, &[2])] {
            vocabulary.record_item(number, values);
        }
        assert_eq!(vocabulary.similar_items(&[0, 1, 9]), [3, 1, 2]);
        (0..100).for_each(|item| vocabulary.record_item(item, &[5]));
        let mut similar = vocabulary.similar_items(&[5]);
        assert_eq!((similar.len(), similar.remove(0)), (AttributeVocabulary::MAX_SIMILAR_ITEMS, 99));
    }
}
