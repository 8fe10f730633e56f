//! Who watches a stack: Prometheus beside it, and Grafana where there is one. They are processes of the stack like
//! any other, but nothing of it needs them.

use crate::folders::remove;
use crate::process::{Gently, Launch, on_path};
use crate::ready::Ready;
use crate::stack::Stack;
use crate::start::Starting;
use crate::state::{ProcessEntry, Role, StackState};
use crate::{StackError, ports};
use std::path::{Path, PathBuf};

/// In the stack's own folder, beside its data: a reset or a snapshot leaves alone what was seen.
pub(crate) const OBSERVED: &str = "observed";
/// What Prometheus keeps: days of a few processes.
const KEEP_BYTES: &str = "512MB";
/// Where Grafana's package puts what it serves.
const GRAFANA_HOME: &str = "/usr/share/grafana";

/// What is put before who watches, as files by name.
#[derive(Clone, Copy, Debug)]
pub struct Observing<'a> {
    pub rules: &'a [(&'a str, &'a str)],
    pub dashboards: &'a [(&'a str, &'a str)],
}

impl Stack {
    /// Has the stack watched from now on, also when it comes up again. Returns what cannot be had here, in
    /// sentences: the stack goes on without.
    pub async fn observe(&mut self, observing: Observing<'_>) -> Result<Vec<String>, StackError> {
        let _lock = self.turn().await?;
        let mut missing = Vec::new();
        ports::keep(self.state.processes.iter().flat_map(|process| process.ports.iter().copied()));
        match on_path("prometheus") {
            Some(program) => self.add(Role::Prometheus, |folder, port| prometheus(program, folder, port))?,
            None => missing.push(
                "prometheus is not installed, and nobody watches: `scripts/setup observe` installs it, or put one on the PATH"
                    .to_owned(),
            ),
        }
        let place = self.folders.stack.join(OBSERVED);
        let watched = self.watcher(Role::Prometheus).map(|process| process.url.clone());
        match (grafana_server(), &watched) {
            (Some(program), Some(_)) => self.add(Role::Grafana, |folder, _| grafana(program, folder))?,
            (None, Some(_)) => missing.push("grafana-server is not installed: the dashboards are not shown".to_owned()),
            (_, None) => {}
        }
        if let Some(url) = &watched {
            write_prometheus(&place, observing.rules)?;
            if let Some(grafana) = self.watcher(Role::Grafana) {
                write_grafana(&place, grafana, url, observing.dashboards)?;
            }
        }
        // One that runs has read other files than these.
        self.stop_in_order(|process| process.role.is_watcher()).await;
        let mut starting = Starting { folder: &self.folders.stack, state: &mut self.state, tether: self.tether };
        starting.watchers(&mut |said: &str| missing.push(said.to_owned())).await?;
        self.save()?;
        Ok(missing)
    }

    fn watcher(&self, role: Role) -> Option<&ProcessEntry> {
        self.state.processes.iter().find(|process| process.role == role)
    }

    /// Plans one that is not there yet.
    fn add(&mut self, role: Role, launch: impl FnOnce(&Path, u16) -> Launch) -> Result<(), StackError> {
        if self.watcher(role).is_some() {
            return Ok(());
        }
        let port = ports::free()?;
        let folder = self.folders.stack.join(OBSERVED).join(role.label());
        self.state.processes.push(ProcessEntry {
            name: role.label().to_owned(),
            role,
            region: None,
            cell: None,
            life: None,
            url: format!("http://127.0.0.1:{port}"),
            admin_url: None,
            ports: vec![port],
            launch: launch(&folder, port),
            ready: if role == Role::Grafana { Ready::GrafanaOn(port) } else { Ready::PrometheusOn(port) },
        });
        Ok(())
    }
}

fn prometheus(program: PathBuf, folder: &Path, port: u16) -> Launch {
    let path = |name: &str| folder.join(name).display().to_string();
    Launch {
        program,
        arguments: vec![
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("series")),
            format!("--storage.tsdb.retention.size={KEEP_BYTES}"),
            format!("--web.listen-address=127.0.0.1:{port}"),
            // Trace ids beside the times of requests.
            "--enable-feature=exemplar-storage".into(),
        ],
        user: None,
        log: folder.join("log"),
        stop: Gently::Term,
    }
}

fn grafana_server() -> Option<PathBuf> {
    on_path("grafana-server")
        .or_else(|| Some(Path::new(GRAFANA_HOME).join("bin/grafana-server")).filter(|p| p.is_file()))
}

fn grafana(program: PathBuf, folder: &Path) -> Launch {
    Launch {
        program,
        arguments: vec![
            format!("--homepath={GRAFANA_HOME}"),
            format!("--config={}", folder.join("grafana.ini").display()),
        ],
        user: None,
        log: folder.join("log"),
        stop: Gently::Term,
    }
}

/// Everything but its targets, which change with the stack.
fn write_prometheus(place: &Path, rules: &[(&str, &str)]) -> Result<(), StackError> {
    let folder = place.join(Role::Prometheus.label());
    // Whatever an earlier build had.
    remove(&folder.join("rules"))?;
    for (name, text) in rules {
        write(&folder.join("rules").join(name), text)?;
    }
    // JSON is YAML. Paths are as seen from this file.
    let config = serde_json::json!({
        "global": { "scrape_interval": "5s", "evaluation_interval": "30s" },
        "rule_files": ["rules/*.yml"],
        "scrape_configs": [{
            "job_name": "cellar",
            "file_sd_configs": [{ "files": [TARGETS], "refresh_interval": "5s" }],
        }],
    });
    write(&folder.join("prometheus.yml"), &pretty(&config))
}

