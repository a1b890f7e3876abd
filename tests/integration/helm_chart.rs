//! Renders the Helm chart in `ops/helm/` with the real tool, and checks the objects against the
//! settings, the schemas of Kubernetes and the real daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use sequor::settings::{Settings, SettingsLayers};

use crate::daemon::{DaemonHome, report_skipped, run_sequor};
use crate::prometheus::ops_file;

const CLUSTER_VALUES: [&str; 4] = [
    "cluster.enabled=true",
    "cluster.servers={nats://nats-0:4222,nats://nats-1:4222}",
    "cluster.monitors={http://nats-0:8222}",
    "cluster.credentialsSecret=nats-login",
];

/// A tool that `tests/run` downloads; `None`, with a report, if it is not there.
fn downloaded_tool(path: &str) -> Option<PathBuf> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(path);
    if tool.exists() {
        return Some(tool);
    }
    report_skipped(&format!("ops/helm: {path} is not installed (run tests/run)"));
    None
}

/// The text that `helm template` writes for the values, or its error.
fn try_render(helm: &Path, values: &[&str]) -> Result<String, String> {
    let mut command = Command::new(helm);
    command.args(["template", "shop"]).arg(ops_file("helm/sequor"));
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The rendered objects.
struct Rendered(Vec<Value>);

impl Rendered {
    fn new(helm: &Path, values: &[&str]) -> Self {
        let text = try_render(helm, values).unwrap_or_else(|error| panic!("{values:?}: {error}"));
        let documents = text.split("---\n").filter(|document| !document.trim().is_empty());
        Self(documents.map(|document| serde_saphyr::from_str(document).unwrap()).collect())
    }

    fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    fn object(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    fn container(&self) -> &Value {
        &self.object("StatefulSet", "shop-sequor")["spec"]["template"]["spec"]["containers"][0]
    }

    /// The variables with a value. A Secret holds the values of the others.
    fn environment(&self) -> Vec<(String, String)> {
        let variables = self.container()["env"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        variables.filter_map(|set| Some((text(&set["name"])?, text(&set["value"])?))).collect()
    }

    fn settings_file(&self) -> &str {
        self.object("ConfigMap", "shop-sequor")["data"]["sequor.toml"].as_str().unwrap()
    }

    /// The settings of the daemon in the pod.
    fn settings(&self) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sequor.toml");
        fs::write(&file, self.settings_file()).unwrap();
        let layers = SettingsLayers::<Settings>::new().unwrap().add_file(&file).unwrap();
        layers.add_environment(self.environment()).unwrap().validated_settings().unwrap().clone()
    }
}

/// The labels of a selector occur among those of a pod or a service.
fn assert_selects(selector: &Value, labels: &Value) {
    for (name, value) in selector.as_object().unwrap() {
        assert_eq!(&labels[name], value, "{name}");
    }
}

#[test]
fn helm_accepts_the_chart_and_kubernetes_its_objects() {
    let Some(helm) = downloaded_tool("helm/helm") else { return };
    let output = Command::new(&helm).args(["lint", "--strict"]).arg(ops_file("helm/sequor")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let Some(validator) = downloaded_tool("linters/bin/kubernetes-validate") else { return };
    let all = [&CLUSTER_VALUES[..], &["serviceMonitor.enabled=true", "pseudonymSecret.name=pseudonyms"]].concat();
    let folder = tempfile::tempdir().unwrap();
    for values in [&[][..], &CLUSTER_VALUES, &all] {
        let file = folder.path().join("objects.yaml");
        fs::write(&file, try_render(&helm, values).unwrap()).unwrap();
        let output = Command::new(&validator).arg("--strict").arg(&file).output().unwrap();
        assert!(output.status.success(), "{values:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn one_daemon_has_valid_settings_probes_and_volumes() {
    let Some(helm) = downloaded_tool("helm/helm") else { return };
    let chart: Value =
        serde_saphyr::from_str(&fs::read_to_string(ops_file("helm/sequor/Chart.yaml")).unwrap()).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let rendered = Rendered::new(&helm, &["settings=[store]\nretain_for = \"365d\""]);
    let settings = rendered.settings();
    assert!(!settings.cluster.is_enabled() && settings.server.admin_listen.ip().is_loopback());
    assert_eq!(settings.server.listen.to_string(), "0.0.0.0:8080");
    let set = rendered.object("StatefulSet", "shop-sequor");
    assert_eq!(set["spec"]["replicas"], 1);
    assert!(rendered.find("PodDisruptionBudget", "shop-sequor").is_none());
    let pod = &set["spec"]["template"];
    for service in ["shop-sequor", "shop-sequor-nodes"] {
        let service = rendered.object("Service", service);
        assert_selects(&service["spec"]["selector"], &pod["metadata"]["labels"]);
        assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 1, "the admin endpoint is private");
    }
    // The pod overrides the variables of the image, and runs as its user.
    let dockerfile = fs::read_to_string(ops_file("Dockerfile")).unwrap();
    for (name, _) in rendered.environment() {
        assert!(dockerfile.contains(&format!("{name}=")), "{name} is not a variable of the image");
    }
    let user = pod["spec"]["securityContext"]["runAsUser"].as_u64().unwrap();
    assert!(dockerfile.contains(&format!("USER {user}:{user}\n")));
    let container = rendered.container();
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == settings.store.data_dir.to_str().unwrap()));
    let keys = settings.store.data_dir.join("keys.json");
    assert!(mounts.iter().any(|mount| mount["mountPath"] == keys.to_str().unwrap()));
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let words = container[probe]["exec"]["command"].as_array().unwrap();
        let words: Vec<_> = words.iter().skip(1).map(|word| word.as_str().unwrap()).chain(["--help"]).collect();
        assert!(run_sequor(&words).status.success(), "{probe}");
    }
}

#[test]
fn a_cluster_has_nodes_servers_and_credentials() {
    let Some(helm) = downloaded_tool("helm/helm") else { return };
    let rendered = Rendered::new(&helm, &[&CLUSTER_VALUES[..], &["cluster.nodes=5", "cluster.name=tea"]].concat());
    let settings = rendered.settings();
    assert_eq!((settings.cluster.servers.len(), settings.cluster.monitors.len()), (2, 1));
    assert_eq!((settings.cluster.name.as_str(), settings.cluster.replicas), ("tea", 3));
    assert_eq!(rendered.object("StatefulSet", "shop-sequor")["spec"]["replicas"], 5);
    let budget = rendered.object("PodDisruptionBudget", "shop-sequor");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let folder = settings.cluster.credentials.parent().unwrap().to_str().unwrap();
    let mounts = rendered.container()["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == folder), "{folder} is not mounted");
}

#[test]
fn prometheus_reaches_the_admin_endpoint_of_each_pod() {
    let Some(helm) = downloaded_tool("helm/helm") else { return };
    let rendered = Rendered::new(&helm, &["serviceMonitor.enabled=true"]);
    let monitor = rendered.object("ServiceMonitor", "shop-sequor");
    let nodes = rendered.object("Service", "shop-sequor-nodes");
    assert_selects(&monitor["spec"]["selector"]["matchLabels"], &nodes["metadata"]["labels"]);
    let port = &monitor["spec"]["endpoints"][0]["port"];
    let named = |ports: &Value| ports.as_array().unwrap().iter().find(|other| &other["name"] == port).cloned();
    let target = named(&nodes["spec"]["ports"]).unwrap()["targetPort"].clone();
    let opened = named(&rendered.container()["ports"]).unwrap();
    assert_eq!(target, opened["name"]);
    let settings = rendered.settings();
    assert_eq!(opened["containerPort"], settings.server.admin_listen.port());
    assert!(settings.server.admin_listen.ip().is_unspecified());
}

#[test]
fn the_chart_refuses_invalid_values() {
    let Some(helm) = downloaded_tool("helm/helm") else { return };
    for (value, named) in [
        ("cluster.enabled=true", "/cluster/servers"),
        ("cluster.replicas=2", "/cluster/replicas"),
        ("keysSecret=", "/keysSecret"),
        ("replicas=3", "'replicas' not allowed"),
    ] {
        let error = try_render(&helm, &[value]).unwrap_err();
        assert!(error.contains(named), "{value}: {error}");
    }
}

#[test]
fn a_daemon_serves_with_the_settings_of_the_chart_and_keys_of_a_secret() {
    let Some(helm) = downloaded_tool("helm/helm") else { return };
    let rendered = Rendered::new(&helm, &[]);
    let home = DaemonHome::new();
    let path = |name: &str| home.dir().join(name).to_str().unwrap().to_owned();
    let created = run_sequor(&["key", "create", "shop", "--scope", "write,read", "--data-dir", &path("keys")]);
    let key = String::from_utf8(created.stdout).unwrap();
    fs::create_dir(home.data_dir()).unwrap();
    let keys = home.data_dir().join("keys.json");
    fs::copy(home.dir().join("keys/keys.json"), &keys).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o440)).unwrap();
    fs::write(home.dir().join("sequor.toml"), rendered.settings_file()).unwrap();

    let words = rendered.container()["args"].as_array().unwrap();
    assert_eq!(words[..], ["serve", "--config", "/etc/sequor/sequor.toml"]);
    let config = format!("--config={}", path("sequor.toml"));
    let daemon = home.start(&[&config, "--listen=0.0.0.0:0", "SEQUOR_LOG__FORMAT=json"]);
    let url = format!("{}/v1/users/ann/recommendations", daemon.api_url());
    assert_eq!(daemon.request_with_key("GET", &url, None, "").status, 401);
    assert_eq!(daemon.request_with_key("GET", &url, Some(key.trim()), "").status, 200);
}
