//! The operator at rest, and with a thousand connections: what it writes, how soon all are Ready, what it holds.
//!
//! A real API server and etcd, the bank and the operator are processes of their own on the machine of the bench, and so
//! compete with what is measured; each phase prints what everybody used. The bench itself creates the objects (many
//! at a time) and watches them.

use std::time::Duration;

use busbar::testbed::control_plane::Query;

use crate::Figures;
use crate::machine::Bill;
use crate::world::{World, big_bank, numbered};

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
        many(figures, MANY, ("operator.ready_1000_s", "operator.rss_1000_mib")).await;
    });
}

async fn idle(figures: &mut Figures) {
    let world = World::start().await;
    let bank = big_bank(&world, 1).await;
    world.make_ready(IDLE, |n| numbered(&bank.http, n, "30s")).await;
    world.all_true("Healthy", IDLE).await;
    tokio::time::sleep(SETTLE).await;
    let audit = world.plane.audit();
    let (since, bill) = (audit.position().expect("an audit log"), Bill::now());
    tokio::time::sleep(IDLE_FOR).await;
    let ours = Query { user: Some(world.user()), ..Query::default() };
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

/// Times `count` new connections over HTTPS until all are Ready, then weighs the operator. Leaves the world running.
pub(crate) async fn many(figures: &mut Figures, count: usize, (ready, rss): (&str, &str)) -> World {
    let world = World::start().await;
    // Five minutes' worth of arrivals.
    let bank = big_bank(&world, count * 10).await;
    world.trust_the_banks().await;
    let bill = Bill::now();
    let (all_ready, created) = world.make_ready(count, |n| numbered(&bank.https, n, "30s")).await;
    println!(
        "{count} connections: created after {:.1} s, all Ready after {:.1} s; {}",
        created.as_secs_f64(),
        all_ready.as_secs_f64(),
        bill.since()
    );
    world.tell_writes(count);
    figures.figure(ready, format_args!("{:.1}", all_ready.as_secs_f64()), "s");
    // What a larger number of checks writes too: the second one makes a connection Healthy.
    world.all_true("Healthy", count).await;
    let (now, _) = world.memory_after_scrapes().await;
    figures.figure(rss, format_args!("{now:.0}"), "MiB");
    world
}
