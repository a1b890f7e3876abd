//! Finds environment variables that look like settings but have no effect.

use super::layers::VARIABLE_PREFIX;
use super::{Settings, SettingsLayers};
use std::fmt;

/// Environment variables that the program reads, but that are not settings.
const NON_SETTING_VARIABLES: [&str; 5] =
    ["SEQUOR_KEY", "SEQUOR_CA", "SEQUOR_PRIVACY_SECRET", "SEQUOR_SIMD", "SEQUOR_FAULT"];
/// Prefixes of the variables that Kubernetes and Docker set for a service named `sequor`.
const PLATFORM_PREFIXES: [&str; 2] = ["SEQUOR_SERVICE_", "SEQUOR_PORT"];

/// A variable that begins with `SEQUOR_` and has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    name: String,
    suggestion: Option<String>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the environment variable {} has no effect", self.name)?;
        match &self.suggestion {
            Some(suggestion) => write!(out, "; did you mean {suggestion}?"),
            None => out.write_str("; settings are written SEQUOR_SECTION__KEY, with two underscores"),
        }
    }
}

/// Returns the variables among `names` that begin with `SEQUOR_` and that the program does not
/// read, in alphabetical order. A name that contains `__` is not listed, because
/// [`SettingsLayers::add_environment`] reports it as an error.
#[must_use]
pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<UnknownVariable> {
    let is_unknown = |name: &String| {
        let upper = name.to_ascii_uppercase();
        let is_setting = name.starts_with(VARIABLE_PREFIX) && name.contains("__");
        upper.starts_with(VARIABLE_PREFIX)
            && !is_setting
            && !NON_SETTING_VARIABLES.contains(&name.as_str())
            && !PLATFORM_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut names: Vec<_> = names.into_iter().filter(is_unknown).collect();
    if names.is_empty() {
        return Vec::new();
    }
    names.sort_unstable();
    let settings = SettingsLayers::<Settings>::new().map(|layers| layers.known_keys()).unwrap_or_default();
    let settings =
        settings.into_iter().map(|key| format!("{VARIABLE_PREFIX}{}", key.to_ascii_uppercase().replace('.', "__")));
    let known: Vec<_> = settings.chain(NON_SETTING_VARIABLES.map(str::to_owned)).collect();
    let unknown = |name: String| UnknownVariable { suggestion: nearest_variable(&name, &known), name };
    names.into_iter().map(unknown).collect()
}

/// Returns the known name that is most similar to `name`, if they differ in at most two letters.
/// Underscores and case do not count.
fn nearest_variable(name: &str, known: &[String]) -> Option<String> {
    let letters = |name: &str| name.to_ascii_uppercase().replace('_', "");
    let wanted = letters(name);
    let distances = known.iter().map(|known| (strsim::damerau_levenshtein(&letters(known), &wanted), known));
    distances.min().filter(|(distance, _)| *distance <= 2).map(|(_, known)| known.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown_variable_warnings(names: &[&str]) -> Vec<String> {
        unknown_variables(names.iter().map(|name| (*name).to_owned())).iter().map(UnknownVariable::to_string).collect()
    }

    #[test]
    fn names_the_setting_that_was_meant() {
        assert_eq!(
            unknown_variable_warnings(&[
                "SEQUOR_SERVER_LISTEN",
                "SEQUOR_KEYS",
                "sequor_log__level",
                "SEQUOR_HELLO_WORLD"
            ]),
            [
                "the environment variable SEQUOR_HELLO_WORLD has no effect; settings are written SEQUOR_SECTION__KEY, with two underscores",
                "the environment variable SEQUOR_KEYS has no effect; did you mean SEQUOR_KEY?",
                "the environment variable SEQUOR_SERVER_LISTEN has no effect; did you mean SEQUOR_SERVER__LISTEN?",
                "the environment variable sequor_log__level has no effect; did you mean SEQUOR_LOG__LEVEL?",
            ]
        );
    }

    #[test]
    fn variables_of_the_program_and_of_platforms_are_known() {
        let known = [
            "SEQUOR_KEY",
            "SEQUOR_PRIVACY_SECRET",
            "SEQUOR_LOG__LEVEL",
            "SEQUOR_PORT_8080_TCP_ADDR",
            "SEQUOR_SERVICE_HOST",
            "PATH",
        ];
        assert_eq!(unknown_variable_warnings(&known), [""; 0]);
    }
}
