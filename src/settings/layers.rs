//! Layers of settings, laid over one another key by key.

use super::{InvalidSetting, Validate};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};
use toml::{Table, Value};

/// What begins the name of every environment variable that is a setting.
const PREFIX: &str = "SEQUOR_";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingOrigin {
    /// Nobody set it.
    Default,
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// The command line.
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

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The defaults cannot be written as TOML: a section is built wrongly.
    #[error("the defaults cannot be written as TOML")]
    Defaults(#[source] toml::ser::Error),
    /// The file cannot be read.
    #[error("{}: cannot be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {source}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where and why not.
        source: Box<toml::de::Error>,
    },
    /// No setting has this key.
    #[error("{key}: there is no such setting (from {origin}){}", suggestion.as_ref().map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it was set.
        origin: SettingOrigin,
        /// The nearest key that is one.
        suggestion: Option<String>,
    },
    /// The value is not of the setting's type.
    #[error("{key} = {value}: {reason} (from {origin})")]
    WrongType {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// Where it was set.
        origin: SettingOrigin,
        /// What is wrong with it.
        reason: String,
    },
    /// The value is not allowed.
    #[error("{error} (from {origin})")]
    OutOfRange {
        /// Which, and what is.
        error: InvalidSetting,
        /// Where it was set.
        origin: SettingOrigin,
    },
}

