//! What tools that wait for our objects see on a real API server: `kubectl wait`, and the checks for Argo CD and Flux
//! (config/gitops), which hack/gitops evaluates with the interpreters that those tools embed.

use std::path::PathBuf;
use std::process::Stdio;

use busbar::api::v1alpha1::ProviderConnection;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::cluster::bank_env::{BankEnv, bank_connection, has_condition};
use crate::cluster::chart_release::helm_path;
use crate::cluster::control_planes::repository;
use crate::cluster::operator::Operator;
use crate::kit::banks::unavailable;
use crate::kit::binary::{Finished, run_async};
use crate::kit::wait::eventually;

/// Argo CD's health, Flux's status.
const WAITING: &str = "Progressing InProgress";
const GOOD: &str = "Healthy Current";
const SUSPENDED: &str = "Suspended Current";
const BROKEN: &str = "Degraded Failed";

/// The program that evaluates the checks; the first caller builds it if it is not in the cache.
async fn program() -> &'static PathBuf {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async || {
        let output = Command::new(repository("hack/gitops/check")).arg("--print").output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    };
    PROGRAM.get_or_init(build).await
}

/// What Argo CD and Flux make of an object.
async fn verdict(object: &Value) -> String {
    let mut child = Command::new(program().await)
        .arg(repository(""))
        .arg("verdict")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(object.to_string().as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until the tools have this verdict on an object.
async fn until_verdict(env: &BankEnv, object: &str, wanted: &str) {
    let (kind, name) = object.split_once('/').unwrap();
    eventually(format!("{object}: {wanted}"), async || {
        let json = env.ns.json(kind, name).await.ok_or("it does not exist")?;
        let found = verdict(&json).await;
        if found == wanted { Ok(()) } else { Err(format!("{found}: {:#}", json["status"]["conditions"])) }
    })
    .await;
}

async fn wait_ready(env: &BankEnv, object: &str, timeout: &str) -> Result<(), String> {
    let output = env.ns.kubectl(&["wait", object, "--for=condition=Ready", timeout]).await;
    if output.success { Ok(()) } else { Err(output.stderr) }
}

/// The object is not Ready, and `kubectl wait` says so at its timeout.
async fn assert_waits(env: &BankEnv, object: &str) {
    let refused = wait_ready(env, object, "--timeout=1s").await;
    assert!(refused.as_ref().is_err_and(|text| text.contains("timed out")), "{object}: {refused:?}");
}

/// An object of our version.
fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "busbar.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn route(name: &str, connection: &str, more: &Value) -> Value {
    let mut spec = json!({
        "referenceCurrency": "EUR",
        "candidates": [{"name": "bank", "connectionRef": {"name": connection}, "fees": [{"name": "all", "fixed": "1"}]}],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object("BankRoute", name, &spec)
}

fn job(name: &str, connection: &str, more: &Value) -> Value {
    let mut spec = json!({
        "connectionRef": {"name": connection},
        "stream": "transactions",
        "parameters": {"accountId": name},
        "retention": {"mode": "Off"},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object("SyncJob", name, &spec)
}

#[tokio::test]
async fn kubectl_wait_argo_cd_and_flux_agree_in_every_state() {
    let env = BankEnv::new("gitops").await;
    env.bank("good").await;
    let failing = env.bank_with_secret("failing").await;
    failing.fail_with(unavailable()).await.unwrap();
    let mono = env.mono("mono", |config| config).await;
    mono.fail_with(unavailable()).await.unwrap();
    let paused = env.bank_with_secret("paused").await;
    let secretless = env.bank_with_secret("secretless").await;
    let missing = json!({"auth": {"bearer": {"secretRef": {"name": "nowhere"}}}});
    for object in [
        bank_connection(&failing, json!({})),
        bank_connection(&paused, json!({"suspend": true})),
        bank_connection(&secretless, missing),
        job("failing", "mono", &json!({"interval": "10s"})),
        job("paused", "mono", &json!({"interval": "1h", "suspend": true})),
        job("broken", "mono", &json!({"schedule": "61 * * * *"})),
        job("alone", "nowhere", &json!({"interval": "1h"})),
        route("good", "good", &json!({})),
        route("failing", "failing", &json!({})),
        route("paused", "good", &json!({"suspend": true})),
        route("alone", "nowhere", &json!({})),
    ] {
        env.put(&object).await;
    }
    let expected = [
        ("pconn/good", GOOD),
        ("pconn/failing", GOOD),
        ("pconn/paused", SUSPENDED),
        ("pconn/secretless", WAITING),
        ("brkp/quick", GOOD),
        ("sjob/failing", GOOD),
        ("sjob/paused", SUSPENDED),
        ("sjob/broken", BROKEN),
        ("sjob/alone", WAITING),
        ("broute/good", GOOD),
        ("broute/failing", GOOD),
        ("broute/paused", SUSPENDED),
        ("broute/alone", WAITING),
    ];

    // No operator has seen them: nothing looks ready.
    for (object, _) in expected {
        until_verdict(&env, object, WAITING).await;
    }
    for object in ["pconn/good", "brkp/quick", "sjob/paused", "broute/good"] {
        assert_waits(&env, object).await;
    }

    let mut operator = Operator::ready(&env.ns, &[]).await;
    for (object, wanted) in expected {
        until_verdict(&env, object, wanted).await;
        if [WAITING, BROKEN].contains(&wanted) {
            assert_waits(&env, object).await;
        } else {
            wait_ready(&env, object, "--timeout=30s").await.unwrap();
        }
    }
    // They are in an outage, not merely unchecked.
    env.until("failing", "unhealthy", |c: &ProviderConnection| {
        has_condition(&c.status.as_ref()?.conditions, "Healthy", "False", "ChecksFailing").then_some(())
    })
    .await;
    until_verdict(&env, "pconn/failing", GOOD).await;
    wait_ready(&env, "pconn/failing", "--timeout=30s").await.unwrap();

    // Changed while no operator runs: what it said before counts no longer.
    operator.sigterm().await;
    env.merge("ProviderConnection", "good", json!({"spec": {"healthCheck": {"interval": "1m"}}})).await;
    env.merge("BankRoute", "good", json!({"spec": {"priority": 7}})).await;
    for object in ["pconn/good", "broute/good"] {
        until_verdict(&env, object, WAITING).await;
        assert_waits(&env, object).await;
    }
    operator.restart().await;
    for object in ["pconn/good", "broute/good"] {
        until_verdict(&env, object, GOOD).await;
        wait_ready(&env, object, "--timeout=30s").await.unwrap();
    }
    operator.finish(&env.ns).await;
}

/// Installs a chart that has only this object, and waits for it as Helm does.
async fn helm_install(env: &BankEnv, object: &Value, timeout: &str) -> Finished {
    let name = object["metadata"]["name"].as_str().unwrap();
    let home = tempfile::tempdir().unwrap();
    let chart = home.path().join("chart");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), "{apiVersion: v2, name: object, version: 0.1.0}").unwrap();
    std::fs::write(chart.join("templates/object.yaml"), object.to_string()).unwrap();
    let mut command = std::process::Command::new(helm_path().await);
    command.args(["install", name]).arg(&chart).args(["--namespace", env.ns.name(), "--wait", "--timeout", timeout]);
    command.env_clear().env("HOME", home.path()).env("KUBECONFIG", env.ns.plane().admin_kubeconfig());
    run_async(command).await
}

#[tokio::test]
async fn helm_waits_for_objects_as_kubectl_does_and_fails_at_once_for_stalled_ones() {
    let env = BankEnv::new("helm-wait").await;
    let failing = env.bank_with_secret("failing").await;
    failing.fail_with(unavailable()).await.unwrap();
    let paused = env.bank_with_secret("paused").await;
    let secretless = env.bank_with_secret("secretless").await;

    // No operator: nothing looks ready.
    let alone = helm_install(&env, &route("unowned", "failing", &json!({})), "2s").await;
    assert!(!alone.success(), "{}", alone.stdout);

    let operator = Operator::ready(&env.ns, &[]).await;
    // An outage, a suspension, and a route whose only bank is in an outage fail no installation.
    for object in [
        bank_connection(&failing, json!({})),
        bank_connection(&paused, json!({"suspend": true})),
        route("payouts", "failing", &json!({})),
    ] {
        helm_install(&env, &object, "60s").await.ok();
    }
    // What another object can repair is waited for; what none can is an error, long before the time limit.
    let missing = json!({"auth": {"bearer": {"secretRef": {"name": "nowhere"}}}});
    let waits = helm_install(&env, &bank_connection(&secretless, missing), "3s").await;
    assert!(!waits.success(), "{}", waits.stdout);
    let broken = helm_install(&env, &job("broken", "failing", &json!({"schedule": "61 * * * *"})), "1h").await;
    assert!(!broken.success(), "{}", broken.stdout);
    operator.finish(&env.ns).await;
}
