//! Checks the files in `ops/` (rules, alerts, dashboard, runbook, container and service files)
//! against the real daemon and tools.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use sequor::metrics::Metrics;
use sequor::settings::{Settings, SettingsLayers};

use crate::daemon::{Daemon, DaemonHome, report_skipped, run_sequor, sequor_command, view_event, wait_for};
use crate::prometheus::{Prometheus, ops_file};

fn ops_file_text(file: &str) -> String {
    fs::read_to_string(ops_file(file)).unwrap()
}

fn ops_file_yaml(file: &str) -> Value {
    serde_saphyr::from_str(&ops_file_text(file)).unwrap_or_else(|error| panic!("ops/{file}: {error}"))
}

/// Every rule of ops/prometheus/rules.yml.
pub(crate) fn prometheus_rules() -> Vec<Value> {
    let groups = ops_file_yaml("prometheus/rules.yml")["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The name of every alert.
pub(crate) fn alert_names() -> BTreeSet<String> {
    prometheus_rules().iter().filter_map(|rule| rule["alert"].as_str().map(ToOwned::to_owned)).collect()
}

/// The expressions of the dashboard with its variables filled in: those of the panels and those of
/// the annotations.
fn dashboard_expressions() -> (Vec<String>, Vec<String>) {
    let page: Value = serde_json::from_str(&ops_file_text("grafana/dashboards/sequor.json")).unwrap();
    let panels = page["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let panels = panels.map(|target| target["expr"].as_str().unwrap().to_owned());
    let annotations = page["annotations"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|mark| mark["expr"].as_str().map(ToOwned::to_owned));
    let filled = |expression: String| expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
    (panels.map(filled).collect(), annotations.map(filled).collect())
}

/// The metrics that an expression names.
pub(crate) fn metric_names_in(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':');
    words
        .filter(|word| word.starts_with("sequor") || word.starts_with("process_"))
        .filter(|word| *word != "sequor")
        .collect()
}

/// The names of the declared series.
fn declared_series() -> BTreeSet<String> {
    let page = Metrics::render_markdown();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")).map(|row| {
        let (name, rest) = row.split_once("` | ").unwrap();
        (name.to_owned(), rest.starts_with("histogram"))
    });
    rows.flat_map(|(name, histogram)| {
        let endings: &[&str] = if histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        endings.iter().map(move |ending| format!("{name}{ending}"))
    })
    .collect()
}

