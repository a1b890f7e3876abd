//! Declared features of the ranker.

use super::InvalidSetting;
use crate::ranking::{FeatureDeclarationError, FeatureDeclarations};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The operands of a declared feature: one text, or a list of texts whose values are crossed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the text of an operand, or a list of such texts")]
pub enum FeatureOperands {
    /// An operand, or `a = b`: whether two operands match.
    One(String),
    /// Operands whose values are crossed.
    Crossed(Vec<String>),
}

/// Declared features by name, at most 32, each with 1 to 3 operands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureSettings(BTreeMap<String, FeatureOperands>);

impl FeatureSettings {
    /// The declarations. Invalid ones, which the check of the settings refuses, give none.
    #[must_use]
    pub fn declarations(&self) -> FeatureDeclarations {
        self.parse().unwrap_or_default()
    }

    fn parse(&self) -> Result<FeatureDeclarations, FeatureDeclarationError> {
        let text = |operands: &FeatureOperands| match operands {
            FeatureOperands::One(text) => text.clone(),
            FeatureOperands::Crossed(texts) => texts.join(", "),
        };
        FeatureDeclarations::parse(self.0.iter().map(|(name, operands)| (name.clone(), text(operands))))
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        let to_setting = |FeatureDeclarationError { name, value, allowed }: FeatureDeclarationError| {
            let key = if name.is_empty() { "features".to_owned() } else { format!("features.{name}") };
            InvalidSetting::new(key, value, allowed)
        };
        self.parse().map(drop).map_err(to_setting)
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::{Settings, Validate};

    fn error_of(features: &str) -> String {
        let settings: Settings = toml::from_str(&format!("[features]\n{features}")).unwrap();
        settings.validate().unwrap_err().to_string()
    }

    #[test]
    fn features_are_texts_or_lists() {
        let text = "[features]\nlanguage = \"item.language = user.language\"\ncross = [\"user.country\", \"category\", \"price\"]";
        let settings: Settings = toml::from_str(text).unwrap();
        settings.validate().unwrap();
        let declared = settings.features.declarations();
        let texts: Vec<_> = declared.features().iter().map(|feature| (&**feature.name(), feature.text())).collect();
        assert_eq!(texts, [("cross", "user.country, category, price"), ("language", "item.language = user.language")]);
    }

    #[test]
    fn invalid_declarations_name_the_key_and_the_allowed_operands() {
        let empty = error_of("a = []");
        assert_eq!(empty, "features.a = \"\": must be 1 to 3 operands");
        assert_eq!(error_of("a = \" \""), "features.a = \" \": must be 1 to 3 operands");
        let four = error_of("a = [\"item.b\", \"item.c\", \"user.d\", \"context.e\"]");
        assert_eq!(four, "features.a = \"item.b, item.c, user.d, context.e\": must be 1 to 3 operands, not 4");
        let unknown = error_of("a = \"shop.language\"");
        assert!(
            unknown
                .starts_with("features.a = \"shop.language\": must be 1 to 3 operands; column 1: expected `item.NAME`"),
            "{unknown}"
        );
        assert!(unknown.ends_with("`user.NAME` or `context.NAME`"), "{unknown}");
        for refused in [
            "item.published",
            "available",
            "item.title",
            "item.Big",
            "item.a =",
            "item.a item.b",
            "item.a,",
            "price = price",
        ] {
            let error = error_of(&format!("a = \"{refused}\""));
            assert!(error.starts_with("features.a = "), "{refused}: {error}");
        }
        let constant = error_of("a = [\"user.country\", \"context.device\"]");
        assert!(constant.contains("at least one is of the item"), "{constant}");
        assert!(error_of("Big = \"brand\"").contains("a name that begins with a-z"));
        assert!(error_of("all = \"brand\"").contains("other than `all`"));
        let many: String = (0..33).map(|number| format!("f{number} = \"brand\"\n")).collect();
        assert_eq!(error_of(&many), "features = 33 features: must be at most 32 features");
    }
}
