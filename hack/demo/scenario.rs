//! The scenario: normal operation; bank A fails, the route and its payouts fail over to bank B, a sync is interrupted;
//! bank A recovers, the route fails back, the sync goes on; a payout is stuck and goes on at another bank; the audit of the
//! payouts is verified.

use std::path::Path;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::sim::{Direction, RequiredAuth, Transaction};
use jiff::Unit;
use serde_json::Value;

use crate::archive;
use crate::endpoints::Endpoints;
use crate::environment::Environment;
use crate::error::Error;
use crate::install::{NAMESPACE, SAMPLES, kubectl};
use crate::payouts::Payouts;
use crate::screen::Screen;
use crate::sim_client::SimClient;
use crate::stuck;
use crate::verify;

/// The repository that this program was compiled in.
pub(crate) const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Deadline of what usually takes a second or two.
const SHORT_DEADLINE: Duration = Duration::from_secs(10);

/// Two failed probes at an interval of 5 s, up to one interval before them, a timeout of 1 s, and slack.
const OUTAGE_DEADLINE: Duration = Duration::from_secs(20);

/// The open duration and two trials, 5 s each, and slack.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(25);

/// Transactions that the simulator's account has from the start.
const INITIAL_TRANSACTIONS: u64 = 120;

/// Transactions that bank A books during its outage.
const OUTAGE_TRANSACTIONS: u64 = 3;

/// The scenario's objects, in the order in which they are applied.
const FILES: [&str; 4] = ["policy.yaml", "banks.yaml", "sync.yaml", "route.yaml"];

/// Arguments of kubectl that list the scenario's objects.
const GET_ALL: [&str; 2] = ["get", "pconn,broute,sjob"];

/// Runs the scenario. Returns where the operator and the simulator listen.
pub(crate) async fn run(environment: &Environment, screen: &mut Screen) -> Result<Endpoints, Error> {
    let endpoints = environment.endpoints(screen).await?;
    screen.done("the banks listen; the operator is ready, with its own ServiceAccount");
    let simulator = SimClient::new(environment.http.clone(), &endpoints.simulator.control);

    screen.step("Normal operation");
    connect(environment, &endpoints, &simulator).await?;
    normal_operation(environment, screen).await?;
    let mut payouts = Payouts::new(environment, &endpoints);
    let first = payouts.decide(screen, "salary-1", "bank-a").await?;
    screen.done("the first payout goes to bank-a");
    stuck::begin(environment, screen, &endpoints, &simulator).await?;

    screen.step("Bank A fails");
    bank_a_fails(environment, screen, &endpoints, &simulator).await?;
    payouts.decide(screen, "salary-2", "bank-b").await?;
    screen.done("the second payout goes to bank-b, in spite of its price");
    payouts.refused(screen, "salary-1").await?;
    screen.done("the first payout is not tried again: bank-a may have executed it");
    payouts.not_sent(screen, &first).await?;
    payouts.attempt(screen, "salary-1", 2, "bank-b").await?;
    screen.done("reported as not sent, its second attempt goes to bank-b");

    screen.step("Bank A recovers");
    bank_a_recovers(environment, screen, &simulator).await?;
    payouts.decide(screen, "salary-3", "bank-a").await?;
    screen.done("the next payout goes to bank-a again");

    screen.step("A stuck payout goes on at another bank");
    stuck::end(environment, screen, &endpoints, &simulator).await?;

    screen.step("Final checks");
    show(environment, screen, "busbar", &["audit", "verify"]).await?;
    show(environment, screen, "busbar", &["audit", "replay"]).await?;
    screen.done("every decision is in the audit as it was made, and comes out the same again");
    screen.waiting("scanning logs, status, events, metrics and HTTP responses");
    let bytes = verify::scan_output(environment, &endpoints).await?;
    screen.done(&format!("no bank's secret in logs, status, events, metrics or HTTP responses ({} KiB)", bytes / 1024));
    screen.done("the API server denied no request of the operator: config/rbac/ is sufficient");
    samples(environment, screen).await?;
    screen.timings();
    Ok(endpoints)
}

/// Waits until every object of `config/samples/` is Ready.
async fn samples(environment: &Environment, screen: &Screen) -> Result<(), Error> {
    for plural in ["providerconnections", "breakerpolicies", "syncjobs", "bankroutes"] {
        environment
            .until(screen, &format!("the samples of {plural} are Ready"), SHORT_DEADLINE, async || {
                let list = environment.get_object(&path(SAMPLES, plural)).await?;
                let items = list["items"].as_array().filter(|items| !items.is_empty()).ok_or("none")?;
                let waiting = items.iter().find(|item| condition(item, "Ready")["status"] != "True");
                waiting
                    .map_or(Ok(()), |item| Err(format!("{}: {}", item["metadata"]["name"], condition(item, "Ready"))))
            })
            .await?;
    }
    screen.done("every object of config/samples is Ready (suspended: their banks do not exist here)");
    Ok(())
}

