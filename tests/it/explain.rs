//! `busbar explain` as it is called: on files, without a cluster. What it says is tested beside `src/explain/`.

use serde_json::Value;

use crate::kit::binary::{Finished, busbar, run};

fn explain(args: &[&str]) -> Finished {
    let mut command = busbar(&[&["explain"], args].concat());
    // A request to a cluster would fail.
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("BUSBAR_KUBECONFIG", "/nowhere");
    run(command)
}

#[test]
fn a_file_is_explained_with_the_policy_beside_it() {
    let table = explain(&["config/samples/banks.yaml"]).ok();
    // The policy is in a file of its own.
    assert!(table.lines().any(|l| l.contains("breaker.open.base") && l.ends_with("preset Bank")), "{table}");
    assert!(!table.contains("problem:") && !table.contains("obviously-fake"), "{table}");
    assert!(table.contains("Secret bank-a-credentials key token"), "{table}");
}

#[test]
fn json_and_yaml_output_are_equal() {
    let json: Value = serde_json::from_str(&explain(&["config/samples", "-o", "json", "-n", "payments"]).ok()).unwrap();
    let names: Vec<_> = json.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["payouts", "bank-a", "bank-b", "banks", "mono", "mono-transactions"]);
    assert!(json.as_array().unwrap().iter().all(|e| e["namespace"] == "payments"));
    let yaml: Value = serde_yaml::from_str(&explain(&["config/samples", "-o", "yaml", "-n", "payments"]).ok()).unwrap();
    assert_eq!(yaml.to_string(), json.to_string());
}

#[test]
fn an_unknown_target_is_an_error_with_a_remedy() {
    for (target, word) in [
        ("no-such-file.yaml", "neither a file or folder nor kind/name"),
        ("pod/x", "neither a file or folder nor kind/name"),
        ("Cargo.toml", "invalid YAML"),
        ("config/rbac/cluster.yaml", "no object of busbar.dev"),
        // An object in the cluster, and there is none.
        ("pconn/mono", "/nowhere"),
    ] {
        let output = explain(&[target]);
        assert!(!output.success() && output.stderr.contains(word), "{target}: {}", output.stderr);
    }
}
