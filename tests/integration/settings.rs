//! The sample configuration and the sources of settings.

use std::fs;
use std::path::Path;

use sequor::settings::{SettingOrigin, Settings, SettingsLayers};

use crate::daemon::{DaemonHome, run_sequor, sequor_command};

fn sample_configuration() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/sequor.toml")).unwrap()
}

fn load_layers(text: &str) -> SettingsLayers<Settings> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    SettingsLayers::new().unwrap().add_file(file.path()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn sample_configuration_lists_every_default() {
    let layers = load_layers(&sample_configuration());
    for (key, value, origin) in layers.effective_values() {
        // Maps with user-defined keys have no default to list.
        assert!(
            ["events.kinds", "segment.events", "segment.consent", "features"].contains(&key.as_str())
                || matches!(origin, SettingOrigin::File(_)),
            "ops/sequor.toml does not list {key} = {value}"
        );
    }
    let lines = |settings: &Settings| toml::to_string(settings).unwrap();
    for (found, expected) in
        lines(layers.validated_settings().unwrap()).lines().zip(lines(&Settings::default()).lines())
    {
        assert_eq!(found, expected, "ops/sequor.toml and the binary have different defaults");
    }
}

#[test]
fn sample_settings_have_comments_and_examples_are_valid() {
    let sample = sample_configuration();
    let mut previous_line = "";
    for line in sample.lines() {
        if line.starts_with('[') || line.contains(" = ") && !line.starts_with('#') {
            assert!(previous_line.starts_with("# "), "`{line}` has no comment above it");
        }
        previous_line = line;
    }
    let settings = load_layers(
        &sample
            .replace("\n#wishlist", "\nwishlist")
            .replace("\n#dismiss", "\ndismiss")
            .replace("\n#\"", "\n\"")
            .replace("\n#language", "\nlanguage"),
    );
    let kinds = settings.validated_settings().unwrap().events.resolved_kinds();
    assert!(kinds.names().any(|name| name == "wishlist"));
    assert_eq!(settings.validated_settings().unwrap().features.declarations().features().len(), 1);
    assert_eq!(
        settings.validated_settings().unwrap().segment.event_overrides().filter(|(_, kind)| kind.is_some()).count(),
        1
    );
}

#[test]
fn command_line_overrides_environment_overrides_file() {
    let home = DaemonHome::new();
    let file = home.dir().join("sequor.toml");
    fs::write(&file, "[server]\nmax_batch = 0\n[log]\nlevel = \"warn\"\n").unwrap();
    let stderr = |environment: Option<&str>, flags: &[&str]| {
        let mut command = sequor_command();
        command.args(["serve", "--config", file.to_str().unwrap(), "--data-dir", "/dev/null/none"]).args(flags);
        if let Some(value) = environment {
            command.env("SEQUOR_SERVER__MAX_BATCH", value);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let path = file.to_str().unwrap();
    assert_eq!(stderr(None, &[]), format!("sequor: server.max_batch = 0: must be 1 to 100000 (from {path})\n"));
    let from_environment = stderr(Some("-1"), &[]);
    assert!(from_environment.contains("from the environment (SEQUOR_SERVER__MAX_BATCH)"), "{from_environment}");
    let from_flag = stderr(Some("5"), &["--set", "server.max_batch=200000"]);
    assert_eq!(from_flag, "sequor: server.max_batch = 200000: must be 1 to 100000 (from the command line)\n");
    // If the value is valid, the only error is the invalid data directory.
    assert!(stderr(Some("5"), &[]).contains("/dev/null/none"));
}

#[cfg(not(feature = "otel"))]
#[test]
fn telemetry_endpoint_without_otel_feature_explains_how_to_build_it() {
    let output = DaemonHome::new().start_expecting_failure(&["telemetry.endpoint=http://localhost:4318"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = "sequor: telemetry.endpoint = \"http://localhost:4318\" (from the command line): this program was built without OpenTelemetry; build it with `--features otel`, or leave the setting empty\n";
    assert_eq!((stderr.as_str(), output.status.code()), (expected, Some(1)));
}

#[test]
fn unknown_setting_suggests_the_nearest_name() {
    let output = run_sequor(&["serve", "--set", "listen=127.0.0.1:0"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "sequor: unknown setting listen (from the command line); did you mean server.listen?\n");
    assert_eq!(output.status.code(), Some(1));
}
