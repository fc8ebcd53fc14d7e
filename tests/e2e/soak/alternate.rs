//! Two operators on one lease and one ledger, killed and frozen in turn while banks add transactions: whichever takes
//! over, nothing is done twice and nothing is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::ledger::record::StoredTransaction;
use busbar::testbed::sim::{AccountConfig, BankHandle};

use super::{RandomPlan, add_transactions, commit_log, soak_job};
use crate::cluster::bank_env::BankEnv;
use crate::cluster::control_planes::report;
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{assert_same, bank_transactions, slow_pages, stored_rows};
use crate::kit::wait::{PATIENCE, eventually, within};

/// The lease of 15 s, the interval of a standby, and a machine that is busy.
const TAKEOVER: Duration = Duration::from_secs(40);

const BANKS: [&str; 3] = ["mono-a", "mono-b", "mono-c"];

/// What is done to the replicas.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ReplicaFault {
    /// SIGKILL to the leader.
    KillLeader,
    /// The leader is frozen until the other leads, and resumes while that one works.
    FreezeLeader,
    /// The leader is frozen for a moment, too short to lose the lease.
    Pause,
    /// SIGTERM to the leader.
    Handover,
    /// SIGKILL to the standby.
    KillStandby,
}

/// In the order of a short run, so that a minute has the two that matter most.
const REPLICA_FAULTS: [ReplicaFault; 5] = [
    ReplicaFault::FreezeLeader,
    ReplicaFault::KillLeader,
    ReplicaFault::Pause,
    ReplicaFault::Handover,
    ReplicaFault::KillStandby,
];

/// Two replicas.
struct ReplicaPair {
    both: [Operator; 2],
}

impl ReplicaPair {
    /// The index of the leader, once there is one.
    async fn leader(&self) -> usize {
        within(TAKEOVER, "one of two leads", async || {
            for (index, operator) in self.both.iter().enumerate() {
                if operator.leads().await {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    async fn inject(&mut self, fault: ReplicaFault, plan: &mut RandomPlan) {
        let leader = self.leader().await;
        let other = 1 - leader;
        match fault {
            ReplicaFault::KillLeader => {
                self.both[leader].kill9();
                // Sometimes it is back before its lease has expired, as a container is.
                tokio::time::sleep(plan.seconds(0..=20)).await;
                self.both[leader].restart().await;
            }
            ReplicaFault::FreezeLeader => {
                self.both[leader].pause();
                within(TAKEOVER, "the other leads", async || self.both[other].leads().await).await;
                // Long enough for the first runs of the other, short enough to coincide with them.
                tokio::time::sleep(plan.seconds(0..=4)).await;
                self.both[leader].resume();
                let status = self.both[leader].wait_exit(PATIENCE).await;
                assert!(!status.success(), "a replica that has lost its lease exits with an error: {status}");
                self.both[leader].restart().await;
            }
            ReplicaFault::Pause => {
                self.both[leader].pause();
                tokio::time::sleep(plan.seconds(1..=8)).await;
                self.both[leader].resume();
            }
            ReplicaFault::Handover => {
                let status = self.both[leader].sigterm().await;
                assert!(status.success(), "{status}");
                self.both[leader].restart().await;
            }
            ReplicaFault::KillStandby => {
                self.both[other].kill9();
                self.both[other].restart().await;
            }
        }
    }
}

/// The rows of one bank.
fn rows_of(all: &[StoredTransaction], bank: &BankHandle) -> Vec<StoredTransaction> {
    all.iter().filter(|row| row.connection == bank.name()).cloned().collect()
}

#[tokio::test]
async fn two_operators_killed_and_frozen_in_turn_do_nothing_twice() {
    let mut plan = RandomPlan::new("two operators alternate");
    let env = BankEnv::new("alternate").await;
    let file = env.ns.ledger_file("a");
    let mut banks = Vec::new();
    let mut both = Vec::new();
    for replica in ["a", "b"] {
        let flags = [env.ns.ledger_flag("a"), format!("--identity=replica-{replica}")];
        let mut operator = Operator::start_replica(&env.ns, replica, &flags.each_ref().map(String::as_str)).await;
        operator.wait_ready().await;
        both.push(operator);
        if replica == "a" {
            commit_log::install(&file);
        }
    }
    let mut pair = ReplicaPair { both: both.try_into().unwrap_or_else(|_| unreachable!("two")) };
    for name in BANKS {
        let bank = env.mono(name, |c| c.accounts([AccountConfig::new("acc-1", 300)])).await;
        bank.set_script(slow_pages(100)).await.unwrap();
        env.put(&soak_job(name)).await;
        banks.push(bank);
    }

    let clock = Clock::system();
    let (until, mut number) = (clock.mono() + plan.duration, 0);
    let mut injected: BTreeMap<ReplicaFault, usize> = BTreeMap::new();
    let mut first = REPLICA_FAULTS.into_iter();
    while clock.mono() < until {
        for bank in &banks {
            let count = plan.one_of(&[0, 1, 7, 250]);
            add_transactions(&env, bank, &mut number, count);
        }
        tokio::time::sleep(plan.seconds(1..=6)).await;
        let fault = first.next().unwrap_or_else(|| plan.one_of(&REPLICA_FAULTS));
        pair.inject(fault, &mut plan).await;
        *injected.entry(fault).or_default() += 1;
    }

    pair.leader().await;
    for bank in &banks {
        let expected = bank_transactions(&env, bank).await.len();
        eventually(format!("all transactions of {} are in the ledger", bank.name()), async || {
            let rows = rows_of(&stored_rows(&env.ns, "a").await, bank).len();
            if rows >= expected { Ok(()) } else { Err(format!("{rows} of {expected}")) }
        })
        .await;
    }
    for operator in pair.both {
        operator.finish(&env.ns).await;
    }
    let all = stored_rows(&env.ns, "a").await;
    for bank in &banks {
        assert_same(&rows_of(&all, bank), &bank_transactions(&env, bank).await);
    }
    let (findings, totals) = commit_log::findings(&file);
    assert!(findings.is_empty(), "seed {}:\n{}", plan.seed, findings.join("\n"));
    report(&format!("soak: {injected:?}; {} rows, {totals:?}; seed {}", all.len(), plan.seed));
    assert!(totals.holders.len() >= 2, "one operator did everything: {totals:?}");
}
