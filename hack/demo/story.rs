//! The story: all is well, bank A fails, bank B takes over, bank A recovers and is chosen again.

use std::path::Path;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::sim::{Auth, Direction, Transaction};
use serde_json::Value;

use crate::banks::Banks;
use crate::check;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::world::{NAMESPACE, Places, SAMPLES, World};

/// The repository, found from where this program was compiled.
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// For what should take a second or two.
const SOON: Duration = Duration::from_secs(10);

/// Two failed checks five seconds apart and one that was just over, a time-out of a second, and slack for a busy machine.
const OUTAGE_SEEN: Duration = Duration::from_secs(20);

/// The open time and two trials, five seconds each, and slack.
const RECOVERY_SEEN: Duration = Duration::from_secs(25);

/// Transactions that the simulator's account has from the start.
const BOOKED: u64 = 120;

/// Transactions that bank A books while nobody can reach it.
const MEANWHILE: u64 = 3;

/// The story's objects, in the order in which they are applied.
const FILES: [&str; 4] = ["policy.yaml", "banks.yaml", "sync.yaml", "route.yaml"];

/// What all three kinds look like to a user.
const GET: [&str; 2] = ["get", "pconn,broute,sjob"];

/// Plays it.
pub(crate) async fn play(world: &World, screen: &mut Screen) -> Result<Places, Failure> {
    screen.step("Three simulated banks, and the operator");
    let places = world.places(screen).await?;
    screen.tick("three banks listen on loopback, the operator is ready under its own ServiceAccount");
    let banks = Banks::new(world.http.clone(), &places.banks.control);
    samples(world, screen).await?;

    screen.step("All is well");
    connect(world, &places, &banks).await?;
    all_well(world, screen).await?;

    screen.step("Bank A fails");
    bank_a_fails(world, screen, &places, &banks).await?;

    screen.step("Bank A recovers");
    bank_a_recovers(world, screen, &banks).await?;

    screen.step("Looking for what must not be there");
    screen.waiting("logs, status, events, metrics and HTTP answers are searched");
    let bytes = check::everything(world, &places).await?;
    screen.tick(&format!(
        "the banks' secrets are in none of logs, status, events, metrics and HTTP answers (plain, hex, base64, \
         URL-encoded; {} KiB searched)",
        bytes / 1024
    ));
    screen.tick("the API server refused the operator nothing: config/rbac/ is enough");
    screen.times();
    Ok(places)
}

/// The samples that users copy are understood, every one of them.
async fn samples(world: &World, screen: &Screen) -> Result<(), Failure> {
    let args = ["-n", SAMPLES, "get", "busbar", "-o", "json"];
    world.until(screen, "every sample is Ready", SOON, async || {
        let text = world.run("kubectl", &args).await.map_err(|failure| failure.to_string())?;
        let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        for item in list["items"].as_array().into_iter().flatten() {
            let conditions = item["status"]["conditions"].as_array();
            let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
            if ready.is_none_or(|condition| condition["status"] != "True") {
                return Err(format!("{} {}: {}", item["kind"], item["metadata"]["name"], ready.unwrap_or(&Value::Null)));
            }
        }
        Ok(())
    }).await?;
    screen.tick("every object of config/samples is Ready (suspended here: their banks are not on this machine)");
    Ok(())
}

/// Gives each bank the credential it wants from now on, and applies the story's objects.
async fn connect(world: &World, places: &Places, banks: &Banks) -> Result<(), Failure> {
    let canaries = &world.canaries;
    let (key, token, secret) = (canaries.value("bank-a"), canaries.value("bank-b"), canaries.value("bank-c"));
    banks.want("bank-a", &Auth::ApiKeyHeader { name: "mono-sec-key".into(), value: key.clone() }).await?;
    banks.want("bank-b", &Auth::Bearer { token: token.clone() }).await?;
    let oauth = Auth::OAuth2 { client_id: "demo".into(), client_secret: secret.clone(), expires_in_seconds: 3_600 };
    banks.want("bank-c", &oauth).await?;
    let mut values = vec![
        ("${BANK_A_KEY}".to_owned(), key),
        ("${BANK_B_TOKEN}".to_owned(), token),
        ("${BANK_C_SECRET}".to_owned(), secret),
    ];
    for bank in &places.banks.banks {
        let name = bank.name.to_uppercase().replace('-', "_");
        values.push((format!("${{{name}_URL}}"), bank.http.clone()));
    }
    let mut all = String::new();
    for file in FILES {
        let path = Path::new(REPOSITORY).join("hack/demo").join(file);
        all.push_str("---\n");
        all.push_str(&std::fs::read_to_string(&path).map_err(Failure::file("read", &path))?);
    }
    let all = values.iter().fold(all, |text, (name, value)| text.replace(name, value));
    let output = world.plane.run_kubectl(&["-n", NAMESPACE, "apply", "--server-side", "-f", "-"], &all).await?;
    if output.status.success() {
        return Ok(());
    }
    let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::Command { command: "kubectl apply -f hack/demo".into(), detail })
}

