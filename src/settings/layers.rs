//! Merges the sources of settings key by key and records the origin of each value.

use super::{InvalidSetting, Validate};
use crate::domain::describe_type_error;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};
use toml::{Table, Value};

/// Prefix of environment variables that are settings.
pub(super) const VARIABLE_PREFIX: &str = "SEQUOR_";

/// The source that set a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingOrigin {
    /// The default value of the program or of a command.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A command line flag.
    Flag,
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("the defaults"),
            Self::File(file) => write!(out, "{}", file.display()),
            Self::Environment(variable) => write!(out, "the environment ({variable})"),
            Self::Flag => out.write_str("the command line"),
        }
    }
}

/// Settings of earlier versions, each with a description of what replaced it.
const REMOVED_SETTINGS: [(&str, &str); 1] =
    [("network.interest_weight", "the interest models ([interest], and `interest` in [events.kinds]) replaced it")];

/// Errors that occur while settings are read and validated.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The defaults cannot be serialised as TOML, because a section has an unsupported type.
    #[error("the defaults cannot be written as TOML")]
    Defaults(#[source] toml::ser::Error),
    /// The file cannot be read.
    #[error("{}: cannot be read", file.display())]
    Read {
        /// The path of the file.
        file: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is not valid TOML.
    #[error("{}: not valid TOML", file.display())]
    Syntax {
        /// The path of the file.
        file: PathBuf,
        /// The syntax error with its position.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The key is unknown.
    #[error("unknown setting {key} (from {origin}){}", suggestion.as_ref().map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    UnknownKey {
        /// The unknown key.
        key: String,
        /// The source that set the value.
        origin: SettingOrigin,
        /// The most similar known key, if a known key is similar enough.
        suggestion: Option<String>,
    },
    /// The setting existed in an earlier version.
    #[error("the setting {key} was removed (from {origin}): {replacement}; delete it")]
    Removed {
        /// The key.
        key: String,
        /// The source that set the value.
        origin: SettingOrigin,
        /// What replaced the setting.
        replacement: &'static str,
    },
    /// The value has the wrong type.
    #[error("{key} = {value}: {reason} (from {origin})")]
    WrongType {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The source that set the value.
        origin: SettingOrigin,
        /// The type error.
        reason: String,
    },
    /// The value is out of range.
    #[error("{error} (from {origin})")]
    OutOfRange {
        /// Key, value and allowed range.
        error: InvalidSetting,
        /// The source that set the value.
        origin: SettingOrigin,
    },
}

/// Settings merged from layers; a later layer overrides an earlier one. `S` is a tree of serde
/// structs with defaults.
///
/// The known keys are the keys of the serialised defaults. Serialisation must therefore not skip
/// any field, except inside a map. An empty table in the defaults is a map that accepts any key.
///
/// ```
/// use sequor::settings::{Settings, SettingsLayers};
///
/// let layers = SettingsLayers::<Settings>::new()?
///     .add_environment([("SEQUOR_SERVER__MAX_BATCH".to_owned(), "50".to_owned())])?
///     .add_flag("server.listen", "127.0.0.1:0")?;
/// assert_eq!(layers.validated_settings()?.server.max_batch, 50);
/// # Ok::<(), sequor::settings::SettingsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SettingsLayers<S> {
    defaults: Table,
    tree: Table,
    settings: S,
    origins: BTreeMap<String, SettingOrigin>,
}

impl<S: Default + Serialize + DeserializeOwned> SettingsLayers<S> {
    /// Starts with the defaults.
    ///
    /// # Errors
    /// If the defaults cannot be serialised as TOML.
    pub fn new() -> Result<Self, SettingsError> {
        let settings = S::default();
        let defaults = Table::try_from(&settings).map_err(SettingsError::Defaults)?;
        Ok(Self { tree: defaults.clone(), defaults, settings, origins: BTreeMap::new() })
    }

    /// Replaces defaults of the program by the defaults of a command such as `sequor demo`. Call it
    /// before the other layers.
    ///
    /// # Errors
    /// If a key is unknown or a value has the wrong type.
    pub fn override_defaults(self, preferred: &[(&str, &str)]) -> Result<Self, SettingsError> {
        preferred.iter().try_fold(self, |layers, (key, text)| {
            let path: Vec<_> = key.split('.').map(str::to_owned).collect();
            layers.set_text(&path, text, &SettingOrigin::Default)
        })
    }

