//! The metrics of the replaced systems, byte for byte: names, labels and codes as their dashboards query them.

use std::collections::BTreeMap;
use std::time::Duration;

use busbar::domain::breaker::{BreakerState, Mode};
use busbar::metrics::Metrics;
use busbar::provider::call::Request;
use busbar::provider::connection::Connection;
use busbar::provider::legacy_metrics::LegacyMetricSet;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::Draft;
use busbar::testbed::sim::{BankHandle, Behaviour, Down, Script, ScriptStep};

use crate::kit::banks::plain_bank;
use crate::kit::connections::{apply_as, profile_draft, registry_with, texts};
use crate::kit::time::ManualTime;

fn serving(sets: &[LegacyMetricSet]) -> (Registry, Metrics) {
    let legacy_metrics = sets.iter().copied().collect();
    registry_with(RegistryOptions { legacy_metrics, ..RegistryOptions::allowing_loopback() })
}

/// A connection whose circuit opens at the second failure, without retries.
fn breaking_draft(provider: &str, bank: &BankHandle) -> Draft {
    let mut draft = profile_draft(provider, bank.base_url());
    draft.retry.retries = 0;
    draft.breaker.consecutive_failures = 2;
    draft
}

/// Calls an operation; `true` if there was an answer.
async fn call(connection: &Connection, operation: &str, parameters: &[(&str, &str)]) -> bool {
    let settings = connection.settings();
    let request = settings.profile().operations[operation].request(&texts(parameters), &BTreeMap::new()).unwrap();
    connection.call(Request::from_operation(operation, request)).await.is_ok()
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

async fn refuse_connections(bank: &BankHandle) {
    bank.set_script(Script::from(ScriptStep::from(Behaviour::Down(Down::Refuse)))).await.unwrap();
}

const FINASTRA: [&str; 1] = ["finastra_"];

const PROVIDERS: [&str; 2] = ["provider_", "circuit_breaker_state"];

#[tokio::test]
async fn finastra_series_have_the_names_and_codes_of_the_source() {
    let (_sim, bank) = plain_bank().await;
    let (registry, metrics) = serving(&[LegacyMetricSet::Finastra]);
    let connection = apply_as(&registry, "bank", breaking_draft("finastra", &bank));
    connection.probe().await.unwrap().result.unwrap();
    assert!(call(&connection, "collaterals", &[]).await);
    assert!(call(&connection, "collateral", &[("id", "no-such")]).await);
    let good = [
        r#"finastra_api_calls_total{endpoint="collateral",status="404"} 1"#,
        r#"finastra_api_calls_total{endpoint="collaterals",status="200"} 1"#,
        r#"finastra_api_latency_seconds_count{endpoint="collateral"} 1"#,
        r#"finastra_api_latency_seconds_count{endpoint="collaterals"} 1"#,
        r#"finastra_breaker_state{client="collateral"} 0"#,
    ];
    assert_eq!(lines(&metrics, &FINASTRA), good);

    refuse_connections(&bank).await;
    for _ in 0..2 {
        assert!(!call(&connection, "collateral", &[("id", "no-such")]).await);
    }
    assert_eq!(connection.snapshot().circuit.state, BreakerState::Open);
    // Rejected by the circuit: no call to Finastra.
    assert!(!call(&connection, "collateral", &[("id", "no-such")]).await);
    let after = lines(&metrics, &FINASTRA);
    assert!(
        after.contains(&r#"finastra_api_calls_total{endpoint="collateral",status="error"} 2"#.to_owned()),
        "{after:#?}"
    );
    assert!(after.contains(&r#"finastra_breaker_state{client="collateral"} 2"#.to_owned()), "{after:#?}");
    assert!(lines(&metrics, &PROVIDERS).is_empty());
}

#[tokio::test]
async fn in_shadow_mode_the_legacy_circuit_state_is_closed() {
    let (_sim, bank) = plain_bank().await;
    let (registry, metrics) = serving(&[LegacyMetricSet::Finastra, LegacyMetricSet::Providers]);
    let mut shadow = breaking_draft("finastra", &bank);
    shadow.breaker.mode = Mode::Shadow;
    let connection = apply_as(&registry, "bank", shadow);
    refuse_connections(&bank).await;
    for _ in 0..3 {
        assert!(!call(&connection, "collaterals", &[]).await);
    }
    let states = lines(&metrics, &["finastra_breaker_state", "circuit_breaker_state"]);
    let closed =
        [r#"circuit_breaker_state{provider="finastra"} 0"#, r#"finastra_breaker_state{client="collateral"} 0"#];
    assert_eq!(states.len(), 2);
    assert!(closed.iter().all(|line| states.contains(&(*line).to_owned())), "{states:?}");
}

#[tokio::test]
async fn provider_series_have_the_names_and_codes_of_the_source() {
    let (_sim, bank) = plain_bank().await;
    let (registry, metrics) = serving(&[LegacyMetricSet::Providers]);
    let page = Behaviour::Status { code: 200, headers: BTreeMap::new(), body: Some("[]".to_owned()) };
    bank.set_script(Script::from(ScriptStep::from(page))).await.unwrap();
    let connection = apply_as(&registry, "bank", breaking_draft("fmp", &bank));
    let raw = || Request::get("quote", "/quote");
    assert!(connection.call(raw()).await.is_ok());
    bank.set_script(Script::from(ScriptStep::from(Behaviour::status(503)))).await.unwrap();
    assert!(connection.call(raw()).await.is_ok());
    refuse_connections(&bank).await;
    assert!(connection.call(raw()).await.is_err());
    assert_eq!(connection.snapshot().circuit.state, BreakerState::Open);
    let _well = apply_as(&registry, "other", breaking_draft("polygon", &bank));
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
async fn without_the_flag_no_legacy_series_is_served() {
    let (_sim, bank) = plain_bank().await;
    let (registry, metrics) = serving(&[]);
    let connection = apply_as(&registry, "bank", breaking_draft("finastra", &bank));
    assert!(call(&connection, "collaterals", &[]).await);
    assert!(lines(&metrics, &FINASTRA).is_empty() && lines(&metrics, &PROVIDERS).is_empty());
}

/// The lines of a metric: `HELP`, `TYPE` and samples.
fn metric(name: &str, metric_type: &str, help: &str, samples: Vec<String>) -> Vec<String> {
    let head = [format!("# HELP {name} {help}"), format!("# TYPE {name} {metric_type}")];
    head.into_iter().chain(samples).collect()
}

fn sample(line: &str) -> Vec<String> {
    vec![line.to_owned()]
}

#[tokio::test]
async fn every_line_of_the_legacy_series_is_as_the_source_printed_it() {
    let (_sim, bank) = plain_bank().await;
    let (registry, metrics) = serving(&[LegacyMetricSet::Finastra, LegacyMetricSet::Providers]);
    let connection = apply_as(&registry, "bank", breaking_draft("finastra", &bank));
    assert!(call(&connection, "collaterals", &[]).await);
    let finastra = [
        metric(
            "finastra_api_calls_total",
            "counter",
            "Calls to Finastra, by HTTP status; \"error\" without one.",
            sample(r#"finastra_api_calls_total{endpoint="collaterals",status="200"} 1"#),
        ),
        metric(
            "finastra_api_latency_seconds",
            "histogram",
            "Duration of a call to Finastra.",
            histogram("finastra_api_latency_seconds", "endpoint=\"E\"", "collaterals"),
        ),
        metric(
            "finastra_breaker_state",
            "gauge",
            "Circuit state of Finastra: 0 closed, 1 half-open, 2 open.",
            sample(r#"finastra_breaker_state{client="collateral"} 0"#),
        ),
    ];
    assert_eq!(all_lines(&metrics, &FINASTRA), finastra.concat());

    let providers = [
        metric(
            "provider_errors_total",
            "counter",
            "Calls to providers without an HTTP status, or with status 400 or above.",
            sample("provider_errors_total 0"),
        ),
        metric(
            "provider_latency_seconds",
            "histogram",
            "Duration of a call to a provider.",
            histogram("provider_latency_seconds", "endpoint=\"E\",provider=\"finastra\"", "collaterals"),
        ),
        metric(
            "provider_requests_total",
            "counter",
            "Calls to providers, by HTTP status; \"error\" without one.",
            sample(r#"provider_requests_total{endpoint="collaterals",provider="finastra",status="200"} 1"#),
        ),
        metric(
            "circuit_breaker_state",
            "gauge",
            "Circuit state of a provider: 0 closed, 1 open, 2 half-open.",
            sample(r#"circuit_breaker_state{provider="finastra"} 0"#),
        ),
    ];
    assert_eq!(all_lines(&metrics, &PROVIDERS), providers.concat());
}

#[tokio::test]
async fn open_and_half_open_circuits_have_the_code_of_each_source() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    let (registry, metrics) = serving(&[LegacyMetricSet::Finastra, LegacyMetricSet::Providers]);
    let mut quick = breaking_draft("finastra", &bank);
    // Half-open at the first call, and for good: it takes more trials to close it than are made.
    quick.breaker.open.base = Duration::from_millis(1);
    quick.breaker.open.max = Duration::from_millis(1);
    quick.breaker.half_open.required_successes = 100;
    let connection = apply_as(&registry, "bank", quick);
    refuse_connections(&bank).await;
    for _ in 0..2 {
        assert!(!call(&connection, "collaterals", &[]).await);
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
    assert_eq!(connection.snapshot().circuit.state, BreakerState::Open);
    assert_eq!(sorted(states()), coded(1, 2));

    bank.recover().await;
    time.advance(Duration::from_millis(2)).await;
    assert!(call(&connection, "collaterals", &[]).await);
    assert_eq!(connection.snapshot().circuit.state, BreakerState::HalfOpen);
    assert_eq!(sorted(states()), coded(2, 1));
}
