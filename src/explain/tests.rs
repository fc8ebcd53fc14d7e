//! Values and sources, for the shipped samples and for small manifests.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::manifests::{ManifestError, find, parse_kind};
use super::{Explanation, Manifests, Source, print};
use crate::domain::key::Kind;
use crate::profile::Profiles;

/// Explains all objects of a manifest.
fn explain_all(text: &str) -> Vec<Explanation> {
    let (manifests, objects) = Manifests::read("test.yaml", text, "ns").unwrap();
    let profiles = Profiles::builtin().unwrap();
    objects.iter().map(|o| manifests.explain(o.kind, &o.key, &profiles, Timestamp::UNIX_EPOCH).unwrap()).collect()
}

fn one(kind: &str, spec: &str) -> Explanation {
    let text = format!("apiVersion: busbar.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: it}}\nspec: {spec}\n");
    explain_all(&text).remove(0)
}

fn connection(more: &str) -> Explanation {
    one("ProviderConnection", &format!("{{provider: mono, environment: Sandbox{more}}}"))
}

/// Value and source of a field.
#[track_caller]
fn of<'a>(e: &'a Explanation, field: &str) -> (&'a Value, String) {
    let found: Vec<_> = e.settings.iter().filter(|s| s.field == field).collect();
    assert_eq!(found.len(), 1, "{field} in {:#?}", e.settings);
    (&found[0].value, found[0].source.to_string())
}

#[track_caller]
fn assert_is(e: &Explanation, field: &str, value: impl Into<Value>, source: &str) {
    assert_eq!(of(e, field), (&value.into(), source.to_owned()), "{field}");
}

fn samples(folder: &str) -> Vec<(String, String)> {
    let parent = if folder == "broken" { "config/examples" } else { "config/samples" };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(parent).join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.iter().map(|f| (f.display().to_string(), std::fs::read_to_string(f).unwrap())).collect()
}

#[test]
fn a_minimal_connection_shows_the_profiles_and_default_values() {
    let e = connection("");
    assert!(e.problems.is_empty(), "{:?}", e.problems);
    assert_is(&e, "endpoint.baseURL", "https://api.withmono.com/v2", "profile mono");
    assert_is(&e, "healthCheck.path", "/accounts?limit=1", "profile mono");
    assert_is(&e, "timeout.request", "30s", "default");
    assert_is(&e, "healthCheck.unhealthyThreshold", 3, "default");
    assert_is(&e, "healthCheck.latencyThreshold", Value::Null, "default");
    assert_is(&e, "auth", Value::Null, "default");
    assert_is(&e, "breaker.preset", "Api", "profile mono");
    assert_is(&e, "breaker.open.base", "30s", "preset Api");
    assert_is(&e, "breaker.open.max", "1h", "default");
    assert_is(&e, "suspend", false, "default");
    let fmp = one("ProviderConnection", "{provider: fmp, environment: Production}");
    assert_is(&fmp, "timeout.request", "5s", "profile fmp");
    assert_is(&fmp, "timeout.connect", "5s", "default");
    assert_is(&fmp, "healthCheck.mode", "Passive", "profile fmp");
}

#[test]
fn a_set_field_is_shown_as_written_with_the_source_spec() {
    let e = connection(", timeout: {request: 90s}, healthCheck: {interval: 120m, expectedStatuses: [2xx, '404']}");
    assert_is(&e, "timeout.request", "90s", "spec");
    assert_is(&e, "timeout.total", "2m", "default");
    assert_is(&e, "healthCheck.interval", "120m", "spec");
    assert_is(&e, "healthCheck.expectedStatuses", json!(["2xx", "404"]), "spec");
    assert_is(&e, "healthCheck.timeout", "5s", "default");
}

#[test]
fn a_derived_value_names_the_setting_it_derives_from() {
    let e = connection(", healthCheck: {interval: 2s}");
    assert_is(&e, "healthCheck.timeout", "2s", "from healthCheck.interval");
    let job = one("SyncJob", "{connectionRef: {name: bank}, stream: transactions, interval: 5m}");
    assert_is(&job, "retryInterval", "5m", "from interval");
    assert_is(&job, "sla.maxStaleness", "15m", "from interval");
}

