//! What the program is made of, held against `deny.toml`: without a tool and without a network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use toml::Table;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The packages that are built for this machine.
fn packages() -> Vec<Value> {
    let rustc = String::from_utf8(Command::new("rustc").arg("-vV").output().unwrap().stdout).unwrap();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // What a feature brings is here only if it was built with it: nothing is fetched.
    let features: &[&str] = if cfg!(feature = "otel") { &["--features", "otel"] } else { &[] };
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .args(features)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Whether an SPDX expression can be met by licences that are allowed. `/` is an old way to write
/// `OR`.
fn met(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "_WITH_");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut at = 0;
    let found = either(&words, &mut at, allowed);
    assert_eq!(at, words.len(), "{expression} is no expression");
    found
}

fn either(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut found = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        found |= both(words, at, allowed);
    }
    found
}

fn both(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut found = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        found &= one(words, at, allowed);
    }
    found
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let word = words[*at];
    *at += 1;
    if word != "(" {
        return allowed.contains(word.replace("_WITH_", " WITH ").as_str());
    }
    let found = either(words, at, allowed);
    assert_eq!(words[*at], ")");
    *at += 1;
    found
}

#[test]
fn every_dependency_is_of_a_source_a_licence_and_a_version_that_is_allowed() {
    let rules: Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let texts = |section: &str, key: &str| -> Vec<String> {
        let list = rules[section][key].as_array().unwrap();
        list.iter().map(|one| one.as_str().or_else(|| one["crate"].as_str()).unwrap().to_owned()).collect()
    };
    let (licences, banned, skipped) = (texts("licenses", "allow"), texts("bans", "deny"), texts("bans", "skip"));
    let allowed: BTreeSet<_> = licences.iter().map(String::as_str).collect();
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    let packages = packages();
    assert!(packages.len() > 100);
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        versions.entry(name).or_default().insert(package["version"].as_str().unwrap());
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        assert!(met(licence, &allowed), "{name} is under {licence}");
        assert!(!banned.iter().any(|banned| banned == name), "{name} is banned");
        let source = package["source"].as_str();
        assert!(name == "sequor" || source == Some("registry+https://github.com/rust-lang/crates.io-index"), "{name} is from {source:?}");
    }
    let twice: BTreeSet<_> = versions.iter().filter(|(_, versions)| versions.len() > 1).map(|(name, _)| *name).collect();
    assert_eq!(twice, skipped.iter().map(String::as_str).collect(), "these are there in more than one version");
}

#[test]
fn an_expression_is_met_as_it_is_written() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0 WITH LLVM-exception", "Zlib"]);
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "GPL-3.0/MIT",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        "(GPL-3.0 OR MIT) AND Zlib",
        "MIT AND Zlib OR GPL-3.0",
    ] {
        assert!(met(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT OR Zlib) AND GPL-3.0"] {
        assert!(!met(bad, &allowed), "{bad}");
    }
}

#[test]
fn the_licences_are_there() {
    let manifest: Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    assert_eq!(manifest["package"]["license"].as_str(), Some("MIT OR Apache-2.0"));
    for (file, begins) in [("LICENSE-MIT", "MIT License"), ("LICENSE-APACHE", "Apache License")] {
        assert!(fs::read_to_string(root().join(file)).unwrap().trim_start().starts_with(begins), "{file}");
    }
}
