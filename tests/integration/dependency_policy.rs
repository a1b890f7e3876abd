//! Checks the dependencies against `deny.toml`, without `cargo-deny` and without a network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use toml::Table;

fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The packages that are built for this host.
fn host_packages() -> Vec<Value> {
    let rustc = String::from_utf8(Command::new("rustc").arg("-vV").output().unwrap().stdout).unwrap();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // Cargo has the dependencies of a feature offline only if the feature has been built.
    let features = [("otel", cfg!(feature = "otel")), ("parquet", cfg!(feature = "parquet"))];
    let features = features.into_iter().filter(|(_, is_built)| *is_built).flat_map(|(name, _)| ["--features", name]);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .args(features)
        .current_dir(project_root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Whether the allowed licences satisfy an SPDX expression. `/` is an old spelling of `OR`.
fn is_licence_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "_WITH_");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut position = 0;
    let satisfied = parse_or(&words, &mut position, allowed);
    assert_eq!(position, words.len(), "{expression} is not a valid SPDX expression");
    satisfied
}

fn parse_or(words: &[&str], position: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut satisfied = parse_and(words, position, allowed);
    while words.get(*position) == Some(&"OR") {
        *position += 1;
        satisfied |= parse_and(words, position, allowed);
    }
    satisfied
}

fn parse_and(words: &[&str], position: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut satisfied = parse_term(words, position, allowed);
    while words.get(*position) == Some(&"AND") {
        *position += 1;
        satisfied &= parse_term(words, position, allowed);
    }
    satisfied
}

fn parse_term(words: &[&str], position: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let word = words[*position];
    *position += 1;
    if word != "(" {
        return allowed.contains(word.replace("_WITH_", " WITH ").as_str());
    }
    let satisfied = parse_or(words, position, allowed);
    assert_eq!(words[*position], ")");
    *position += 1;
    satisfied
}

#[test]
fn every_dependency_has_an_allowed_source_licence_and_version() {
    let rules: Table = fs::read_to_string(project_root().join("deny.toml")).unwrap().parse().unwrap();
    let texts = |section: &str, key: &str| -> Vec<String> {
        let list = rules[section][key].as_array().unwrap();
        list.iter()
            .map(|parse_term| parse_term.as_str().or_else(|| parse_term["crate"].as_str()).unwrap().to_owned())
            .collect()
    };
    let (licences, banned, skipped) = (texts("licenses", "allow"), texts("bans", "deny"), texts("bans", "skip"));
    let allowed: BTreeSet<_> = licences.iter().map(String::as_str).collect();
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    let packages = host_packages();
    assert!(packages.len() > 100);
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        versions.entry(name).or_default().insert(package["version"].as_str().unwrap());
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} has no licence"));
        assert!(is_licence_allowed(licence, &allowed), "{name} is under {licence}");
        assert!(!banned.iter().any(|banned| banned == name), "{name} is banned");
        let source = package["source"].as_str();
        assert!(
            matches!(name, "sequor" | "sequor-client" | "sequor-core")
                || source == Some("registry+https://github.com/rust-lang/crates.io-index"),
            "{name} is from {source:?}"
        );
    }
    let duplicated: BTreeSet<_> =
        versions.iter().filter(|(_, versions)| versions.len() > 1).map(|(name, _)| *name).collect();
    assert_eq!(duplicated, skipped.iter().map(String::as_str).collect(), "packages with more than one version");
}

#[test]
fn licence_expressions_are_evaluated() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0 WITH LLVM-exception", "Zlib"]);
    for satisfied_expression in [
        "MIT",
        "GPL-3.0 OR MIT",
        "GPL-3.0/MIT",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        "(GPL-3.0 OR MIT) AND Zlib",
        "MIT AND Zlib OR GPL-3.0",
    ] {
        assert!(is_licence_allowed(satisfied_expression, &allowed), "{satisfied_expression}");
    }
    for unsatisfied_expression in ["GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT OR Zlib) AND GPL-3.0"] {
        assert!(!is_licence_allowed(unsatisfied_expression, &allowed), "{unsatisfied_expression}");
    }
}

#[test]
fn licence_files_exist() {
    let manifest: Table = fs::read_to_string(project_root().join("Cargo.toml")).unwrap().parse().unwrap();
    assert_eq!(manifest["package"]["license"].as_str(), Some("MIT OR Apache-2.0"));
    for (file, begins) in [("LICENSE-MIT", "MIT License"), ("LICENSE-APACHE", "Apache License")] {
        assert!(fs::read_to_string(project_root().join(file)).unwrap().trim_start().starts_with(begins), "{file}");
    }
}
