//! The operator in 192 MiB, as a container would have them, against providers that send as much as they are let: it lives,
//! and no check, call or sync of others fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use busbar::api::v1alpha1::SyncJob;
use busbar::testbed::sim::BankConfig;
use futures::future::join_all;
use serde_json::json;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::control_planes::report;
use crate::cluster::gateway_calls::{caller_token, until_response};
use crate::cluster::memory_limit::MemoryLimit;
use crate::cluster::operator::Operator;
use crate::kit::banks::{count_arrivals, further_arrivals};
use crate::kit::hostile_provider::HostileProvider;
use crate::kit::http::gateway_client;
use crate::kit::metrics;
use crate::kit::objects::{connection, job, merged_patches, profile_auth, profile_connection};

const LIMIT: u64 = 192 * 1024 * 1024;
/// Connections to the hostile provider, each with a sync.
const HOSTILE: usize = 8;
/// Callers of the gateway, all at once and over and over.
const CALLERS: usize = 64;
/// Health checks of each good bank during the load.
const CHECKS: usize = 4;
/// How often each attack is made at least.
const ATTACKS: usize = 13 * 12;

const QUOTE: &str = r#"[{"symbol":"ACME","price":101.25,"timestamp":1767225600}]"#;

/// Applies the connections to the hostile provider: half of them of a profile whose responses are mapped.
async fn put_hostile(env: &BankEnv, url: &str) {
    env.ns.secret("hostile-credentials", &[("api-key", env.ns.canary("hostile").as_bytes())]).await;
    for n in 0..HOSTILE {
        let name = format!("hostile-{n}");
        let generic = json!({"features": {"any-path": "Enabled"}});
        env.put(&connection(&name, url, generic)).await;
        let mapped = merged_patches(profile_auth("hostile-credentials"), json!({}));
        env.put(&profile_connection(&format!("mapped-{n}"), "fmp", url, mapped)).await;
        let stream = json!({"stream": "documents", "parameters": {"accountId": null, "path": "records"}});
        let quick =
            json!({"retryInterval": "1s", "jitterPercent": 0, "runTimeout": "60s", "deadLetterBudgetPercent": 100});
        env.put(&job(&name, &name, "10s", merged_patches(stream, quick))).await;
    }
}

#[tokio::test]
async fn hostile_providers_end_neither_the_operator_nor_the_checks_of_others() {
    let env = BankEnv::new("memory").await;
    let provider = HostileProvider::start().await;
    put_hostile(&env, &provider.url).await;
    let mut good = Vec::new();
    for n in 0..5 {
        good.push(env.bank(&format!("good-{n}")).await);
    }
    let mut quotes = BankConfig::new("quotes");
    quotes.canned.insert("/quote".to_owned(), QUOTE.to_owned());
    let quotes = env.sim.add_bank(quotes).await.expect("a bank");
    env.ns.secret("quotes-credentials", &[("api-key", env.ns.canary("quotes").as_bytes())]).await;
    env.put(&profile_connection("quotes", "fmp", &quotes.base_url(), profile_auth("quotes-credentials"))).await;
    let token = caller_token(&env.ns, "desk", Some("busbar-caller")).await;

    let limit = MemoryLimit::new(LIMIT);
    let rates = ["--gateway-caller-rate=100000/s", "--gateway-address-rate=100000/s"];
    let operator = Operator::ready_within(&env.ns, &limit, &rates).await;
    let pid = operator.pid();
    let path = |connection: &str, rest: &str| format!("/api/providers/{}/{connection}/{rest}", env.ns.name());
    until_response(&operator, &path("quotes", "quote?symbol=ACME"), &token, (200, "")).await;
    for bank in &good {
        further_arrivals(bank, "/health", 1).await;
    }

    let (http, stop) = (gateway_client(), Arc::new(AtomicBool::new(false)));
    let calls = (0..CALLERS).map(|n| {
        let rest = if n % 2 == 0 { "get?path=records" } else { "earnings?symbol=ACME" };
        let rest = format!("{rest}&deadline_ms=20000");
        let name = format!("{}-{}", if n % 2 == 0 { "hostile" } else { "mapped" }, n / 2 % HOSTILE);
        let url = format!("{}{}", operator.gateway(), path(&name, &rest));
        let (http, token, stop) = (http.clone(), token.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut seen = BTreeMap::<u16, usize>::new();
            while !stop.load(Ordering::Relaxed) {
                let response = http.get(&url).bearer_auth(&token).send().await.expect("a response of the gateway");
                *seen.entry(response.status().as_u16()).or_default() += 1;
                response.bytes().await.expect("a whole body");
            }
            seen
        })
    });
    let calls: Vec<_> = calls.collect();
    // A caller of another provider meanwhile: every call is answered.
    let others = tokio::spawn({
        let url = format!("{}{}", operator.gateway(), path("quotes", "quote?symbol=ACME"));
        let (http, token, stop) = (http.clone(), token.clone(), Arc::clone(&stop));
        async move {
            let mut refused = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let response = http.get(&url).bearer_auth(&token).send().await.expect("a response of the gateway");
                if !response.status().is_success() {
                    refused.push(response.text().await.expect("a body"));
                }
            }
            refused
        }
    });
    for _ in 0..CHECKS {
        for bank in &good {
            further_arrivals(bank, "/health", 1).await;
        }
    }
    crate::kit::wait::within(2 * crate::kit::wait::PATIENCE, "every attack was made often", async || {
        if let Some(status) = operator.exited() {
            panic!("the operator exited: {status}\n{}", operator.log_tail());
        }
        if provider.attacks() >= ATTACKS { Ok(()) } else { Err(provider.attacks()) }
    })
    .await;
    for n in 0..HOSTILE {
        let ran = |job: &SyncJob| job.status.as_ref().and_then(|status| status.last_result).map(drop);
        env.until::<SyncJob, _>(&format!("hostile-{n}"), "a run has ended", ran).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut seen = BTreeMap::<u16, usize>::new();
    for (status, count) in join_all(calls).await.into_iter().flat_map(|calls| calls.expect("the calls")) {
        *seen.entry(status).or_default() += count;
    }
    let peak = limit.peak().map(|bytes| bytes / 1024 / 1024);
    report(&format!("memory: {} attacks, calls by status {seen:?}, peak {peak:?} MiB of 192", provider.attacks()));

    assert_eq!((operator.exited(), operator.pid(), limit.kills()), (None, pid, 0), "{}", operator.log_tail());
    assert!(seen.keys().all(|status| [200, 429, 502, 503, 504].contains(status)), "{seen:?}");
    assert!(seen.contains_key(&200) && seen.contains_key(&502), "what fits is served, the rest is refused: {seen:?}");
    let refused = others.await.expect("the calls");
    assert_eq!(refused, Vec::<String>::new(), "calls of another provider failed");
    let scrape = operator.metrics().await;
    for bank in &good {
        assert_eq!(count_arrivals(bank, |arrival| arrival.status.is_some_and(|status| status != 200)), 0);
        let probes = metrics::find(&scrape, "busbar_provider_requests_total", &[("connection", bank.name())]);
        assert!(probes.iter().all(|probe| probe.labels["outcome"] == "success"), "a check failed: {probes:?}");
    }
    assert_eq!(operator.get("/readyz").await.0, 200);
    operator.finish(&env.ns).await;
}