async fn all_well(world: &World, screen: &Screen) -> Result<(), Failure> {
    screen.say("A SyncJob fetches bank A's transactions. A BankRoute sends payouts to the cheapest bank: A, then B, then C.");
    screen.say("Their files, short enough to read: hack/demo/*.yaml");
    for bank in ["bank-a", "bank-b", "bank-c"] {
        world.until(screen, &format!("{bank} is Healthy"), SOON, async || {
            let seen = object(world, "providerconnection", bank).await?;
            want(&seen, &[("/status/health", "Healthy"), ("/status/circuit", "Closed")])
        }).await?;
    }
    screen.tick("all three banks are Healthy, their circuits Closed");
    active(world, screen, "bank-a").await?;
    screen.tick("the route takes the cheapest, bank-a");
    rows(world, screen, BOOKED).await?;
    screen.tick(&format!("bank A's {BOOKED} transactions are in the ledger"));
    show(world, screen, "kubectl", &GET).await?;
    show(world, screen, "busbar", &["ledger", "transactions", "--connection=bank-a", "--limit=4"]).await
}

async fn bank_a_fails(world: &World, screen: &Screen, places: &Places, banks: &Banks) -> Result<(), Failure> {
    screen.say("From now on bank A answers 503 to everything. It is checked every 5 s, and two failures open its circuit.");
    banks.fail("bank-a").await?;
    circuit(world, screen, "Open", OUTAGE_SEEN).await?;
    screen.tick("bank-a's circuit is Open: calls to it fail at once, and cost it nothing");
    active(world, screen, "bank-b").await?;
    screen.tick("the route has moved to the next cheapest, bank-b");
    event(world, screen, "FailedOver").await?;
    show(world, screen, "kubectl", &GET).await?;
    events(world, screen).await?;
    metrics(world, screen, places).await
}

async fn bank_a_recovers(world: &World, screen: &Screen, banks: &Banks) -> Result<(), Failure> {
    let now = Clock::system().now().wall;
    let booked = (1..=MEANWHILE).map(|number| Transaction {
        id: format!("{number:024x}"),
        narration: format!("Booked during the outage ({number} of {MEANWHILE})"),
        amount: 1_250_000,
        direction: Direction::Credit,
        balance: 40_000_000,
        date: now,
        category: None,
    });
    banks.book("bank-a", "acc-1", &booked.collect::<Vec<_>>()).await?;
    banks.recover("bank-a").await?;
    screen.say(&format!(
        "Bank A is well again, and has booked {MEANWHILE} more transactions meanwhile. Nobody tells Busbar: when the open \
         time is over, one check is let through as a trial."
    ));
    circuit(world, screen, "HalfOpen", RECOVERY_SEEN).await?;
    screen.tick("a first trial has succeeded: the circuit is HalfOpen, payouts still wait");
    circuit(world, screen, "Closed", RECOVERY_SEEN).await?;
    screen.tick("a second one has, too: the circuit is Closed");
    active(world, screen, "bank-a").await?;
    screen.tick("the route has moved back to bank-a");
    event(world, screen, "FailedBack").await?;
    rows(world, screen, BOOKED + MEANWHILE).await?;
    screen.tick(&format!("the sync has caught up: {} transactions, none lost, none twice", BOOKED + MEANWHILE));
    show(world, screen, "kubectl", &GET).await?;
    show(world, screen, "busbar", &["ledger", "transactions", "--connection=bank-a", "--limit=4"]).await
}

