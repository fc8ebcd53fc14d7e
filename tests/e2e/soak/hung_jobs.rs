//! A bank that hangs and has more jobs than there are slots: it delays only its own.

use std::time::Duration;

use busbar::testbed::sim::{Behaviour, FailurePoint};
use serde_json::json;

use super::RandomPlan;
use super::random::SoakEnv;
use crate::cluster::namespace::object_api;
use crate::kit::objects::job;
use crate::kit::wait::{eventually, within};

/// Jobs of the hung bank: more than the operator has slots (`--sync-concurrency`, 8).
const JOBS: usize = 20;

/// A requested run of the other bank ends within this. With the slots held, it would wait for the retries and time-outs of
/// hung requests, which take minutes.
const RUN_DEADLINE: Duration = Duration::from_secs(20);

/// Lets one synced bank hang with many jobs for `time`, and checks that requested runs of another bank's job end meanwhile.
pub(super) async fn hung_bank_with_many_jobs(env: &SoakEnv, plan: &mut RandomPlan, time: Duration) {
    let (hung, good) = SoakEnv::two_synced(plan);
    let (hung, good) = (&env.banks[hung], &env.banks[good]);
    env.operator.wait_leading().await;
    good.recover().await;
    hung.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.expect("a script");
    let names: Vec<String> = (0..JOBS).map(|n| format!("hung-{n:02}")).collect();
    for name in &names {
        env.put(&job(name, hung.name(), "10s", json!({"retryInterval": "1s"}))).await;
    }
    let jobs = object_api(&env.ns, "SyncJob");
    // The first run may have to wait for the end of an earlier fault, such as the good bank's open circuit.
    let handled = async |requested: &str| {
        let job = jobs.get(good.name()).await.map_err(|error| error.to_string())?;
        let status = &job.data["status"];
        let done = status["lastHandledReconcileAt"] == requested && status["lastResult"] == "Succeeded";
        if done { Ok(()) } else { Err(format!("{status:#}")) }
    };
    let request = async || {
        let requested = env.now().to_string();
        let patch = json!({
            "metadata": {"annotations": {"busbar.dev/requestedAt": requested}},
            "spec": {"suspend": false},
        });
        env.merge("SyncJob", good.name(), patch).await;
        requested
    };
    eventually("a run of the good bank beside the hung one", async || {
        let requested = request().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        handled(&requested).await
    })
    .await;
    let end = env.clock.mono() + time;
    while env.clock.mono() < end {
        let requested = request().await;
        within(RUN_DEADLINE, "a requested run beside a hung bank", async || handled(&requested).await).await;
    }
    for name in &names {
        env.delete("SyncJob", name).await;
    }
    hung.recover().await;
}
