//! Attribute values as the network knows them: dense numbers.

use crate::domain::Item;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// Numbers attribute values (a brand, a category, a tag) in the order in which the journal first names them. Bounded: once it is full, values that
/// are new have no number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Vocabulary {
    numbers: FxHashMap<String, u32>,
    most: usize,
}

/// How a vocabulary is written: the values by number, so that equal ones are equal bytes.
#[derive(Serialize, Deserialize)]
struct Stored {
    values: Vec<String>,
    most: usize,
}

impl From<Vocabulary> for Stored {
    fn from(vocabulary: Vocabulary) -> Self {
        let mut values: Vec<_> = vocabulary.numbers.into_iter().collect();
        values.sort_unstable_by_key(|(_, number)| *number);
        Self { values: values.into_iter().map(|(value, _)| value).collect(), most: vocabulary.most }
    }
}

impl From<Stored> for Vocabulary {
    fn from(stored: Stored) -> Self {
        Self { numbers: stored.values.into_iter().zip(0..).collect(), most: stored.most }
    }
}

impl Vocabulary {
    /// A vocabulary that will number at most `most` values.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { numbers: FxHashMap::default(), most }
    }

    /// The numbers of an item's values, those that are new numbered now: its brand, its categories, its tags.
    pub fn number(&mut self, item: &Item) -> Box<[u32]> {
        let brand = item.brand.iter().map(|value| ("brand", value));
        let categories = item.categories.iter().map(|value| ("category", value));
        let tags = item.tags.iter().map(|value| ("tag", value));
        brand.chain(categories).chain(tags).filter_map(|(field, value)| self.value(format!("{field}:{value}"))).collect()
    }

    fn value(&mut self, value: String) -> Option<u32> {
        if let Some(number) = self.numbers.get(&value) {
            return Some(*number);
        }
        let number = u32::try_from(self.numbers.len()).ok().filter(|number| (*number as usize) < self.most)?;
        self.numbers.insert(value, number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(brand: &str, tags: &[&str]) -> Item {
        Item { brand: Some(brand.to_owned()), tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..Item::default() }
    }

    #[test]
    fn values_are_numbered_as_they_come_and_fields_are_told_apart() {
        let mut vocabulary = Vocabulary::new(3);
        assert_eq!(*vocabulary.number(&item("tea", &["tea"])), [0, 1]);
        assert_eq!(*vocabulary.number(&item("cup", &["tea", "pot"])), [2, 1], "there was no room for the last");
        let mut again = Vocabulary::from(Stored::from(vocabulary));
        assert_eq!(*again.number(&item("cup", &["tea", "pot"])), [2, 1]);
    }
}
