//! The sources' own series, byte for byte: names, labels and codes as their dashboards ask for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::{BreakerState, Mode};
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profiles};
use busbar::provider::call::Request;
use busbar::provider::connection::Connection;
use busbar::provider::legacy_metrics::LegacyMetricSet;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Draft, Settings};
use busbar::testbed::sim::{BankConfig, BankHandle, Behaviour, Down, Script, ScriptStep};

use crate::call_path::{bank, key};

fn serving(sets: &[LegacyMetricSet]) -> (Registry, Metrics) {
    let metrics = Metrics::new();
    let access =
        RegistryOptions { legacy_metrics: sets.iter().copied().collect(), ..RegistryOptions::allowing_loopback() };
    (Registry::new(Clock::system(), &metrics, access).unwrap(), metrics)
}

/// A connection whose circuit opens at the second failure, without retries.
fn draft(provider: &str, bank: &BankHandle) -> Draft {
    let mut draft = Draft::new(Profiles::builtin().unwrap().get(provider).unwrap(), Environment::Sandbox);
    draft.base_url = bank.base_url();
    draft.retry.retries = 0;
    draft.breaker.consecutive_failures = 2;
    draft
}

fn connect(registry: &Registry, name: &str, draft: Draft) -> Arc<Connection> {
    registry.apply(&key(name), &format!("uid-{name}"), Settings::resolve(draft).unwrap(), None)
}

/// Calls an operation; `true` if there was an answer.
async fn call(live: &Connection, operation: &str, parameters: &[(&str, &str)]) -> bool {
    let given: BTreeMap<String, String> =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let request = live.settings().profile().operations[operation].request(&given, &BTreeMap::new()).unwrap();
    live.call(Request::from_operation(operation, request)).await.is_ok()
}

/// The lines of these series, with their `HELP` and `TYPE`; times are shown as `…`, for they are never twice the same.
fn all_lines(metrics: &Metrics, prefixes: &[&str]) -> Vec<String> {
    let text = metrics.render().unwrap();
    let name = |line: &str| line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").to_owned();
    let wanted = |line: &&str| prefixes.iter().any(|prefix| name(line).starts_with(prefix));
    let timed = |line: &str| line.contains("_sum{") || (line.contains("_bucket{") && !line.contains("le=\"+Inf\""));
    let shown = |line: &str| match line.rsplit_once(' ') {
        Some((series, _)) if timed(line) => format!("{series} …"),
        _ => line.to_owned(),
    };
    text.lines().filter(wanted).map(shown).collect()
}

/// The same without `HELP`, `TYPE` and times.
fn lines(metrics: &Metrics, prefixes: &[&str]) -> Vec<String> {
    let mut all = all_lines(metrics, prefixes);
    all.retain(|line| !line.starts_with('#') && !line.contains("_sum{") && !line.contains("_bucket{"));
    all
}

/// The lines of a histogram of one call.
fn histogram(name: &str, labels: &str, endpoint: &str) -> Vec<String> {
    let bounds = ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2", "5", "10", "30", "60"];
    let labels = labels.replace('E', endpoint);
    let mut lines: Vec<_> = bounds.iter().map(|bound| format!("{name}_bucket{{{labels},le=\"{bound}\"}} …")).collect();
    lines.push(format!("{name}_bucket{{{labels},le=\"+Inf\"}} 1"));
    lines.push(format!("{name}_sum{{{labels}}} …"));
    lines.push(format!("{name}_count{{{labels}}} 1"));
    lines
}

async fn down(bank: &BankHandle) {
    bank.set_script(Script::from(ScriptStep::from(Behaviour::Down(Down::Refuse)))).await.unwrap();
}

const FINASTRA: [&str; 1] = ["finastra_"];
const PROVIDERS: [&str; 2] = ["provider_", "circuit_breaker_state"];

