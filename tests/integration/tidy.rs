//! Checks that the code follows the layering in ARCHITECTURE.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each top-level folder (layer) of `crates/core/src` and `src`, and the folders that it may import, as in
/// ARCHITECTURE.md.
const LAYERS: [(&str, &[&str]); 24] = [
    ("domain", &[]),
    ("registries", &["domain"]),
    ("clock", &["domain"]),
    ("simd", &[]),
    ("metrics", &["domain"]),
    ("telemetry", &["metrics"]),
    ("ingest", &["domain"]),
    ("simulation", &["domain"]),
    ("auth", &["domain"]),
    ("store", &["domain", "registries"]),
    ("cluster", &["domain", "store", "clock", "metrics"]),
    ("evaluation", &["domain"]),
    ("nn", &["domain", "simd"]),
    ("candidates", &["domain", "simd", "nn"]),
    ("ranking", &["domain", "simd", "nn", "candidates"]),
    ("interest", &["domain"]),
    ("reports", &["domain"]),
    ("learner", &["domain", "registries", "nn", "candidates", "ranking", "interest", "evaluation"]),
    ("recommender", &["domain", "registries", "nn", "evaluation", "learner"]),
    ("settings", &["domain", "nn", "candidates", "ranking", "learner"]),
    (
        "actors",
        &["domain", "registries", "nn", "reports", "learner", "store", "cluster", "clock", "metrics", "telemetry"],
    ),
    ("services", &["domain", "reports", "learner", "actors", "clock", "metrics", "telemetry"]),
    (
        "http",
        &[
            "domain",
            "ingest",
            "reports",
            "learner",
            "settings",
            "auth",
            "services",
            "cluster",
            "actors",
            "clock",
            "metrics",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "domain",
            "registries",
            "ingest",
            "evaluation",
            "nn",
            "candidates",
            "ranking",
            "learner",
            "settings",
            "auth",
            "simulation",
            "services",
            "store",
            "cluster",
            "actors",
            "http",
            "clock",
            "simd",
            "metrics",
            "telemetry",
        ],
    ),
];

/// The sources of the recommender and of the daemon.
fn source_roots() -> [PathBuf; 2] {
    ["crates/core/src", "src"].map(|root| Path::new(env!("CARGO_MANIFEST_DIR")).join(root))
}

fn source_files() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = source_roots().to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// The layer of a file: the first part of its path below `src`.
fn layer_of_file(file: &Path) -> String {
    let relative = source_roots().iter().find_map(|root| file.strip_prefix(root).ok()).unwrap().to_owned();
    relative.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// Every `crate::layer` in a file's code.
fn imported_layers(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or(""))
}

/// The code of a file that runs in the daemon, without comments and tests.
fn production_code(file: &Path, text: &str) -> String {
    if file.ends_with("tests.rs") {
        return String::new();
    }
    let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
    shipped.lines().filter(|line| !line.trim_start().starts_with("//")).collect()
}

#[test]
fn imports_point_downward() {
    let layers: BTreeMap<_, _> = LAYERS.into_iter().collect();
    let mut violations = Vec::new();
    for (file, text) in source_files() {
        let from = layer_of_file(&file);
        if from == "lib" || from == "main" {
            continue;
        }
        let allowed = layers.get(from.as_str()).unwrap_or_else(|| panic!("{} is in an unknown layer", file.display()));
        for to in imported_layers(&text) {
            if to != from && layers.contains_key(to) && !allowed.contains(&to) {
                violations.push(format!("{} imports {to}", file.display()));
            }
        }
    }
    assert!(violations.is_empty(), "imports that ARCHITECTURE.md does not allow:\n{}", violations.join("\n"));
}

#[test]
fn architecture_page_lists_every_layer() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    for (layer, allowed) in LAYERS {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{layer}`")))
            .unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {layer}"));
        for other in allowed {
            assert!(row.contains(other), "ARCHITECTURE.md does not say that {layer} may import {other}");
        }
    }
}

#[test]
fn only_outer_layers_read_the_clock() {
    let readers: Vec<_> = source_files()
        .into_iter()
        .filter(|(file, _)| !matches!(layer_of_file(file).as_str(), "clock" | "actors" | "http" | "cli" | "metrics"))
        .filter(|(file, text)| production_code(file, text).contains("::now()"))
        .map(|(file, _)| file.display().to_string())
        .collect();
    assert!(readers.is_empty(), "inner layers must get the time as a parameter: {readers:?}");
}

#[test]
fn only_commands_use_the_client() {
    for (file, text) in source_files() {
        let uses_client = production_code(&file, &text).contains("sequor_client::");
        assert!(!uses_client || layer_of_file(&file) == "cli", "{} uses the client", file.display());
    }
}

#[test]
fn only_the_codec_uses_bincode_and_only_the_store_uses_sled() {
    for (file, text) in source_files() {
        let code = production_code(&file, &text);
        assert!(!code.contains("bincode::") || file.ends_with("store/codec.rs"), "{} uses bincode", file.display());
        assert!(!code.contains("sled::") || layer_of_file(&file) == "store", "{} uses sled", file.display());
    }
}