    /// Adds the layer of a TOML file.
    ///
    /// # Errors
    /// If the file cannot be read or is not TOML, a key is unknown, or a value has the wrong type.
    pub fn add_file(self, file: &Path) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(file).map_err(|source| SettingsError::Read { file: file.to_owned(), source })?;
        let table =
            text.parse().map_err(|source| SettingsError::Syntax { file: file.to_owned(), source: Box::new(source) })?;
        let origin = SettingOrigin::File(file.to_owned());
        leaf_values(&table).into_iter().try_fold(self, |layers, (path, value)| layers.set_value(&path, value, &origin))
    }

    /// Adds the layer of the environment: `SEQUOR_SERVER__LISTEN` is `server.listen`.
    ///
    /// Variables without `__` are ignored, because container platforms set variables such as
    /// `SEQUOR_PORT` for a service named `sequor`.
    ///
    /// # Errors
    /// If a key is unknown or a value has the wrong type.
    pub fn add_environment(self, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, SettingsError> {
        let mut settings: Vec<_> = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX) && name.contains("__"))
            .collect();
        settings.sort_unstable();
        settings.into_iter().try_fold(self, |layers, (name, text)| {
            let key = name.strip_prefix(VARIABLE_PREFIX).unwrap_or_default().to_ascii_lowercase();
            let path: Vec<_> = key.split("__").map(str::to_owned).collect();
            layers.set_text(&path, &text, &SettingOrigin::Environment(name))
        })
    }

    /// Adds one command line flag.
    ///
    /// # Errors
    /// If the key is unknown or the value has the wrong type.
    pub fn add_flag(self, key: &str, text: &str) -> Result<Self, SettingsError> {
        let path: Vec<_> = key.split('.').map(str::to_owned).collect();
        self.set_text(&path, text, &SettingOrigin::Flag)
    }

    /// The settings, if every value is valid.
    ///
    /// # Errors
    /// The first invalid value, with its origin.
    pub fn validated_settings(&self) -> Result<&S, SettingsError>
    where
        S: Validate,
    {
        self.settings
            .validate()
            .map_err(|error| SettingsError::OutOfRange { origin: self.origin_of_key(&error.key), error })?;
        Ok(&self.settings)
    }

    /// Every key with its effective value in TOML and its origin, ordered by key.
    #[must_use]
    pub fn effective_values(&self) -> Vec<(String, String, SettingOrigin)> {
        let row = |(path, value): (Vec<String>, Value)| {
            let key = path.join(".");
            let origin = self.origin_of_key(&key);
            (key, to_toml(&value), origin)
        };
        leaf_values(&self.tree).into_iter().map(row).collect()
    }

    /// Every key that has a default, ordered by key.
    #[must_use]
    pub fn known_keys(&self) -> Vec<String> {
        leaf_values(&self.defaults).into_iter().map(|(path, _)| path.join(".")).collect()
    }

    /// The source that set the value of a key; for a section, the source of its last key.
    #[must_use]
    pub fn origin_of_key(&self, key: &str) -> SettingOrigin {
        let prefix = format!("{key}.");
        let of_section = || {
            let keys = self.origins.range(prefix.clone()..).take_while(|(known, _)| known.starts_with(&prefix));
            keys.last().map(|(_, origin)| origin)
        };
        self.origins.get(key).or_else(of_section).cloned().unwrap_or(SettingOrigin::Default)
    }

    /// Sets a key to a value that is given as text. The value gets the type of the key's default.
    /// If the key has no default, the text is parsed as TOML; text that is not TOML becomes a
    /// string.
    fn set_text(self, path: &[String], text: &str, origin: &SettingOrigin) -> Result<Self, SettingsError> {
        let as_string = || Value::String(text.to_owned());
        // Text that is not TOML stays a string, so that deserialisation reports the type error.
        let value = match lookup_default(&self.defaults, path) {
            DefaultLookup::Leaf(Value::String(_)) => as_string(),
            _ => format!("value = {text}")
                .parse::<Table>()
                .ok()
                .and_then(|mut table| table.remove("value"))
                .unwrap_or_else(as_string),
        };
        match value {
            Value::Table(table) => leaf_values(&table).into_iter().try_fold(self, |layers, (tail, value)| {
                layers.set_value(&[path, tail.as_slice()].concat(), value, origin)
            }),
            value => self.set_value(path, value, origin),
        }
    }

    fn set_value(mut self, path: &[String], value: Value, origin: &SettingOrigin) -> Result<Self, SettingsError> {
        let key = path.join(".");
        if let Some((_, replacement)) = REMOVED_SETTINGS.iter().find(|(removed, _)| *removed == key) {
            return Err(SettingsError::Removed { key, origin: origin.clone(), replacement });
        }
        if matches!(lookup_default(&self.defaults, path), DefaultLookup::NotFound) {
            return Err(SettingsError::UnknownKey { suggestion: self.nearest_key(&key), key, origin: origin.clone() });
        }
        let shown = to_toml(&value);
        let wrong = |reason: String| SettingsError::WrongType {
            key: key.clone(),
            value: shown.clone(),
            origin: origin.clone(),
            reason,
        };
        insert_at_path(&mut self.tree, path, value)
            .ok_or_else(|| wrong("a section cannot be set to a value".to_owned()))?;
        self.settings = self
            .tree
            .clone()
            .try_into()
            .map_err(|error: toml::de::Error| wrong(describe_type_error(error.message(), "a table")))?;
        self.origins.insert(key, origin.clone());
        Ok(self)
    }

    /// The known key with the smallest edit distance to `key`. The distance compares the whole keys
    /// or their last parts.
    fn nearest_key(&self, key: &str) -> Option<String> {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let distance = |known: &String| {
            let whole = strsim::damerau_levenshtein(known, key);
            // If the key is in a wrong section, only its last part matches a known key:
            // `store.listen` most likely means `server.listen`. Because the last parts are short
            // and often similar, an edit in a last part counts twice.
            whole.min(1 + 2 * strsim::damerau_levenshtein(&last(known), &last(key)))
        };
        self.known_keys()
            .into_iter()
            .map(|known| (distance(&known), known))
            .min()
            .filter(|(distance, _)| *distance <= 3)
            .map(|(_, known)| known)
    }
}

