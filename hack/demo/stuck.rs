//! A payout that is stuck: bank A's answer is lost and the payout stays pending, so it is inquired, recalled, and sent through
//! bank B once bank A has proven that it was not executed. Only the banks' own books say how often it was paid.
//!
//! It is begun early in the scenario and ended late: the clock inquires in between.

use std::path::Path;
use std::time::Duration;

use busbar::testbed::sim::{PayoutBooks, PayoutConfig};
use serde_json::{Value, json};

use crate::endpoints::Endpoints;
use crate::environment::Environment;
use crate::error::Error;
use crate::install::{NAMESPACE, kubectl};
use crate::scenario::REPOSITORY;
use crate::screen::Screen;
use crate::sim_client::SimClient;

const PAYOUT: &str = "salary-9";

/// How long bank A would take to execute the payout.
const BANK_A_TAKES: Duration = Duration::from_mins(10);

/// Six inquiries in half a minute, the recall, one more inquiry, and slack.
const REROUTE_DEADLINE: Duration = Duration::from_mins(3);
/// What takes a second or two.
const SHORT_DEADLINE: Duration = Duration::from_secs(20);

/// The banks of the route: their connections, and their names at the simulator.
const BANK_A: (&str, &str) = ("pay-a", "bank-d");
const BANK_B: (&str, &str) = ("pay-b", "bank-e");

/// Registers and sends the payout, whose answer is lost.
pub(crate) async fn begin(
    environment: &Environment,
    screen: &Screen,
    endpoints: &Endpoints,
    simulator: &SimClient,
) -> Result<(), Error> {
    let slow = PayoutConfig {
        after_ms: u64::try_from(BANK_A_TAKES.as_millis()).unwrap_or(u64::MAX),
        ..PayoutConfig::default()
    };
    simulator.set_payouts(BANK_A.1, &slow).await?;
    apply(environment, endpoints).await?;
    let stuck = Stuck { environment, endpoints };
    let registered = stuck.until_registered(screen).await?;
    let first = &registered["payout"]["attempts"][0];
    screen.done("registered: the cheaper bank, pay-a, and an attempt with IDs of its own");
    stuck.submit(screen, BANK_A.1, first).await?;
    stuck.report(screen, 1, "submitted").await?;
    stuck.report(screen, 1, "timeout").await?;
    screen.done("the answer of pay-a is lost: the payout may have been executed, and no other attempt is allowed");
    Ok(())
}

/// Waits until the payout is recalled, and sends its next attempt.
pub(crate) async fn end(
    environment: &Environment,
    screen: &Screen,
    endpoints: &Endpoints,
    simulator: &SimClient,
) -> Result<(), Error> {
    let stuck = Stuck { environment, endpoints };
    screen.text("The clock has inquired pay-a since, again and again: pending. It recalls a payout that is late.");
    let rerouted = stuck.until_rerouted(screen).await?;
    narrate(screen, &rerouted);
    screen.done("inquired, recalled, and proven not to have been executed; the next attempt is at pay-b");
    stuck.submit(screen, BANK_B.1, &rerouted["payout"]["attempts"][1]).await?;
    let confirmation = json!({"attempt_no": 2, "status": "ACSC", "reference": "pay-b-0001"});
    let confirmed = stuck.post(screen, "/confirmations", &confirmation).await?;
    expect(&confirmed["payout"]["state"], "confirmed")?;
    for (bank, times) in [(BANK_A, 0), (BANK_B, 1)] {
        let PayoutBooks { executions, paid_twice } = simulator.payout_books(bank.1).await?;
        let executed = executions.get(PAYOUT).copied().unwrap_or_default();
        if executed != times || !paid_twice.is_empty() {
            return Err(failed(format!("the books of {} say {executed} executions, not {times}", bank.0)));
        }
    }
    screen.done("by the banks' own books it was paid once: not at pay-a, once at pay-b");
    Ok(())
}

struct Stuck<'a> {
    environment: &'a Environment,
    endpoints: &'a Endpoints,
}