#[test]
fn credentials_are_shown_as_their_secret_key() {
    let location = "Secret s key token";
    let e = connection(", auth: {bearer: {secretRef: {name: s}}}");
    assert_is(&e, "auth.bearer.token", location, "spec");
    let e = connection(", auth: {bearer: {secretRef: {name: s, key: other}}}");
    assert_is(&e, "auth.bearer.token", "Secret s key other", "spec");
    let e = connection(", auth: {apiKey: {placement: Header, name: x, prefix: 'Key ', secretRef: {name: s}}}");
    assert_is(&e, "auth.apiKey.key", "Secret s key api-key", "spec");
    let e = connection(", auth: {basic: {secretRef: {name: s}}}");
    assert_is(&e, "auth.basic.password", "Secret s key password", "spec");
    let e = connection(", auth: {profile: {secretRef: {name: s}}}");
    assert_is(&e, "auth.profile.header.mono-sec-key", "Secret s key api-key", "profile mono");
    let e = connection(", auth: {oauth2ClientCredentials: {tokenURL: 'https://b.example/t', secretRef: {name: s}}}");
    assert_is(&e, "auth.oauth2ClientCredentials.clientSecret", "Secret s key client-secret", "spec");
    assert_is(&e, "auth.oauth2ClientCredentials.tokenURL", "https://b.example/t", "spec");
    assert_is(&e, "auth.oauth2ClientCredentials.refreshBefore", "1m", "default");
    let e = connection(", tls: {certSecretRef: {name: s}}");
    assert_is(&e, "tls.certSecretRef.name", "s", "spec");
}

#[test]
fn a_lease_shorter_than_one_try_is_shown_as_the_timeout_it_becomes() {
    assert_is(&connection(""), "breaker.halfOpen.lease", "1m", "default");
    let e = connection(", timeout: {request: 90s}");
    assert_is(&e, "breaker.halfOpen.lease", "1m30s", "from timeout.request");
}

#[test]
fn rules_come_from_the_referenced_policy_else_default_else_profile() {
    let policy = |name: &str| {
        format!(
            "apiVersion: busbar.dev/v1alpha1\nkind: BreakerPolicy\nmetadata: {{name: {name}}}\n\
             spec: {{preset: Data, open: {{base: 7s, factor: '1.50'}}, window: {{calls: 100}}}}\n---\n"
        )
    };
    let bank = |more: &str| {
        format!(
            "apiVersion: busbar.dev/v1alpha1\nkind: ProviderConnection\nmetadata: {{name: bank}}\n\
             spec: {{provider: mono, environment: Sandbox{more}}}\n"
        )
    };
    let named = explain_all(&(policy("banks") + &bank(", breakerPolicyRef: {name: banks}"))).remove(1);
    assert_is(&named, "breakerPolicyRef.name", "banks", "spec");
    assert_is(&named, "breaker.preset", "Data", "BreakerPolicy banks");
    assert_is(&named, "breaker.open.base", "7s", "BreakerPolicy banks");
    assert_is(&named, "breaker.open.factor", "1.5", "BreakerPolicy banks");
    assert_is(&named, "breaker.window.calls", 100, "BreakerPolicy banks");
    assert_is(&named, "breaker.trip.consecutiveFailures", 3, "preset Data");
    let default = explain_all(&(policy("default") + &bank(""))).remove(1);
    assert_is(&default, "breakerPolicyRef.name", "default", "BreakerPolicy default");
    assert_is(&default, "breaker.open.base", "7s", "BreakerPolicy default");
    let without_policy = explain_all(&(policy("banks") + &bank(""))).remove(1);
    assert_is(&without_policy, "breaker.open.base", "30s", "preset Api");
    let missing = explain_all(&bank(", breakerPolicyRef: {name: banks}")).remove(0);
    assert!(missing.problems[0].starts_with("BreakerPolicyNotFound: "), "{:?}", missing.problems);
    assert_is(&missing, "breakerPolicyRef.name", "banks", "spec");
    assert!(missing.settings.iter().all(|s| !s.field.starts_with("breaker.")), "its rules are unknown");
}

#[test]
fn a_job_takes_its_defaults_from_the_profiles_stream() {
    let job = "apiVersion: busbar.dev/v1alpha1\nkind: SyncJob\nmetadata: {name: job}\n\
               spec: {connectionRef: {name: bank}, stream: transactions, parameters: {accountId: a}, schedule: '0 5 * * *', retention: {mode: 'Off'}}\n";
    let bank = "---\napiVersion: busbar.dev/v1alpha1\nkind: ProviderConnection\nmetadata: {name: bank}\n\
                spec: {provider: mono, environment: Sandbox, auth: {profile: {secretRef: {name: s}}}}\n";
    let e = explain_all(&format!("{job}{bank}")).remove(0);
    assert!(e.problems.is_empty(), "{:?}", e.problems);
    assert_is(&e, "lookback", "24h", "profile mono");
    assert_is(&e, "startTime", "2160h before the first run", "profile mono");
    assert_is(&e, "commitScope", "Page", "profile mono");
    assert_is(&e, "schedule", "0 5 * * *", "spec");
    assert_is(&e, "retention.mode", "Off", "spec");
    assert_is(&e, "retryInterval", "15m", "from schedule");
    let unset = explain_all(&format!("{job}{bank}").replace(", retention: {mode: 'Off'}", "")).remove(0);
    assert!(unset.problems.is_empty(), "{:?}", unset.problems);
    assert_is(&unset, "retention.mode", "Encrypted with --key-secret, else Off", "default");
    let encrypted = explain_all(&format!("{job}{bank}").replace("'Off'", "Encrypted")).remove(0);
    assert!(encrypted.problems.is_empty(), "{:?}", encrypted.problems);
    assert_is(&encrypted, "retention.raw", "720h", "default");
    assert_is(&encrypted, "retention.mode", "Encrypted", "spec");
    let alone = explain_all(job).remove(0);
    assert!(alone.problems[0].starts_with("ConnectionNotFound: "), "{:?}", alone.problems);
    assert_is(&alone, "stream", "transactions", "spec");
}