/// Settings as they grow, layer upon layer; `S` is any tree of serde structs with defaults.
///
/// Its keys are those of its defaults, so that no field of it may be skipped when it is written, save within a map: an empty table among
/// the defaults is a map whose keys are the operator's own.
///
/// ```
/// use sequor::settings::{Layers, Settings};
///
/// let layers = Layers::<Settings>::new()?
///     .environment([("SEQUOR_SERVER__MAX_BATCH".to_owned(), "50".to_owned())])?
///     .flag("server.listen", "127.0.0.1:0")?;
/// assert_eq!(layers.check()?.server.max_batch, 50);
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
    /// The defaults alone.
    ///
    /// # Errors
    /// If they cannot be written as TOML.
    pub fn new() -> Result<Self, SettingsError> {
        let settings = S::default();
        let defaults = Table::try_from(&settings).map_err(SettingsError::Defaults)?;
        Ok(Self { tree: defaults.clone(), defaults, settings, origins: BTreeMap::new() })
    }

    /// Lays other defaults over the defaults: what a command prefers if nobody says otherwise.
    ///
    /// # Errors
    /// If a key or a value is none.
    pub fn override_defaults(self, preferred: &[(&str, &str)]) -> Result<Self, SettingsError> {
        preferred.iter().try_fold(self, |layers, (key, text)| {
            let path: Vec<_> = key.split('.').map(str::to_owned).collect();
            layers.set_text(&path, text, &SettingOrigin::Default)
        })
    }

    /// Lays a TOML file over what is there.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, or names a key or a value that is none.
    pub fn file(self, file: &Path) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(file).map_err(|source| SettingsError::Read { file: file.to_owned(), source })?;
        let table = text.parse().map_err(|source| SettingsError::Syntax { file: file.to_owned(), source: Box::new(source) })?;
        let origin = SettingOrigin::File(file.to_owned());
        leaves(&table).into_iter().try_fold(self, |layers, (path, value)| layers.set(&path, value, &origin))
    }

    /// Lays the environment over what is there: `SEQUOR_SERVER__LISTEN` is `server.listen`.
    ///
    /// Variables without `__` are none of ours: container platforms set `SEQUOR_PORT` and the like by themselves for a service of that name.
    ///
    /// # Errors
    /// If a variable names a key or a value that is none.
    pub fn environment(self, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, SettingsError> {
        let mut ours: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX) && name.contains("__")).collect();
        ours.sort_unstable();
        ours.into_iter().try_fold(self, |layers, (name, text)| {
            let key = name.strip_prefix(PREFIX).unwrap_or_default().to_ascii_lowercase();
            let path: Vec<_> = key.split("__").map(str::to_owned).collect();
            layers.set_text(&path, &text, &SettingOrigin::Environment(name))
        })
    }

    /// Lays one flag over what is there.
    ///
    /// # Errors
    /// If the key or the value is none.
    pub fn flag(self, key: &str, text: &str) -> Result<Self, SettingsError> {
        let path: Vec<_> = key.split('.').map(str::to_owned).collect();
        self.set_text(&path, text, &SettingOrigin::Flag)
    }

    /// The settings, if every value is allowed.
    ///
    /// # Errors
    /// The first that is not, and where it was set.
    pub fn validated(&self) -> Result<&S, SettingsError>
    where
        S: Validate,
    {
        self.settings.validate().map_err(|fault| SettingsError::OutOfRange { origin: self.origin(&fault.key), error: fault })?;
        Ok(&self.settings)
    }

    /// Every key in force with its value, written as TOML, and where that came from, in the order of the keys.
    #[must_use]
    pub fn effective_values(&self) -> Vec<(String, String, SettingOrigin)> {
        let row = |(path, value): (Vec<String>, Value)| {
            let key = path.join(".");
            let origin = self.origin(&key);
            (key, show(&value), origin)
        };
        leaves(&self.tree).into_iter().map(row).collect()
    }

    /// Where a key's value came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> SettingOrigin {
        self.origins.get(key).cloned().unwrap_or(SettingOrigin::Default)
    }

    /// Sets a key from text: as the type of its default, and where there is none as TOML or else as a string.
    fn set_text(self, path: &[String], text: &str, origin: &SettingOrigin) -> Result<Self, SettingsError> {
        let as_string = || Value::String(text.to_owned());
        // Text that is no number, say, is left a string, for the type to refuse in its own words.
        let value = match find(&self.defaults, path) {
            DefaultLookup::Leaf(Value::String(_)) => as_string(),
            _ => format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value")).unwrap_or_else(as_string),
        };
        match value {
            Value::Table(table) => leaves(&table)
                .into_iter()
                .try_fold(self, |layers, (tail, value)| layers.set(&[path, tail.as_slice()].concat(), value, origin)),
            value => self.set(path, value, origin),
        }
    }

    fn set(mut self, path: &[String], value: Value, origin: &SettingOrigin) -> Result<Self, SettingsError> {
        let key = path.join(".");
        if matches!(find(&self.defaults, path), DefaultLookup::NotFound) {
            return Err(SettingsError::UnknownKey { suggestion: self.nearest(&key), key, origin: origin.clone() });
        }
        let shown = show(&value);
        let wrong = |reason: String| SettingsError::WrongType { key: key.clone(), value: shown.clone(), origin: origin.clone(), reason };
        put(&mut self.tree, path, value).ok_or_else(|| wrong("a section is not a value".to_owned()))?;
        self.settings = self.tree.clone().try_into().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
        self.origins.insert(key, origin.clone());
        Ok(self)
    }

    /// The known key that looks most like this one, or that has its last part in another section.
    fn nearest(&self, key: &str) -> Option<String> {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let distance = |known: &String| {
            let whole = strsim::damerau_levenshtein(known, key);
            // `listen` at the root, or in a wrong section, is more likely `server.listen` than anything that merely looks like it.
            // But a short last part is soon like another, so a slip in it counts double.
            whole.min(1 + 2 * strsim::damerau_levenshtein(&last(known), &last(key)))
        };
        let known = leaves(&self.defaults).into_iter().map(|(path, _)| path.join("."));
        known.map(|known| (distance(&known), known)).min().filter(|(distance, _)| *distance <= 3).map(|(_, known)| known)
    }
}

/// What a path leads to among the defaults.
enum DefaultLookup<'a> {
    /// A value.
    Leaf(&'a Value),
    /// A section, or somewhere within a map of the operator's own keys.
    Section,
    /// Nothing.
    NotFound,
}

fn find<'a>(defaults: &'a Table, path: &[String]) -> DefaultLookup<'a> {
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