/// An object of the story as JSON.
async fn object(world: &World, kind: &str, name: &str) -> Result<Value, String> {
    let text = world.run("kubectl", &["get", kind, name, "-o", "json"]).await.map_err(|failure| failure.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Fails with what is there if a field is not as wanted.
fn want(object: &Value, fields: &[(&str, &str)]) -> Result<(), String> {
    let seen = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("unset").to_owned();
    if fields.iter().all(|(pointer, wanted)| seen(pointer) == *wanted) {
        return Ok(());
    }
    let told: Vec<String> = fields.iter().map(|(pointer, _)| format!("{pointer} {}", seen(pointer))).collect();
    Err(told.join(", "))
}

async fn circuit(world: &World, screen: &Screen, state: &str, deadline: Duration) -> Result<(), Failure> {
    let what = format!("bank-a's circuit is {state}");
    world.until(screen, &what, deadline, async || {
        want(&object(world, "providerconnection", "bank-a").await?, &[("/status/circuit", state)])
    }).await
}

async fn active(world: &World, screen: &Screen, bank: &str) -> Result<(), Failure> {
    world.until(screen, &format!("the route takes {bank}"), SOON, async || {
        want(&object(world, "bankroute", "payouts").await?, &[("/status/active", bank)])
    }).await
}

/// Waits for exactly so many rows.
async fn rows(world: &World, screen: &Screen, count: u64) -> Result<(), Failure> {
    world.until(screen, &format!("{count} transactions are in the ledger"), RECOVERY_SEEN, async || {
        let args = ["ledger", "transactions", "--connection=bank-a", "--limit=1"];
        let printed = world.run("busbar", &args).await.map_err(|failure| failure.to_string())?;
        let last = printed.trim_end().lines().next_back().unwrap_or_default().to_owned();
        if last.contains(&format!("of {count} transactions")) { Ok(()) } else { Err(last) }
    }).await
}

async fn event(world: &World, screen: &Screen, reason: &str) -> Result<(), Failure> {
    world.until(screen, &format!("the event {reason} is published"), SOON, async || {
        let selector = format!("--field-selector=reason={reason}");
        let printed = world.run("kubectl", &["get", "events", &selector, "-o", "name"]).await;
        let printed = printed.map_err(|failure| failure.to_string())?;
        if printed.trim().is_empty() { Err("no such event".to_owned()) } else { Ok(()) }
    }).await
}

async fn show(world: &World, screen: &Screen, program: &str, args: &[&str]) -> Result<(), Failure> {
    let printed = world.run(program, args).await?;
    screen.command(&format!("{program} {}", args.join(" ")), &printed);
    Ok(())
}

async fn events(world: &World, screen: &Screen) -> Result<(), Failure> {
    let args = ["get", "events", "--field-selector=type=Warning"];
    show(world, screen, "kubectl", &args).await
}

async fn metrics(world: &World, screen: &Screen, places: &Places) -> Result<(), Failure> {
    let url = format!("http://{}/metrics", places.admin);
    let (_, text) = world.get(&url).await?;
    let of_bank_a = |line: &&str| line.starts_with("busbar_breaker") && line.contains("\"bank-a\"") && line.ends_with(" 1");
    let lines: Vec<&str> = text.lines().filter(of_bank_a).collect();
    screen.command(&format!("curl -s {url} | grep '^busbar_breaker.*\"bank-a\".* 1$'"), &lines.join("\n"));
    if lines.iter().any(|line| line.starts_with("busbar_breaker_state") && line.contains("\"Open\"")) {
        return Ok(());
    }
    Err(Failure::Http { what: "the metric busbar_breaker_state of bank-a".into(), detail: "does not say Open".into() })
}

/// Where to look while everything goes on.
pub(crate) fn how_to_look(world: &World, screen: &Screen, places: &Places) {
    let control = places.banks.control.trim_end_matches('/');
    screen.heading("Everything goes on. In another terminal:");
    screen.entry("set up", &format!("export KUBECONFIG={}", world.kubeconfig().display()));
    screen.entry("", &format!("export PATH={}:$PATH", world.directory.join("bin").display()));
    screen.entry("look", "kubectl get busbar");
    screen.entry("", "kubectl describe pconn bank-a");
    screen.entry("", &format!("busbar ledger transactions --ledger={}", world.ledger()));
    screen.entry("", &format!("curl -s http://{}/metrics", places.admin));
    screen.entry("play", &format!("curl -X POST {control}/banks/bank-b/fail --json '{{\"do\":{{\"status\":{{\"code\":503}}}}}}'"));
    screen.entry("", &format!("curl -X POST {control}/banks/bank-b/recover"));
    screen.entry("logs", &world.log().display().to_string());
    screen.entry("stop", "Ctrl-C here: everything ends, nothing is left behind");
}
