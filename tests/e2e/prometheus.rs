//! A real Prometheus with the chart's rules scrapes the operator during an outage: the right alerts fire and resolve, every
//! panel of the dashboards has data, and no series shows what is private.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use busbar::testbed::rabbitmq::RabbitBroker;
use busbar::testbed::sim::{AccountConfig, BankConfig, BankHandle, Behaviour};
use serde_json::{Value, json};

use crate::cluster::bank_env::{BankEnv, bank_connection, mono_connection, secret_name};
use crate::cluster::control_planes::{report, repository};
use crate::cluster::gateway_calls::{caller_token, get, until_response};
use crate::cluster::operator::Operator;
use crate::cluster::prometheus_server::PrometheusServer;
use crate::kit::banks::unavailable;
use crate::kit::http::gateway_client;
use crate::kit::metrics;
use crate::kit::objects::{
    bearer_auth, candidates, connection, job, merged, merged_patches, policy, profile_auth, profile_connection, route,
};
use crate::kit::wait::{eventually, real_pause, within};
use crate::routing_decisions::decide;

/// What fires while both banks of the route, the bank of the sync and a data provider fail.
const OF_THE_OUTAGE: [&str; 7] = [
    "BusbarBankUnhealthy",
    "BusbarCircuitOpen",
    "BusbarDeadRequestsParked",
    "BusbarNoBankAvailable",
    "BusbarProviderFailing",
    "BusbarSyncFailing",
    "BusbarSyncStale",
];

/// What may fire too, and lasts: risk has a half-life of five minutes, and an outage is predicted for ten.
const OF_RISK: [&str; 4] = ["BusbarPredictedOutage", "BusbarRiskElevated", "BusbarRiskHigh", "BusbarRiskCritical"];

/// Longer than an open circuit, a stale job and three retries together need.
const OUTAGE: Duration = Duration::from_mins(3);

const BALANCE: &str =
    r#"{"status":"successful","data":{"name":"x","account_number":"0131883461","balance":33306400,"currency":"NGN"}}"#;

const QUOTE: &str = r#"[{"symbol":"ACME","price":101.25,"timestamp":1767225600}]"#;

/// The banks that fail.
struct Banks {
    all: Vec<BankHandle>,
}

impl Banks {
    /// Two banks of a route, one whose transactions are read, and a provider of quotes.
    async fn start(env: &BankEnv) -> Self {
        // Its circuit stays closed, so that the provider's failures reach runs and dead requests.
        let never = json!({"breakerPolicyRef": {"name": "never"}, "retry": {"retries": 0}});
        env.put(&policy("never", json!({"preset": "Api", "trip": {"consecutiveFailures": 0}}))).await;
        let (a, b) = (env.bank("bank-a").await, env.bank("bank-b").await);
        let limit = json!({"name": "all", "scope": "Connection", "requests": 6000, "unit": "Minute"});
        env.put(&bank_connection(&b, json!({"rateLimit": {"limits": [limit]}}))).await;
        env.put(&route("payouts", &candidates(&["bank-a", "bank-b"]), json!({}))).await;
        let with_balance = |config: BankConfig| {
            let mut config = config.accounts([AccountConfig::new("acc-1", 30)]);
            config.canned.insert("/v2/accounts/acc-1/balance".to_owned(), BALANCE.to_owned());
            config
        };
        let books = env.mono_with_secret("books", with_balance).await;
        env.put(&merged(mono_connection(&books), json!({ "spec": never }))).await;
        let patch = json!({"retryInterval": "1s", "sla": {"maxStaleness": "15s"}});
        env.put(&job("books", "books", "10s", patch.clone())).await;
        env.put(&job("balances", "books", "10s", merged_patches(patch, json!({"stream": "balances"})))).await;
        let mut config = BankConfig::new("fmp");
        config.canned.insert("/quote".to_owned(), QUOTE.to_owned());
        let fmp = env.sim.add_bank(config).await.unwrap();
        env.ns.secret(&secret_name(&fmp), &[("api-key", env.ns.canary("fmp").as_bytes())]).await;
        let auth = profile_auth(&secret_name(&fmp));
        env.put(&profile_connection("fmp", "fmp", &fmp.base_url(), merged_patches(auth, never))).await;
        Self { all: vec![a, b, books, fmp] }
    }