/// Sets the credential that each bank requires, and applies the scenario's objects.
async fn connect(environment: &Environment, endpoints: &Endpoints, simulator: &SimClient) -> Result<(), Error> {
    let canaries = &environment.canaries;
    let (key, token, secret) = (canaries.value("bank-a"), canaries.value("bank-b"), canaries.value("bank-c"));
    simulator
        .set_auth("bank-a", &RequiredAuth::ApiKeyHeader { name: "mono-sec-key".into(), value: key.clone() })
        .await?;
    simulator.set_auth("bank-b", &RequiredAuth::Bearer { token: token.clone() }).await?;
    let oauth =
        RequiredAuth::OAuth2 { client_id: "demo".into(), client_secret: secret.clone(), expires_in_seconds: 3_600 };
    simulator.set_auth("bank-c", &oauth).await?;
    let mut values = vec![
        ("${BANK_A_KEY}".to_owned(), key),
        ("${BANK_B_TOKEN}".to_owned(), token),
        ("${BANK_C_SECRET}".to_owned(), secret),
    ];
    for bank in &endpoints.simulator.banks {
        let name = bank.name.to_uppercase().replace('-', "_");
        values.push((format!("${{{name}_URL}}"), bank.http.clone()));
    }
    let mut all = String::new();
    for file in FILES {
        let path = Path::new(REPOSITORY).join("hack/demo").join(file);
        all.push_str("---\n");
        all.push_str(&std::fs::read_to_string(&path).map_err(Error::file("read", &path))?);
    }
    let all = values.iter().fold(all, |text, (name, value)| text.replace(name, value));
    kubectl(&environment.plane, &["-n", NAMESPACE, "apply", "--server-side", "-f", "-"], &all).await.map(drop)
}

async fn normal_operation(environment: &Environment, screen: &Screen) -> Result<(), Error> {
    screen.text("A SyncJob fetches bank A's transactions. A BankRoute sends payouts to the cheapest bank.");
    screen.text("The objects are in hack/demo/*.yaml");
    for bank in ["bank-a", "bank-b", "bank-c"] {
        let healthy = [("/status/health", "Healthy"), ("/status/circuit", "Closed")];
        let (what, object) = (format!("{bank} is Healthy"), format!("providerconnections/{bank}"));
        until(environment, screen, &what, SHORT_DEADLINE, &object, &healthy).await?;
    }
    screen.done("all three banks are Healthy and their circuits Closed");
    active(environment, screen, "bank-a").await?;
    screen.done("the active bank of the route is the cheapest one, bank-a");
    rows(environment, screen, INITIAL_TRANSACTIONS).await?;
    screen.done(&format!("bank A's {INITIAL_TRANSACTIONS} transactions are in the ledger"));
    until(
        environment,
        screen,
        "the job's data is Fresh",
        SHORT_DEADLINE,
        "syncjobs/bank-a-transactions",
        &[("/status/fresh", "True")],
    )
    .await?;
    screen.done("the SyncJob's status is Fresh");
    show(environment, screen, "kubectl", &GET_ALL).await?;
    show(environment, screen, "busbar", &["ledger", "transactions", "--connection=bank-a", "--limit=4"]).await
}

async fn bank_a_fails(
    environment: &Environment,
    screen: &Screen,
    endpoints: &Endpoints,
    simulator: &SimClient,
) -> Result<(), Error> {
    archive::start(environment, screen, simulator, INITIAL_TRANSACTIONS).await?;
    screen.text("Bank A now answers 503 to every request. It is probed every 5 s, and two failures open its circuit.");
    simulator.fail("bank-a").await?;
    let fields = [("/status/circuit", "Open"), ("/status/health", "Unhealthy")];
    until(environment, screen, "bank-a's circuit is Open", OUTAGE_DEADLINE, "providerconnections/bank-a", &fields)
        .await?;
    screen.done("bank-a's circuit is Open: calls to it fail fast");
    rejected_call(environment, screen, endpoints).await?;
    active(environment, screen, "bank-b").await?;
    screen.done("the route has failed over to the next cheapest bank, bank-b");
    event(environment, screen, "FailedOver").await?;
    archive::interrupted(environment, screen, INITIAL_TRANSACTIONS).await?;
    show(environment, screen, "kubectl", &GET_ALL).await?;
    show(environment, screen, "kubectl", &["get", "events", "--field-selector=type=Warning"]).await?;
    metrics(environment, screen, endpoints).await
}

