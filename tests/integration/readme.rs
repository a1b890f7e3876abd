//! What the newcomer's page says, tried.

use std::fs;
use std::path::Path;
use std::process::Command;

use sequor::settings::Settings;

use crate::daemon::{Home, left_out};

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The blocks that are to be copied into a shell.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_blocks_with_curl_do_what_they_promise() {
    if Command::new("curl").arg("--version").output().is_err() {
        left_out("the README's commands are not tried, since curl is not installed");
        return;
    }
    let home = Home::new();
    let daemon = home.start(&[]);
    let page = page();
    let tried: Vec<_> = blocks(&page).into_iter().filter(|block| block.contains("curl")).collect();
    assert_eq!(tried.len(), 6, "one block to try it, one of Segment's, one that merges, two that ask, one that describes items");
    for block in tried {
        let output = Command::new("sh").args(["-ec", &block.replace("localhost:8080", daemon.api())]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{block}\n{said}");
        let asks = block.contains("recommendations");
        assert!(!asks || said.contains(r#""recommendation_id""#) && said.contains(r#""item_id":"teapot""#), "{block}\n{said}");
        assert!(!said.contains("/problems/"), "{said}");
    }
    daemon.learned(1);
    assert_eq!(daemon.status()["catalog"]["items"], 3);
}

#[test]
fn the_other_commands_exist() {
    let page = page();
    for line in blocks(&page).into_iter().filter(|block| !block.contains("curl")).flat_map(str::lines) {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let Some(command) = line.strip_prefix("cargo run --release -- ") else {
            assert_eq!(line, "bash tests/run", "what else is to be run, and does it work?");
            continue;
        };
        let (flags, words): (Vec<_>, Vec<_>) = command.split_whitespace().partition(|word| word.starts_with("--"));
        let named = if words[0] == "admin" { &words[..2] } else { &words[..1] };
        let output = crate::daemon::run(&[named, &["--help"]].concat());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && flags.iter().all(|flag| help.contains(flag)), "{line}");
    }
    let help = |command: &str| String::from_utf8(crate::daemon::run(&[command, "--help"]).stdout).unwrap();
    for flag in ["--config", "--set", "--listen", "--admin-listen", "--data-dir"] {
        assert!(help("serve").contains(flag) && page.contains(flag), "{flag}");
    }
    for flag in ["--checkpoint", "--json", "--plot", "--test", "--validation", "--patience", "--epochs", "--resume"] {
        assert!(help("train").contains(flag) && page.contains(flag), "{flag}");
    }
    for (command, flags) in [
        ("demo", &["--for", "--json", "--seed", "--rate", "--items", "--file", "--speed"][..]),
        (
            "bench",
            &[
                "--mix",
                "--rate",
                "--duration",
                "--batch",
                "--connections",
                "--users",
                "--items",
                "--history",
                "--warm-up",
                "--url",
                "--admin-url",
                "--plot",
            ],
        ),
        ("health", &["--alive", "--url"]),
        ("backup", &["--url", "--data-dir"]),
        ("compact", &["--url", "--data-dir"]),
        ("restore", &["--data-dir"]),
        ("verify", &["--json", "--data-dir"]),
        ("export", &["--from", "--to", "--only", "--url"]),
        ("rebuild", &["--accept-loss", "--json", "--set"]),
        ("migrate", &["--data-dir"]),
    ] {
        assert!(flags.iter().all(|flag| help(command).contains(flag) && page.contains(flag)), "{command}: {flags:?}");
    }
    assert!(help("evaluate").contains("--checkpoint") && help("serve").contains("--checkpoint"));
    for flag in ["--json", "--plot", "--evaluate-from", "--idle-gap", "--data-dir"] {
        assert!(help("replay").contains(flag) && page.contains(flag), "{flag}");
    }
}

#[test]
fn every_section_of_the_settings_has_a_row() {
    let page = page();
    for section in toml::Table::try_from(Settings::default()).unwrap().keys() {
        assert!(page.contains(&format!("| `[{section}")), "README.md does not say what [{section}] governs");
    }
}
