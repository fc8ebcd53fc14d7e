//! Long runs under random faults. Here each takes a minute; `make soak` gives them their full time.
//!
//! `SOAK_SECONDS` and `SOAK_SEED` set the duration and the seed; the seed is printed, and decides every choice that these
//! tests make. It does not decide the timing of the machine: a failure may need several tries to reproduce.
//!
//! Both tests end with the same checks of the ledger, whose own triggers have kept a [`commit_log`].

mod alternate;
mod commit_log;
mod disruption;
mod hung_bank;
mod hung_jobs;
mod random;
mod terminated_refresh;

use std::time::Duration;

use busbar::testbed::sim::{BankHandle, Direction, Transaction};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::cluster::bank_env::BankEnv;
use crate::cluster::control_planes::report;
use crate::kit::objects::job;

/// The duration of a run, and its random choices.
struct RandomPlan {
    seed: u64,
    duration: Duration,
    rng: StdRng,
}

impl RandomPlan {
    fn new(what: &str) -> Self {
        let seed = variable("SOAK_SEED").unwrap_or_else(rand::random);
        let duration = Duration::from_secs(variable("SOAK_SECONDS").unwrap_or(60));
        report(&format!(
            "soak: {what} for {duration:?}, seed {seed}; to reproduce: SOAK_SEED={seed} SOAK_SECONDS={}",
            duration.as_secs()
        ));
        Self { seed, duration, rng: StdRng::seed_from_u64(seed) }
    }

    fn seconds(&mut self, range: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range.start() * 1_000..=range.end() * 1_000))
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.rng.random_range(0..all.len())]
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng.random_range(0..100) < percent
    }
}

#[expect(clippy::disallowed_methods, reason = "duration and seed of a run are set by environment variables")]
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// The one disruption to repeat, if `SOAK_FAULT` names one.
#[expect(clippy::disallowed_methods, reason = "the disruptions of a run are set by an environment variable")]
fn only_fault() -> Option<String> {
    std::env::var("SOAK_FAULT").ok()
}

/// A job of this name that reads the account of the bank of the same name every ten seconds.
fn soak_job(name: &str) -> Value {
    job(name, name, "10s", json!({"retryInterval": "1s"}))
}

/// Adds `count` new transactions to the account of the bank.
fn add_transactions(env: &BankEnv, bank: &BankHandle, number: &mut u64, count: u64) {
    let transactions = (0..count)
        .map(|_| {
            *number += 1;
            Transaction {
                id: format!("soak-{number}"),
                narration: "POS PURCHASE".to_owned(),
                amount: i64::try_from(*number * 101 % 1_000_003).expect("small"),
                direction: if number.is_multiple_of(2) { Direction::Debit } else { Direction::Credit },
                balance: 0,
                date: env.now().round(jiff::Unit::Second).expect("whole seconds"),
                category: None,
            }
        })
        .collect();
    assert!(bank.put_transactions("acc-1", transactions), "{} has the account", bank.name());
}
