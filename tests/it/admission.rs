//! The admission policies against the schemas: a validation for every entry that a list may have.

use serde::Deserialize as _;
use serde_json::Value;

use crate::source::read;

fn documents(path: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(&read(path)).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// `maxItems` of a list below `spec` of a custom resource.
fn max_items(plural: &str, list: &str) -> usize {
    let crd = &documents(&format!("crds/busbar.dev_{plural}.yaml"))[0];
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let limit = crd.pointer(&format!("{spec}/{list}/maxItems")).and_then(Value::as_u64);
    usize::try_from(limit.unwrap_or_else(|| panic!("{plural}: {list} has no maxItems"))).unwrap()
}

/// The expressions of a policy of references.yaml that check the entry at an index.
fn indexed_checks(policy: &str) -> Vec<String> {
    let all = documents("config/admission/references.yaml");
    let policy = all
        .iter()
        .find(|d| d["kind"] == "ValidatingAdmissionPolicy" && d["metadata"]["name"] == policy)
        .unwrap_or_else(|| panic!("no policy {policy}"));
    let expressions =
        policy["spec"]["validations"].as_array().unwrap().iter().map(|v| v["expression"].as_str().unwrap());
    expressions.filter(|expression| expression.contains("variables.named[")).map(str::to_owned).collect()
}

#[test]
fn references_are_checked_at_every_index_that_the_schema_allows() {
    for (policy, plural, list) in [
        ("busbar-fallback-references", "providerconnections", "fallback"),
        ("busbar-bankroute-references", "bankroutes", "candidates"),
    ] {
        let expected: Vec<String> = (0..max_items(plural, list))
            .map(|index| {
                format!(
                    "variables.named.size() <= {index} || \
                     variables.connections.name(variables.named[{index}]).check('use').allowed()"
                )
            })
            .collect();
        assert_eq!(indexed_checks(policy), expected, "{policy}: one validation per entry of spec.{list}");
    }
}

#[test]
fn no_policy_exempts_a_user() {
    for file in ["references", "override", "secrets"] {
        let text = read(format!("config/admission/{file}.yaml"));
        for exemption in ["userInfo", "matchConditions", "system:masters", "excludeResourceRules"] {
            assert!(!text.contains(exemption), "{file}.yaml: {exemption}");
        }
    }
}

#[test]
fn only_the_clusters_own_controllers_are_exempt_from_the_policies_for_deletion() {
    let exempt = ["namespace-controller", "generic-garbage-collector"].map(|name| format!("kube-system:{name}'"));
    let policies = documents("config/admission/in-use.yaml");
    let policies: Vec<_> = policies.iter().filter(|d| d["kind"] == "ValidatingAdmissionPolicy").collect();
    assert_eq!(policies.len(), 2);
    for policy in policies {
        let conditions = policy["spec"]["matchConditions"].as_array().unwrap();
        let users: Vec<_> =
            conditions.iter().map(|c| c["expression"].as_str().unwrap()).filter(|e| e.contains("userInfo")).collect();
        let [users] = users[..] else { panic!("one condition about users: {users:?}") };
        assert!(exempt.iter().all(|name| users.contains(name.as_str())), "{users}");
        assert!(users.contains("'system:kube-controller-manager'") && users.matches('\'').count() == 6, "{users}");
    }
}

#[test]
fn no_user_is_exempt_from_the_policy_for_definitions() {
    let text = read("config/admission/definitions.yaml");
    for exemption in ["userInfo", "system:", "excludeResourceRules", "authorizer"] {
        assert!(!text.contains(exemption), "{exemption}");
    }
}