/// Every value that is not itself a table, with the path to it.
fn leaves(table: &Table) -> Vec<(Vec<String>, Value)> {
    let mut found = Vec::new();
    for (part, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                found.extend(leaves(inner).into_iter().map(|(tail, value)| ([vec![part.clone()], tail].concat(), value)));
            }
            value => found.push((vec![part.clone()], value.clone())),
        }
    }
    found
}

/// Puts a value where a path leads, making the tables on the way; `None` if the way is barred by a value, or the value would replace a
/// section.
fn put(table: &mut Table, path: &[String], value: Value) -> Option<()> {
    let (last, way) = path.split_last()?;
    let table =
        way.iter().try_fold(table, |table, part| table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new())).as_table_mut())?;
    match (table.get(last), &value) {
        // An empty table adds nothing to a section or a map.
        (Some(Value::Table(_)), Value::Table(_)) => {}
        (Some(Value::Table(_)), _) => return None,
        _ => {
            table.insert(last.clone(), value);
        }
    }
    Some(())
}

/// A value as TOML. A 32-bit number is shown as such: 0.1, not 0.10000000149011612.
fn show(value: &Value) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "whether anything is lost is the question")]
    match value {
        Value::Float(wide) if f64::from(*wide as f32).to_bits() == wide.to_bits() => format!("{:?}", *wide as f32),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{LogFormat, Period, Settings};

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sequor.toml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn layers() -> SettingsLayers<Settings> {
        SettingsLayers::new().unwrap()
    }

    fn from_file(text: &str) -> Result<SettingsLayers<Settings>, SettingsError> {
        let (_folder, path) = file(text);
        layers().file(&path)
    }

    fn from_environment(name: &str, text: &str) -> Result<SettingsLayers<Settings>, SettingsError> {
        layers().environment([(name.to_owned(), text.to_owned())])
    }

    #[test]
    fn what_a_command_prefers_gives_way_to_whatever_was_set() {
        let preferred = [("network.hidden", "100"), ("network.negatives", "2048")];
        let layers = layers().override_defaults(&preferred).unwrap().flag("network.hidden", "32").unwrap();
        let settings = layers.validated().unwrap();
        assert_eq!((settings.network.hidden, settings.network.negatives), (32, 2048));
        assert_eq!((layers.origin("network.hidden"), layers.origin("network.negatives")), (SettingOrigin::Flag, SettingOrigin::Default));
        assert!(SettingsLayers::<Settings>::new().unwrap().override_defaults(&[("network.hiden", "1")]).is_err());
    }

    #[test]
    fn the_later_layer_wins_and_each_value_knows_its_own() {
        let (_folder, path) = file("[server]\nmax_batch = 10\nworkers = 3\nmax_body_bytes = 2048\n[log]\nformat = 'json'\n");
        let environment = [("SEQUOR_SERVER__MAX_BATCH".to_owned(), "20".to_owned()), ("SEQUOR_SERVER__WORKERS".to_owned(), "4".to_owned())];
        let layers = layers().file(&path).unwrap().environment(environment).unwrap().flag("server.max_batch", "30").unwrap();
        let settings = layers.validated().unwrap();
        assert_eq!((settings.server.max_batch, settings.server.workers, settings.server.max_body_bytes), (30, 4, 2048));
        assert_eq!(settings.log.format, LogFormat::Json);
        let effective = layers.effective_values();
        let of = |key: &str| {
            effective.iter().find(|(known, ..)| known == key).map(|(_, value, origin)| (value.as_str(), origin.clone())).unwrap()
        };
        assert_eq!(of("server.max_batch"), ("30", SettingOrigin::Flag));
        assert_eq!(of("server.workers"), ("4", SettingOrigin::Environment("SEQUOR_SERVER__WORKERS".to_owned())));
        assert_eq!(of("server.max_body_bytes"), ("2048", SettingOrigin::File(path)));
        assert_eq!(of("session.idle_gap"), ("\"30m\"", SettingOrigin::Default));
    }

    #[test]
    fn an_unknown_key_is_told_its_nearest() {
        let suggestion = |result: Result<SettingsLayers<Settings>, SettingsError>| match result.map(|_| ()).unwrap_err() {
            SettingsError::UnknownKey { suggestion, .. } => suggestion,
            other => panic!("{other}"),
        };
        assert_eq!(suggestion(from_file("[server]\nmax_bach = 1")).as_deref(), Some("server.max_batch"));
        assert_eq!(suggestion(from_file("[sever]\nlisten = '127.0.0.1:1'")).as_deref(), Some("server.listen"));
        assert_eq!(suggestion(from_file("listen = '127.0.0.1:1'")).as_deref(), Some("server.listen"));
        assert_eq!(suggestion(from_file("[server.listen]\nport = 1")), None);
        assert_eq!(suggestion(from_environment("SEQUOR_SESSION__IDLEGAP", "1m")).as_deref(), Some("session.idle_gap"));
        assert_eq!(suggestion(layers().flag("quite.another.thing", "1")), None);
        let error = from_environment("SEQUOR_LOG__LEVL", "debug").map(|_| ()).unwrap_err();
        let text = "log.levl: there is no such setting (from the environment (SEQUOR_LOG__LEVL)); did you mean log.level?";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_origin() {
        let error = from_environment("SEQUOR_SERVER__MAX_BATCH", "many").map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("server.max_batch = \"many\": invalid type: string \"many\", expected usize (from the env"), "{error}");
        let error = layers().flag("session.idle_gap", "30 minutes").map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("session.idle_gap = \"30 minutes\": `30 minutes` is no span of time"), "{error}");
        let error = from_file("server = 3").map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("server = 3: a section is not a value"), "{error}");
        let error = from_file("[server]\nlisten = 'nowhere'").map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("server.listen = \"nowhere\": invalid socket address"), "{error}");
        let error = from_file("[server]\nmax_batch = 0").unwrap().validated().map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("server.max_batch = 0: must be 1 to 100000 (from /"), "{error}");
        assert!(matches!(from_file("[server"), Err(SettingsError::Syntax { .. })));
        assert!(matches!(layers().file(Path::new("/nonexistent.toml")), Err(SettingsError::Read { .. })));
    }

    #[test]
    fn maps_take_keys_of_the_operators_own() {
        let layers = from_file("[events.kinds.wishlist]\nvalue = 2\n[events.kinds.save]\n")
            .unwrap()
            .flag("events.kinds.like", "{ target = false }")
            .unwrap()
            .environment([("SEQUOR_EVENTS__KINDS__WISHLIST__TARGET".to_owned(), "false".to_owned())])
            .unwrap();
        let kinds = &layers.validated().unwrap().events.kinds;
        assert_eq!(kinds.keys().collect::<Vec<_>>(), ["like", "save", "wishlist"]);
        assert_eq!((kinds["wishlist"].target, kinds["wishlist"].value, kinds["like"].target), (Some(false), Some(2.0), Some(false)));
        let error = from_file("[events.kinds.wishlist]\nworth = 2").map(|_| ()).unwrap_err().to_string();
        assert!(
            error.starts_with("events.kinds.wishlist.worth = 2: unknown field `worth`, expected one of `target`, `value`, `retain_for`"),
            "{error}"
        );
    }

    #[test]
    fn variables_of_other_programs_are_left_alone() {
        let layers = from_environment("SEQUOR_PORT", "tcp://10.0.0.1:80").unwrap();
        assert_eq!(layers.validated().unwrap(), &Settings::default());
    }

    #[test]
    fn text_takes_the_type_of_its_default() {
        let layers = layers().flag("store.data_dir", "17").unwrap().flag("session.passivate_after", "off").unwrap();
        let settings = layers.validated().unwrap();
        assert_eq!((settings.store.data_dir.as_path(), settings.session.passivate_after), (Path::new("17"), Period::OFF));
    }
}