/// Result of looking up a path in the defaults.
enum DefaultLookup<'a> {
    /// A value.
    Leaf(&'a Value),
    /// A section, or a path inside a map that accepts any key.
    Section,
    /// No known key.
    NotFound,
}

fn lookup_default<'a>(defaults: &'a Table, path: &[String]) -> DefaultLookup<'a> {
    let mut table = defaults;
    for (depth, part) in path.iter().enumerate() {
        match table.get(part) {
            Some(Value::Table(inner)) => table = inner,
            Some(leaf) if depth + 1 == path.len() => return DefaultLookup::Leaf(leaf),
            None if table.is_empty() && depth > 0 => return DefaultLookup::Section,
            _ => return DefaultLookup::NotFound,
        }
    }
    DefaultLookup::Section
}

/// All leaves with their paths. A leaf is a value that is not a table, or an empty table.
fn leaf_values(table: &Table) -> Vec<(Vec<String>, Value)> {
    let mut found = Vec::new();
    for (part, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                found.extend(
                    leaf_values(inner).into_iter().map(|(tail, value)| ([vec![part.clone()], tail].concat(), value)),
                );
            }
            value => found.push((vec![part.clone()], value.clone())),
        }
    }
    found
}

/// Inserts a value at a path and creates missing tables. Returns `None` if a part of the path
/// before the last is not a table, or if the value would replace a section.
fn insert_at_path(table: &mut Table, path: &[String], value: Value) -> Option<()> {
    let (last, parents) = path.split_last()?;
    let table = parents.iter().try_fold(table, |table, part| {
        table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
    })?;
    match (table.get(last), &value) {
        // Setting a section or a map to an empty table has no effect.
        (Some(Value::Table(_)), Value::Table(_)) => {}
        (Some(Value::Table(_)), _) => return None,
        _ => {
            table.insert(last.clone(), value);
        }
    }
    Some(())
}

