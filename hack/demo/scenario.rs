//! The story: all is well, bank A fails, bank B takes over, bank A recovers and is chosen again.

use std::path::Path;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::sim::{Auth, Direction, Transaction};
use jiff::Unit;
use serde_json::Value;

use crate::banks::Banks;
use crate::check;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::world::{NAMESPACE, Places, SAMPLES, World, kubectl};

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
    let places = world.places(screen).await?;
    screen.tick("the banks listen; the operator is ready, under its own ServiceAccount");
    let banks = Banks::new(world.http.clone(), &places.banks.control);

    screen.step("All is well");
    connect(world, &places, &banks).await?;
    all_well(world, screen).await?;

    screen.step("Bank A fails");
    bank_a_fails(world, screen, &places, &banks).await?;

    screen.step("Bank A recovers");
    bank_a_recovers(world, screen, &banks).await?;

    screen.step("A look behind the scenes");
    screen.waiting("logs, status, events, metrics and HTTP answers are searched");
    let bytes = check::everything(world, &places).await?;
    screen.tick(&format!(
        "no bank's secret is in logs, status, events, metrics or HTTP answers ({} KiB read)",
        bytes / 1024
    ));
    screen.tick("the API server refused the operator nothing: config/rbac/ is enough");
    samples(world, screen).await?;
    screen.times();
    Ok(places)
}

/// The samples that users copy are understood, every one of them.
async fn samples(world: &World, screen: &Screen) -> Result<(), Failure> {
    for plural in ["providerconnections", "breakerpolicies", "syncjobs", "bankroutes"] {
        world
            .until(screen, &format!("the samples of {plural} are Ready"), SOON, async || {
                let list = world.ask(&path(SAMPLES, plural)).await?;
                let items = list["items"].as_array().filter(|items| !items.is_empty()).ok_or("none")?;
                let waiting = items.iter().find(|item| condition(item, "Ready")["status"] != "True");
                waiting
                    .map_or(Ok(()), |item| Err(format!("{}: {}", item["metadata"]["name"], condition(item, "Ready"))))
            })
            .await?;
    }
    screen.tick("every object of config/samples is Ready (suspended: their banks are not here)");
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
    kubectl(&world.plane, &["-n", NAMESPACE, "apply", "--server-side", "-f", "-"], &all).await.map(drop)
}

async fn all_well(world: &World, screen: &Screen) -> Result<(), Failure> {
    screen.say("A SyncJob fetches bank A's transactions. A BankRoute sends payouts to the cheapest bank.");
    screen.say("Their files are short enough to read: hack/demo/*.yaml");
    for bank in ["bank-a", "bank-b", "bank-c"] {
        let well = [("/status/health", "Healthy"), ("/status/circuit", "Closed")];
        let (what, object) = (format!("{bank} is Healthy"), format!("providerconnections/{bank}"));
        until(world, screen, &what, SOON, &object, &well).await?;
    }
    screen.tick("all three banks are Healthy, their circuits Closed");
    active(world, screen, "bank-a").await?;
    screen.tick("the route takes the cheapest, bank-a");
    rows(world, screen, BOOKED).await?;
    screen.tick(&format!("bank A's {BOOKED} transactions are in the ledger"));
    until(world, screen, "the job's data is Fresh", SOON, "syncjobs/bank-a-transactions", &[("/status/fresh", "True")])
        .await?;
    screen.tick("and the job's status says so: Fresh");
    show(world, screen, "kubectl", &GET).await?;
    show(world, screen, "busbar", &["ledger", "transactions", "--connection=bank-a", "--limit=4"]).await
}

async fn bank_a_fails(world: &World, screen: &Screen, places: &Places, banks: &Banks) -> Result<(), Failure> {
    screen.say(
        "From now on bank A answers 503 to everything. It is checked every 5 s, and two failures open its circuit.",
    );
    banks.fail("bank-a").await?;
    let fields = [("/status/circuit", "Open"), ("/status/health", "Unhealthy")];
    until(world, screen, "bank-a's circuit is Open", OUTAGE_SEEN, "providerconnections/bank-a", &fields).await?;
    screen.tick("bank-a's circuit is Open: calls to it fail at once instead of waiting");
    refused_call(world, screen, places).await?;
    active(world, screen, "bank-b").await?;
    screen.tick("the route has moved to the next cheapest, bank-b");
    event(world, screen, "FailedOver").await?;
    show(world, screen, "kubectl", &GET).await?;
    show(world, screen, "kubectl", &["get", "events", "--field-selector=type=Warning"]).await?;
    metrics(world, screen, places).await
}

async fn bank_a_recovers(world: &World, screen: &Screen, banks: &Banks) -> Result<(), Failure> {
    let now = Clock::system().now().wall;
    // Banks tell whole seconds.
    let now = now.round(Unit::Second).unwrap_or(now);
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
         time is over, one call at a time is let through as a trial: a check, or the call above, which is made again in the \
         background."
    ));
    trials(world, screen).await?;
    circuit(world, screen, "Closed").await?;
    screen.tick("two trials in a row have succeeded: the circuit is Closed");
    active(world, screen, "bank-a").await?;
    screen.tick("the route has moved back to bank-a");
    event(world, screen, "FailedBack").await?;
    rows(world, screen, BOOKED + MEANWHILE).await?;
    screen.tick(&format!("the sync has caught up: {} transactions, none lost, none twice", BOOKED + MEANWHILE));
    show(world, screen, "kubectl", &GET).await?;
    show(world, screen, "kubectl", &["get", "events", "--field-selector=reason=FailedBack"]).await?;
    show(world, screen, "busbar", &["ledger", "transactions", "--connection=bank-a", "--limit=4"]).await
}

