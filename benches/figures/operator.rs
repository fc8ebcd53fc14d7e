//! The operator at rest, and with a thousand connections: what it writes, how soon all are Ready, what it holds.
//!
//! A real API server and etcd, the bank and the operator are processes of their own on the machine of the bench, and so
//! compete with what is measured; each phase prints what everybody used. The bench itself creates the objects (many
//! at a time) and watches them.

use std::time::Duration;

use busbar::api::v1alpha1::ProviderConnection;
use busbar::testbed::control_plane::AuditQuery;

use crate::Figures;
use crate::bare;
use crate::env::{BenchEnv, big_bank, numbered};
use crate::machine::{self, Bill};
use crate::stats::float;

/// Connections of the operator at rest.
const IDLE: usize = 100;
/// How long it is watched.
const IDLE_FOR: Duration = Duration::from_mins(2);
/// After the last connection is Healthy: a whole interval and the spacing of status writes.
const SETTLE: Duration = Duration::from_secs(40);
/// Connections that are timed.
const MANY: usize = 1_000;

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        idle(figures).await;
        many(
            figures,
            MANY,
            &Ids {
                ready: "operator.ready_1000_s",
                rss: "operator.rss_1000_mib",
                bare: "operator.bare_ready_1000_s",
                cpu: None,
            },
        )
        .await;
    });
}

async fn idle(figures: &mut Figures) {
    let env = BenchEnv::start().await;
    let bank = big_bank(&env, 1).await;
    env.make_ready(IDLE, |n| numbered(&bank.http, n, "30s")).await;
    env.all_true("Healthy", IDLE).await;
    tokio::time::sleep(SETTLE).await;
    let audit = env.plane.audit();
    let (since, bill) = (audit.position().expect("an audit log"), Bill::now());
    tokio::time::sleep(IDLE_FOR).await;
    let ours = AuditQuery { user: Some(env.user()), ..AuditQuery::default() };
    let all = audit.requests_since(since, &ours).expect("an audit log");
    let writes: Vec<_> = all.iter().filter(|r| r.subresource == "status" && r.verb != "get").collect();
    println!(
        "{IDLE} connections for {IDLE_FOR:?}: {} requests by the operator, {} of them for leases; {}",
        all.len(),
        all.iter().filter(|request| request.resource == "leases").count(),
        bill.since()
    );
    for write in writes.iter().take(5) {
        println!("a status write: {} {}", write.verb, write.uri);
    }
    figures.figure("operator.idle_status_writes", writes.len(), "writes");
}

/// The ids of the figures that [`many`] prints.
pub(crate) struct Ids {
    pub(crate) ready: &'static str,
    pub(crate) rss: &'static str,
    pub(crate) bare: &'static str,
    pub(crate) cpu: Option<&'static str>,
}

/// Times `count` new connections over HTTPS until all are Ready, first under a bare controller and then under the
/// operator, and weighs the operator. The environment goes on running.
///
/// What a write costs the API server goes by the objects it holds and what it has served lately. So the bare loop makes a
/// round that is not counted, and the objects of each round are deleted before the next. Each round has a process and a
/// namespace of its own: both begin cold, with an API server that has no connections and that a round has just warmed. Both
/// are timed with the garbage collector watching.
pub(crate) async fn many(figures: &mut Figures, count: usize, ids: &Ids) -> BenchEnv {
    let env = BenchEnv::start().await;
    // Five minutes' worth of arrivals.
    let bank = big_bank(&env, count * 10).await;
    env.trust_the_banks().await;
    let of_bank = |n| numbered(&bank.https, n, "30s");
    env.garbage_collector_watches().await;
    let first = bare_round(&env, "bare-not-counted", count, of_bank).await;
    println!("the first round of the bare loop, {:.1} s, is not counted", first.as_secs_f64());
    let bare_ready = bare_round(&env, "bare", count, of_bank).await;
    figures.figure(ids.bare, format_args!("{:.1}", bare_ready.as_secs_f64()), "s");

    let (bill, cpu) = (Bill::now(), machine::cpu_seconds(env.operator.pid()));
    let (all_ready, created) = env.make_ready(count, of_bank).await;
    let cpu = machine::cpu_seconds(env.operator.pid()) - cpu;
    print_phase("operator", count, (created, all_ready), bill);
    let per_connection = print_cpu("operator", count, cpu);
    println!("ratio to the bare loop: {:.2}", all_ready.as_secs_f64() / bare_ready.as_secs_f64());
    env.print_writes(count);
    figures.figure(ids.ready, format_args!("{:.1}", all_ready.as_secs_f64()), "s");
    if let Some(id) = ids.cpu {
        figures.figure(id, format_args!("{per_connection:.0}"), "us");
    }
    // More checks are written too: the second one makes a connection Healthy.
    env.all_true("Healthy", count).await;
    let (now, _) = env.memory_after_scrapes().await;
    figures.figure(ids.rss, format_args!("{now:.0}"), "MiB");
    env
}

/// Times a bare controller, and deletes its objects.
async fn bare_round(
    env: &BenchEnv,
    namespace: &str,
    count: usize,
    of_bank: impl Fn(usize) -> ProviderConnection,
) -> Duration {
    let bare = bare::start(env, namespace).await;
    let (bill, cpu) = (Bill::now(), machine::cpu_seconds(bare.pid()));
    let (ready, created) = env.make_ready_in(namespace, count, of_bank).await;
    print_phase("bare loop", count, (created, ready), bill);
    print_cpu("bare loop", count, machine::cpu_seconds(bare.pid()) - cpu);
    drop(bare);
    env.remove_all_of(namespace).await;
    ready
}

fn print_phase(what: &str, count: usize, (created, ready): (Duration, Duration), bill: Bill) {
    println!(
        "{what}, {count} connections: created after {:.1} s, all Ready after {:.1} s; {}",
        created.as_secs_f64(),
        ready.as_secs_f64(),
        bill.since()
    );
}

/// Prints what a connection cost until Ready, and returns it in microseconds.
fn print_cpu(what: &str, count: usize, seconds: f64) -> f64 {
    let each = seconds * 1e6 / float(count);
    println!("{what}: {each:.0} µs of CPU per connection until Ready");
    each
}
