//! The form of the compose files of deploy/docker. Here and not among the project's own tests: what checks it would
//! be built for all of them.

use serde_json::Value;
use std::path::Path;

fn read(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/docker");
    std::fs::read_to_string(folder.join(name)).unwrap()
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

#[test]
fn compose_files_are_of_the_published_form() {
    let schema: Value = serde_json::from_str(&read("compose-spec.json")).unwrap();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("compose-spec.json", schema).unwrap();
    let form = compiler.compile("compose-spec.json", &mut schemas).unwrap();
    for file in ["compose.cell.yaml", "compose.world.yaml"] {
        let mut document = compose(file);
        schemas.validate(&document, form).unwrap_or_else(|error| panic!("{file}: {error}"));
        document["services"]["secrets"]["imagge"] = "x".into();
        assert!(schemas.validate(&document, form).is_err(), "a misspelt key is found");
    }
}