#[tokio::test]
async fn finastras_series_have_the_sources_names_and_codes() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let (registry, metrics) = serving(&[LegacyMetricSet::Finastra]);
    let live = connect(&registry, "bank", draft("finastra", &bank));
    live.probe().await.unwrap().result.unwrap();
    assert!(call(&live, "collaterals", &[]).await);
    assert!(call(&live, "collateral", &[("id", "no-such")]).await);
    let good = [
        r#"finastra_api_calls_total{endpoint="collateral",status="404"} 1"#,
        r#"finastra_api_calls_total{endpoint="collaterals",status="200"} 1"#,
        r#"finastra_api_latency_seconds_count{endpoint="collateral"} 1"#,
        r#"finastra_api_latency_seconds_count{endpoint="collaterals"} 1"#,
        r#"finastra_breaker_state{client="collateral"} 0"#,
    ];
    assert_eq!(lines(&metrics, &FINASTRA), good);

    down(&bank).await;
    for _ in 0..2 {
        assert!(!call(&live, "collateral", &[("id", "no-such")]).await);
    }
    assert_eq!(live.snapshot().circuit.state, BreakerState::Open);
    // Refused by the circuit: no call to Finastra.
    assert!(!call(&live, "collateral", &[("id", "no-such")]).await);
    let after = lines(&metrics, &FINASTRA);
    assert!(
        after.contains(&r#"finastra_api_calls_total{endpoint="collateral",status="error"} 2"#.to_owned()),
        "{after:#?}"
    );
    assert!(after.contains(&r#"finastra_breaker_state{client="collateral"} 2"#.to_owned()), "{after:#?}");
    assert!(lines(&metrics, &PROVIDERS).is_empty());
}

#[tokio::test]
async fn in_shadow_finastras_circuit_is_closed_to_whoever_looks() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let (registry, metrics) = serving(&[LegacyMetricSet::Finastra, LegacyMetricSet::Providers]);
    let mut shadow = draft("finastra", &bank);
    shadow.breaker.mode = Mode::Shadow;
    let live = connect(&registry, "bank", shadow);
    down(&bank).await;
    for _ in 0..3 {
        assert!(!call(&live, "collaterals", &[]).await);
    }
    let states = lines(&metrics, &["finastra_breaker_state", "circuit_breaker_state"]);
    let closed =
        [r#"circuit_breaker_state{provider="finastra"} 0"#, r#"finastra_breaker_state{client="collateral"} 0"#];
    assert_eq!(states.len(), 2);
    assert!(closed.iter().all(|line| states.contains(&(*line).to_owned())), "{states:?}");
}

#[tokio::test]
async fn the_providers_series_have_the_sources_names_and_codes() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let (registry, metrics) = serving(&[LegacyMetricSet::Providers]);
    let page = Behaviour::Status { code: 200, headers: BTreeMap::new(), body: Some("[]".to_owned()) };
    bank.set_script(Script::from(ScriptStep::from(page))).await.unwrap();
    let live = connect(&registry, "bank", draft("fmp", &bank));
    let raw = || busbar::provider::call::Request::get("quote", "/quote");
    assert!(live.call(raw()).await.is_ok());
    bank.set_script(Script::from(ScriptStep::from(Behaviour::status(503)))).await.unwrap();
    assert!(live.call(raw()).await.is_ok());
    down(&bank).await;
    assert!(live.call(raw()).await.is_err());
    assert_eq!(live.snapshot().circuit.state, BreakerState::Open);
    let _well = connect(&registry, "other", draft("polygon", &bank));
    let wanted = [
        "provider_errors_total 2",
        r#"provider_latency_seconds_count{endpoint="quote",provider="fmp"} 3"#,
        r#"provider_requests_total{endpoint="quote",provider="fmp",status="200"} 1"#,
        r#"provider_requests_total{endpoint="quote",provider="fmp",status="503"} 1"#,
        r#"provider_requests_total{endpoint="quote",provider="fmp",status="error"} 1"#,
        r#"circuit_breaker_state{provider="fmp"} 1"#,
        r#"circuit_breaker_state{provider="polygon"} 0"#,
    ];
    assert_eq!(lines(&metrics, &PROVIDERS), wanted);
    assert!(lines(&metrics, &FINASTRA).is_empty());
}

#[tokio::test]
async fn without_the_flag_nothing_of_them_is_served() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let (registry, metrics) = serving(&[]);
    let live = connect(&registry, "bank", draft("finastra", &bank));
    assert!(call(&live, "collaterals", &[]).await);
    assert!(lines(&metrics, &FINASTRA).is_empty() && lines(&metrics, &PROVIDERS).is_empty());
}