/// Generates every kind of traffic of a healthy daemon.
fn send_traffic(daemon: &Daemon, round: usize) {
    let user = |number: usize| format!("user{}", number % 7);
    let batch: Vec<_> = (0..40)
        .map(|number| {
            let item = format!("item{}", (number * 3 + number / 7 + round) % 30);
            let mut event = view_event(&format!("{round}-{number}"), &user(number), &item);
            if number % 4 == 0 {
                event["type"] = json!("rate");
                event["value"] = json!(1 + number % 5);
            }
            event
        })
        .collect();
    daemon.send_events(&batch);
    daemon.send_events(&batch[..2]);
    assert_eq!(daemon.post("/v1/events", "{}").status, 400);
    assert_eq!(daemon.get("/v1/users/user1/recommendations?limit=0").status, 400);
    daemon.recommended_items("nobody");
    for number in 0..7 {
        let panels = daemon.recommended_items(&user(number));
        // The impression must be learned before the click.
        wait_for("the impression to be learned", || {
            let status = daemon.status();
            (status["learning"]["next_offset"] == status["journal"]["next_offset"]).then_some(())
        });
        for (cell, item) in panels.iter().enumerate().filter(|(cell, _)| [0, 2, 7, 12].contains(cell)) {
            daemon.send_events(&[view_event(&format!("{round}-{number}-{cell}"), &user(number), item)]);
        }
    }
    assert_eq!(daemon.get("/v1/items/item1/similar").status, 200);
    assert_eq!(daemon.post("/v1/recommendations", r#"{"items":["item1"]}"#).status, 200);
    assert_eq!(daemon.request("PUT", "/v1/items/item1", r#"{"price":1.5}"#).status, 200);
}

#[test]
fn rule_and_dashboard_expressions_have_data() {
    let home = DaemonHome::new();
    let settings = [
        "learning.interval=16",
        "clusters.every=64",
        "clusters.lag=16",
        "store.checkpoint_every=100",
        "session.passivate_after=1s",
        "features.brand=brand",
    ];
    let daemon = home.start(&settings);
    let Some(prometheus) = Prometheus::start(&[&daemon], |rules| rules) else { return };
    let recorded = prometheus_rules()
        .into_iter()
        .filter_map(|rule| Some((rule["record"].as_str()?.to_owned(), rule["expr"].as_str()?.to_owned())));
    // Recorded metrics are queried by name, so the rules must have been evaluated.
    let recorded = recorded.map(|(name, _)| name);
    let (panels, annotations) = dashboard_expressions();
    let mut missing: Vec<String> = recorded.chain(panels).collect();
    // Only a daemon with TLS has an expiry date of its certificate, and only a node of a cluster
    // publishes messages.
    let only_elsewhere = ["sequor_tls_certificate_expiry_timestamp_seconds", "sequor_cluster_publish_seconds"];
    missing.retain(|expression| !only_elsewhere.iter().any(|metric| expression.contains(metric)));
    assert!(missing.len() > 60);
    let mut round = 0;
    wait_for("data for every expression", || {
        send_traffic(&daemon, round);
        round += 1;
        missing.retain(|expression| !prometheus.query_series(expression).iter().any(|(_, value)| !value.is_nan()));
        // The test output shows these expressions if the wait times out.
        println!("after round {round} there is no data for:\n{}", missing.join("\n"));
        missing.is_empty().then_some(())
    });
    // Alerts and annotations have no data on a healthy daemon, but their expressions must be valid.
    let alerts = prometheus_rules()
        .into_iter()
        .filter(|rule| rule["alert"].is_string())
        .map(|rule| rule["expr"].as_str().unwrap().to_owned());
    for expression in alerts.chain(annotations) {
        prometheus.query_series(&expression);
    }
    let unhealthy_rules: Vec<_> = prometheus.loaded_rules().into_iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(unhealthy_rules.is_empty(), "{unhealthy_rules:?}");
    // A healthy daemon raises no alerts.
    assert_eq!(prometheus.firing_alerts(&daemon), Vec::<String>::new());
}

#[test]
fn rules_and_dashboard_use_existing_metrics() {
    let declared_series = declared_series();
    let recorded: BTreeSet<_> =
        prometheus_rules().iter().filter_map(|rule| rule["record"].as_str().map(ToOwned::to_owned)).collect();
    let (panels, annotations) = dashboard_expressions();
    let expressions = prometheus_rules()
        .into_iter()
        .map(|rule| rule["expr"].as_str().unwrap().to_owned())
        .chain(panels)
        .chain(annotations);
    for expression in expressions {
        for name in metric_names_in(&expression) {
            let known = declared_series.contains(name) || recorded.contains(name);
            assert!(known, "{name} is neither declared nor recorded: {expression}");
        }
    }
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let (panels, annotations) = dashboard_expressions();
    let rules = prometheus_rules();
    // A panel may also show a metric through a recording rule.
    let recorded = |name: &str| {
        let rule = rules.iter().find(|rule| rule["record"] == name);
        rule.map_or_else(|| name.to_owned(), |rule| rule["expr"].as_str().unwrap().to_owned())
    };
    let mut named_in: BTreeSet<String> = BTreeSet::new();
    for expression in panels.iter().chain(&annotations) {
        for name in metric_names_in(expression) {
            named_in.extend(metric_names_in(&recorded(name)).into_iter().map(ToOwned::to_owned));
        }
    }
    let base = |series: &str| {
        let ending = ["_bucket", "_sum", "_count"].into_iter().find_map(|ending| series.strip_suffix(ending));
        ending.unwrap_or(series).to_owned()
    };
    let named_in: BTreeSet<_> = named_in.iter().map(|series| base(series)).collect();
    let missing: BTreeSet<_> =
        declared_series().iter().map(|series| base(series)).filter(|name| !named_in.contains(name)).collect();
    assert_eq!(missing, BTreeSet::new(), "no panel shows them");
}

#[test]
fn dashboard_has_its_rows_and_panels_do_not_overlap() {
    let page: Value = serde_json::from_str(&ops_file_text("grafana/dashboards/sequor.json")).unwrap();
    let panels = page["panels"].as_array().unwrap();
    let rows: Vec<_> =
        panels.iter().filter(|panel| panel["type"] == "row").map(|panel| panel["title"].as_str().unwrap()).collect();
    assert_eq!(rows, ["Service", "Quality", "Learning", "Recall", "Store", "Process", "Cluster"]);
    let (mut ids, mut occupied) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has a duplicate id");
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        for cell in (at("y")..at("y") + at("h")).flat_map(|y| (at("x")..at("x") + at("w")).map(move |x| (x, y))) {
            assert!(cell.0 < 24 && occupied.insert(cell), "{title} overlaps another panel or the edge");
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn promtool_accepts_rules_and_every_alert_has_unit_tests() {
    let Ok(output) =
        Command::new("promtool").args(["check", "config"]).arg(ops_file("prometheus/prometheus.yml")).output()
    else {
        report_skipped("rules: promtool is not installed");
        return;
    };
    let stderr = |output: &std::process::Output| {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    assert!(output.status.success(), "{}", stderr(&output));
    for check in ["check", "test"] {
        let file = if check == "check" { "prometheus/rules.yml" } else { "prometheus/rules.test.yml" };
        let output = Command::new("promtool").args([check, "rules"]).arg(ops_file(file)).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let tests = ops_file_yaml("prometheus/rules.test.yml")["tests"].as_array().unwrap().clone();
    let cases: Vec<_> = tests.iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap()).collect();
    for alert in alert_names() {
        for fires in [true, false] {
            let is_tested = cases.iter().any(|case| {
                case["alertname"] == alert.as_str() && case["exp_alerts"].as_array().unwrap().is_empty() != fires
            });
            assert!(is_tested, "no unit test in which {alert} {}", if fires { "fires" } else { "does not fire" });
        }
    }
}

#[test]
fn every_alert_has_severity_texts_and_runbook() {
    for alert in prometheus_rules().iter().filter(|rule| rule["alert"].is_string()) {
        let name = alert["alert"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        for part in ["summary", "description"] {
            assert!(alert["annotations"][part].as_str().is_some_and(|text| !text.is_empty()), "{name} has no {part}");
        }
        assert_eq!(alert["annotations"]["runbook"], format!("ops/RUNBOOK.md#{}", name.to_lowercase()), "{name}");
    }
    let page = ops_file_text("RUNBOOK.md");
    let headings: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("## Sequor")).map(|rest| format!("Sequor{rest}")).collect();
    assert_eq!(headings, alert_names(), "the headings of ops/RUNBOOK.md differ from the alerts");
    for heading in &headings {
        let section = page.split(&format!("## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        for part in ["**Means.**", "**Look.**", "**Do.**"] {
            assert!(section.contains(part), "{heading} has no {part}");
        }
    }
}

#[test]
fn runbook_references_exist() {
    let page = ops_file_text("RUNBOOK.md");
    let (declared_series, settings) = (declared_series(), SettingsLayers::<Settings>::new().unwrap());
    let keys: BTreeSet<_> = settings.effective_values().into_iter().map(|(key, ..)| key).collect();
    let sections: BTreeSet<_> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    let quoted: Vec<_> = page.split('`').skip(1).step_by(2).collect();
    for word in &quoted {
        for name in metric_names_in(word).into_iter().filter(|name| name.starts_with("sequor_")) {
            let family = declared_series.contains(name) || declared_series.contains(&format!("{name}_count"));
            assert!(family, "{name} is not declared");
        }
        let key = word.split([' ', '=']).next().unwrap();
        if key.split_once('.').is_some_and(|(section, rest)| {
            sections.contains(section) && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        }) {
            assert!(keys.contains(key), "{key} is not a setting");
        }
    }
    let (home, mut paths) = (DaemonHome::new(), BTreeSet::new());
    for rest in quoted.iter().flat_map(|word| word.split("/admin/").skip(1)) {
        paths.insert(format!("/admin/{}", rest.split([' ', '\'']).next().unwrap()));
    }
    let daemon = home.start(&[]);
    assert!(paths.len() > 5);
    for path in paths {
        assert!(daemon.get_admin(&path).status != 404, "{path} returns 404");
    }
    let commands: BTreeSet<_> =
        quoted.iter().filter_map(|word| word.strip_prefix("sequor ")?.split_whitespace().next()).collect();
    assert!(commands.len() > 4);
    for command in commands {
        assert!(run_sequor(&[command, "--help"]).status.success(), "there is no command {command}");
    }
}

#[test]
fn container_files_are_consistent() {
    let compose = ops_file_yaml("compose.yaml");
    let services = compose["services"].as_object().unwrap();
    let volumes = compose["volumes"].as_object().unwrap();
    for (name, service) in services {
        for volume in service["volumes"].as_array().unwrap() {
            let from = volume.as_str().unwrap().split(':').next().unwrap();
            let exists = if from.starts_with('.') { ops_file(from).exists() } else { volumes.contains_key(from) };
            assert!(exists, "{name} mounts {from}, which does not exist");
        }
    }
    let build = &services["sequor"]["build"];
    let context = ops_file(build["context"].as_str().unwrap());
    let dockerfile = fs::read_to_string(context.join(build["dockerfile"].as_str().unwrap())).unwrap();

    // The image sets existing settings, and Prometheus scrapes the admin address that they
    // configure.
    let pairs = dockerfile
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .filter(|(name, _)| name.starts_with("SEQUOR_"));
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(pairs.len(), 4);
    let layers = SettingsLayers::<Settings>::new().unwrap().add_environment(pairs).unwrap();
    let settings = layers.validated_settings().unwrap();
    let target =
        ops_file_yaml("prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"][0].clone();
    assert_eq!(settings.server.admin_listen.to_string(), target.as_str().unwrap());
    assert_eq!(
        services["prometheus"]["network_mode"], "service:sequor",
        "otherwise Prometheus cannot reach the admin address"
    );
    let data = settings.store.data_dir.to_str().unwrap();
    assert!(
        dockerfile.contains(&format!("VOLUME {data}\n")) && services["sequor"]["volumes"][0] == format!("data:{data}")
    );

    // Grafana is configured with the address of Prometheus and the dashboard.
    let port = services["prometheus"]["command"].to_string().split("listen-address=:").nth(1).unwrap()[..4].to_owned();
    let source = ops_file_yaml("grafana/provisioning/datasources/prometheus.yaml");
    assert_eq!(source["datasources"][0]["url"], format!("http://sequor:{port}"));
    let path = ops_file_yaml("grafana/provisioning/dashboards/sequor.yaml")["providers"][0]["options"]["path"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(services["grafana"]["volumes"].to_string().contains(&format!("./grafana/dashboards:{path}:ro")));

    // The health check is an existing command.
    let check = dockerfile.lines().find(|line| line.starts_with("HEALTHCHECK")).unwrap();
    assert!(check.ends_with(r#"CMD ["/usr/local/bin/sequor", "health", "--alive"]"#), "{check}");
    // The build context contains everything that the build reads.
    let ignored = fs::read_to_string(context.join(".dockerignore")).unwrap();
    for needed in ["Cargo.toml", "Cargo.lock", "src", "benches", "clients/rust", "crates/core"] {
        let is_excluded = |line: &str| Path::new(needed).starts_with(line);
        assert!(!ignored.lines().any(is_excluded), ".dockerignore excludes {needed}");
        assert!(context.join(needed).exists());
    }
}

#[test]
fn systemd_unit_is_valid_and_hardened() {
    let unit = ops_file_text("sequor.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/sequor ")).unwrap();
    let mut words = start.split_whitespace();
    let help = String::from_utf8(run_sequor(&[words.next().unwrap(), "--help"]).stdout).unwrap();
    for flag in words.filter(|word| word.starts_with("--")) {
        assert!(help.contains(flag), "{flag} is not a flag");
    }
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("sequor.service");
    let binary = sequor_command().get_program().to_str().unwrap().to_owned();
    fs::write(&file, unit.replace("/usr/local/bin/sequor", &binary)).unwrap();
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&file).output();
    let Ok(output) = analyze(&["verify", "--man=no"]) else {
        report_skipped("systemd unit: systemd-analyze is not installed");
        return;
    };
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !stderr.contains("sequor.service"), "{stderr}");
    // The exposure score out of 100; without hardening it is 96.
    let output = analyze(&["security", "--offline=yes", "--no-pager", "--threshold=15"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn links_in_readme_and_runbook_resolve() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["README.md", "ops/RUNBOOK.md"] {
        let file = root.join(page);
        let written = fs::read_to_string(&file).unwrap();
        for link in written.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            let resolves = link.is_empty() || link.starts_with("http") || file.parent().unwrap().join(link).exists();
            assert!(resolves, "{page} links to {link}");
        }
    }
}
