//! Payouts of the scenario: which bank the operator decides for, over HTTP, what it costs, and why not another one.

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::endpoints::Endpoints;
use crate::environment::Environment;
use crate::error::Error;
use crate::install::NAMESPACE;
use crate::screen::Screen;

/// Amount of each payout: that of the route's reference payout.
const AMOUNT: &str = "50000";
const CURRENCY: &str = "NGN";

/// The payouts of a run.
pub(crate) struct Payouts<'a> {
    environment: &'a Environment,
    gateway: &'a str,
    /// What the bank of the last decision costs.
    last_cost: Option<Decimal>,
}

impl<'a> Payouts<'a> {
    pub(crate) fn new(environment: &'a Environment, endpoints: &'a Endpoints) -> Self {
        Self { environment, gateway: &endpoints.gateway, last_cost: None }
    }

    /// Has the first attempt of a payout decided; fails unless `bank` is chosen. Returns the decision's ID.
    pub(crate) async fn decide(&mut self, screen: &Screen, payout: &str, bank: &str) -> Result<String, Error> {
        self.attempt(screen, payout, 1, bank).await
    }

    /// The same for a further attempt.
    pub(crate) async fn attempt(
        &mut self,
        screen: &Screen,
        payout: &str,
        number: u32,
        bank: &str,
    ) -> Result<String, Error> {
        let (status, answer) = self.ask(screen, "decide", &request(payout, number)).await?;
        let data = &answer["data"];
        if status != 200 || data["candidate"] != bank {
            return Err(unexpected("decide", bank, status, &answer));
        }
        for line in self.told(data) {
            screen.text(&line);
        }
        text(data, "decision_id").map(str::to_owned).ok_or_else(|| unexpected("decide", "decision_id", status, &answer))
    }

    /// Asks for a second attempt that must be refused: nothing proves that the first was not executed.
    pub(crate) async fn refused(&self, screen: &Screen, payout: &str) -> Result<(), Error> {
        let (status, answer) = self.ask(screen, "decide", &request(payout, 2)).await?;
        if status != 409 || answer["data"]["error"] != "attempt_unresolved" {
            return Err(unexpected("a second attempt", "409 attempt_unresolved", status, &answer));
        }
        screen
            .text(answer.pointer("/detail/status_description").and_then(Value::as_str).unwrap_or("attempt_unresolved"));
        Ok(())
    }

    /// Reports that a payout was not sent.
    pub(crate) async fn not_sent(&self, screen: &Screen, decision: &str) -> Result<(), Error> {
        let body = json!({"namespace": NAMESPACE, "outcomes": [{"decision_id": decision, "class": "not_sent"}]});
        let (status, answer) = self.ask(screen, "outcomes", &body).await?;
        if status == 200 { Ok(()) } else { Err(unexpected("outcomes", "200", status, &answer)) }
    }

    async fn ask(&self, screen: &Screen, what: &str, body: &Value) -> Result<(u16, Value), Error> {
        let url = format!("{}/api/treasury/routing/{what}", self.gateway);
        let failed = |detail: String| Error::Http { what: format!("POST {url}"), detail };
        let sent = self.environment.http.post(&url).header("content-type", "application/json").body(body.to_string());
        let answer = sent.send().await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| failed(error.to_string()))?;
        screen.command(&format!("curl -s {url} --json '{body}'"), "");
        Ok((status, serde_json::from_str(&text).map_err(|error| failed(format!("{error}: {text}")))?))
    }

    /// The chosen bank with its cost, and the others with the reasons against them.
    fn told(&mut self, data: &Value) -> Vec<String> {
        let bank = text(data, "candidate").unwrap_or_default();
        let candidates = data["candidates"].as_array().map(Vec::as_slice).unwrap_or_default();
        let chosen = candidates.iter().find(|one| one["name"] == bank);
        let cost = chosen.and_then(total);
        let change = match (self.last_cost, cost) {
            (Some(before), Some(now)) if now > before => {
                format!(", {} {CURRENCY} more than the last one", now - before)
            }
            (Some(before), Some(now)) if now < before => {
                format!(", {} {CURRENCY} less than the last one", before - now)
            }
            _ => String::new(),
        };
        self.last_cost = cost;
        let reason = text(data, "reason").unwrap_or_default();
        let replayed = if data["replayed"] == true { ", as decided before" } else { "" };
        let first = format!("{bank} ({reason}{replayed}): {}{change}", shown(cost));
        let others = candidates.iter().filter(|one| one["name"] != bank).map(|one| {
            let name = text(one, "name").unwrap_or_default();
            let reason = text(one, "reason").unwrap_or_default();
            match total(one) {
                None => format!("not {name}: {reason}"),
                some => format!("not {name}: {reason}, {}", shown(some)),
            }
        });
        std::iter::once(first).chain(others).collect()
    }
}

fn request(payout: &str, attempt: u32) -> Value {
    let mut body = json!({
        "namespace": NAMESPACE, "route": "payouts", "payout_id": payout, "amount": AMOUNT, "currency": CURRENCY,
        "country": "NG",
    });
    if attempt > 1 {
        body["attempt_no"] = json!(attempt);
    }
    body
}

fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value[field].as_str()
}

/// The total cost of a candidate, if it is not excluded.
fn total(candidate: &Value) -> Option<Decimal> {
    candidate.pointer("/cost/total")?.as_str()?.parse().ok()
}

fn shown(cost: Option<Decimal>) -> String {
    cost.map_or_else(|| "cost unknown".to_owned(), |cost| format!("costs {} {CURRENCY}", cost.normalize()))
}

fn unexpected(what: &str, wanted: &str, status: u16, answer: &Value) -> Error {
    Error::Http { what: what.to_owned(), detail: format!("{status}, not {wanted}: {answer}") }
}