#[test]
fn a_route_shows_its_reference_payout_and_candidate_defaults() {
    let e = one("BankRoute", "{referenceCurrency: EUR, candidates: [{name: a, connectionRef: {name: a}}]}");
    assert_is(&e, "reference.amount", "1000", "default");
    assert_is(&e, "reference.currency", "EUR", "from referenceCurrency");
    assert_is(&e, "candidates[a].tier", "Primary", "default");
    assert_is(&e, "candidates[a].connectionRef.name", "a", "spec");
    assert_is(&e, "stuck.after", "30m", "default");
    assert_is(&e, "stuck.policy", "InquireThenRecall", "default");
}

#[test]
fn retry_rate_limit_and_cache_are_shown_field_by_field() {
    let limits = "limits: [{name: minute, requests: 60, unit: Minute}], reserve: {moneyPercent: 20}";
    let e = connection(&format!(", retry: {{retries: 1}}, rateLimit: {{{limits}}}, cache: {{ttl: 15s}}"));
    assert_is(&e, "retry.retries", 1, "spec");
    assert_is(&e, "retry.backOff.base", "1s", "default");
    assert_is(&e, "retry.minPacing", "50ms", "default");
    assert_is(&e, "retry.budgetPercent", 20, "default");
    assert_is(&e, "rateLimit.limits[minute].requests", 60, "spec");
    assert_is(&e, "rateLimit.limits[minute].burst", 60, "spec");
    assert_is(&e, "rateLimit.reserve.moneyPercent", 20, "spec");
    assert_is(&e, "cache.ttl", "15s", "spec");
    assert_is(&e, "cache.maxStale", "0s", "default");
    assert!(e.settings.iter().all(|setting| !setting.unused));
}

#[test]
fn problems_are_reported_and_set_fields_have_their_rows_all_the_same() {
    let consumer = "{name: shop, subjects: [{name: shop, kind: Consumer, value: Shop-1}], actions: [quote]}";
    let e = connection(&format!(", rights: {{profiles: [{consumer}]}}, payouts: {{idempotencyWindow: 24h}}"));
    assert!(e.problems[0].starts_with("InvalidSpec: "), "{:?}", e.problems);
    let field = "payouts.idempotencyWindow";
    assert_is(&e, field, "24h", "spec");
    assert!(e.settings.iter().any(|s| s.field == field && !s.unused));
    assert!(print::text(&[e]).contains(field), "the table has the row too");
    let unknown = one("ProviderConnection", "{provider: 'profile:own', environment: Sandbox}");
    assert!(unknown.problems[0].starts_with("ProfileNotFound: "), "{:?}", unknown.problems);
}

#[test]
fn what_a_bank_promises_about_payouts_is_shown_as_it_takes_effect() {
    let e = connection(", payouts: {idempotencyWindow: 24h, inquiry: HttpGet, notFoundProof: AfterGrace}");
    assert_is(&e, "payouts.idempotencyWindow", "24h", "spec");
    assert_is(&e, "payouts.inquiry", "None", "spec");
    assert_is(&e, "payouts.recall", "None", "default");
    assert_is(&e, "payouts.notFoundProof", "AfterGrace", "spec");
    assert_is(&e, "payouts.notFoundGrace", "15m", "default");
    let unset = connection("");
    assert!(unset.settings.iter().all(|setting| !setting.field.starts_with("payouts.")));
}

/// The scalar leaves of a spec, and lists of scalars.
fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaves(&format!("{path}.{key}"), value, found);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for item in list {
                leaves(&format!("{path}[{}]", item["name"].as_str().unwrap_or("0")), item, found);
            }
        }
        _ => found.push(path.trim_start_matches('.').to_owned()),
    }
}

