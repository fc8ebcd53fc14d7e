//! From a bank's failing answer, which trips the breaker, to the route's new bank as a watch on the API server sees it.
//!
//! Twenty routes, each with its own pair of connections: bank A, the cheaper, fails for all at once; each connection
//! notices at its own probe. The failing probe is found in the simulated bank's arrival log (where its answer is decided
//! on), whose clock is compared with ours by requests over loopback; that comparison is good to some tenths of a
//! millisecond. Measured per route and round, so routes that fail together share the operator and the API server.

use std::collections::HashMap;
use std::time::Duration;

use busbar::api::v1alpha1::BankRoute;
use busbar::domain::time::Mono;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Api;
use kube::runtime::watcher;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Figures;
use crate::bank;
use crate::env::{BenchEnv, connection};
use crate::machine::Bill;
use crate::stats::Sample;

const ROUTES: usize = 20;
const ROUNDS: usize = 3;
const TIMEOUT: Duration = Duration::from_mins(2);

/// For each route the bank it names now, and when a watch saw that.
type Active = HashMap<String, (String, Mono)>;

pub(crate) async fn run(figures: &mut Figures) {
    let env = BenchEnv::start().await;
    let a = env.banks.bank(&bank::config("bank-a", 16_384)).await;
    let b = env.banks.bank(&bank::config("bank-b", 1)).await;
    let mut manifests = vec![json!({
        "apiVersion": "busbar.dev/v1alpha1", "kind": "BreakerPolicy", "metadata": { "name": "quick" },
        "spec": { "preset": "Bank", "trip": { "consecutiveFailures": 1 }, "open": { "base": "5s", "max": "5s" } },
    })];
    for n in 0..ROUTES {
        manifests.push(guarded(&format!("a-{n:02}"), &format!("{}/c/{n:02}", a.http)));
        manifests.push(guarded(&format!("b-{n:02}"), &format!("{}/c/{n:02}", b.http)));
        manifests.push(route(n));
    }
    env.apply(&manifests).await;
    let routes = watched(&env);
    env.all_true("Healthy", 2 * ROUTES).await;
    all_at(&routes, "a").await;

    let bill = Bill::now();
    let mut millis = Vec::new();
    for _ in 0..ROUNDS {
        // Past the spacing of status writes, so that what is measured is no write held back.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let offset = env.banks.offset_nanos(&a, env.clock).await;
        let since = env.banks.arrivals("bank-a", u64::MAX).await.next;
        env.banks.script("bank-a", &json!({ "rules": [{ "steps": [{ "do": { "status": { "code": 503 } } }] }] })).await;
        let moved = all_at(&routes, "b").await;
        let log = env.banks.arrivals("bank-a", since).await.entries;
        for n in 0..ROUTES {
            let path = format!("/c/{n:02}/health");
            let trip = log.iter().find(|arrival| arrival.path == path && arrival.status == Some(503));
            let trip = i128::from(trip.expect("a failing probe").at_ns) - offset;
            let (_, seen) = &moved[&format!("route-{n:02}")];
            let nanos = u64::try_from(i128::from(seen.nanos()) - trip).expect("seen after it happened");
            millis.push(Duration::from_nanos(nanos).as_secs_f64() * 1e3);
        }
        env.banks.script("bank-a", &json!({ "rules": [] })).await;
        all_at(&routes, "a").await;
    }
    let millis = Sample::new(millis);
    println!(
        "from the failing answer to the moved route, ms: {millis} fail-overs, 90 % within {:.1}; {}",
        millis.percentile(90),
        bill.since()
    );
    figures.figure("failover.status_ms", format_args!("{:.1}", millis.median()), "ms");
}

/// Follows `status.active` of all routes.
fn watched(env: &BenchEnv) -> watch::Receiver<Active> {
    let (tell, told) = watch::channel(Active::new());
    let api: Api<BankRoute> = Api::namespaced(env.client.clone(), crate::env::NAMESPACE);
    let clock = env.clock;
    tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default()).boxed();
        while let Ok(Some(event)) = events.try_next().await {
            if let watcher::Event::Apply(route) | watcher::Event::InitApply(route) = event {
                let name = route.metadata.name.unwrap_or_default();
                let Some(active) = route.status.and_then(|status| status.active) else { continue };
                let now = clock.mono();
                tell.send_if_modified(|all| {
                    let same = all.get(&name).is_some_and(|(known, _)| *known == active);
                    if !same {
                        all.insert(name, (active, now));
                    }
                    !same
                });
            }
        }
    });
    told
}

/// Waits until every route names its bank of this letter.
async fn all_at(routes: &watch::Receiver<Active>, letter: &str) -> Active {
    let mut routes = routes.clone();
    let there = |all: &Active| all.len() == ROUTES && all.values().all(|(active, _)| active == letter);
    let seen = tokio::time::timeout(TIMEOUT, routes.wait_for(there)).await;
    seen.unwrap_or_else(|_| panic!("not every route is at bank {letter}")).expect("the watch runs").clone()
}

fn guarded(name: &str, base_url: &str) -> Value {
    let mut object = connection(name, base_url, "5s");
    object["spec"]["breakerPolicyRef"] = json!({ "name": "quick" });
    object
}

fn route(n: usize) -> Value {
    let candidate = |letter: &str, fee: &str| {
        json!({
            "name": letter,
            "connectionRef": { "name": format!("{letter}-{n:02}") },
            "fees": [{ "name": "all", "fixed": fee }],
        })
    };
    json!({
        "apiVersion": "busbar.dev/v1alpha1", "kind": "BankRoute", "metadata": { "name": format!("route-{n:02}") },
        "spec": {
            "referenceCurrency": "EUR",
            // Fees alone decide, so that the first bank gets its payouts back at once.
            "cost": { "retryBasisPoints": "0", "healthPenalty": "0" },
            "candidates": [candidate("a", "0.10"), candidate("b", "0.30")],
        },
    })
}
