//! The compose files of deploy/docker: whole, and fit for the programs they start. `make test-containers` checks
//! their form, and runs them where there are containers.

use cellar_model::Topology;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILES: [&str; 2] = ["compose.cell.yaml", "compose.world.yaml"];
const OFFICIAL: [&str; 2] = ["redis:7", "postgres:16"];
/// Where containers find secrets, and where the password of Postgres.
const SECRETS: &str = "/run/cellar";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/docker")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// With what YAML's anchors and merges stand for.
fn compose(name: &str) -> Value {
    let mut document: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read(name)).unwrap();
    // An anchor that is made of another one takes a second pass.
    for _ in 0..2 {
        document.apply_merge().unwrap();
    }
    serde_json::to_value(document).unwrap()
}

fn services(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
    document["services"].as_object().unwrap().iter()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

/// `${NAME:-usual}` as it is if nobody sets NAME.
fn usual(text: &str) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (variable, after) = rest.split_once('}').unwrap();
    format!("{before}{}{}", variable.split_once(":-").unwrap().1, usual(after))
}

/// Goal: images are official ones or targets of the Dockerfile in this version; mounted files are there, volumes and
/// awaited services declared; and no port without TLS is published beyond loopback.
#[test]
fn what_compose_files_name_is_there() {
    let dockerfile = read("Dockerfile");
    for file in FILES {
        let document = compose(file);
        let names: BTreeSet<&String> = services(&document).map(|(name, _)| name).collect();
        for (name, service) in services(&document) {
            let image = usual(service["image"].as_str().unwrap());
            let target = image.strip_suffix(concat!(":", env!("CARGO_PKG_VERSION")));
            let target = target.and_then(|image| image.strip_prefix("cellar-"));
            let is_ours = target.is_some_and(|target| dockerfile.contains(&format!(" AS {target}\n")));
            assert!(is_ours || OFFICIAL.contains(&image.as_str()), "{file}: {name}: {image}");
            for mount in texts(&service["volumes"]) {
                let source = mount.split(':').next().unwrap();
                let there = match source.strip_prefix("./") {
                    Some(path) => folder().join(path).is_file(),
                    None => document["volumes"].as_object().unwrap().contains_key(source),
                };
                assert!(there, "{file}: {name}: {mount}");
            }
            for awaited in service["depends_on"].as_object().into_iter().flatten() {
                assert!(names.contains(awaited.0), "{file}: {name} waits for {}", awaited.0);
            }
            assert!(texts(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{file}: {name}");
        }
    }
}

/// What is a folder of the image inside a container, here below `root`.
fn at(root: &Path, text: &str) -> String {
    text.replace(SECRETS, &root.join("cellar").display().to_string())
}

/// Goal: each router and cell takes the file that is mounted for it, with its environment and with the secrets
/// that the service `secrets` makes; and the directory is filled with a topology that names these cells.
#[test]
fn the_programs_take_what_their_containers_are_given() {
    let programs = cellar_devstack::Cellctl::new().unwrap().program().to_owned();
    for file in FILES {
        let (document, root) = (compose(file), tempfile::tempdir().unwrap());
        make_secrets(root.path(), &document);
        trust_own_key(&programs, root.path(), &document);
        let mut cells = BTreeSet::new();
        for (name, service) in services(&document) {
            let image = service["image"].as_str().unwrap();
            let Some(kind) = ["router", "cell"].into_iter().find(|kind| image.starts_with(&format!("cellar-{kind}:")))
            else {
                continue;
            };
            let config = root.path().join(format!("{name}.toml"));
            std::fs::write(&config, at(root.path(), &read(&format!("{kind}.toml")))).unwrap();
            let mut check = Command::new(programs.with_file_name(format!("cellar-{kind}")));
            check.arg("--check-config").arg("--config").arg(&config);
            for (variable, value) in service["environment"].as_object().into_iter().flatten() {
                check.env(variable, at(root.path(), value.as_str().unwrap()));
            }
            let output = check.output().unwrap();
            assert!(output.status.success(), "{file}: {name}: {}", String::from_utf8_lossy(&output.stderr));
            if kind == "cell" && service["command"].is_null() {
                cells.insert(name.clone());
            }
        }
        let topology: Topology = serde_json::from_str(&read(&topology_of(&document))).unwrap();
        topology.validate().unwrap();
        let named = topology.regions.iter().flat_map(|region| &region.cells).map(|cell| cell.name.to_string());
        assert_eq!(named.collect::<BTreeSet<_>>(), cells, "{file}");
    }
}

fn make_secrets(root: &Path, document: &Value) {
    let script = root.join("secrets");
    std::fs::write(&script, at(root, &read("secrets"))).unwrap();
    for folder in ["cellar", "cellar-password"] {
        std::fs::create_dir(root.join(folder)).unwrap();
    }
    let entrypoint = texts(&document["services"]["secrets"]["entrypoint"]);
    assert_eq!(entrypoint[0], "secrets");
    let made = Command::new("bash").arg(&script).args(&entrypoint[1..]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// As `fill` leaves it, which is told where by the compose file.
fn trust_own_key(cellctl: &Path, root: &Path, document: &Value) {
    let words = texts(&document["services"]["fill"]["command"]);
    let said = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)).unwrap().to_owned();
    assert!(
        said("--policy-key-file=").starts_with("/run/cellar-keys/"),
        "the secret half is not among the cells' files"
    );
    let run = |arguments: &[&str]| {
        let output = Command::new(cellctl).args(["policy", "keys"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let key = root.join("policy-key");
    let key = run(&["new", key.to_str().unwrap(), "--json"])["public"].as_str().unwrap().to_owned();
    let keys = at(root, &said("--policy-keys-file="));
    run(&["trust", "own", &key, "--policies", "*", "--keys-file", &keys, "--json"]);
}

fn topology_of(document: &Value) -> String {
    let mounts = texts(&document["services"]["fill"]["volumes"]);
    let mount = mounts.iter().find(|mount| mount.contains("topology")).unwrap();
    mount.split(':').next().unwrap().to_owned()
}
