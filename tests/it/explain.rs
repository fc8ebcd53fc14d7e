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

#[test]
fn a_route_is_explained_from_manifests_with_assumptions() {
    let route = |args: &[&str]| {
        let mut command = busbar(&[&["route", "explain", "config/samples/bankroute.yaml"], args].concat());
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("BUSBAR_KUBECONFIG", "/nowhere");
        run(command)
    };
    let explain = |args: &[&str]| route(args).ok();
    let all = explain(&["--at", "2026-11-29T12:00:00Z"]);
    assert!(all.starts_with("default/payouts: bank-a for a payout of 1000 EUR at 2026-11-29T12:00:00Z"), "{all}");
    assert!(all.contains("LowestCost") && all.contains("HigherCost"), "{all}");
    let down = explain(&["--assume-down", "bank-a", "-o", "json"]);
    let down: serde_json::Value = serde_json::from_str(&down).unwrap();
    assert_eq!(down["default/payouts"]["active"], "bank-b", "{down}");
    let excluded = &down["default/payouts"]["candidates"][1];
    assert_eq!((excluded["reason"].as_str(), excluded["cost"].is_null()), (Some("CircuitOpen"), true));
    for (args, problem) in [
        (["--success", "bank-a=2"], "must be CANDIDATE=RATE"),
        (["--amount", "0"], "must be greater than 0"),
        (["--currency", "euro"], "three upper-case letters"),
    ] {
        let refused = route(&args);
        assert!(!refused.success() && refused.stderr.contains(problem), "{}", refused.stderr);
    }
}

#[test]
fn an_inline_stream_and_its_rules_are_explained_field_by_field() {
    let found = explain(&["config/samples/full"]);
    let table = &found.stdout;
    for (field, value) in [
        ("http.name", "invoices"),
        ("http.money.repr", "decimalString"),
        ("http.pagination.kind", "linkHeader"),
        ("validations[known-currency].rule", "record.currency in"),
        ("mask.counterparty", "Token"),
    ] {
        assert!(table.lines().any(|line| line.contains(field) && line.contains(value)), "{field}: {table}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.yaml");
    let objects = "apiVersion: busbar.dev/v1alpha1\nkind: ProviderConnection\nmetadata: {name: shop}\nspec: {provider: generic, \
         environment: Sandbox, endpoint: {baseURL: 'https://shop.example'}}\n---\napiVersion: busbar.dev/v1alpha1\nkind: \
         SyncJob\nmetadata: {name: invoices}\nspec: {connectionRef: {name: shop}, interval: 1h, http: {name: invoices, path: \
         PATH, records: [/data], key: /id, pagination: {kind: none}}}\n";
    for (path, problem) in [("/v1/invoices", None), ("v1/invoices", Some("spec.http is invalid: path:"))] {
        std::fs::write(&file, objects.replace("PATH", path)).unwrap();
        let table = explain(&[file.to_str().unwrap()]).stdout;
        assert!(table.contains("http.path") && table.contains(path), "{table}");
        assert_eq!(table.contains("spec.http"), problem.is_some(), "{table}");
        assert!(problem.is_none_or(|problem| table.contains(problem)), "{table}");
    }
}