/// Formats a value as TOML. A number that fits `f32` is printed as `f32`: 0.1, not
/// 0.10000000149011612.
fn to_toml(value: &Value) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "the comparison detects any loss")]
    match value {
        Value::Float(wide) if f64::from(*wide as f32).to_bits() == wide.to_bits() => format!("{:?}", *wide as f32),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{LogFormat, Period, Settings};

    fn write_settings_file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sequor.toml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn default_layers() -> SettingsLayers<Settings> {
        SettingsLayers::new().unwrap()
    }

    fn layers_from_file(text: &str) -> Result<SettingsLayers<Settings>, SettingsError> {
        let (_folder, path) = write_settings_file(text);
        default_layers().add_file(&path)
    }

    fn layers_from_environment(name: &str, text: &str) -> Result<SettingsLayers<Settings>, SettingsError> {
        default_layers().add_environment([(name.to_owned(), text.to_owned())])
    }

    #[test]
    fn flags_override_the_defaults_of_a_command() {
        let preferred = [("network.hidden", "100"), ("network.negatives", "2048")];
        let layers = default_layers().override_defaults(&preferred).unwrap().add_flag("network.hidden", "32").unwrap();
        let settings = layers.validated_settings().unwrap();
        assert_eq!((settings.network.hidden, settings.network.negatives), (32, 2048));
        assert_eq!(
            (layers.origin_of_key("network.hidden"), layers.origin_of_key("network.negatives")),
            (SettingOrigin::Flag, SettingOrigin::Default)
        );
        assert!(SettingsLayers::<Settings>::new().unwrap().override_defaults(&[("network.hiden", "1")]).is_err());
    }

    #[test]
    fn a_removed_setting_is_refused_with_its_replacement() {
        let errors = [
            layers_from_file("[network]\ninterest_weight = 0.0\n"),
            layers_from_environment("SEQUOR_NETWORK__INTEREST_WEIGHT", "0.5"),
            default_layers().add_flag("network.interest_weight", "1"),
        ]
        .map(|layers| layers.unwrap_err().to_string());
        for error in errors {
            assert!(error.starts_with("the setting network.interest_weight was removed (from "), "{error}");
            assert!(error.contains("[interest], and `interest` in [events.kinds]"), "{error}");
        }
        assert!(default_layers().known_keys().iter().all(|key| key != "network.interest_weight"));
        assert!(toml::from_str::<Settings>("network.interest_weight = 0.0").is_err());
    }

    #[test]
    fn later_layers_win_and_values_record_their_origin() {
        let (_folder, path) = write_settings_file(
            "[server]\nmax_batch = 10\nworkers = 3\nmax_body_bytes = 2048\n[log]\nformat = 'json'\n",
        );
        let environment = [
            ("SEQUOR_SERVER__MAX_BATCH".to_owned(), "20".to_owned()),
            ("SEQUOR_SERVER__WORKERS".to_owned(), "4".to_owned()),
        ];
        let layers = default_layers()
            .add_file(&path)
            .unwrap()
            .add_environment(environment)
            .unwrap()
            .add_flag("server.max_batch", "30")
            .unwrap();
        let settings = layers.validated_settings().unwrap();
        assert_eq!((settings.server.max_batch, settings.server.workers, settings.server.max_body_bytes), (30, 4, 2048));
        assert_eq!(settings.log.format, LogFormat::Json);
        let effective = layers.effective_values();
        let effective_value = |key: &str| {
            effective
                .iter()
                .find(|(known, ..)| known == key)
                .map(|(_, value, origin)| (value.as_str(), origin.clone()))
                .unwrap()
        };
        assert_eq!(effective_value("server.max_batch"), ("30", SettingOrigin::Flag));
        assert_eq!(
            effective_value("server.workers"),
            ("4", SettingOrigin::Environment("SEQUOR_SERVER__WORKERS".to_owned()))
        );
        assert_eq!(effective_value("server.max_body_bytes"), ("2048", SettingOrigin::File(path)));
        assert_eq!(effective_value("session.idle_gap"), ("\"30m\"", SettingOrigin::Default));
    }

    #[test]
    fn suggests_the_nearest_key() {
        let suggestion = |result: Result<SettingsLayers<Settings>, SettingsError>| match result.map(|_| ()).unwrap_err()
        {
            SettingsError::UnknownKey { suggestion, .. } => suggestion,
            other => panic!("{other}"),
        };
        assert_eq!(suggestion(layers_from_file("[server]\nmax_bach = 1")).as_deref(), Some("server.max_batch"));
        assert_eq!(suggestion(layers_from_file("[sever]\nlisten = '127.0.0.1:1'")).as_deref(), Some("server.listen"));
        assert_eq!(suggestion(layers_from_file("listen = '127.0.0.1:1'")).as_deref(), Some("server.listen"));
        assert_eq!(suggestion(layers_from_file("[server.listen]\nport = 1")), None);
        assert_eq!(
            suggestion(layers_from_environment("SEQUOR_SESSION__IDLEGAP", "1m")).as_deref(),
            Some("session.idle_gap")
        );
        assert_eq!(suggestion(default_layers().add_flag("quite.another.thing", "1")), None);
        let error = layers_from_environment("SEQUOR_LOG__LEVL", "debug").map(|_| ()).unwrap_err();
        let text = "unknown setting log.levl (from the environment (SEQUOR_LOG__LEVL)); did you mean log.level?";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn errors_name_value_and_origin() {
        let error = layers_from_environment("SEQUOR_SERVER__MAX_BATCH", "many").map(|_| ()).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "server.max_batch = \"many\": invalid type: string \"many\", expected a whole number of at least 0 (from the env"
            ),
            "{error}"
        );
        let error = default_layers().add_flag("session.idle_gap", "30 minutes").map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("session.idle_gap = \"30 minutes\": invalid duration `30 minutes`"), "{error}");
        let error = layers_from_file("server = 3").map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("server = 3: a section cannot be set to a value"), "{error}");
        let error = layers_from_file("[server]\nlisten = 'nowhere'").map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("server.listen = \"nowhere\": write ADDRESS:PORT"), "{error}");
        let error = layers_from_file("[server]\nmax_batch = 0")
            .unwrap()
            .validated_settings()
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("server.max_batch = 0: must be 1 to 100000 (from /"), "{error}");
        assert!(matches!(layers_from_file("[server"), Err(SettingsError::Syntax { .. })));
        assert!(matches!(default_layers().add_file(Path::new("/nonexistent.toml")), Err(SettingsError::Read { .. })));
    }

    #[test]
    fn maps_accept_any_key() {
        let layers = layers_from_file("[events.kinds.wishlist]\nvalue = 2\n[events.kinds.save]\n")
            .unwrap()
            .add_flag("events.kinds.like", "{ target = false }")
            .unwrap()
            .add_environment([("SEQUOR_EVENTS__KINDS__WISHLIST__TARGET".to_owned(), "false".to_owned())])
            .unwrap();
        let kinds = &layers.validated_settings().unwrap().events.kinds;
        assert_eq!(kinds.keys().collect::<Vec<_>>(), ["like", "save", "wishlist"]);
        assert_eq!(
            (kinds["wishlist"].target, kinds["wishlist"].value, kinds["like"].target),
            (Some(false), Some(2.0), Some(false))
        );
        let error = layers_from_file("[events.kinds]\nwishlist = 3").map(|_| ()).unwrap_err().to_string();
        assert!(
            error.starts_with("events.kinds.wishlist = 3: invalid type: integer `3`, expected a table (from /"),
            "{error}"
        );
        let error = layers_from_file("[events.kinds.wishlist]\nworth = 2").map(|_| ()).unwrap_err().to_string();
        assert!(
            error.starts_with("events.kinds.wishlist.worth = 2: unknown field `worth`, expected one of `target`, `value`, `midpoint`, `interest`, `weight`, `retain_for`"),
            "{error}"
        );
    }

    #[test]
    fn ignores_variables_without_double_underscore() {
        let layers = layers_from_environment("SEQUOR_PORT", "tcp://10.0.0.1:80").unwrap();
        assert_eq!(layers.validated_settings().unwrap(), &Settings::default());
    }

    #[test]
    fn converts_text_to_the_type_of_the_default() {
        let layers = default_layers()
            .add_flag("store.data_dir", "17")
            .unwrap()
            .add_flag("session.passivate_after", "off")
            .unwrap();
        let settings = layers.validated_settings().unwrap();
        assert_eq!(
            (settings.store.data_dir.as_path(), settings.session.passivate_after),
            (Path::new("17"), Period::OFF)
        );
    }
}
