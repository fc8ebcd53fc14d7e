//! Two operators on one lease and one ledger, killed and frozen in turn while banks book on: whatever takes over from
//! whom, nothing is done twice and nothing is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::ledger::record::StoredTransaction;
use busbar::testbed::sim::{AccountConfig, BankHandle};

use super::{Plan, book, job, journal};
use crate::jobs::{assert_same, ledger_file, rows, slow, truth};
use crate::support::plane::{PATIENCE, tell};
use crate::support::{Operator, World, eventually};

/// The lease of 15 s, a standby's look each second, and a machine that is busy.
const TAKEOVER: Duration = Duration::from_secs(40);

const BANKS: [&str; 3] = ["mono-a", "mono-b", "mono-c"];

/// What is done to the operators.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    /// SIGKILL to the one that leads.
    KillLeader,
    /// The one that leads is frozen until the other leads, and wakes in the middle of that one's work.
    FreezeLeader,
    /// The one that leads is frozen for a moment, too short to lose anything.
    Hiccup,
    /// SIGTERM to the one that leads.
    Handover,
    /// SIGKILL to the one that waits.
    KillStandby,
}

/// In the order of a short run, so that a minute has the two that matter most.
const BLOWS: [Blow; 5] = [Blow::FreezeLeader, Blow::KillLeader, Blow::Hiccup, Blow::Handover, Blow::KillStandby];

/// Two operators.
struct Pair {
    both: [Operator; 2],
}

impl Pair {
    /// Which leads, once one does.
    async fn leader(&self) -> usize {
        eventually(TAKEOVER, "one of two leads", async || {
            for (index, operator) in self.both.iter().enumerate() {
                if operator.leads().await {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    async fn strike(&mut self, blow: Blow, plan: &mut Plan) {
        let leader = self.leader().await;
        let other = 1 - leader;
        match blow {
            Blow::KillLeader => {
                self.both[leader].kill9();
                // Sometimes it is back before its lease has run out, as a container is.
                tokio::time::sleep(plan.seconds(0..=20)).await;
                self.both[leader].restart().await;
            }
            Blow::FreezeLeader => {
                self.both[leader].pause();
                let took =
                    eventually(TAKEOVER, "the other leads", async || self.both[other].leads().await.then_some(()));
                took.await;
                // Long enough for the other's first runs, short enough to meet them.
                tokio::time::sleep(plan.seconds(0..=4)).await;
                self.both[leader].resume();
                let status = self.both[leader].wait_exit(PATIENCE).await;
                assert!(!status.success(), "who has lost its lease ends, and says so: {status}");
                self.both[leader].restart().await;
            }
            Blow::Hiccup => {
                self.both[leader].pause();
                tokio::time::sleep(plan.seconds(1..=8)).await;
                self.both[leader].resume();
            }
            Blow::Handover => {
                let status = self.both[leader].sigterm().await;
                assert!(status.success(), "{status}");
                self.both[leader].restart().await;
            }
            Blow::KillStandby => {
                self.both[other].kill9();
                self.both[other].restart().await;
            }
        }
    }
}

/// The rows of one bank.
fn of<'a>(all: &'a [StoredTransaction], bank: &BankHandle) -> Vec<&'a StoredTransaction> {
    all.iter().filter(|row| row.connection == bank.name()).collect()
}

#[tokio::test]
async fn two_operators_that_are_killed_and_frozen_in_turn_do_nothing_twice() {
    let mut plan = Plan::new("two operators alternate");
    let world = World::new("alternate").await;
    let file = ledger_file(&world.ns, "a");
    let mut banks = Vec::new();
    let mut both = Vec::new();
    for replica in ["a", "b"] {
        let flags = [format!("--ledger=sqlite:{}", file.display()), format!("--identity=replica-{replica}")];
        let mut operator = Operator::start_replica(&world.ns, replica, &flags.each_ref().map(String::as_str)).await;
        operator.wait_ready().await;
        both.push(operator);
        if replica == "a" {
            journal::keep(&file).await;
        }
    }
    let mut pair = Pair { both: both.try_into().unwrap_or_else(|_| unreachable!("two")) };
    for name in BANKS {
        let bank = world.mono(name, |c| c.accounts([AccountConfig::new("acc-1", 300)])).await;
        bank.set_script(slow(100)).await.unwrap();
        world.put(&job(name)).await;
        banks.push(bank);
    }

    let clock = Clock::system();
    let (until, mut number) = (clock.mono() + plan.time, 0);
    let mut done: BTreeMap<Blow, usize> = BTreeMap::new();
    let mut first = BLOWS.into_iter();
    while clock.mono() < until {
        for bank in &banks {
            let more = plan.one_of(&[0, 1, 7, 250]);
            book(&world, bank, &mut number, more);
        }
        tokio::time::sleep(plan.seconds(1..=6)).await;
        let blow = first.next().unwrap_or_else(|| plan.one_of(&BLOWS));
        pair.strike(blow, &mut plan).await;
        *done.entry(blow).or_default() += 1;
    }

    pair.leader().await;
    for bank in &banks {
        let wanted = truth(&world, bank).await;
        eventually(PATIENCE, &format!("all that {} has is in the ledger", bank.name()), async || {
            (of(&rows(&world.ns, "a").await, bank).len() >= wanted.len()).then_some(())
        })
        .await;
    }
    for operator in pair.both {
        operator.finish(&world.ns).await;
    }
    let all = rows(&world.ns, "a").await;
    for bank in &banks {
        let own: Vec<StoredTransaction> = of(&all, bank).into_iter().cloned().collect();
        assert_same(&own, &truth(&world, bank).await);
    }
    let (findings, tally) = journal::findings(&file).await;
    assert!(findings.is_empty(), "seed {}:\n{}", plan.seed, findings.join("\n"));
    tell(&format!("soak: {done:?}; {} rows, {tally:?}; seed {}", all.len(), plan.seed));
    assert!(tally.holders.len() >= 2, "one operator did it all: {tally:?}");
}