/// Where the API server has our objects.
fn path(namespace: &str, rest: &str) -> String {
    format!("/apis/busbar.dev/v1alpha1/namespaces/{namespace}/{rest}")
}

/// A condition of an object, or null.
fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// Waits until an object of the story has these values.
async fn until(
    world: &World,
    screen: &Screen,
    what: &str,
    deadline: Duration,
    object: &str,
    fields: &[(&str, &str)],
) -> Result<(), Failure> {
    world.until(screen, what, deadline, async || want(&world.ask(&path(NAMESPACE, object)).await?, fields)).await
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

/// Waits until trials are let through. Two that follow each other closely may have closed the circuit before anybody looks.
async fn trials(world: &World, screen: &Screen) -> Result<(), Failure> {
    let object = path(NAMESPACE, "providerconnections/bank-a");
    let seen = world
        .until(screen, "bank-a's circuit lets a trial through", RECOVERY_SEEN, async || {
            let now = world.ask(&object).await?;
            match now.pointer("/status/circuit").and_then(Value::as_str) {
                Some(state @ ("HalfOpen" | "Closed")) => Ok(state.to_owned()),
                other => Err(format!("circuit {}", other.unwrap_or("unset"))),
            }
        })
        .await?;
    if seen == "HalfOpen" {
        screen.tick("a first trial is let through: the circuit is HalfOpen, payouts still wait");
    }
    Ok(())
}

async fn circuit(world: &World, screen: &Screen, state: &str) -> Result<(), Failure> {
    let what = format!("bank-a's circuit is {state}");
    until(world, screen, &what, RECOVERY_SEEN, "providerconnections/bank-a", &[("/status/circuit", state)]).await
}

async fn active(world: &World, screen: &Screen, bank: &str) -> Result<(), Failure> {
    let what = format!("the route takes {bank}");
    until(world, screen, &what, SOON, "bankroutes/payouts", &[("/status/active", bank)]).await
}

/// Waits for exactly so many rows.
async fn rows(world: &World, screen: &Screen, count: u64) -> Result<(), Failure> {
    world
        .until(screen, &format!("{count} transactions are in the ledger"), RECOVERY_SEEN, async || {
            let args = ["ledger", "transactions", "--connection=bank-a", "--limit=1"];
            let printed = world.run("busbar", &args).await.map_err(|failure| failure.to_string())?;
            let last = printed.trim_end().lines().next_back().unwrap_or_default().to_owned();
            if last.contains(&format!("of {count} transactions")) { Ok(()) } else { Err(last) }
        })
        .await
}

async fn event(world: &World, screen: &Screen, reason: &str) -> Result<(), Failure> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=reason%3D{reason}");
    world
        .until(screen, &format!("the event {reason} is published"), SOON, async || {
            let events = world.ask(&path).await?;
            if events["items"].as_array().is_some_and(|items| !items.is_empty()) {
                Ok(())
            } else {
                Err("no such event".to_owned())
            }
        })
        .await
}

async fn show(world: &World, screen: &Screen, program: &str, args: &[&str]) -> Result<(), Failure> {
    let printed = world.run(program, args).await?;
    screen.command(&format!("{program} {}", args.join(" ")), &printed);
    Ok(())
}

/// What a caller of the gateway is told meanwhile. The demo's gateway is on loopback and asks nobody who he is.
async fn refused_call(world: &World, screen: &Screen, places: &Places) -> Result<(), Failure> {
    let url = format!("{}/api/providers/{NAMESPACE}/bank-a/accounts", places.gateway);
    let (status, text) = world.get(&url).await?;
    screen.command(&format!("curl -s {url}"), &text);
    if status == 503 && text.contains("circuit_open") {
        return Ok(());
    }
    Err(Failure::Http { what: "a call through the gateway".into(), detail: format!("{status}, not 503 circuit_open") })
}

async fn metrics(world: &World, screen: &Screen, places: &Places) -> Result<(), Failure> {
    let url = format!("http://{}/metrics", places.admin);
    let (_, text) = world.get(&url).await?;
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
    Err(Failure::Http { what: "the metric busbar_breaker_state of bank-a".into(), detail: "does not say Open".into() })
}

/// Where to look while everything goes on.
pub(crate) fn how_to_look(world: &World, screen: &Screen, places: &Places) {
    let control = places.banks.control.trim_end_matches('/');
    screen.heading("Everything goes on. In another terminal:");
    screen.entry("set up", &format!("export KUBECONFIG={}", world.kubeconfig().display()));
    screen.entry("", &format!("export PATH={}:$PATH", world.directory.join("bin").display()));
    screen.entry("", &format!("export GATEWAY={}", places.gateway));
    screen.entry("look", "kubectl get busbar");
    screen.entry("", "kubectl describe pconn bank-a");
    screen.entry("", &format!("busbar ledger transactions --ledger={}", world.ledger()));
    screen.entry("", &format!("curl -s http://{}/metrics", places.admin));
    screen.entry(
        "play",
        &format!("curl -X POST {control}/banks/bank-b/fail --json '{{\"do\":{{\"status\":{{\"code\":503}}}}}}'"),
    );
    screen.entry("", &format!("curl -X POST {control}/banks/bank-b/recover"));
    screen.entry("logs", &world.log().display().to_string());
    screen.entry("stop", "Ctrl-C here: everything ends, nothing is left behind");
}
