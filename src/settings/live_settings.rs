//! The settings of a running daemon, and their reload.

use arc_swap::ArcSwap;
use serde::Serialize;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use super::{LogLevel, SettingOrigin, Settings, SettingsLayers};
use crate::learner::SafetySettings;

/// Why a reload failed.
pub type ReloadError = Box<dyn Error + Send + Sync>;

/// One effective setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EffectiveSetting {
    /// The key from the root of the tree.
    pub key: String,
    /// The value in TOML. Settings contain no secrets; API keys are not settings.
    pub value: String,
    /// The origin of the value.
    pub source: SettingOrigin,
    /// Whether a change takes effect without a restart.
    pub reloadable: bool,
}

/// The result of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// Keys whose new values took effect.
    pub changed: Vec<String>,
    /// Keys whose new values take effect after a restart.
    pub waiting: Vec<String>,
}

type SettingsReader = Box<dyn Fn() -> Result<SettingsLayers<Settings>, ReloadError> + Send + Sync>;

/// The settings that are in effect, and the functions that reload and apply settings.
pub struct LiveSettings {
    effective: Mutex<Vec<EffectiveSetting>>,
    safety: Arc<ArcSwap<SafetySettings>>,
    read: SettingsReader,
    set_level: Box<dyn Fn(LogLevel) + Send + Sync>,
}

impl LiveSettings {
    /// Creates the live settings; `settings` are the validated settings of `layers`. A reload calls
    /// `read` to read all layers again; `set_level` sets the log level.
    #[must_use]
    pub fn new(
        layers: &SettingsLayers<Settings>,
        settings: &Settings,
        read: SettingsReader,
        set_level: Box<dyn Fn(LogLevel) + Send + Sync>,
    ) -> Self {
        Self {
            effective: Mutex::new(effective_settings(layers)),
            safety: Arc::new(ArcSwap::from_pointee(settings.safety)),
            read,
            set_level,
        }
    }

    /// Every effective setting, ordered by key.
    #[must_use]
    pub fn effective_settings(&self) -> Vec<EffectiveSetting> {
        self.effective.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The settings of the automatic rollback.
    #[must_use]
    pub fn safety_settings(&self) -> &Arc<ArcSwap<SafetySettings>> {
        &self.safety
    }

    /// Sets the log level until the next reload or restart.
    pub fn set_log_level(&self, level: LogLevel) {
        (self.set_level)(level);
        let mut rows = self.effective.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.iter_mut().find(|row| row.key == "log.level") {
            row.value = format!("{:?}", level.as_str());
        }
    }

    /// Reads the settings again and applies the changes that need no restart.
    ///
    /// # Errors
    /// If the settings cannot be read or are invalid. After an error, the old settings stay in
    /// effect.
    pub fn reload(&self) -> Result<ReloadReport, ReloadError> {
        let layers = (self.read)()?;
        let settings = layers.validated_settings()?;
        self.safety.store(Arc::new(settings.safety));
        (self.set_level)(settings.log.level);
        let (mut effective, mut report) =
            (self.effective.lock().unwrap_or_else(PoisonError::into_inner), ReloadReport::default());
        let is_unchanged =
            |new: &EffectiveSetting| effective.iter().any(|old| (&old.key, &old.value) == (&new.key, &new.value));
        let (changed, waiting): (Vec<_>, Vec<_>) =
            effective_settings(&layers).into_iter().filter(|new| !is_unchanged(new)).partition(|new| new.reloadable);
        report.waiting = waiting.into_iter().map(|row| row.key).collect();
        for row in changed {
            report.changed.push(row.key.clone());
            if let Some(old) = effective.iter_mut().find(|old| old.key == row.key) {
                *old = row;
            }
        }
        Ok(report)
    }
}

fn effective_settings(layers: &SettingsLayers<Settings>) -> Vec<EffectiveSetting> {
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
    fn reload_applies_reloadable_settings_and_reports_the_rest() {
        let levels = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&levels);
        let read = || -> Result<_, ReloadError> {
            Ok(SettingsLayers::new()?
                .add_flag("safety.loss_rise", "3")?
                .add_flag("log.level", "debug")?
                .add_flag("server.max_batch", "7")?)
        };
        let layers = SettingsLayers::<Settings>::new().unwrap().add_flag("server.keys", "required").unwrap();
        let live = LiveSettings::new(
            &layers,
            layers.validated_settings().unwrap(),
            Box::new(read),
            Box::new(move |level| recorded.lock().unwrap().push(level)),
        );
        let value = |key: &str| live.effective_settings().into_iter().find(|row| row.key == key).unwrap().value;
        assert_eq!(value("server.keys"), "\"required\"");
        let report = live.reload().unwrap();
        assert_eq!(report.changed, ["log.level", "safety.loss_rise"]);
        assert_eq!(report.waiting, ["server.keys", "server.max_batch"]);
        assert_eq!(
            (live.safety_settings().load().loss_rise, value("log.level").as_str(), value("server.max_batch").as_str()),
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
    fn failed_reload_changes_nothing() {
        let layers = SettingsLayers::<Settings>::new().unwrap();
        let read = || -> Result<_, ReloadError> { Ok(SettingsLayers::new()?.add_flag("safety.loss_rise", "1000")?) };
        let live = LiveSettings::new(
            &layers,
            layers.validated_settings().unwrap(),
            Box::new(read),
            Box::new(|_| panic!("nothing is set")),
        );
        assert!(live.reload().unwrap_err().to_string().contains("safety.loss_rise"));
        assert_eq!(live.safety_settings().load().loss_rise, SafetySettings::default().loss_rise);
    }
}
