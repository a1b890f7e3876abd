//! The settings of a running daemon, some of which may change.

use arc_swap::ArcSwap;
use serde::Serialize;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use super::{LogLevel, SettingOrigin, Settings, SettingsLayers};
use crate::learner::SafetySettings;

/// Why the settings could not be read again.
pub type ReloadError = Box<dyn Error + Send + Sync>;

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EffectiveSetting {
    /// Its key from the root of the tree.
    pub key: String,
    /// Its value, written as TOML. None is a secret: keys are no settings.
    pub value: String,
    /// Where that came from.
    pub source: SettingOrigin,
    /// Whether a change takes effect without a restart.
    pub reloadable: bool,
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// The keys whose new values are in force.
    pub changed: Vec<String>,
    /// The keys whose new values wait for a restart.
    pub waiting: Vec<String>,
}

type SettingsReader = Box<dyn Fn() -> Result<SettingsLayers<Settings>, ReloadError> + Send + Sync>;

/// The settings in force, and how to read them again.
pub struct LiveSettings {
    rows: Mutex<Vec<EffectiveSetting>>,
    safety: Arc<ArcSwap<SafetySettings>>,
    read: SettingsReader,
    set_level: Box<dyn Fn(LogLevel) + Send + Sync>,
}

impl LiveSettings {
    /// The settings that the daemon starts with; `read` reads them again, `set_log_level` sets the level of the log.
    #[must_use]
    pub fn new(
        layers: &SettingsLayers<Settings>,
        settings: &Settings,
        read: SettingsReader,
        set_level: Box<dyn Fn(LogLevel) + Send + Sync>,
    ) -> Self {
        Self { rows: Mutex::new(rows(layers)), safety: Arc::new(ArcSwap::from_pointee(settings.safety)), read, set_level }
    }

    /// Every setting in force, in the order of the keys.
    #[must_use]
    pub fn effective_settings(&self) -> Vec<EffectiveSetting> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the model is rolled back without being asked.
    #[must_use]
    pub fn safety(&self) -> &Arc<ArcSwap<SafetySettings>> {
        &self.safety
    }

    /// Sets the level of the log until the next reload or start.
    pub fn set_log_level(&self, level: LogLevel) {
        (self.set_level)(level);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.iter_mut().find(|row| row.key == "log.level") {
            row.value = format!("{:?}", level.as_str());
        }
    }

    /// Reads the settings again and puts in force what can be without a restart.
    ///
    /// # Errors
    /// Why they cannot be read or may not run; then all stays as it was.
    pub fn reload(&self) -> Result<ReloadReport, ReloadError> {
        let layers = (self.read)()?;
        let settings = layers.validated()?;
        self.safety.store(Arc::new(settings.safety));
        (self.set_level)(settings.log.level);
        let (mut shown, mut reloaded) = (self.rows.lock().unwrap_or_else(PoisonError::into_inner), ReloadReport::default());
        let is_known = |new: &EffectiveSetting| shown.iter().any(|old| (&old.key, &old.value) == (&new.key, &new.value));
        let (changed, waiting): (Vec<_>, Vec<_>) = rows(&layers).into_iter().filter(|new| !is_known(new)).partition(|new| new.reloadable);
        reloaded.waiting = waiting.into_iter().map(|row| row.key).collect();
        for row in changed {
            reloaded.changed.push(row.key.clone());
            if let Some(old) = shown.iter_mut().find(|old| old.key == row.key) {
                *old = row;
            }
        }
        Ok(reloaded)
    }
}

fn rows(layers: &SettingsLayers<Settings>) -> Vec<EffectiveSetting> {
    let row = |(key, value, source): (String, String, SettingOrigin)| EffectiveSetting {
        reloadable: key == "log.level" || key.starts_with("safety."),
        key,
        value,
        source,
    };
    layers.effective_values().into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_change_does_and_the_rest_waits() {
        let levels = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&levels);
        let read = || -> Result<_, ReloadError> {
            Ok(SettingsLayers::new()?.flag("safety.loss_rise", "3")?.flag("log.level", "debug")?.flag("server.max_batch", "7")?)
        };
        let layers = SettingsLayers::<Settings>::new().unwrap().flag("server.keys", "required").unwrap();
        let live = LiveSettings::new(
            &layers,
            layers.validated().unwrap(),
            Box::new(read),
            Box::new(move |level| heard.lock().unwrap().push(level)),
        );
        let value = |key: &str| live.effective_settings().into_iter().find(|row| row.key == key).unwrap().value;
        assert_eq!(value("server.keys"), "\"required\"");
        let reloaded = live.reload().unwrap();
        assert_eq!(reloaded.changed, ["log.level", "safety.loss_rise"]);
        assert_eq!(reloaded.waiting, ["server.keys", "server.max_batch"]);
        assert_eq!(
            (live.safety().load().loss_rise, value("log.level").as_str(), value("server.max_batch").as_str()),
            (3.0, "\"debug\"", "1000")
        );
        live.set_log_level(LogLevel::Warn);
        assert_eq!(
            (levels.lock().unwrap().as_slice(), value("log.level").as_str()),
            ([LogLevel::Debug, LogLevel::Warn].as_slice(), "\"warn\"")
        );
        assert_eq!(live.reload().unwrap().changed, ["log.level"]);
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let layers = SettingsLayers::<Settings>::new().unwrap();
        let read = || -> Result<_, ReloadError> { Ok(SettingsLayers::new()?.flag("safety.loss_rise", "1000")?) };
        let live = LiveSettings::new(&layers, layers.validated().unwrap(), Box::new(read), Box::new(|_| panic!("nothing is set")));
        assert!(live.reload().unwrap_err().to_string().contains("safety.loss_rise"));
        assert_eq!(live.safety().load().loss_rise, SafetySettings::default().loss_rise);
    }
}