#[tokio::test]
async fn every_line_of_the_series_is_the_one_that_dashboards_and_alerts_ask_for() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let (registry, metrics) = serving(&[LegacyMetricSet::Finastra, LegacyMetricSet::Providers]);
    let live = connect(&registry, "bank", draft("finastra", &bank));
    assert!(call(&live, "collaterals", &[]).await);
    let mut wanted: Vec<String> = [
        "# HELP finastra_api_calls_total Calls to Finastra, by HTTP status; \"error\" without one.",
        "# TYPE finastra_api_calls_total counter",
        r#"finastra_api_calls_total{endpoint="collaterals",status="200"} 1"#,
        "# HELP finastra_api_latency_seconds Duration of a call to Finastra.",
        "# TYPE finastra_api_latency_seconds histogram",
    ]
    .map(str::to_owned)
    .into();
    wanted.extend(histogram("finastra_api_latency_seconds", "endpoint=\"E\"", "collaterals"));
    wanted.extend(
        [
            "# HELP finastra_breaker_state Circuit state of Finastra: 0 closed, 1 half-open, 2 open.",
            "# TYPE finastra_breaker_state gauge",
            r#"finastra_breaker_state{client="collateral"} 0"#,
        ]
        .map(str::to_owned),
    );
    assert_eq!(all_lines(&metrics, &FINASTRA), wanted);

    let mut wanted: Vec<String> = [
        "# HELP provider_errors_total Calls to providers without an HTTP status, or with status 400 or above.",
        "# TYPE provider_errors_total counter",
        "provider_errors_total 0",
        "# HELP provider_latency_seconds Duration of a call to a provider.",
        "# TYPE provider_latency_seconds histogram",
    ]
    .map(str::to_owned)
    .into();
    wanted.extend(histogram("provider_latency_seconds", "endpoint=\"E\",provider=\"finastra\"", "collaterals"));
    wanted.extend(
        [
            "# HELP provider_requests_total Calls to providers, by HTTP status; \"error\" without one.",
            "# TYPE provider_requests_total counter",
            r#"provider_requests_total{endpoint="collaterals",provider="finastra",status="200"} 1"#,
            "# HELP circuit_breaker_state Circuit state of a provider: 0 closed, 1 open, 2 half-open.",
            "# TYPE circuit_breaker_state gauge",
            r#"circuit_breaker_state{provider="finastra"} 0"#,
        ]
        .map(str::to_owned),
    );
    assert_eq!(all_lines(&metrics, &PROVIDERS), wanted);
}

#[tokio::test]
async fn the_two_sources_code_an_open_and_a_half_open_circuit_the_other_way_round() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let (registry, metrics) = serving(&[LegacyMetricSet::Finastra, LegacyMetricSet::Providers]);
    let mut quick = draft("finastra", &bank);
    // Half-open as soon as somebody asks, and for good: the trials that close it are more than are made.
    quick.breaker.open.base = Duration::from_millis(1);
    quick.breaker.open.max = Duration::from_millis(1);
    quick.breaker.half_open.required_successes = 100;
    let live = connect(&registry, "bank", quick);
    down(&bank).await;
    for _ in 0..2 {
        assert!(!call(&live, "collaterals", &[]).await);
    }
    let states = || lines(&metrics, &["finastra_breaker_state", "circuit_breaker_state"]);
    let coded = |providers: u8, finastra: u8| {
        vec![
            format!("circuit_breaker_state{{provider=\"finastra\"}} {providers}"),
            format!("finastra_breaker_state{{client=\"collateral\"}} {finastra}"),
        ]
    };
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(live.snapshot().circuit.state, BreakerState::Open);
    assert_eq!(sorted(states()), coded(1, 2));

    bank.recover().await;
    tokio::time::timeout(Duration::from_secs(20), async {
        while !call(&live, "collaterals", &[]).await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(live.snapshot().circuit.state, BreakerState::HalfOpen);
    assert_eq!(sorted(states()), coded(2, 1));
}