#[test]
fn each_set_field_of_a_sample_has_a_row() {
    for (file, text) in samples("").into_iter().chain(samples("full")).chain(samples("broken")) {
        let (manifests, objects) = Manifests::read(&file, &text, "ns").unwrap();
        for object in objects {
            assert!(object.unknown.is_empty(), "{file}: {:?}", object.unknown);
            let profiles = Profiles::builtin().unwrap();
            let e = manifests.explain(object.kind, &object.key, &profiles, Timestamp::UNIX_EPOCH).unwrap();
            let spec = match object.kind {
                Kind::ProviderConnection => {
                    serde_json::to_value(&find(&manifests.connections, &object.key).unwrap().spec)
                }
                Kind::BreakerPolicy => serde_json::to_value(&find(&manifests.policies, &object.key).unwrap().spec),
                Kind::SyncJob => serde_json::to_value(&find(&manifests.jobs, &object.key).unwrap().spec),
                Kind::BankRoute => serde_json::to_value(&find(&manifests.routes, &object.key).unwrap().spec),
            };
            let mut set = Vec::new();
            leaves("", &spec.unwrap(), &mut set);
            // List entry names are part of the field paths; Secret references are shown as credentials.
            set.retain(|path| !path.ends_with("].name") && !path.starts_with("auth."));
            let rows: Vec<&str> = e.settings.iter().map(|s| s.field.as_str()).collect();
            let missing: Vec<_> = set.iter().filter(|path| !rows.contains(&path.as_str())).collect();
            assert!(missing.is_empty(), "{file}: no row for {missing:?} in {rows:#?}");
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), rows.len(), "{file}: a field has two rows");
        }
    }
}

#[test]
fn the_table_is_aligned_and_ends_with_the_problems() {
    let e = one("BankRoute", "{referenceCurrency: XX, candidates: []}");
    assert_eq!(
        print::text(&[e]),
        "BankRoute ns/it\n  FIELD              VALUE     FROM\n  referenceCurrency  XX        spec\n  \
         priority           0         default\n  mode               Reactive  default\n  \
         whenNoneAvailable  Hold      default\n  suspend            false     default\n  \
         scorer             built-in  default\n  candidates         -         spec\n  \
         problem: InvalidSpec: spec.reference.currency currency must be three upper-case letters, for example EUR\n"
    );
}

#[test]
fn yaml_equals_json_and_quotes_ambiguous_scalars() {
    let job = "{connectionRef: {name: b}, stream: transactions, interval: 5m, retention: {mode: 'Off'}}";
    let all = [one("SyncJob", job), connection(", timeout: {total: 3m}")];
    let (yaml, json) = (print::yaml(&all), print::json(&all));
    assert!(yaml.contains("value: \"Off\"\n"), "{yaml}");
    let same: Value = serde_yaml::from_str(&yaml).unwrap();
    assert_eq!(same.to_string(), serde_json::from_str::<Value>(&json).unwrap().to_string());
    assert_eq!(print::yaml(&[]), "[]\n");
}

#[test]
fn manifests_are_parsed_as_kubectl_does() {
    let text = "# nothing\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: obviously-fake}\n---\n\
                apiVersion: v1\nkind: List\nitems:\n- apiVersion: busbar.dev/v1alpha1\n  kind: BreakerPolicy\n  \
                metadata: {name: p, namespace: other}\n  spec: {presets: Api}\n";
    let (_, objects) = Manifests::read("f", text, "ns").unwrap();
    assert_eq!((objects.len(), objects[0].key.to_string()), (1, "other/p".to_owned()));
    assert_eq!(objects[0].unknown, ["spec.presets"]);
    let error = |text: &str| Manifests::read("f.yaml", text, "ns").unwrap_err();
    let api = "apiVersion: busbar.dev/v1alpha1\n";
    assert!(matches!(error("a: [\n"), ManifestError::Syntax { .. }));
    assert!(matches!(error(&format!("{api}kind: Bank\nmetadata: {{name: a}}\n")), ManifestError::Kind { .. }));
    let unquoted = format!("{api}kind: BreakerPolicy\nmetadata: {{name: a}}\nspec: {{open: {{factor: 1.5}}}}\n");
    let message = error(&unquoted).to_string();
    assert!(message.starts_with("f.yaml: BreakerPolicy a: ") && message.contains("expected a string"), "{message}");
    for (word, kind) in [("pconn", Kind::ProviderConnection), ("SyncJobs.busbar.dev", Kind::SyncJob)] {
        assert_eq!(parse_kind(word), Some(kind));
    }
    assert_eq!(parse_kind("pod"), None);
}

#[test]
fn a_source_prints_its_kind_and_name() {
    assert_eq!(Source::Policy("banks".into()).to_string(), "BreakerPolicy banks");
    assert_eq!(Source::From("interval").to_string(), "from interval");
}
