//! The sample configuration, and how settings reach the binary.

use std::fs;
use std::path::Path;

use sequor::settings::{SettingOrigin, Settings, SettingsLayers};

use crate::daemon::{DaemonHome, run, sequor};

fn sample() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/sequor.toml")).unwrap()
}

fn loaded(text: &str) -> SettingsLayers<Settings> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    SettingsLayers::new().unwrap().file(file.path()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_sample_configuration_states_every_default() {
    let layers = loaded(&sample());
    for (key, value, origin) in layers.effective_values() {
        // A map of the operator's own keys has none to state.
        assert!(
            ["events.kinds", "segment.events", "segment.consent"].contains(&key.as_str()) || matches!(origin, SettingOrigin::File(_)),
            "ops/sequor.toml leaves out {key} = {value}"
        );
    }
    let lines = |settings: &Settings| toml::to_string(settings).unwrap();
    for (found, expected) in lines(layers.validated().unwrap()).lines().zip(lines(&Settings::default()).lines()) {
        assert_eq!(found, expected, "ops/sequor.toml has another default than the binary");
    }
}

#[test]
fn every_line_of_the_sample_is_explained_and_its_examples_work() {
    let sample = sample();
    let mut above = "";
    for line in sample.lines() {
        if line.starts_with('[') || line.contains(" = ") && !line.starts_with('#') {
            assert!(above.starts_with("# "), "nothing above `{line}` explains it");
        }
        above = line;
    }
    let settings = loaded(&sample.replace("\n#wishlist", "\nwishlist").replace("\n#dismiss", "\ndismiss").replace("\n#\"", "\n\""));
    let kinds = settings.validated().unwrap().events.resolved_kinds();
    assert!(kinds.names().any(|name| name == "wishlist"));
    assert_eq!(settings.validated().unwrap().segment.event_overrides().filter(|(_, kind)| kind.is_some()).count(), 1);
}

#[test]
fn the_file_gives_way_to_the_environment_and_both_to_the_command_line() {
    let home = DaemonHome::new();
    let file = home.path().join("sequor.toml");
    fs::write(&file, "[server]\nmax_batch = 0\n[log]\nlevel = \"warn\"\n").unwrap();
    let said = |environment: Option<&str>, flags: &[&str]| {
        let mut command = sequor();
        command.args(["serve", "--config", file.to_str().unwrap(), "--data-dir", "/dev/null/none"]).args(flags);
        if let Some(value) = environment {
            command.env("SEQUOR_SERVER__MAX_BATCH", value);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let path = file.to_str().unwrap();
    assert_eq!(said(None, &[]), format!("sequor: server.max_batch = 0: must be 1 to 100000 (from {path})\n"));
    let from_environment = said(Some("-1"), &[]);
    assert!(from_environment.contains("from the environment (SEQUOR_SERVER__MAX_BATCH)"), "{from_environment}");
    let from_flag = said(Some("5"), &["--set", "server.max_batch=200000"]);
    assert_eq!(from_flag, "sequor: server.max_batch = 200000: must be 1 to 100000 (from the command line)\n");
    // With a value that is allowed only the directory is at fault.
    assert!(said(Some("5"), &[]).contains("/dev/null/none"));
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_program_that_cannot_send_spans_says_how_to_build_one_that_can() {
    let output = DaemonHome::new().start_expecting_failure(&["telemetry.endpoint=http://localhost:4318"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "sequor: telemetry.endpoint = \"http://localhost:4318\" (from the command line): this program was built without OpenTelemetry; build it with `--features otel`, or leave the setting empty\n";
    assert_eq!((said.as_str(), output.status.code()), (expected, Some(1)));
}

#[test]
fn a_setting_that_does_not_exist_is_answered_with_the_nearest_that_does() {
    let output = run(&["serve", "--set", "listen=127.0.0.1:0"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "sequor: unknown setting listen (from the command line); did you mean server.listen?\n");
    assert_eq!(output.status.code(), Some(1));
}