impl Stuck<'_> {
    /// Registers the payout as soon as the route has a bank.
    async fn until_registered(&self, screen: &Screen) -> Result<Value, Error> {
        let body = json!({
            "namespace": NAMESPACE, "route": "salaries", "payout_id": PAYOUT, "amount": "50000", "currency": "NGN",
            "country": "NG",
        });
        let url = format!("{}/api/treasury/payouts", self.endpoints.gateway);
        let registered = self
            .environment
            .until(screen, "the route salaries has a bank", SHORT_DEADLINE, async || {
                let (status, answer) = self.send(&url, &body).await.map_err(|error| error.to_string())?;
                let bank = &answer["data"]["payout"]["attempts"][0]["bank"];
                if status == 200 && bank == BANK_A.0 { Ok(answer["data"].clone()) } else { Err(answer.to_string()) }
            })
            .await?;
        screen.command(&format!("curl -s {url} --json '{body}'"), "");
        Ok(registered)
    }

    /// Sends an attempt to its bank, as the payout system does.
    async fn submit(&self, screen: &Screen, bank: &str, attempt: &Value) -> Result<(), Error> {
        let address = self.endpoints.simulator.banks.iter().find(|one| one.name == bank);
        let url = format!("{}/payouts", address.map(|one| one.http.as_str()).unwrap_or_default());
        let text = |field: &str| attempt[field].as_str().unwrap_or_default().to_owned();
        let body = json!({"payoutId": PAYOUT, "endToEndId": text("end_to_end_id")});
        let key = text("idempotency_key");
        let request = self.environment.http.post(&url).header("content-type", "application/json");
        let sent = request.header("idempotency-key", &key).body(body.to_string()).send().await;
        let status = sent.map_err(|error| failed(format!("POST {url}: {error}")))?.status().as_u16();
        screen.command(&format!("curl -s {url} -H 'Idempotency-Key: {key}' --json '{body}'"), "");
        if status == 202 { Ok(()) } else { Err(failed(format!("POST {url}: {status}, not 202"))) }
    }

    async fn report(&self, screen: &Screen, number: u32, class: &str) -> Result<(), Error> {
        self.post(screen, &format!("/attempts/{number}/outcomes"), &json!({"class": class})).await.map(drop)
    }

    /// The payout, once its second attempt is at bank B.
    async fn until_rerouted(&self, screen: &Screen) -> Result<Value, Error> {
        let url = self.url("");
        let what = format!("{PAYOUT} is inquired, recalled and rerouted");
        self.environment
            .until(screen, &what, REROUTE_DEADLINE, async || {
                let (status, text) = self.environment.get(&url).await.map_err(|error| error.to_string())?;
                let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{status}: {error}"))?;
                let payout = &answer["data"]["payout"];
                if payout["attempts"][1]["bank"] == BANK_B.0 {
                    Ok(answer["data"].clone())
                } else {
                    Err(format!("{status}: {} {}", payout["state"], payout["attempts"][0]["state"]))
                }
            })
            .await
    }

    /// Posts an act on the payout; returns the answer's data.
    async fn post(&self, screen: &Screen, act: &str, body: &Value) -> Result<Value, Error> {
        let url = self.url(act);
        let (status, answer) = self.send(&url, body).await?;
        screen.command(&format!("curl -s '{url}' --json '{body}'"), "");
        if status == 200 { Ok(answer["data"].clone()) } else { Err(failed(format!("POST {url}: {status}: {answer}"))) }
    }

    fn url(&self, act: &str) -> String {
        format!("{}/api/treasury/payouts/{PAYOUT}{act}?namespace={NAMESPACE}", self.endpoints.gateway)
    }

    async fn send(&self, url: &str, body: &Value) -> Result<(u16, Value), Error> {
        let request = self.environment.http.post(url).header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.map_err(|error| failed(format!("POST {url}: {error}")))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| failed(format!("POST {url}: {error}")))?;
        Ok((status, serde_json::from_str(&text).map_err(|error| failed(format!("{error}: {text}")))?))
    }
}

/// Prints the timeline: each change of state and each call, with what it rests on.
fn narrate(screen: &Screen, data: &Value) {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut before = String::new();
    for row in data["timeline"].as_array().into_iter().flatten() {
        let number = row["attempt_no"].as_u64().unwrap_or_default();
        let line = match (&row["call"], &row["to"]) {
            (Value::String(call), _) => format!("attempt {number}: {call} of the bank"),
            (_, Value::String(to)) if row["from"] != row["to"] => {
                let source = word(&row["evidence"]["source"]);
                let hash = word(&row["evidence"]["message_hash"]);
                let hash = hash.get(..12).map(|hash| format!(", message {hash}")).unwrap_or_default();
                format!("attempt {number}: {to} (by {source}{hash})")
            }
            _ => continue,
        };
        if line != before {
            screen.text(&format!("{}  {line}", word(&row["at"])));
        }
        before = line;
    }
}

/// Applies the objects, with the addresses of the banks.
async fn apply(environment: &Environment, endpoints: &Endpoints) -> Result<(), Error> {
    let path = Path::new(REPOSITORY).join("hack/demo/stuck.yaml");
    let text = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let text = endpoints.simulator.banks.iter().fold(text, |text, bank| {
        let name = bank.name.to_uppercase().replace('-', "_");
        text.replace(&format!("${{{name}_URL}}"), &bank.http)
    });
    kubectl(&environment.plane, &["-n", NAMESPACE, "apply", "--server-side", "-f", "-"], &text).await.map(drop)
}

fn expect(value: &Value, wanted: &str) -> Result<(), Error> {
    if value == wanted { Ok(()) } else { Err(failed(format!("{value}, not {wanted}"))) }
}

fn failed(detail: String) -> Error {
    Error::Http { what: "a stuck payout".to_owned(), detail }
}