    /// First the cheapest of the route, so that it fails over, then all others.
    async fn fail(&self, operator: &Operator) {
        self.all[0].fail_with(unavailable()).await.unwrap();
        let of = [("route", "payouts")];
        eventually("the route has failed over", async || {
            let failovers = operator.metric("busbar_route_failovers_total", &of).await;
            let available = operator.metric("busbar_route_available_candidates", &of).await;
            if (failovers, available) == (Some(1.0), Some(1.0)) { Ok(()) } else { Err((failovers, available)) }
        })
        .await;
        for bank in &self.all[1..] {
            let answer = if bank.name() == "fmp" { Behaviour::status(500) } else { unavailable() };
            bank.fail_with(answer).await.unwrap();
        }
    }

    async fn recover(&self) {
        for bank in &self.all {
            bank.recover().await;
        }
    }
}

/// A bank with a client certificate, and one with the legacy series.
async fn other_banks(env: &BankEnv) {
    let bank = BankConfig { demands_certificate: true, ..BankConfig::new("bank-tls") };
    let bank = env.sim.add_bank(bank).await.unwrap();
    let (certificate, key) = env.sim.client_certificate("busbar", jiff::civil::date(2031, 1, 1)).unwrap();
    let entries = [("ca.crt", bank.ca_pem()), ("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
    env.ns.secret("bank-tls", &entries.map(|(name, text)| (name, text.as_bytes()))).await;
    let spec = json!({"endpoint": {"insecure": null}, "tls": {"certSecretRef": {"name": "bank-tls"}}});
    env.put(&connection("bank-tls", &bank.https_url(), spec)).await;
    let finastra = env.bank_with_secret("finastra").await;
    let auth = bearer_auth(&secret_name(&finastra));
    env.put(&profile_connection("finastra", "finastra", &finastra.base_url(), auth)).await;
    env.put(&job("collaterals", "finastra", "10s", json!({"stream": "collaterals", "parameters": null}))).await;
}

/// Waits until only alerts of risk fire.
async fn until_quiet(prometheus: &PrometheusServer) {
    within(OUTAGE, "no alert fires", async || {
        let firing = prometheus.firing().await;
        let left: Vec<_> = firing.into_iter().filter(|name| !OF_RISK.contains(&name.as_str())).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// Deletes the parked requests.
async fn discard_parked(operator: &Operator, env: &BankEnv, token: &str) {
    let url = format!("{}/api/dead-requests?namespace={}&connection=fmp", operator.gateway(), env.ns.name());
    eventually("the parked requests are deleted", async || {
        let answer =
            gateway_client().delete(&url).bearer_auth(token).send().await.map_err(|error| error.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
    })
    .await;
}

/// A consumer of the events of all namespaces.
async fn consumer(operator: &Operator, env: &BankEnv) {
    let staff = caller_token(&env.ns, "events", None).await;
    let account = format!("--serviceaccount={}:events", env.ns.name());
    let binding = format!("{}-consumers", env.ns.name());
    env.ns.kubectl(&["create", "clusterrolebinding", &binding, "--clusterrole=busbar-consumers", &account]).await.ok();
    let url = format!("{}/api/consumers", operator.gateway());
    eventually("the binding arrives, and a consumer is created", async || {
        let request = gateway_client().post(&url).bearer_auth(&staff).header("content-type", "application/json");
        let answer = request.body(r#"{"name":"ops"}"#).send().await.map_err(|error| error.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
    })
    .await;
}

/// Every panel of the dashboards has series, and their pictures can be made.
async fn assert_dashboards(prometheus: &PrometheusServer, env: &BankEnv) {
    let pictures = repository("target/dashboards");
    drop(std::fs::remove_dir_all(&pictures));
    let mut missing = Vec::new();
    for _ in 0..6 {
        let mut script = tokio::process::Command::new("python3");
        script.arg(repository("hack/dashboards/render")).arg("--prometheus").arg(prometheus.url());
        script.arg("--out").arg(&pictures).args(["--minutes", "1.5"]).stdin(Stdio::null()).kill_on_drop(true);
        script.arg("--rename").arg(format!("{}=treasury", env.ns.name()));
        let ended = script.output().await.expect("python3");
        let said = String::from_utf8_lossy(&ended.stderr);
        // The first forecast is made after six minutes of checks; this test is over before.
        let wrong = said.lines().filter(|line| !line.contains("busbar_provider_predict"));
        missing = wrong.map(str::to_owned).collect();
        if missing.is_empty() {
            break;
        }
        real_pause(Duration::from_secs(8)).await;
    }
    assert!(missing.is_empty(), "a panel without series: {missing:#?}");
    let count = std::fs::read_dir(repository("charts/busbar/dashboards")).unwrap().count();
    assert_eq!(std::fs::read_dir(&pictures).unwrap().count(), count, "a picture per dashboard");
    report(&format!("pictures of the dashboards: {}", pictures.display()));
}

/// No label names or shows an account, a secret or a text.
async fn assert_nothing_private(prometheus: &PrometheusServer, env: &BankEnv) {
    let series = prometheus.series(r#"{job="busbar"}"#).await;
    assert!(series.len() > 500, "{} series", series.len());
    let secrets = ["bank-a", "bank-b", "books", "fmp", "finastra"].map(|name| env.ns.canary(name));
    let names = ["account", "iban", "user", "subject", "message", "symbol", "secret"];
    let mut wrong = Vec::new();
    for labels in &series {
        for (name, value) in labels {
            let is_text = value.len() > 100 || (value.contains(' ') && name != "task");
            let is_private = ["acc-1", "ACME", "Bearer"].iter().any(|text| value.contains(text));
            let is_secret = secrets.iter().any(|secret| value.contains(secret.as_str()));
            if is_text || is_private || is_secret || names.contains(&name.as_str()) {
                wrong.push(format!("{name}={value:?} of {}", labels["__name__"]));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Counters of errors are there before the first error.
fn assert_from_zero(scrape: &str) {
    for name in [
        "busbar_audit_dropped_total",
        "busbar_audit_refusals_omitted_total",
        "busbar_gateway_panics_total",
        "busbar_log_lines_dropped_total",
        "busbar_quota_unrecorded_total",
        "busbar_ratelimit_fail_open_total",
        "busbar_route_failovers_total",
        "busbar_sync_errors_total",
        "busbar_task_panics_total",
        "controller_runtime_reconcile_errors_total",
        "controller_runtime_reconcile_panics_total",
    ] {
        let found = metrics::find(scrape, name, &[]);
        assert!(!found.is_empty() && found.iter().all(|sample| sample.value == 0.0), "{name}: {found:?}");
    }
}

/// The series of the router that Busbar replaces: of three payouts, one of them asked for again, and of two banks that are
/// well again after one had failed over to the other.
async fn assert_routing_series(operator: &Operator) {
    assert_eq!(
        operator.metric("routing_decision_count", &[]).await,
        Some(3.0),
        "neither replays nor those without a bank"
    );
    let failovers = operator.metric("busbar_route_failovers_total", &[("route", "payouts")]).await;
    assert_eq!(operator.metric("routing_failover_count", &[]).await, failovers);
    assert!(operator.metric("avg_routing_latency_ms", &[]).await.is_some_and(|mean| mean > 0.0));
    for bank in ["bank-a", "bank-b"] {
        eventually(format!("the circuit of {bank} is closed"), async || {
            operator.metric("circuit_breaker_open", &[("bank", bank)]).await == Some(0.0)
        })
        .await;
    }
}

/// The metrics reference has every family that was scraped.
fn assert_documented(scrape: &str) {
    let page = std::fs::read_to_string(repository("docs/reference/metrics.md")).unwrap();
    let families = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let missing: BTreeSet<_> =
        families.filter(|(name, kind)| !page.contains(&format!("| `{name}` | {kind} | "))).collect();
    assert!(missing.is_empty(), "not in docs/reference/metrics.md, run `make docs`: {missing:?}");
}

#[tokio::test]
async fn the_right_alerts_fire_in_an_outage_and_resolve_after_it() {
    let env = BankEnv::new("prometheus").await;
    let banks = Banks::start(&env).await;
    other_banks(&env).await;
    let desk = caller_token(&env.ns, "desk", Some("busbar-caller")).await;
    let ops = caller_token(&env.ns, "ops", Some("busbar-dead-requests")).await;
    let payouts = caller_token(&env.ns, "payouts", Some("busbar-payouts")).await;
    let broker = RabbitBroker::start().await.unwrap();
    let amqp = format!("--amqp={}", broker.url());
    let mut operator = Operator::ready(&env.ns, &["--compat-metrics=finastra,providers,routing", &amqp]).await;
    consumer(&operator, &env).await;
    let prometheus = PrometheusServer::start(operator.admin()).await;
    let call = |rest: &str| format!("/api/providers/{}/{rest}", env.ns.name());
    for path in ["fmp/quote?symbol=ACME", "fmp/quote?symbol=ACME", "finastra/collaterals"] {
        until_response(&operator, &call(path), &desk, (200, "")).await;
    }
    eventually("Prometheus scrapes and evaluates", async || {
        let errors = prometheus.rule_errors().await;
        let scraped = prometheus.series(r#"busbar_route_available_candidates{route="payouts"}"#).await;
        // Read from the ledger every 15 s.
        let totals = prometheus.series(r#"{__name__=~"busbar_balance|busbar_collateral_value"}"#).await;
        if errors.is_empty() && scraped.len() == 1 && totals.len() == 2 { Ok(()) } else { Err(errors) }
    })
    .await;
    until_quiet(&prometheus).await;
    assert_from_zero(&operator.metrics().await);

    banks.fail(&operator).await;
    until_response(&operator, &call("fmp/quote?symbol=OTHER"), &desk, (502, "provider_failed")).await;
    let mut fired = BTreeSet::new();
    within(OUTAGE, "the alerts of the outage fire", async || {
        fired.extend(prometheus.firing().await);
        let missing: Vec<_> = OF_THE_OUTAGE.iter().filter(|name| !fired.contains(**name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    })
    .await;
    let expected = OF_THE_OUTAGE.iter().chain(&OF_RISK).map(|name| (*name).to_owned()).collect();
    let others: Vec<_> = fired.difference(&expected).collect();
    assert!(others.is_empty(), "of other causes: {others:?}");

    assert_eq!(decide(&operator, &env, &payouts, "payouts", "p-held").await.status, 503);

    banks.recover().await;
    discard_parked(&operator, &env, &ops).await;
    until_quiet(&prometheus).await;
    for payout in ["p-held", "p-1", "p-2", "p-2"] {
        assert_eq!(decide(&operator, &env, &payouts, "payouts", payout).await.status, 200, "{payout}");
    }
    assert_routing_series(&operator).await;
    // Live, cached and failed answers are in the panels' ranges.
    until_response(&operator, &call("fmp/quote?symbol=THIRD"), &desk, (200, "")).await;
    let (status, _, body): (u16, String, Value) = get(&operator, &call("fmp/quote?symbol=THIRD"), &desk).await;
    assert_eq!((status, &body["data"]["meta"]["cached"]), (200, &json!(true)), "{body}");
    until_response(&operator, &call("finastra/collaterals"), &desk, (200, "")).await;

    assert_eq!(prometheus.rule_errors().await, [""; 0]);
    assert_dashboards(&prometheus, &env).await;
    assert_nothing_private(&prometheus, &env).await;
    assert_documented(&operator.metrics().await);

    assert_eq!(operator.sigterm().await.code(), Some(0));
    within(OUTAGE, "BusbarDown fires", async || prometheus.firing().await.contains("BusbarDown")).await;
    operator.finish(&env.ns).await;
}
