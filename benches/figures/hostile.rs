//! The most memory that providers can make the operator use: eight syncs and sixty-four callers of the gateway, all at a
//! provider that answers with what is too large, too deep or too long (`tests/kit/hostile_provider.rs`).
//!
//! `tests/e2e/memory.rs` checks the same in a cgroup of 192 MiB.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::Figures;
use crate::bank;
use crate::env::{self, BenchEnv, NAMESPACE};
use crate::hostile_provider::HostileProvider;
use crate::machine;

const SYNCS: usize = 8;
const CALLERS: usize = 64;
/// Each attack some fifty times.
const ATTACKS: usize = 13 * 50;

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let flags = ["--gateway-auth=off", "--gateway-caller-rate=100000/s", "--gateway-address-rate=100000/s"];
        let env = BenchEnv::start_with(&flags).await;
        let provider = HostileProvider::start().await;
        env.apply(&objects(&provider.url)).await;
        env.all_true("Ready", SYNCS).await;
        let memory = |field| machine::memory_mib(env.operator.pid(), field);
        let before = memory("VmRSS");

        let (http, over) = (bank::http(), Arc::new(AtomicBool::new(false)));
        let callers = (0..CALLERS).map(|n| {
            let (http, over) = (http.clone(), Arc::clone(&over));
            let path = format!("hostile-{}/get?path=records&deadline_ms=20000", n % SYNCS);
            let url = format!("{}/api/providers/{NAMESPACE}/{path}", env.gateway);
            tokio::spawn(async move {
                let mut calls = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    let response = http.get(&url).send().await.expect("a response of the gateway");
                    response.bytes().await.expect("a whole body");
                    calls += 1;
                }
                calls
            })
        });
        let callers: Vec<_> = callers.collect();
        while provider.attacks() < ATTACKS {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        over.store(true, Ordering::Relaxed);
        let calls: u64 = join_all(callers).await.into_iter().map(|calls| calls.expect("a caller")).sum();
        let peak = memory("VmHWM");
        assert!(peak.is_finite(), "the operator is gone:\n{}", env.operator.log_tail(20));
        println!("{} attacks in {calls} calls and the syncs; {before:.0} MiB before", provider.attacks());
        figures.figure("trust.hostile_peak_mib", format_args!("{peak:.0}"), "MiB");
    });
}

/// The connections to the provider, each with a sync.
fn objects(url: &str) -> Vec<Value> {
    let each = (0..SYNCS).flat_map(|n| {
        let name = format!("hostile-{n}");
        let mut connection = env::connection(&name, url, "5s");
        connection["spec"]["features"] = json!({ "any-path": "Enabled" });
        let job = json!({
            "apiVersion": "busbar.dev/v1alpha1",
            "kind": "SyncJob",
            "metadata": { "name": name },
            "spec": {
                "connectionRef": { "name": name },
                "stream": "documents",
                "parameters": { "path": "records" },
                "interval": "10s",
                "retryInterval": "1s",
                "jitterPercent": 0,
                "retention": { "mode": "Off" },
            },
        });
        [connection, job]
    });
    each.collect()
}
