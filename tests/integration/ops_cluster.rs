//! Checks the files in `ops/cluster/` against the settings and the real tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use sequor::settings::{Settings, SettingsLayers};

use crate::daemon::{report_skipped, run_sequor};
use crate::prometheus::ops_file;

/// The documents of a YAML file.
fn yaml_documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(ops_file(file)).unwrap();
    let parse = |document: &str| serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{file}: {error}"));
    text.split("\n---\n").map(parse).collect()
}

/// The settings of a node from the environment of its container.
fn settings_from(environment: Vec<(String, String)>) -> Settings {
    let layers = SettingsLayers::<Settings>::new().unwrap().add_environment(environment).unwrap();
    layers.validated_settings().unwrap().clone()
}

/// A tool that the checks download, or the installed one.
fn tool(downloaded: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(downloaded);
    if tools.exists() { tools } else { PathBuf::from(tools.file_name().unwrap()) }
}

#[test]
fn the_nodes_of_the_compose_file_have_valid_settings_and_own_names() {
    let compose = &yaml_documents("cluster/compose.yaml")[0];
    let services = compose["services"].as_object().unwrap();
    let mut names = Vec::new();
    for (service, definition) in services.iter().filter(|(service, _)| service.starts_with("sequor")) {
        let environment = definition["environment"].as_object().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let settings = settings_from(environment.iter().map(|(name, value)| (name.clone(), text(value))).collect());
        assert_eq!((settings.cluster.servers.len(), settings.cluster.monitors.len()), (3, 3), "{service}");
        assert_eq!(settings.cluster.node, *service);
        for server in &settings.cluster.servers {
            let host = server.trim_start_matches("nats://").split(':').next().unwrap();
            assert!(services.contains_key(host), "{server} is no service");
        }
        names.push(settings.cluster.node);
    }
    assert_eq!(names.len(), 3);
}

#[test]
fn the_pods_of_the_kubernetes_file_have_valid_settings_and_probes() {
    let documents = yaml_documents("cluster/kubernetes.yaml");
    let set = documents.iter().find(|document| document["kind"] == "StatefulSet").unwrap();
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let environment = container["env"].as_array().unwrap().iter();
    let settings = settings_from(environment.map(|set| (text(&set["name"]), text(&set["value"]))).collect());
    assert!(settings.cluster.is_enabled() && settings.cluster.node.is_empty());
    assert_eq!(set["spec"]["replicas"], u64::from(settings.cluster.replicas));
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let mut command: Vec<_> = container[probe]["exec"]["command"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(command.remove(0), "sequor", "{probe}");
        command.push("--help".to_owned());
        let arguments: Vec<_> = command.iter().map(String::as_str).collect();
        assert!(run_sequor(&arguments).status.success(), "{probe}");
    }
}

#[test]
fn nginx_accepts_the_configuration_of_the_cluster() {
    let nginx = tool("usr/sbin/nginx");
    if Command::new(&nginx).arg("-v").output().is_err() {
        report_skipped("ops/cluster/nginx.conf: nginx is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};", dir.path().join(name).display()));
    let text = fs::read_to_string(ops_file("cluster/nginx.conf")).unwrap();
    let hosts = ["sequor-1:", "sequor-2:", "sequor-3:"].iter().zip(1..);
    let text = hosts.fold(text, |text, (host, number)| text.replace(host, &format!("127.0.0.{number}:")));
    let text = text.replace("http {", &format!("http {{\n{}\naccess_log off;", paths.join("\n")));
    let (file, log, pid) = (dir.path().join("nginx.conf"), dir.path().join("log"), dir.path().join("pid"));
    fs::write(&file, format!("pid {};\n{text}", pid.display())).unwrap();
    let output = Command::new(&nginx).arg("-t").arg("-e").arg(&log).arg("-c").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_nats_server_accepts_its_configuration_and_syncs_each_message() {
    let server = tool("nats/bin/nats-server");
    let file = ops_file("cluster/nats.conf");
    assert!(fs::read_to_string(&file).unwrap().contains("sync_interval: always"));
    match Command::new(&server).arg("-t").arg("-c").arg(&file).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => report_skipped("ops/cluster/nats.conf: nats-server is not installed"),
    }
}