async fn bank_a_recovers(environment: &Environment, screen: &Screen, simulator: &SimClient) -> Result<(), Error> {
    let now = Clock::system().now().wall;
    // Banks report whole seconds.
    let now = now.round(Unit::Second).unwrap_or(now);
    let transactions = (1..=OUTAGE_TRANSACTIONS).map(|number| Transaction {
        id: format!("{number:024x}"),
        narration: format!("Booked during the outage ({number} of {OUTAGE_TRANSACTIONS})"),
        amount: 1_250_000,
        direction: Direction::Credit,
        balance: 40_000_000,
        date: now,
        category: None,
    });
    simulator.add_transactions("bank-a", "acc-1", &transactions.collect::<Vec<_>>()).await?;
    simulator.recover("bank-a").await?;
    screen.text(&format!(
        "Bank A has recovered and booked {OUTAGE_TRANSACTIONS} transactions during the outage. After the open duration \
         the circuit admits one trial at a time: a probe, or the call above, which is retried in the background."
    ));
    half_open(environment, screen).await?;
    circuit(environment, screen, "Closed").await?;
    screen.done("two consecutive trials have succeeded: the circuit is Closed");
    active(environment, screen, "bank-a").await?;
    screen.done("the route has failed back to bank-a");
    event(environment, screen, "FailedBack").await?;
    archive::resumed(environment, screen, INITIAL_TRANSACTIONS + OUTAGE_TRANSACTIONS).await?;
    screen.done(&format!(
        "the first job has caught up: {} transactions, none lost, none duplicated",
        INITIAL_TRANSACTIONS + OUTAGE_TRANSACTIONS
    ));
    show(environment, screen, "kubectl", &GET_ALL).await?;
    show(environment, screen, "kubectl", &["get", "events", "--field-selector=reason=FailedBack"]).await?;
    show(environment, screen, "busbar", &["ledger", "transactions", "--connection=bank-a", "--limit=4"]).await?;
    show(environment, screen, "busbar", &["ledger", "runs", &format!("{NAMESPACE}/bank-a-archive"), "--limit=4"]).await
}

/// Path of an object or a list at the API server.
pub(crate) fn path(namespace: &str, rest: &str) -> String {
    format!("/apis/busbar.dev/v1alpha1/namespaces/{namespace}/{rest}")
}

/// A condition of an object, or null.
fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// Waits until the fields of an object have these values.
async fn until(
    environment: &Environment,
    screen: &Screen,
    what: &str,
    deadline: Duration,
    object: &str,
    fields: &[(&str, &str)],
) -> Result<(), Error> {
    environment
        .until(screen, what, deadline, async || {
            expect_fields(&environment.get_object(&path(NAMESPACE, object)).await?, fields)
        })
        .await
}

/// Fails with the present values if a field differs.
fn expect_fields(object: &Value, fields: &[(&str, &str)]) -> Result<(), String> {
    let value = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("unset").to_owned();
    if fields.iter().all(|(pointer, expected)| value(pointer) == *expected) {
        return Ok(());
    }
    let values: Vec<String> = fields.iter().map(|(pointer, _)| format!("{pointer} {}", value(pointer))).collect();
    Err(values.join(", "))
}

/// Waits until trials are admitted. Two in quick succession may have closed the circuit before the next poll.
async fn half_open(environment: &Environment, screen: &Screen) -> Result<(), Error> {
    let object = path(NAMESPACE, "providerconnections/bank-a");
    let state = environment
        .until(screen, "bank-a's circuit admits a trial", RECOVERY_DEADLINE, async || {
            let connection = environment.get_object(&object).await?;
            match connection.pointer("/status/circuit").and_then(Value::as_str) {
                Some(state @ ("HalfOpen" | "Closed")) => Ok(state.to_owned()),
                other => Err(format!("circuit {}", other.unwrap_or("unset"))),
            }
        })
        .await?;
    if state == "HalfOpen" {
        screen.done("the circuit is HalfOpen: the first trial is admitted, payouts still avoid bank-a");
    }
    Ok(())
}

async fn circuit(environment: &Environment, screen: &Screen, state: &str) -> Result<(), Error> {
    let what = format!("bank-a's circuit is {state}");
    until(environment, screen, &what, RECOVERY_DEADLINE, "providerconnections/bank-a", &[("/status/circuit", state)])
        .await
}

async fn active(environment: &Environment, screen: &Screen, bank: &str) -> Result<(), Error> {
    let what = format!("the active bank of the route is {bank}");
    until(environment, screen, &what, SHORT_DEADLINE, "bankroutes/payouts", &[("/status/active", bank)]).await
}

