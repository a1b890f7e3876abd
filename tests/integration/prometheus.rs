//! Runs a real Prometheus that scrapes daemons under test with the project's configuration and
//! rules.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use ureq::Agent;

use crate::daemon::{Daemon, report_skipped, wait_for};

/// The path of a file in `ops/`.
pub(crate) fn ops_file(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ops").join(file)
}

/// Replaces a passage, which must occur in the text.
pub(crate) fn replace_required(text: &str, passage: &str, other: &str) -> String {
    assert!(text.contains(passage), "{passage} is not in\n{text}");
    text.replace(passage, other)
}

/// Shortens the `for` duration of every alert to one second.
pub(crate) fn shorten_alert_delays(rules: &str) -> String {
    let shorten = |line: &str| {
        if line.trim_start().starts_with("for: ") { "        for: 1s".to_owned() } else { line.to_owned() }
    };
    let shortened: Vec<_> = rules.lines().map(shorten).collect();
    assert!(shortened.iter().filter(|line| line.ends_with("for: 1s")).count() > 10);
    shortened.join("\n")
}

/// A running Prometheus; killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: String,
    agent: Agent,
    _home: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Starts a Prometheus that scrapes these daemons once a second; `rules` edits the project's
    /// rules, for example to shorten waiting times. Returns `None` and reports a skipped check if
    /// Prometheus is not installed.
    pub(crate) fn start(daemons: &[&Daemon], rules: impl FnOnce(String) -> String) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let targets: Vec<_> = daemons.iter().map(|daemon| format!("{:?}", instance_label(daemon))).collect();
        let text = fs::read_to_string(ops_file("prometheus/prometheus.yml")).unwrap();
        let config = text.replace("15s", "1s").replace("[\"127.0.0.1:9090\"]", &format!("[{}]", targets.join(",")));
        assert!(
            daemons.iter().all(|daemon| config.contains(&instance_label(daemon))),
            "the scrape target in the configuration has changed:\n{config}"
        );
        fs::write(home.path().join("prometheus.yml"), config).unwrap();
        fs::write(home.path().join("rules.yml"), rules(fs::read_to_string(ops_file("prometheus/rules.yml")).unwrap()))
            .unwrap();
        let log = home.path().join("log");
        let written = File::create(&log).unwrap();
        let mut command = Command::new("prometheus");
        command.current_dir(home.path()).args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--web.listen-address=127.0.0.1:0",
        ]);
        let Ok(child) = command.stdin(Stdio::null()).stdout(written.try_clone().unwrap()).stderr(written).spawn()
        else {
            report_skipped("rules and dashboard: Prometheus is not installed");
            return None;
        };
        let address = wait_for("Prometheus to listen", || {
            let text = fs::read_to_string(&log).unwrap();
            let (_, address) = text.split_once("msg=\"Listening on\" address=")?;
            Some(format!("http://{}", address.split_whitespace().next()?))
        });
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        let is_ready = || agent.get(format!("{address}/-/ready")).call().is_ok_and(|response| response.status() == 200);
        wait_for("Prometheus to be ready", || is_ready().then_some(()));
        Some(Self { child, address, agent, _home: home })
    }

    /// Waits until each daemon was scraped twice, so that later increases have a base value.
    pub(crate) fn wait_for_scrapes(&self, daemons: &[&Daemon]) {
        wait_for("two scrapes", || {
            let scraped = self.query_series("count_over_time(sequor_ready[1m]) >= 2");
            daemons
                .iter()
                .all(|daemon| scraped.iter().any(|(labels, _)| labels["instance"] == instance_label(daemon).as_str()))
                .then_some(())
        });
    }

    fn get_json(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let request = self.agent.get(format!("{}{path}", self.address)).query_pairs(query.iter().copied());
        let response: Value = request.call().unwrap().body_mut().read_json().unwrap();
        assert_eq!(response["status"], "success", "{path} {query:?}: {response}");
        response["data"].clone()
    }

    /// Evaluates an expression now: the labels and the value of each series.
    pub(crate) fn query_series(&self, expression: &str) -> Vec<(Value, f64)> {
        let data = self.get_json("/api/v1/query", &[("query", expression)]);
        let one = |result: &Value| (result["metric"].clone(), result["value"][1].as_str().unwrap().parse().unwrap());
        data["result"].as_array().unwrap().iter().map(one).collect()
    }

    /// Every rule, as loaded by Prometheus.
    pub(crate) fn loaded_rules(&self) -> Vec<Value> {
        let groups = self.get_json("/api/v1/rules", &[]);
        groups["groups"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect()
    }

    /// The names of the alerts that are firing for a daemon.
    pub(crate) fn firing_alerts(&self, daemon: &Daemon) -> Vec<String> {
        let alerts = self.get_json("/api/v1/alerts", &[])["alerts"].as_array().unwrap().clone();
        let firing = alerts.iter().filter(|alert| {
            alert["state"] == "firing" && alert["labels"]["instance"] == instance_label(daemon).as_str()
        });
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until each of these alerts has fired for a daemon. Calls `cause` again and again, so
    /// that the alerts' condition persists until they fire.
    pub(crate) fn wait_for_alerts(&self, daemon: &Daemon, alerts: &[&str], mut cause: impl FnMut()) {
        let mut missing: BTreeSet<_> = alerts.iter().copied().collect();
        wait_for("the alerts", || {
            cause();
            let firing = self.firing_alerts(daemon);
            let before = missing.len();
            missing.retain(|alert| !firing.iter().any(|name| name == alert));
            if missing.len() < before {
                // The test output shows these alerts if the wait times out.
                println!("alerts of {alerts:?} that have not fired yet: {missing:?}");
            }
            missing.is_empty().then_some(())
        });
    }
}

/// The instance label of a scraped daemon.
fn instance_label(daemon: &Daemon) -> String {
    daemon.admin_url().trim_start_matches("http://").to_owned()
}
