//! Objects of our kinds as JSON: a default spec, and a merge patch (RFC 7396) with what a test needs otherwise.

use serde_json::{Value, json};

/// The shortest interval of health checks that the schema allows, in seconds.
pub(crate) const INTERVAL_SECONDS: u64 = 5;

/// An object of one of our kinds.
#[expect(clippy::needless_pass_by_value, reason = "specs are written in place")]
pub(crate) fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "busbar.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A connection of the generic provider to `base_url`, checked at `/health` every [`INTERVAL_SECONDS`].
pub(crate) fn connection(name: &str, base_url: &str, patch: Value) -> Value {
    let spec = json!({
        "provider": "generic",
        "environment": "Sandbox",
        "endpoint": {"baseURL": base_url, "insecure": true},
        "healthCheck": {"path": "/health", "interval": format!("{INTERVAL_SECONDS}s"), "timeout": "1s"},
    });
    object("ProviderConnection", name, merged(spec, patch))
}

/// A connection of a provider with a profile, which says how it is checked.
pub(crate) fn profile_connection(name: &str, provider: &str, base_url: &str, patch: Value) -> Value {
    let endpoint = json!({"baseURL": base_url, "insecure": true});
    let spec = json!({"provider": provider, "environment": "Sandbox", "endpoint": endpoint});
    object("ProviderConnection", name, merged(spec, patch))
}

/// The part of a connection's spec that authenticates as its profile says, with the Secret `secret`.
pub(crate) fn profile_auth(secret: &str) -> Value {
    json!({"auth": {"profile": {"secretRef": {"name": secret}}}})
}

/// The part of a connection's spec that sends the token in the Secret `secret`.
pub(crate) fn bearer_auth(secret: &str) -> Value {
    json!({"auth": {"bearer": {"secretRef": {"name": secret}}}})
}

/// A breaker policy.
pub(crate) fn policy(name: &str, spec: Value) -> Value {
    object("BreakerPolicy", name, spec)
}

/// A job that reads the transactions of the account `acc-1` every `interval`.
pub(crate) fn job(name: &str, connection: &str, interval: &str, patch: Value) -> Value {
    let spec = json!({
        "connectionRef": {"name": connection},
        "stream": "transactions",
        "parameters": {"accountId": "acc-1"},
        "interval": interval,
        "retention": {"mode": "Off"},
    });
    object("SyncJob", name, merged(spec, patch))
}

/// A route over these candidates.
pub(crate) fn route(name: &str, candidates: &[Value], patch: Value) -> Value {
    // Fees alone decide: what failures are expected to cost depends on how many checks there were.
    let free = json!({"retryBasisPoints": "0", "healthPenalty": "0"});
    let spec = json!({"referenceCurrency": "EUR", "cost": free, "candidates": candidates});
    object("BankRoute", name, merged(spec, patch))
}

/// A candidate of a route.
pub(crate) fn candidate(name: &str, connection: &str, patch: Value) -> Value {
    merged(json!({"name": name, "connectionRef": {"name": connection}}), patch)
}

/// Candidates that have the names of their connections; the first is the cheapest.
pub(crate) fn candidates(names: &[&str]) -> Vec<Value> {
    let priced = |(n, name): (usize, &&str)| {
        let fixed = (n + 1).to_string();
        candidate(name, name, json!({"fees": [{"name": "all", "fixed": fixed}]}))
    };
    names.iter().enumerate().map(priced).collect()
}

/// The value with a merge patch applied.
pub(crate) fn merged(mut value: Value, patch: Value) -> Value {
    merge(&mut value, patch, false);
    value
}

/// One patch that does what both do; the second one wins.
pub(crate) fn merged_patches(mut first: Value, second: Value) -> Value {
    merge(&mut first, second, true);
    first
}

fn merge(value: &mut Value, patch: Value, keep_nulls: bool) {
    let Value::Object(patch) = patch else {
        *value = patch;
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, member) in patch {
        if member.is_null() && !keep_nulls {
            value.as_object_mut().expect("an object").remove(&key);
        } else {
            merge(&mut value[key.as_str()], member, keep_nulls);
        }
    }
}

#[test]
fn a_merge_patch_replaces_adds_and_removes() {
    let value = json!({"a": {"b": 1, "c": 2}, "d": 3});
    let patch = json!({"a": {"b": null, "e": {"f": null, "g": 4}}, "d": 5});
    assert_eq!(merged(value, patch), json!({"a": {"c": 2, "e": {"g": 4}}, "d": 5}));
    assert_eq!(merged_patches(json!({"a": null}), json!({"b": 1})), json!({"a": null, "b": 1}));
}
