//! Builds the documentation as a web site with mdBook, and checks its links and its search index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::daemon::report_skipped;

/// mdBook as `tests/run` downloads it, or the installed one.
fn mdbook() -> Option<Command> {
    let downloaded = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/linters/bin/mdbook");
    let program = if downloaded.exists() { downloaded } else { PathBuf::from("mdbook") };
    let works = |program: &Path| Command::new(program).arg("--version").output().is_ok();
    if works(&program) && works(Path::new("python3")) {
        return Some(Command::new(program));
    }
    report_skipped("web site of the documentation: mdbook or python3 is not installed (run tests/run)");
    None
}

/// The HTML pages below a folder, by path.
fn html_pages(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages.append(&mut html_pages(&path));
        } else if path.extension().is_some_and(|ending| ending == "html") {
            let text = fs::read_to_string(&path).unwrap();
            pages.insert(path, text);
        }
    }
    pages
}

/// The values of an attribute, such as `href="…"`.
fn attribute_values<'p>(page: &'p str, name: &str) -> BTreeSet<&'p str> {
    page.split(&format!(" {name}=\"")).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// The path without `..`.
fn normalized(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir { assert!(found.pop()) } else { found.push(part) }
    }
    found
}

#[test]
fn site_has_all_pages_working_links_and_a_search_index() {
    let Some(mut mdbook) = mdbook() else { return };
    let folder = tempfile::tempdir().unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let output = mdbook.arg("build").arg(&docs).arg("--dest-dir").arg(folder.path()).output().unwrap();
    let log = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !log.contains("WARN") && !log.contains("ERROR"), "{log}");

    let pages = html_pages(folder.path());
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    for page in summary.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(pages.contains_key(&folder.path().join(page).with_extension("html")), "{page} is not on the site");
    }
    let anchors: BTreeMap<_, _> = pages.iter().map(|(path, page)| (path, attribute_values(page, "id"))).collect();
    let mut checked = 0;
    for (path, page) in pages.iter().filter(|(path, _)| !path.ends_with("404.html") && !path.ends_with("toc.html")) {
        for link in attribute_values(page, "href").into_iter().chain(attribute_values(page, "src")) {
            // Absolute paths occur in examples of HTML only.
            if link.contains("://") || ["/", "data:", "mailto:"].iter().any(|start| link.starts_with(start)) {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if target.is_empty() { path.clone() } else { normalized(&path.parent().unwrap().join(target)) };
            assert!(target.is_file(), "{} links to {link}", path.display());
            if !anchor.is_empty() {
                assert!(
                    anchors[&target].contains(anchor),
                    "{} links to {link}, which has no such heading",
                    path.display()
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 1_000, "{checked} links");
    let index = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let index = index.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("searchindex"));
    let index: String = index.map(|path| fs::read_to_string(path).unwrap()).collect();
    for word in ["min_offset", "sequor_live_recall_at_20", "exclude_seen"] {
        assert!(index.contains(word), "the search does not find {word}");
    }
}
