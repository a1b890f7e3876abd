//! Compares the pages in `docs/api/` with the API description that the daemon serves.

mod markdown;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::daemon::DaemonHome;

fn api_description() -> Value {
    let home = DaemonHome::new();
    home.start(&[]).get("/openapi.json").json()
}

#[test]
fn api_pages_match_the_description() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api");
    let pages = markdown::render_pages(&api_description());
    if std::env::var_os("SEQUOR_WRITE_PAGES").is_some() {
        fs::create_dir_all(&folder).unwrap();
        pages.iter().for_each(|(name, page)| fs::write(folder.join(name), page).unwrap());
    }
    for (name, page) in &pages {
        let written = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(written == *page, "docs/api/{name} differs from the API description; its head says how to write it");
    }
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), pages.keys().cloned().collect(), "pages of a group that does not exist");
}

#[test]
fn every_operation_is_on_a_page_and_every_type_is_listed() {
    let description = api_description();
    let pages = markdown::render_pages(&description);
    let groups: BTreeSet<_> = markdown::GROUPS.into_iter().map(|(tag, _)| tag).collect();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let tag = operation["tags"][0].as_str().unwrap();
            assert!(groups.contains(tag), "{path} is in the group {tag}, which has no page");
            let name = format!("\n`{} {path}`\n", method.to_uppercase());
            assert!(pages[&format!("{tag}.md")].contains(&name), "{name}");
        }
    }
    for name in description["components"]["schemas"].as_object().unwrap().keys() {
        assert!(pages["types.md"].contains(&format!("\n## {name}\n")), "{name}");
    }
}