/// Of Prometheus's folder; it looks for changes by itself.
const TARGETS: &str = "targets.json";

/// Says to Prometheus, where there is one, whom it watches: every router and cell of the stack, running or not.
pub(crate) fn aim(stack: &Path, state: &StackState) -> Result<(), StackError> {
    if !state.processes.iter().any(|process| process.role == Role::Prometheus) {
        return Ok(());
    }
    let targets: Vec<serde_json::Value> = state.processes.iter().filter_map(target).collect();
    let path = stack.join(OBSERVED).join(Role::Prometheus.label()).join(TARGETS);
    write(&path, &pretty(&serde_json::Value::Array(targets)))
}

/// The labels that every rule and dashboard counts on.
fn target(process: &ProcessEntry) -> Option<serde_json::Value> {
    let (job, kind, name) = match process.role {
        Role::Router => ("cellar-router", "router", Some(&process.name)),
        Role::Cell => ("cellar-cell", "cell", process.cell.as_ref()),
        _ => return None,
    };
    let address = process.admin_url.as_ref()?.strip_prefix("http://")?;
    Some(serde_json::json!({
        "targets": [address],
        "labels": { "job": job, "region": process.region, kind: name, "instance": process.name },
    }))
}

fn write_grafana(
    place: &Path,
    grafana: &ProcessEntry,
    prometheus_url: &str,
    dashboards: &[(&str, &str)],
) -> Result<(), StackError> {
    let folder = place.join(Role::Grafana.label());
    let shown = folder.join("dashboards");
    remove(&shown)?;
    for (name, text) in dashboards {
        write(&shown.join(name), text)?;
    }
    let source = serde_json::json!({
        "apiVersion": 1,
        "datasources": [{
            "name": "Prometheus", "uid": "cellar-prometheus", "type": "prometheus", "access": "proxy",
            "url": prometheus_url, "isDefault": true,
        }],
    });
    let provider = serde_json::json!({
        "apiVersion": 1,
        "providers": [{ "name": "cellar", "folder": "Cellar", "type": "file", "options": { "path": shown } }],
    });
    let provisioning = folder.join("provisioning");
    write(&provisioning.join("datasources/cellar.yml"), &pretty(&source))?;
    write(&provisioning.join("dashboards/cellar.yml"), &pretty(&provider))?;
    let (port, data) = (grafana.ports[0], folder.join("data"));
    // Whoever reaches this loopback may look, and nobody may change what is shown.
    let ini = format!(
        "[server]\nhttp_addr = 127.0.0.1\nhttp_port = {port}\n[paths]\ndata = {}\nlogs = {}\nprovisioning = {}\n\
         [auth.anonymous]\nenabled = true\norg_role = Viewer\n[analytics]\nreporting_enabled = false\ncheck_for_updates = false\n",
        data.display(),
        data.display(),
        provisioning.display()
    );
    write(&folder.join("grafana.ini"), &ini)
}

fn pretty(document: &serde_json::Value) -> String {
    format!("{document:#}\n")
}

/// Whole or not at all: Prometheus reads a list of targets whenever it changes.
fn write(path: &Path, text: &str) -> Result<(), StackError> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(StackError::folder(folder))?;
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).map_err(StackError::folder(&beside))?;
    std::fs::rename(&beside, path).map_err(StackError::folder(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, role: Role, cell: Option<&str>, admin_url: Option<&str>) -> ProcessEntry {
        ProcessEntry {
            name: name.into(),
            role,
            region: Some("eu".into()),
            cell: cell.map(str::to_owned),
            life: None,
            url: "http://127.0.0.1:1".into(),
            admin_url: admin_url.map(str::to_owned),
            ports: vec![1, 2],
            launch: prometheus("prometheus".into(), Path::new("."), 1),
            ready: Ready::HttpOn(2),
        }
    }

    #[test]
    fn routers_and_cells_are_watched_by_the_labels_that_rules_count_on() {
        let router = target(&process("eu-router", Role::Router, None, Some("http://127.0.0.1:2"))).unwrap();
        let labels = serde_json::json!({
            "job": "cellar-router", "region": "eu", "router": "eu-router", "instance": "eu-router",
        });
        assert_eq!(router, serde_json::json!({ "targets": ["127.0.0.1:2"], "labels": labels }));
        let cell = target(&process("eu-1-0", Role::Cell, Some("eu-1"), Some("http://127.0.0.1:2"))).unwrap();
        let labels = serde_json::json!({ "job": "cellar-cell", "region": "eu", "cell": "eu-1", "instance": "eu-1-0" });
        assert_eq!(cell, serde_json::json!({ "targets": ["127.0.0.1:2"], "labels": labels }));
        for store in [Role::Postgres, Role::RedisQuota, Role::Directory, Role::Prometheus] {
            assert_eq!(target(&process("store", store, Some("eu-1"), None)), None);
        }
    }
}
