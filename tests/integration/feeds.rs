//! `sequor import --preset` on the sample files in `examples/feeds`, with a real daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::daemon::{DaemonHome, run_sequor};

/// The samples: file, preset, further flags, and the number of converted rows.
const SAMPLES: [(&str, &str, &[&str], usize); 9] = [
    ("ga4-events.jsonl", "ga4", &["--kind", "quick_look=view"], 11),
    ("matomo-visits.json", "matomo", &["--kind", "event:Add to wishlist=like"], 7),
    ("posthog-events.jsonl", "posthog", &[], 5),
    ("snowplow-enriched.tsv", "snowplow", &[], 5),
    ("google-merchant.xml", "google-merchant", &[], 3),
    ("google-merchant-atom.xml", "google-merchant", &[], 1),
    ("google-merchant.tsv", "google-merchant", &[], 2),
    ("shopify-products.csv", "shopify", &[], 3),
    ("woocommerce-products.csv", "woocommerce", &[], 6),
];

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/feeds").join(name)
}

fn import(file: &Path, preset: &str, arguments: &[&str]) -> Output {
    run_sequor(&[&["import", file.to_str().unwrap(), "--preset", preset], arguments].concat())
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The counts of a summary in JSON.
fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{:?}", texts(output)))
}

#[test]
fn every_sample_is_imported_once() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (name, preset, flags, rows) in SAMPLES {
        let file = home.dir().join(name);
        fs::copy(sample(name), &file).unwrap();
        let arguments = [flags, &["--json", "--url", daemon.api_url()]].concat();
        let first = import(&file, preset, &arguments);
        assert!(first.status.success(), "{name}: {:?}", texts(&first));
        let counts = summary(&first);
        // The sample of Google Analytics reports an order twice.
        let repeated = if preset == "ga4" { 2 } else { 0 };
        assert_eq!((&counts["taken"], &counts["duplicates"]), (&(rows - repeated).into(), &repeated.into()), "{name}");
        let second = summary(&import(&file, preset, &arguments));
        assert_eq!((&second["taken"], &second["faulty"]), (&0.into(), &0.into()), "{name}");
        if preset == "ga4" {
            // Another file with the same events, such as a later export that overlaps.
            let copy = home.dir().join("again.jsonl");
            fs::copy(sample(name), &copy).unwrap();
            let again = summary(&import(&copy, preset, &arguments));
            assert_eq!((&again["taken"], &again["duplicates"]), (&0.into(), &rows.into()));
        }
    }
    let tea = daemon.get("/v1/items/green-tea").json();
    assert_eq!((&tea["price"], &tea["available"], &tea["brand"]), (&2.9.into(), &true.into(), &"Leaf & Co".into()));
    assert_eq!(daemon.get("/v1/items/44").json()["price"], 2.9);
    assert_eq!(daemon.get("/v1/items/tea-100").json()["attributes"]["currency"], "EUR");
}

#[test]
fn a_dry_run_shows_rows_and_every_rejected_row() {
    let home = DaemonHome::new();
    let file = home.dir().join("events.jsonl");
    let text = fs::read_to_string(sample("ga4-events.jsonl")).unwrap();
    let broken: String = (0..30).map(|_| "{\"event_name\":\"view_item\"}\n").collect();
    fs::write(&file, format!("{text}{broken}")).unwrap();
    // No daemon is running.
    let output = import(&file, "ga4", &["--dry-run", "--rows", "3"]);
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{stdout}{stderr}");
    let lines: Vec<_> = stdout.lines().collect();
    assert!(lines[0].starts_with("line  type"), "{stdout}");
    assert!(lines[1].starts_with("3     view   811.1772445598  tea-100"), "{stdout}");
    assert_eq!(lines[4], "  converted                               10", "{stdout}");
    for line in ["  ignored: page_view                       1", "  unmapped: quick_look                     1"] {
        assert!(lines.contains(&line), "{stdout}");
    }
    assert_eq!(stderr.matches("`event_timestamp` is missing").count(), 30, "{stderr}");
    assert!(stderr.contains(&format!("{}:13: ", file.display())), "{stderr}");
    assert!(stderr.contains("--kind 'quick_look=view'"), "{stderr}");
    assert!(!home.dir().join("events.jsonl.import").exists());

    let output = import(&file, "ga4", &["--dry-run", "--json", "--rows", "1"]);
    let lines: Vec<Value> = texts(&output).0.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["row"]["line"], &lines[0]["row"]["entry"]["item_id"]), (&3.into(), &"tea-100".into()));
    assert_eq!(lines.iter().filter(|line| line["rejected"]["code"] == "missing").count(), 30);
    let last = &lines.last().unwrap()["summary"];
    assert_eq!(
        (&last["converted"], &last["rejected"], &last["unmapped"]["quick_look"]),
        (&10.into(), &30.into(), &1.into())
    );

    let items = import(&sample("shopify-products.csv"), "shopify", &["--dry-run"]);
    let (stdout, _) = texts(&items);
    assert!(stdout.lines().any(|line| line.contains("green-tea") && line.contains("2.9")), "{stdout}");
}

#[test]
fn a_later_mapping_of_a_name_imports_only_its_events() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let file = home.dir().join("events.jsonl");
    fs::copy(sample("ga4-events.jsonl"), &file).unwrap();
    let url = ["--url", daemon.api_url(), "--json"];
    let first = summary(&import(&file, "ga4", &url));
    assert_eq!((&first["taken"], &first["unmapped"]["quick_look"]), (&8.into(), &1.into()));
    let second = summary(&import(&file, "ga4", &[&url[..], &["--kind", "quick_look=view"]].concat()));
    assert_eq!((&second["taken"], &second["duplicates"]), (&1.into(), &0.into()), "{second}");
    assert_eq!(second.get("unmapped"), None);
}

#[test]
fn presets_are_listed_and_wrong_flags_are_explained() {
    let help = texts(&run_sequor(&["import", "--help"])).0;
    for (_, preset, _, _) in SAMPLES {
        assert!(help.contains(&format!("- {preset}")), "{help}");
    }
    let file = sample("shopify-products.csv");
    let (_, stderr) = texts(&import(&file, "shopfy", &[]));
    assert!(stderr.contains("similar value exists: 'shopify'") && stderr.contains("woocommerce"), "{stderr}");
    for (preset, flags, message) in [
        ("shopify", &["--map", "item=SKU"][..], "--map does not apply to --preset shopify"),
        ("shopify", &["--sort"], "omit --sort and --window"),
        ("shopify", &["--kind", "a=view"], "--kind applies to events"),
        ("ga4", &["--items"], "--preset ga4 holds events: omit --items"),
        ("ga4", &["--id-from", "row"], "omit --id-from"),
        ("ga4", &["--delimiter", "tab"], "--delimiter does not apply"),
    ] {
        let output = import(&file, preset, flags);
        let (_, stderr) = texts(&output);
        assert!(!output.status.success() && stderr.contains(message), "{preset} {flags:?}: {stderr}");
    }
    let (_, stderr) = texts(&import(&file, "woocommerce", &["--dry-run"]));
    assert!(stderr.contains("the header lacks the column `id`; it must name id, name"), "{stderr}");
}
