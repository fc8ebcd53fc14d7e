//! `execution: Job`: each run is a Kubernetes Job whose Pod runs `busbar sync` against the ledger that operator and Pods
//! share. The API server, the Job controller and the Pod are real; a node agent plays the kubelet.

use busbar::api::v1alpha1::SyncJob;
use busbar::api::v1alpha1::sync_job::{RunResult, RunTrigger, SyncJobStatus};
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::testbed::postgres::{PostgresServer, ServerCertificate, USER};
use busbar::testbed::sim::{AccountConfig, BankHandle};
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::cluster::bank_env::BankEnv;
use crate::cluster::control_planes::repository;
use crate::cluster::namespace::kubectl;
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{FEED, feed_job, slow_pages};
use crate::kit::wait::eventually;

/// The image of the chart, with another tag.
const IMAGE: &str = "busbar:sync";

/// A bank, a database server with TLS, a node, and the rights of `config/rbac/jobs.yaml`.
struct JobEnv {
    env: BankEnv,
    bank: BankHandle,
    _server: PostgresServer,
    folder: tempfile::TempDir,
    url: String,
}

impl JobEnv {
    async fn new(topic: &str, transactions: u64) -> Self {
        let env = BankEnv::new(topic).await;
        let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", transactions)])).await;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let server = PostgresServer::start_with_tls(&ServerCertificate { certificate: certificate.clone(), key }).await;
        let server = server.unwrap();
        server.create_database().await.unwrap();
        let password = env.ns.canary("ledger");
        server.execute("postgres", &format!("ALTER USER {USER} PASSWORD '{password}'")).await.unwrap();
        let entries: [(&str, &[u8]); 2] = [("password", password.as_bytes()), ("ca.crt", certificate.as_bytes())];
        env.ns.secret("busbar-ledger", &entries).await;
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in entries {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let url = format!("postgres://{USER}@localhost:{}/ledger_0", server.tcp_port());
        let this = Self { env, bank, _server: server, folder, url };
        this.grant().await;
        this
    }

    async fn grant(&self) {
        let plane = self.env.ns.plane();
        plane.apply_path(&repository("config/rbac/jobs.yaml")).await.expect("the roles are applied");
        let ns = self.env.ns.name();
        for args in [
            vec!["create", "serviceaccount", "busbar-sync"],
            vec![
                "create",
                "rolebinding",
                "busbar-sync",
                "--clusterrole=busbar-sync",
                &format!("--serviceaccount={ns}:busbar-sync"),
            ],
        ] {
            kubectl(plane, &[&["-n", ns], args.as_slice()].concat(), "").await.ok();
        }
    }

    /// The URL of the ledger with the authority's certificate in this folder.
    fn ledger(&self, folder: &str) -> String {
        format!("{}?sslmode=verify-full&sslrootcert={folder}/ca.crt", self.url)
    }

    async fn operator(&self) -> Operator {
        let here = self.folder.path().display().to_string();
        let flags = [
            format!("--ledger={}", self.ledger(&here)),
            format!("--ledger-password-file={here}/password"),
            format!("--job-image={IMAGE}"),
            format!("--job-ledger={}", self.ledger("/etc/busbar/ledger")),
            "--job-ledger-secret=busbar-ledger".to_owned(),
        ];
        let mut operator = Operator::start(&self.env.ns, &flags.each_ref().map(String::as_str)).await;
        let (ns, user) = (self.env.ns.name(), operator.user().to_owned());
        let account = user.trim_start_matches("system:serviceaccount:").to_owned();
        let args = ["-n", ns, "create", "rolebinding", "busbar-jobs", "--clusterrole=busbar-jobs"];
        kubectl(self.env.ns.plane(), &[args.as_slice(), &[&format!("--serviceaccount={account}")]].concat(), "")
            .await
            .ok();
        operator.wait_ready().await;
        operator
    }

    async fn jobs(&self) -> Vec<Job> {
        self.env.ns.api::<Job>().list(&ListParams::default()).await.unwrap().items
    }

    async fn rows(&self) -> u64 {
        let here = self.folder.path();
        let url: LedgerUrl = self.ledger(&here.display().to_string()).parse().unwrap();
        let url = url.with_password_file(Some(&here.join("password")));
        let ledger = ledger::open(&url, OpenMode::ReadOnly).await.expect("the ledger can be read");
        let rows = ledger.count_transactions(&TransactionFilter::default()).await.unwrap();
        ledger.close().await;
        rows
    }

    async fn until(&self, what: &str, holds: impl Fn(&SyncJobStatus) -> bool) -> SyncJobStatus {
        self.env.until(FEED, what, |job: &SyncJob| job.status.clone().filter(|status| holds(status))).await
    }
}

fn as_job(patch: &Value) -> Value {
    let spec = json!({
        "execution": "Job", "jitterPercent": 0,
        "jobTemplate": {"resources": {"limits": {"memory": "128Mi"}, "requests": {"cpu": "10m"}}},
    });
    let mut object = feed_job("1h", spec);
    if let (Some(spec), Some(more)) = (object["spec"].as_object_mut(), patch.as_object()) {
        spec.extend(more.clone());
    }
    object
}

#[tokio::test]
async fn a_run_is_a_job_of_its_own_and_its_rows_are_in_the_shared_ledger() {
    let env = JobEnv::new("jobrun", 120).await;
    let operator = env.operator().await;
    env.env.put(&as_job(&json!({}))).await;
    let status = env.until("the first run succeeded", |status| status.last_successful_time.is_some()).await;
    assert_eq!((status.history[0].result, status.history[0].inserted), (RunResult::Succeeded, 120));
    assert_eq!(env.rows().await, 120);

    let jobs = env.jobs().await;
    let [job] = jobs.as_slice() else { panic!("one Job: {jobs:#?}") };
    let owner = &job.metadata.owner_references.as_ref().unwrap()[0];
    let object: SyncJob = env.env.get(FEED).await;
    assert_eq!((owner.kind.as_str(), Some(&owner.uid)), ("SyncJob", object.metadata.uid.as_ref()));
    let pod = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let container = &pod.containers[0];
    assert_eq!((container.image.as_deref(), pod.restart_policy.as_deref()), (Some(IMAGE), Some("Never")));
    assert_eq!(container.resources.as_ref().unwrap().limits.as_ref().unwrap()["memory"].0, "128Mi");
    // A namespace that admits restricted Pods only would admit it.
    let security = container.security_context.as_ref().unwrap();
    assert_eq!((security.run_as_non_root, security.allow_privilege_escalation), (Some(true), Some(false)));

    // A request is a Job too, and ends under its own name.
    let requested = env.env.request::<SyncJob>(FEED).await;
    let status = env
        .until("the requested run ended", |status| {
            status.history.iter().any(|entry| entry.requested_at.as_deref() == Some(&*requested))
        })
        .await;
    assert_eq!(status.history[0].trigger, RunTrigger::Request);
    assert_eq!((env.jobs().await.len(), env.rows().await), (2, 120));
    operator.finish(&env.env.ns).await;
}

#[tokio::test]
async fn a_suspended_job_ends_its_pod_at_a_page_boundary_and_goes_on_later() {
    let env = JobEnv::new("jobstop", 600).await;
    env.bank.set_script(slow_pages(300)).await.unwrap();
    let operator = env.operator().await;
    env.env.put(&as_job(&json!({}))).await;
    eventually("a page is stored", async || env.rows().await >= 100).await;
    env.env.put(&as_job(&json!({"suspend": true}))).await;
    eventually("its Job is gone", async || env.jobs().await.is_empty()).await;
    let stored = env.rows().await;
    assert!((100..600).contains(&stored) && stored % 100 == 0, "whole pages: {stored}");
    let status = env.until("it was canceled", |status| status.last_result == Some(RunResult::Canceled)).await;
    assert_eq!(status.failure_streak, Some(0));
    env.bank.set_script(slow_pages(0)).await.unwrap();
    env.env.put(&as_job(&json!({"suspend": false}))).await;
    env.until("it succeeded", |status| status.last_successful_time.is_some()).await;
    assert_eq!(env.rows().await, 600);
    operator.finish(&env.env.ns).await;
}

#[tokio::test]
async fn a_job_whose_pod_cannot_run_is_a_failed_run_that_is_retried_with_backoff() {
    let env = JobEnv::new("joblost", 10).await;
    // The password that the Pods read is wrong: `busbar sync` ends before it can record anything.
    env.env
        .ns
        .secret(
            "busbar-ledger",
            &[
                ("password", b"obviously-fake-wrong"),
                ("ca.crt", &std::fs::read(env.folder.path().join("ca.crt")).unwrap()),
            ],
        )
        .await;
    let operator = env.operator().await;
    env.env.put(&as_job(&json!({"retryInterval": "1h"}))).await;
    let status = env.until("the run failed", |status| status.last_result == Some(RunResult::Failed)).await;
    assert_eq!(status.history[0].reason.as_deref(), Some("JobFailed"));
    assert_eq!((status.failure_streak, env.jobs().await.len()), (Some(1), 1), "retried after an hour, not at once");
    assert!(status.next_retry_time.is_some());
    operator.finish(&env.env.ns).await;
}
