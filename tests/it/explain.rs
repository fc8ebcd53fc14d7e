//! `busbar explain` as it is called: on files, without a cluster. What it says is tested beside `src/explain/`.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn explain(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_busbar"))
        .arg("explain")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // Whoever asked a cluster would fail here.
        .env("BUSBAR_KUBECONFIG", "/nowhere")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn ok(args: &[&str]) -> String {
    let output = explain(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_file_is_explained_without_a_cluster_and_with_what_lies_beside_it() {
    let table = ok(&["config/samples/banks.yaml"]);
    // The policy is in a file of its own.
    assert!(table.lines().any(|l| l.contains("breaker.open.base") && l.ends_with("preset Bank")), "{table}");
    assert!(!table.contains("problem:") && !table.contains("obviously-fake"), "{table}");
    assert!(table.contains("Secret bank-a-credentials key token"), "{table}");
}

#[test]
fn a_folder_is_explained_as_json_and_as_yaml_alike() {
    let json: Value = serde_json::from_str(&ok(&["config/samples", "-o", "json", "-n", "payments"])).unwrap();
    let names: Vec<_> = json.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["payouts", "bank-a", "bank-b", "banks", "mono", "mono-transactions"]);
    assert!(json.as_array().unwrap().iter().all(|e| e["namespace"] == "payments"));
    let yaml: Value = serde_yaml::from_str(&ok(&["config/samples", "-o", "yaml", "-n", "payments"])).unwrap();
    assert_eq!(yaml.to_string(), json.to_string());
}

#[test]
fn what_cannot_be_found_is_an_error_with_the_remedy() {
    for (target, word) in [
        ("no-such-file.yaml", "neither a file or folder nor kind/name"),
        ("pod/x", "neither a file or folder nor kind/name"),
        ("Cargo.toml", "invalid YAML"),
        ("config/rbac/cluster.yaml", "no object of busbar.dev"),
        // An object in the cluster, and there is none.
        ("pconn/mono", "/nowhere"),
    ] {
        let output = explain(&[target]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(word), "{target}: {stderr}");
    }
}
