//! Long runs under random trouble. Here each takes a minute; `make soak` gives them their full time.
//!
//! Whoever starts them may tell `SOAK_SECONDS` and `SOAK_SEED`; the seed is printed, and decides every choice that these
//! tests make. It does not decide the timing of the machine: a failure may need more than one try to come back.
//!
//! Both end with the same questions to the ledger, whose own triggers have kept a [`journal`] of every commit.

mod alternate;
mod hardship;
mod journal;
mod random;

use std::time::Duration;

use busbar::testbed::sim::{BankHandle, Direction, Transaction};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::World;
use crate::support::plane::tell;

/// What every run is made of.
struct Plan {
    seed: u64,
    time: Duration,
    rng: StdRng,
}

impl Plan {
    fn new(what: &str) -> Self {
        let seed = told("SOAK_SEED").unwrap_or_else(rand::random);
        let time = Duration::from_secs(told("SOAK_SECONDS").unwrap_or(60));
        tell(&format!(
            "soak: {what} for {time:?}, seed {seed}; again: SOAK_SEED={seed} SOAK_SECONDS={}",
            time.as_secs()
        ));
        Self { seed, time, rng: StdRng::seed_from_u64(seed) }
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

#[expect(clippy::disallowed_methods, reason = "a test run is told its time and seed by whoever starts it")]
fn told(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// A job of this name that reads the account of the bank of the same name every ten seconds.
fn job(name: &str) -> String {
    format!(
        "{{apiVersion: busbar.dev/v1alpha1, kind: SyncJob, metadata: {{name: {name}}}, spec: {{
          connectionRef: {{name: {name}}}, stream: transactions, parameters: {{accountId: acc-1}},
          interval: 10s, retryInterval: 1s, retention: {{mode: 'Off'}}}}}}"
    )
}

/// The bank books `count` transactions more, now.
fn book(world: &World, bank: &BankHandle, number: &mut u64, count: u64) {
    let transactions = (0..count)
        .map(|_| {
            *number += 1;
            Transaction {
                id: format!("soak-{number}"),
                narration: "POS PURCHASE".to_owned(),
                amount: i64::try_from(*number * 101 % 1_000_003).expect("small"),
                direction: if number.is_multiple_of(2) { Direction::Debit } else { Direction::Credit },
                balance: 0,
                date: world.now().round(jiff::Unit::Second).expect("whole seconds"),
                category: None,
            }
        })
        .collect();
    assert!(bank.put_transactions("acc-1", transactions), "{} has the account", bank.name());
}
