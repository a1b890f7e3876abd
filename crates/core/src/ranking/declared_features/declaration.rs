//! The declarations of features: names, and the terms that give a feature its values.

use super::key_hash::{ValueHashes, finish, hash_flag, hash_text, mix};
use crate::domain::{CatalogItem, MAX_ATTRIBUTE_NAME_BYTES};
use crate::ranking::filter::{FeatureContext, ValueOperand, ValueTerm, parse_value_terms, values_match};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Largest number of combinations of elements that count for one feature of a candidate.
pub(super) const MAX_COMBINATIONS: usize = 16;

/// A declared feature.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureDeclaration {
    name: Arc<str>,
    /// The operands as declared, separated by commas.
    text: Arc<str>,
    terms: Vec<ValueTerm>,
    seed: u64,
}

/// Why a declaration is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("feature {name}: {value} is not {allowed}")]
pub struct FeatureDeclarationError {
    /// The name of the feature; empty if the number of features is wrong.
    pub name: String,
    /// The invalid value.
    pub value: String,
    /// The allowed values.
    pub allowed: String,
}

impl FeatureDeclaration {
    /// Largest number of operands of a feature.
    pub const MAX_OPERANDS: usize = 3;

    fn parse(name: &str, text: &str) -> Result<Self, FeatureDeclarationError> {
        let error = |value: &str, allowed: String| FeatureDeclarationError {
            name: name.to_owned(),
            value: format!("{value:?}"),
            allowed,
        };
        let is_name = name != "all"
            && (1..=MAX_ATTRIBUTE_NAME_BYTES).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_name {
            let allowed = "a name that begins with a-z, of 1 to 32 characters a-z, 0-9 and _, other than `all`";
            return Err(error(name, allowed.to_owned()));
        }
        let operand_range = format!("1 to {} operands", Self::MAX_OPERANDS);
        if text.trim().is_empty() {
            return Err(error(text, operand_range));
        }
        let terms = parse_value_terms(text).map_err(|reason| error(text, format!("{operand_range}; {reason}")))?;
        let operands = terms.iter().flat_map(ValueTerm::operands).count();
        if operands > Self::MAX_OPERANDS {
            return Err(error(text, format!("{operand_range}, not {operands}")));
        }
        if terms.iter().any(|term| matches!(term, ValueTerm::Match(left, right) if left == right)) {
            return Err(error(text, format!("{operand_range}; a comparison has two different operands")));
        }
        if !terms.iter().any(ValueTerm::reads_item) {
            let reason = "of which at least one is of the item; without it, all candidates have the same value";
            return Err(error(text, format!("{operand_range}, {reason}")));
        }
        Ok(Self { name: name.into(), text: text.into(), terms, seed: mix(hash_text(name), 0) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The operands as declared, separated by commas.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn terms(&self) -> &[ValueTerm] {
        &self.terms
    }

    /// Calls `add` with the hash of each value that the feature has for a candidate: of each
    /// combination of the elements of its terms. `fixed` has the hashes of the terms that do not
    /// depend on the item. Does nothing if an operand is missing.
    pub(super) fn visit_values(
        &self,
        fixed: &[Option<ValueHashes>],
        item: Option<&CatalogItem>,
        context: &FeatureContext<'_>,
        mut add: impl FnMut(u64),
    ) {
        let mut hashes = [ValueHashes::default(); Self::MAX_OPERANDS];
        for ((hashes, term), fixed) in hashes.iter_mut().zip(&self.terms).zip(fixed) {
            let Some(of_term) = fixed.or_else(|| term_hashes(term, item, context)) else { return };
            *hashes = of_term;
        }
        let elements = |term: usize| match self.terms.get(term) {
            Some(_) => hashes.get(term).map_or(&[][..], ValueHashes::as_slice),
            // A missing term leaves the hash as it is.
            None => &[0],
        };
        let mut left = MAX_COMBINATIONS;
        for first in elements(0) {
            for second in elements(1) {
                for third in elements(2) {
                    if left == 0 {
                        return;
                    }
                    left -= 1;
                    add(finish(mix(mix(mix(self.seed, *first), *second), *third)));
                }
            }
        }
    }
}

/// The hashes of the values of a term; `None` if an operand is missing.
pub(super) fn term_hashes(
    term: &ValueTerm,
    item: Option<&CatalogItem>,
    context: &FeatureContext<'_>,
) -> Option<ValueHashes> {
    let value_of = |operand: &ValueOperand| operand.value_of(item, context).map(ValueHashes::of_value);
    match term {
        ValueTerm::Value(operand) => value_of(operand).filter(|hashes| !hashes.as_slice().is_empty()),
        ValueTerm::Match(left, right) => {
            let (left, right) = (left.value_of(item, context)?, right.value_of(item, context)?);
            Some(ValueHashes::of_hash(hash_flag(values_match(left, right))))
        }
    }
}

/// All declared features, in the order of their names. Clones share the declarations.
///
/// ```
/// use sequor_core::ranking::FeatureDeclarations;
///
/// let declared = FeatureDeclarations::parse([("brand".to_owned(), "brand, user.country".to_owned())])?;
/// assert_eq!(declared.features()[0].text(), "brand, user.country");
/// assert!(FeatureDeclarations::parse([("brand".to_owned(), "shop.brand".to_owned())]).is_err());
/// # Ok::<(), sequor_core::ranking::FeatureDeclarationError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct FeatureDeclarations(Arc<[FeatureDeclaration]>);

impl FeatureDeclarations {
    /// Largest number of features.
    pub const MAX_FEATURES: usize = 32;

    /// Parses features: names, and operands separated by commas. `a = b` instead of an operand is the
    /// value true or false.
    ///
    /// # Errors
    /// The first invalid declaration.
    pub fn parse(features: impl IntoIterator<Item = (String, String)>) -> Result<Self, FeatureDeclarationError> {
        let features: BTreeMap<_, _> = features.into_iter().collect();
        if features.len() > Self::MAX_FEATURES {
            return Err(FeatureDeclarationError {
                name: String::new(),
                value: format!("{} features", features.len()),
                allowed: format!("at most {} features", Self::MAX_FEATURES),
            });
        }
        features.iter().map(|(name, text)| FeatureDeclaration::parse(name, text)).collect::<Result<_, _>>().map(Self)
    }

    /// The features.
    #[must_use]
    pub fn features(&self) -> &[FeatureDeclaration] {
        &self.0
    }

    /// Whether no feature is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a feature reads attributes of the user.
    #[must_use]
    pub fn read_user(&self) -> bool {
        self.0.iter().flat_map(FeatureDeclaration::terms).any(ValueTerm::reads_user)
    }
}

impl TryFrom<BTreeMap<String, String>> for FeatureDeclarations {
    type Error = FeatureDeclarationError;

    fn try_from(stored: BTreeMap<String, String>) -> Result<Self, FeatureDeclarationError> {
        Self::parse(stored)
    }
}

impl Serialize for FeatureDeclarations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|feature| (&feature.name, &feature.text)))
    }
}
