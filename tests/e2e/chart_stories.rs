//! The stories of the suite in the chart's own Pod, with all that a cluster-wide release has: the gateway with its
//! certificate, the roles of users and the admission policies. Every other test has a
//! release without these (`tests/kit/cluster/chart_release.rs`).

use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::testbed::sim::AccountConfig;
use reqwest::Client;
use serde_json::{Value, json};

use crate::chart::NAMESPACE;
use crate::chart_install::{POD, Release};
use crate::cluster::bank_env::{bank_connection, quick_policy};
use crate::cluster::failover_env::has_succeeded;
use crate::cluster::policies::assert_denied;
use crate::cluster::status_recorder::StatusRecorder;
use crate::cluster::sync_jobs::{FEED, assert_same, bank_transactions, feed_job, rows_of};
use crate::kit::banks::unavailable;
use crate::kit::http::trusting_client;
use crate::kit::objects::{candidates, route};
use crate::kit::wait::eventually;

/// The name in the certificate that the chart makes.
const GATEWAY: &str = "busbar-gateway.busbar-system.svc";

/// A client of the gateway in the Pod that trusts the chart's certificate authority and no other.
async fn gateway_client(release: &Release) -> Client {
    let pod = release.cluster.get("pod", POD).await.unwrap();
    let address: std::net::IpAddr = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
    let key = "-o=jsonpath={.data.ca\\.crt}";
    let encoded =
        release.cluster.kubectl(&["-n", NAMESPACE, "get", "secret", "busbar-gateway-tls", key], "").await.ok();
    let ca = String::from_utf8(base64_decoded(&encoded)).unwrap();
    trusting_client(&ca).resolve(GATEWAY, (address, 8443).into()).build().unwrap()
}

fn base64_decoded(text: &str) -> Vec<u8> {
    let secret = json!({"data": {"text": text.trim()}});
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret).unwrap();
    secret.data.unwrap()["text"].0.clone()
}

/// Status and error code of a call to the connection `mono`.
async fn call(client: &Client, token: &str, namespace: &str) -> Result<(u16, String), String> {
    let url = format!("https://{GATEWAY}:8443/api/providers/{namespace}/mono/accounts");
    let response = client.get(url).bearer_auth(token).send().await.map_err(|error| format!("{error:?}"))?;
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&response.text().await.unwrap_or_default()).unwrap_or_default();
    Ok((status, body["data"]["error"].as_str().unwrap_or_default().to_owned()))
}

async fn until_active(release: &Release, name: &str) {
    let look = |route: &BankRoute| (route.status.as_ref()?.active.as_deref()? == name).then_some(());
    release.env.until("payouts", &format!("{name} is active"), look).await;
}

#[tokio::test]
async fn routes_jobs_calls_and_policies_work_in_the_charts_pod_and_nothing_is_denied() {
    let gateway = "gateway.enabled=true,gateway.tls.source=SelfSigned";
    let release = Release::installed("stories", &[gateway]).await;
    let env = &release.env;
    let recorder = StatusRecorder::of(&env.ns);
    env.put(&quick_policy("1s")).await;
    let (a, b) = (env.bank_with_secret("a").await, env.bank_with_secret("b").await);
    for bank in [&a, &b] {
        env.put(&bank_connection(bank, json!({}))).await;
    }
    let mono = env.mono("mono", |config| config.accounts([AccountConfig::new("acc-1", 250)])).await;
    env.put(&feed_job("24h", json!({}))).await;
    env.put(&route("payouts", &candidates(&["a", "b"]), json!({}))).await;
    for name in ["a", "b", "mono"] {
        release.until_ready(name).await;
    }
    until_active(&release, "a").await;
    env.until(FEED, "the job ran", has_succeeded).await;

    // Calls with the right, and without it.
    let client = gateway_client(&release).await;
    let mut tokens = Vec::new();
    for name in ["desk", "guest"] {
        env.ns.kubectl(&["create", "serviceaccount", name]).await.ok();
        tokens.push(env.ns.kubectl(&["create", "token", name]).await.ok().trim().to_owned());
    }
    let account = format!("--serviceaccount={}:desk", env.ns.name());
    env.ns.kubectl(&["create", "rolebinding", "desk", "--clusterrole=busbar-caller", &account]).await.ok();
    let answered = async |token: &str, wanted: (u16, &str)| {
        eventually(format!("a call is answered {wanted:?}"), async || {
            let answer = call(&client, token, env.ns.name()).await;
            let expected = answer.as_ref().is_ok_and(|(status, error)| (*status, error.as_str()) == wanted);
            if expected { Ok(()) } else { Err(answer) }
        })
        .await;
    };
    answered(&tokens[0], (200, "")).await;
    answered(&tokens[1], (403, "forbidden")).await;

    // An outage of a bank: the route fails over, and back; calls of other banks are not concerned.
    a.fail_with(unavailable()).await.unwrap();
    env.request::<ProviderConnection>("a").await;
    until_active(&release, "b").await;
    env.until_event("BankRoute", "payouts", "FailedOver", "failed over from a to b").await;
    a.recover().await;
    until_active(&release, "a").await;
    answered(&tokens[0], (200, "")).await;
    env.until_event("BankRoute", "payouts", "FailedBack", "failed back to a").await;

    // The chart's policies: what is in use stays, also for the administrator, and older definitions replace none.
    for object in ["pconn/a", "pconn/mono"] {
        let deleted = env.ns.kubectl(&["delete", object, "--wait=false"]).await;
        assert_denied(&deleted, "must not be used by SyncJobs and BankRoutes");
    }
    let older = r#"{"metadata":{"annotations":{"busbar.dev/crd-version":"0.0.1"}}}"#;
    let patch = ["patch", "crd", "syncjobs.busbar.dev", "--type=merge", "-p", older];
    assert_denied(&release.cluster.kubectl(&patch, "").await, "must not be older than the installed definition");

    // Each row once, in the ledger on the Pod's volume.
    assert_same(&rows_of(&env.ns, release.ledger()).await, &bank_transactions(env, &mono).await);
    let findings = recorder.findings().await;
    assert!(findings.is_empty(), "{findings:#?}");
    assert_eq!(release.denied(), Vec::<String>::new());
    let uid = release.cluster.get("pod", POD).await.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let log = release.agent.log(&uid, "busbar");
    assert!(!log.is_empty() && env.ns.canaries().leaks("the Pod's log", &log).is_empty());
}
