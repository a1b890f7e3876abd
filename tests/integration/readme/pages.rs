//! Checks links, summary and the names of settings, flags and files in the pages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sequor::settings::{Settings, SettingsLayers};

use super::{documentation_pages, fenced_blocks, project_root, read_file};

/// Every Markdown file below a folder, relative to the repository.
fn markdown_files(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in project_root().join(folder).read_dir().unwrap() {
        let name = format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap());
        if project_root().join(&name).is_dir() {
            found.append(&mut markdown_files(&name));
        } else if name.ends_with(".md") {
            found.insert(name);
        }
    }
    found
}

/// The page without its fenced blocks.
fn without_code_blocks(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The inline code of a page.
pub(super) fn code_spans(text: &str) -> Vec<String> {
    without_code_blocks(text).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook name them.
fn heading_anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.to_lowercase().replace(' ', "-");
            kept.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
        })
        .collect()
}

#[test]
fn summary_lists_every_page() {
    let listed: BTreeSet<_> =
        documentation_pages().into_iter().map(|(name, _)| name).filter(|name| name != "README.md").collect();
    let mut files = markdown_files("docs");
    files.remove("docs/SUMMARY.md");
    assert_eq!(listed, files);
}

#[test]
fn readme_is_short() {
    let readme = read_file("README.md");
    assert!(readme.lines().count() <= 160, "{} lines", readme.lines().count());
    assert!(readme.chars().count() < 12_000, "{} characters", readme.chars().count());
    for image in project_root().join("docs/images").read_dir().unwrap() {
        let bytes = image.unwrap().metadata().unwrap().len();
        assert!(bytes < 200_000, "an image of {bytes} bytes");
    }
}

#[test]
fn links_resolve() {
    let others =
        ["ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "ops/RUNBOOK.md", "docs/SUMMARY.md"];
    let named = others.iter().map(|name| ((*name).to_owned(), read_file(name)));
    for (page, text) in documentation_pages().into_iter().chain(named) {
        let folder = project_root().join(&page).parent().map(Path::to_owned).unwrap();
        for link in without_code_blocks(&text).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target: PathBuf = if path.is_empty() { project_root().join(&page) } else { folder.join(path) };
            assert!(target.exists(), "{page} links to {link}");
            if !anchor.is_empty() {
                let found = heading_anchors(&std::fs::read_to_string(&target).unwrap());
                assert!(found.contains(anchor), "{page} links to {link}, but {path} has {found:?}");
            }
        }
    }
}

#[test]
fn named_files_exist() {
    let folders = ["src/", "tests/", "ops/", "docs/", "migrations/", "benches/"];
    for (page, text) in documentation_pages() {
        for span in code_spans(&text) {
            let path = span.split(['#', ' ']).next().unwrap();
            let is_pattern = path.contains(['<', '*', '…'])
                || path.chars().any(|letter| letter.is_ascii_uppercase()) && path.contains("NAME");
            if folders.iter().any(|folder| path.starts_with(folder)) && !is_pattern {
                assert!(project_root().join(path).exists(), "{page} names {path}");
            }
        }
    }
}

/// A row of the code map is `| question | file | names in that file |`.
#[test]
fn names_in_code_map_occur_in_their_files() {
    let page = read_file("docs/internals/code-map.md");
    let mut questions = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && line.contains("`src/")) {
        let columns: Vec<_> = row.trim_matches('|').split('|').collect();
        let file = columns[1].trim().trim_matches('`');
        let code = std::fs::read_to_string(project_root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for name in columns.get(2).unwrap_or(&"").split('`').skip(1).step_by(2) {
            let last = name.rsplit("::").next().unwrap();
            assert!(code.contains(last), "the code map says that {file} has {name}");
        }
        questions += 1;
    }
    assert!(questions >= 10, "{questions} questions");
}

#[test]
fn named_settings_exist() {
    let settings = SettingsLayers::<Settings>::new().unwrap();
    let keys: BTreeSet<_> = settings.effective_values().into_iter().map(|(key, ..)| key).collect();
    let sections: BTreeSet<_> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    for (page, text) in documentation_pages() {
        for span in code_spans(&text) {
            let key = span.split([' ', '=']).next().unwrap();
            let is_key = key.split_once('.').is_some_and(|(section, rest)| {
                sections.contains(section)
                    && rest != "rs"
                    && rest.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
            });
            assert!(!is_key || keys.contains(key), "{page} names the setting {key}");
        }
    }
}

#[test]
fn toml_blocks_are_settings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sequor.toml");
    for (page, text) in documentation_pages() {
        for block in fenced_blocks(&text, "toml") {
            std::fs::write(&file, block).unwrap();
            let layers = SettingsLayers::<Settings>::new().unwrap().add_file(&file);
            let checked = layers.and_then(|layers| layers.validated_settings().map(drop));
            assert!(checked.is_ok(), "{page}: {checked:?}\n{block}");
        }
    }
}

#[test]
fn every_section_of_the_settings_has_a_row() {
    let page = read_file("docs/configuration.md");
    for section in toml::Table::try_from(Settings::default()).unwrap().keys() {
        assert!(page.contains(&format!("| `[{section}")), "docs/configuration.md does not describe [{section}]");
    }
}
