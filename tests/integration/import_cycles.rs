//! Checks that no source files import each other, directly or indirectly. A use of a name that a
//! `mod.rs` re-exports counts as an import of the file that defines it.

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each file of a crate: its module path, its file name, and its code without tests.
type Modules = BTreeMap<Vec<String>, (String, String)>;

fn read_modules(root: &str) -> Modules {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let (mut modules, mut folders) = (Modules::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            if !name.ends_with(".rs")
                || name.ends_with("tests.rs")
                || name.contains("testing")
                || name.contains("/tests")
            {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("\n#[cfg(test)]").next().unwrap_or_default().to_owned();
            let mut module: Vec<_> = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
                module.pop();
            }
            modules.insert(module, (name, code));
        }
    }
    modules
}

/// Returns the paths of a `use` tree: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn use_paths(prefix: &[String], tree: &str) -> Vec<Vec<String>> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, letter) in tree.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[start..]);
    let segments = |path: &str| path.split("::").map(|segment| segment.trim().to_owned()).collect::<Vec<_>>();
    let mut found = Vec::new();
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once("::{") {
            Some((path, rest)) => {
                let inner = [prefix, &segments(path)].concat();
                found.extend(use_paths(&inner, rest.trim_end().trim_end_matches('}')));
            }
            None => found.push([prefix, &segments(part.split(" as ").next().unwrap_or(part))].concat()),
        }
    }
    found
}

/// Returns the absolute module path of a `use` path in module `here`; `None` for a path into
/// another crate.
fn absolute_path(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => Some([&module[..module.len().checked_sub(supers)?], &path[supers..]].concat()),
        _ => None,
    }
}

/// Returns, for each file, the files that it imports from.
fn imports_by_file(modules: &Modules) -> BTreeMap<String, BTreeSet<String>> {
    let statement = Regex::new(r"(?m)^\s*(pub(?:\([a-z ]+\))?\s+)?use\s+([^;]+);").unwrap();
    let definition = Regex::new(
        r"(?m)^\s*(?:pub(?:\([a-z ]+\))?\s+)?(?:struct|enum|trait|type|fn|const|static|macro_rules!)\s+(\w+)",
    )
    .unwrap();
    let mut definitions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, code) in modules.values() {
        for found in definition.captures_iter(code) {
            definitions.entry(found.get(1).unwrap().as_str()).or_default().insert(file);
        }
    }
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, (file, code)) in modules {
        let is_folder = file.ends_with("mod.rs") || file == "lib.rs";
        for found in statement.captures_iter(code) {
            if found.get(1).is_some() && is_folder {
                continue;
            }
            for path in use_paths(&[], &found[2]).iter().filter_map(|path| absolute_path(module, path)) {
                let Some(depth) = (0..=path.len()).rev().find(|depth| modules.contains_key(&path[..*depth])) else {
                    continue;
                };
                let (target, target_code) = &modules[&path[..depth]];
                let name = path.get(depth).map_or("", String::as_str);
                let is_reexport = target.ends_with("mod.rs") || !target_code.contains(&format!(" {name}"));
                let folder = target.rsplit_once('/').map_or("", |(folder, _)| folder);
                let origins: Vec<_> = definitions
                    .get(name)
                    .into_iter()
                    .flatten()
                    .filter(|origin| is_reexport && !folder.is_empty() && origin.starts_with(&format!("{folder}/")))
                    .collect();
                let target = if let [origin] = origins.as_slice() { (**origin).to_owned() } else { target.clone() };
                if target != *file {
                    edges.entry(file.clone()).or_default().insert(target);
                }
            }
        }
    }
    edges
}

#[test]
fn there_are_no_import_cycles() {
    let mut in_cycles = Vec::new();
    for root in ["crates/core/src", "src"] {
        let edges = imports_by_file(&read_modules(root));
        assert!(edges.len() > 100, "too few imports were found in {root}");
        for start in edges.keys() {
            let (mut seen, mut pending) = (BTreeSet::new(), vec![start]);
            while let Some(file) = pending.pop() {
                pending.extend(edges.get(file).into_iter().flatten().filter(|next| seen.insert(*next)));
            }
            if seen.contains(start) {
                in_cycles.push(format!("{root}/{start}"));
            }
        }
    }
    assert!(in_cycles.is_empty(), "these files are part of import cycles:\n{}", in_cycles.join("\n"));
}

#[test]
fn nested_use_trees_are_expanded() {
    let read: Vec<_> = use_paths(&[], "crate::{a::B, c::{D as E, f}}").iter().map(|path| path.join("::")).collect();
    assert_eq!(read, ["crate::a::B", "crate::c::D", "crate::c::f"]);
}
