//! Ten thousand connections: minutes of work and a gigabyte of API server.
//!
//! Lateness comes from the simulated bank's arrival log. A connection keeps its own beat, an instant within the interval
//! at which each of its probes is due; the earliest of its arrivals, all shifted onto one interval, stands for that
//! beat, and how much later the others came is their lateness. What a probe costs is the operator's whole CPU time,
//! watches and lease included, over the probes that arrived meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use busbar::testbed::sim::Arrivals;

use crate::Figures;
use crate::env::{BenchEnv, big_bank, numbered};
use crate::machine::{self, Bill};
use crate::operator::{Ids, many};
use crate::stats::{Sample, float};

const COUNT: usize = 10_000;
const INTERVAL: Duration = Duration::from_secs(30);
/// How many probes of each connection are looked at.
const ROUNDS: u32 = 4;
/// Over plain HTTP: long enough for kernel ticks of 10 ms.
const COST_FOR: Duration = Duration::from_secs(90);

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let ids = Ids {
            ready: "operator.ready_10000_s",
            rss: "operator.rss_10000_mib",
            bare: "operator.bare_ready_10000_s",
            cpu: Some("operator.cpu_per_ready_us"),
        };
        let env = many(figures, COUNT, &ids).await;
        lateness(figures, &env).await;
        drop(env);
        cost(figures).await;
    });
}

async fn lateness(figures: &mut Figures, env: &BenchEnv) {
    tokio::time::sleep(INTERVAL).await;
    let since = env.banks.arrivals("bank", u64::MAX).await.next;
    let (bill, cpu) = (Bill::now(), machine::cpu_seconds(env.operator.pid()));
    tokio::time::sleep(INTERVAL * ROUNDS).await;
    let cpu = machine::cpu_seconds(env.operator.pid()) - cpu;
    println!("{ROUNDS} rounds over HTTPS; {}", bill.since());
    let log = env.banks.arrivals("bank", since).await;
    assert_eq!(log.dropped, 0, "the arrival log is too small");
    let failed = log.entries.iter().filter(|arrival| arrival.status != Some(200)).count();
    let (late, skipped) = late(&log);
    let each = |percent| late.percentile(percent);
    println!(
        "{} probes of {COUNT} connections, {failed} failed, {skipped} beats skipped; late by {:.0} ms at the median, {:.0} at 90 %, {:.0} at 99 %, {:.0} at most; {:.0} HTTPS probes per CPU-second",
        late.len(),
        each(50),
        each(90),
        each(99),
        each(100),
        float(log.entries.len()) / cpu
    );
    figures.figure("operator.probe_late_p99_ms", format_args!("{:.0}", each(99)), "ms");
}

/// How late each probe was, in milliseconds, and how many beats passed without one.
fn late(log: &Arrivals) -> (Sample, u64) {
    let mut by_connection: HashMap<&str, Vec<u64>> = HashMap::new();
    for arrival in &log.entries {
        by_connection.entry(&arrival.path).or_default().push(arrival.at_ns);
    }
    let interval = u64::try_from(INTERVAL.as_nanos()).expect("a short interval");
    let (mut late, mut skipped) = (Vec::new(), 0);
    for times in by_connection.values() {
        let first = times[0];
        // Beats since the first arrival, to the nearest; what is left over is how early or late it was against that.
        let shifted: Vec<i64> = times
            .iter()
            .map(|at| {
                let beats = (at - first + interval / 2) / interval;
                i64::try_from(at - first).unwrap_or(0) - i64::try_from(beats * interval).unwrap_or(0)
            })
            .collect();
        let earliest = shifted.iter().min().copied().unwrap_or(0);
        late.extend(shifted.iter().map(|shift| float(usize::try_from(shift - earliest).unwrap_or(0)) / 1e6));
        let span = (times[times.len() - 1] - first + interval / 2) / interval + 1;
        skipped += span.saturating_sub(times.len() as u64);
    }
    (Sample::new(late), skipped)
}

async fn cost(figures: &mut Figures) {
    let env = BenchEnv::start().await;
    let bank = big_bank(&env, 1).await;
    env.make_ready(COUNT, |n| numbered(&bank.http, n, "30s")).await;
    env.all_true("Healthy", COUNT).await;
    // The last status writes and their echo in the watch.
    tokio::time::sleep(INTERVAL).await;
    let pid = env.operator.pid();
    let (bill, cpu) = (Bill::now(), machine::cpu_seconds(pid));
    let (opened, arrived) = env.banks.counts("bank").await;
    tokio::time::sleep(COST_FOR).await;
    let cpu = machine::cpu_seconds(pid) - cpu;
    let (opened_then, arrived_then) = env.banks.counts("bank").await;
    let probes = arrived_then - arrived;
    println!(
        "{probes} probes over plain HTTP in {COST_FOR:?}, {} connections opened for them, {cpu:.2} CPU seconds of the operator; {}",
        opened_then - opened,
        bill.since()
    );
    let per_second = float(usize::try_from(probes).unwrap_or(0)) / cpu;
    figures.figure("operator.probes_per_cpu_s", format_args!("{per_second:.0}"), "1/s");
}