/// Waits until the ledger has exactly `count` rows of bank A.
async fn rows(environment: &Environment, screen: &Screen, count: u64) -> Result<(), Error> {
    environment
        .until(screen, &format!("{count} transactions are in the ledger"), RECOVERY_DEADLINE, async || {
            let rows = rows_of_bank_a(environment).await?;
            if rows == count { Ok(()) } else { Err(format!("{rows} transactions")) }
        })
        .await
}

/// The number of bank A's transactions in the ledger, as `busbar ledger` prints it.
pub(crate) async fn rows_of_bank_a(environment: &Environment) -> Result<u64, String> {
    let args = ["ledger", "transactions", "--connection=bank-a", "--limit=1"];
    let output = environment.run("busbar", &args).await.map_err(|error| error.to_string())?;
    let last = output.trim_end().lines().next_back().unwrap_or_default();
    let count = last.split_once(" of ").and_then(|(_, rest)| rest.split_once(" transactions"));
    count.and_then(|(count, _)| count.parse().ok()).ok_or_else(|| last.to_owned())
}

async fn event(environment: &Environment, screen: &Screen, reason: &str) -> Result<(), Error> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=reason%3D{reason}");
    environment
        .until(screen, &format!("the event {reason} is published"), SHORT_DEADLINE, async || {
            let events = environment.get_object(&path).await?;
            if events["items"].as_array().is_some_and(|items| !items.is_empty()) {
                Ok(())
            } else {
                Err("no such event".to_owned())
            }
        })
        .await
}

async fn show(environment: &Environment, screen: &Screen, program: &str, args: &[&str]) -> Result<(), Error> {
    let output = environment.run(program, args).await?;
    screen.command(&format!("{program} {}", args.join(" ")), &output);
    Ok(())
}

/// A call through the gateway while the circuit is open. The demo's gateway listens on loopback and requires no token.
async fn rejected_call(environment: &Environment, screen: &Screen, endpoints: &Endpoints) -> Result<(), Error> {
    let url = format!("{}/api/providers/{NAMESPACE}/bank-a/accounts", endpoints.gateway);
    let (status, text) = environment.get(&url).await?;
    screen.command(&format!("curl -s {url}"), &text);
    if status == 503 && text.contains("circuit_open") {
        return Ok(());
    }
    Err(Error::Http { what: "a call through the gateway".into(), detail: format!("{status}, not 503 circuit_open") })
}

async fn metrics(environment: &Environment, screen: &Screen, endpoints: &Endpoints) -> Result<(), Error> {
    let url = format!("http://{}/metrics", endpoints.admin);
    let (_, text) = environment.get(&url).await?;
    let of_bank_a = |line: &&str| {
        line.starts_with("busbar_breaker")
            && line.contains("\"bank-a\"")
            && line.contains("\"demo\"")
            && line.ends_with(" 1")
    };
    let lines: Vec<&str> = text.lines().filter(of_bank_a).collect();
    screen.command(&format!("curl -s {url} | grep '^busbar_breaker.*\"bank-a\".*\"demo\".* 1$'"), &lines.join("\n"));
    if lines.iter().any(|line| line.starts_with("busbar_breaker_state") && line.contains("\"Open\"")) {
        return Ok(());
    }
    Err(Error::Http { what: "the metric busbar_breaker_state of bank-a".into(), detail: "is not Open".into() })
}

/// Prints the commands to try while everything keeps running.
pub(crate) fn print_hints(environment: &Environment, screen: &Screen, endpoints: &Endpoints) {
    let control = endpoints.simulator.control.trim_end_matches('/');
    screen.heading("Everything keeps running. In another terminal:");
    screen.entry("setup", &format!("export KUBECONFIG={}", environment.kubeconfig().display()));
    screen.entry("", &format!("export PATH={}:$PATH", environment.directory.join("bin").display()));
    screen.entry("", &format!("export GATEWAY={}", endpoints.gateway));
    screen.entry("inspect", "kubectl get busbar");
    screen.entry("", "kubectl describe pconn bank-a");
    screen.entry("", &format!("busbar ledger transactions --ledger={}", environment.ledger()));
    screen.entry("", &format!("curl -s http://{}/metrics", endpoints.admin));
    screen.entry("", &format!("busbar audit verify --ledger={}", environment.ledger()));
    let payout = "--amount 50000 --currency NGN --country NG";
    screen.entry("explain", &format!("busbar route explain broute/payouts -n {NAMESPACE} --gateway $GATEWAY {payout}"));
    screen.entry(
        "fail",
        &format!("curl -X POST {control}/banks/bank-b/fail --json '{{\"do\":{{\"status\":{{\"code\":503}}}}}}'"),
    );
    screen.entry("recover", &format!("curl -X POST {control}/banks/bank-b/recover"));
    screen.entry("logs", &environment.log().display().to_string());
    screen.entry("stop", "Ctrl-C here: stops everything and removes its files");
}
