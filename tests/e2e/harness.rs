//! The test kit itself and the control plane: if one of these tests fails, look here first.

use std::fs;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::process::{Process, ProcessSpec};
use busbar::testbed::control_plane::{AuditQuery, AuthorizationDecision, Component, OperatorScope, Options, RunDir};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::cluster::control_planes::{forbidden, own_plane, report, repository, shared_plane};
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::kit::wait::{PATIENCE, eventually};

/// A client with the identity of this service account.
async fn client_of(ns: &TestNs, account: &str) -> Client {
    let path = ns.plane().service_account_kubeconfig(ns.name(), account).await.unwrap();
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()).unwrap()
}

async fn create_account(ns: &TestNs, name: &str) {
    ns.apply(&format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}}}\n")).await;
}

#[tokio::test]
async fn control_plane_and_kubectl_have_the_pinned_version() {
    let ns = TestNs::new("version").await;
    let server = ns.client().apiserver_version().await.unwrap();
    let go_mod = fs::read_to_string(repository("hack/control-plane/kube/go.mod")).unwrap();
    assert!(
        go_mod.contains(&format!("k8s.io/kubernetes {} ", server.git_version)),
        "the server has version {}, which hack/control-plane/kube/go.mod does not pin",
        server.git_version
    );
    let version = ns.kubectl(&["version"]).await.ok();
    assert_eq!(version.matches(server.git_version.as_str()).count(), 2, "client and server differ:\n{version}");
}

#[tokio::test]
async fn the_crds_are_served_and_equal_to_their_files() {
    let ns = TestNs::new("crds").await;
    let listed = ns.kubectl(&["get", "busbar"]).await;
    assert!(listed.success, "the category `busbar`: {}", listed.stderr);
    for short in ["pconn", "sjob", "broute", "brkp"] {
        let explained = ns.kubectl(&["explain", &format!("{short}.spec")]).await.ok();
        assert!(explained.contains("busbar.dev"), "{explained}");
    }
    let crds = repository("crds");
    let diff = ns.kubectl(&["diff", "--server-side", "-f", &crds.to_string_lossy()]).await;
    assert!(diff.success && diff.stdout.is_empty(), "{}{}", diff.stdout, diff.stderr);
}

#[tokio::test]
async fn the_controller_manager_creates_accounts_and_deletes_namespaces() {
    let ns = TestNs::new("deleted").await;
    if !ns.plane().has_controller_manager() {
        // With CI=true the build script fails without one.
        report("SKIPPED, without a kube-controller-manager: deletion of namespaces");
        return;
    }
    let accounts: Api<ServiceAccount> = ns.api();
    eventually("ServiceAccount `default`", async || accounts.get_opt("default").await.unwrap()).await;
    ns.kubectl(&["delete", "namespace", ns.name(), "--wait=false"]).await.ok();
    eventually("the namespace is deleted", async || {
        ns.kubectl(&["get", "namespace", ns.name(), "--ignore-not-found", "-o", "name"]).await.ok().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_forbidden_request_is_in_the_audit_log() {
    let ns = TestNs::new("forbid").await;
    create_account(&ns, "powerless").await;
    let audit = ns.plane().audit();
    let since = audit.position().unwrap();
    let secrets: Api<Secret> = Api::namespaced(client_of(&ns, "powerless").await, ns.name());
    let forbidden_list = secrets.list(&ListParams::default()).await;
    assert!(matches!(&forbidden_list, Err(kube::Error::Api(status)) if status.is_forbidden()), "{forbidden_list:?}");

    let user = format!("system:serviceaccount:{}:powerless", ns.name());
    let query =
        AuditQuery { user: Some(&user), decision: Some(AuthorizationDecision::Forbid), ..AuditQuery::default() };
    let found = eventually("the request is in the audit log", async || {
        audit.requests_since(since, &query).unwrap().into_iter().next()
    })
    .await;
    assert_eq!((found.verb.as_str(), found.resource.as_str(), found.code), ("list", "secrets", 403));
    assert_eq!(found.namespace, ns.name());
    // And the check at the end of every operator would fail.
    assert_eq!(forbidden(&audit, &user).len(), 1);
}

#[tokio::test]
async fn the_shipped_roles_allow_the_operator_only_its_work() {
    let ns = TestNs::new("rights").await;
    // Those of `config/rbac/`; every other test has those of the chart.
    let user = ns.plane().grant_operator(ns.name(), OperatorScope::Namespace).await.unwrap().user;
    let mut wrong = Vec::new();
    let mut check = async |want: bool, verb: &str, group: &str, resource: &str| {
        if ns.plane().is_allowed(&user, ns.name(), verb, group, resource).await.unwrap() != want {
            wrong.push(format!("{verb} {resource}: expected {want}"));
        }
    };
    for kind in ["providerconnections", "syncjobs", "bankroutes", "breakerpolicies"] {
        for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
            // A job's finalizer is metadata, which has no subresource.
            let finalizer = kind == "syncjobs" && verb == "patch";
            check(["get", "list", "watch"].contains(&verb) || finalizer, verb, "busbar.dev", kind).await;
            check(verb == "update", verb, "busbar.dev", &format!("{kind}/status")).await;
        }
    }
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
        check(verb == "get", verb, "", "secrets").await;
        check(["create", "patch"].contains(&verb), verb, "events.k8s.io", "events").await;
        // Other leases than its own: `create` cannot be limited to a name.
        check(verb == "create", verb, "coordination.k8s.io", "leases").await;
        check(false, verb, "", "configmaps").await;
        check(false, verb, "", "pods").await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The bindings end at the namespace.
    assert!(!ns.plane().is_allowed(&user, "default", "get", "", "secrets").await.unwrap());
}

#[tokio::test]
async fn an_operator_that_exits_at_once_is_reported_with_its_log() {
    let ns = TestNs::new("exits").await;
    let mut operator = Operator::start(&ns, &["--no-such-flag"]).await;
    let error = operator.try_wait_ready(PATIENCE).await.unwrap_err();
    assert!(error.contains("exited"), "{error}");
    operator.finish(&ns).await;
}

#[tokio::test]
async fn an_operator_is_ready_again_after_sigkill() {
    let ns = TestNs::new("life").await;
    ns.secret("credentials", &[("token", ns.canary("token").as_bytes())]).await;
    let mut operator = Operator::ready(&ns, &[]).await;
    assert_eq!(operator.get("/livez").await.0, 200);
    assert_eq!(operator.metric("busbar_build_info", &[]).await, Some(1.0));
    let first = operator.pid();
    operator.kill9();
    assert_eq!(operator.try_get("/livez").await, None);
    operator.restart().await;
    assert_ne!(operator.pid(), first);
    operator.finish(&ns).await;
}

#[tokio::test]
async fn a_paused_api_server_answers_only_when_resumed() {
    let plane = own_plane(Options::default()).await;
    let ns = TestNs::on(&plane, "pause").await;
    let maps: Api<ConfigMap> = ns.api();
    plane.pause(Component::ApiServer).await.unwrap();
    let paused = tokio::time::timeout(Duration::from_millis(500), maps.list(&ListParams::default())).await;
    assert!(paused.is_err(), "a stopped process answered: {paused:?}");
    plane.resume(Component::ApiServer).await.unwrap();
    let listed = tokio::time::timeout(PATIENCE, maps.list(&ListParams::default())).await;
    assert!(listed.expect("a response after SIGCONT").is_ok());
}

#[tokio::test]
async fn restarts_keep_objects_and_a_compaction_drops_old_revisions() {
    let plane = own_plane(Options::default()).await;
    let clock = Clock::system();
    let ns = TestNs::on(&plane, "restart").await;
    let maps: Api<ConfigMap> = ns.api();
    let mut map = ConfigMap::default();
    map.metadata.name = Some("kept".into());
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let old = made.metadata.resource_version.unwrap();
    // A newer object, before the restart: the API server answers revisions since its start from memory.
    map.metadata.name = Some("newer".into());
    maps.create(&PostParams::default(), &map).await.unwrap();
    for component in Component::ALL {
        let began = clock.mono();
        plane.restart(component).await.unwrap();
        report(&format!("{component} restarted in {:.1?}", clock.mono().since(began)));
    }
    // A client of its own: the old one may still hold a connection that the restart has cut.
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().unwrap(), ns.name());
    assert!(maps.get_opt("kept").await.unwrap().is_some());

    assert!(plane.compact().await.unwrap() > old.parse().unwrap());
    let past = ListParams::default().at(&old).matching(kube::api::VersionMatch::Exact);
    let compacted = maps.list(&past).await;
    assert!(matches!(&compacted, Err(kube::Error::Api(status)) if status.code == 410), "{compacted:?}");

    plane.kill_component(Component::Etcd).await.unwrap();
    assert!(plane.stop_component(Component::Etcd).await.is_err(), "it was killed already");
    plane.start_component(Component::Etcd).await.unwrap();
    eventually("the API server reaches etcd again", async || maps.get_opt("kept").await.ok().flatten()).await;
}

#[tokio::test]
async fn stopping_a_control_plane_leaves_nothing_behind() {
    let plane = own_plane(Options::default()).await;
    let directory = plane.run_dir().path().to_path_buf();
    let url = plane.url().trim_start_matches("https://").to_owned();
    // Also here, because it needs a control plane of its own: cluster-wide bindings affect other namespaces.
    let ns = TestNs::on(&plane, "wide").await;
    let operator = Operator::start_cluster_wide(&ns, &["--help"]).await;
    assert!(plane.is_allowed(operator.user(), "default", "watch", "busbar.dev", "syncjobs").await.unwrap());
    assert!(plane.is_allowed(operator.user(), ns.name(), "get", "", "secrets").await.unwrap());
    assert!(!plane.is_allowed(operator.user(), "default", "get", "", "secrets").await.unwrap(), "no binding there");
    assert!(!plane.is_allowed(operator.user(), "default", "create", "coordination.k8s.io", "leases").await.unwrap());
    operator.finish(&ns).await;
    drop(ns);
    drop(plane);
    // The tasks of the node hold the control plane until the runtime has ended them.
    eventually("the directory is removed", async || !directory.exists()).await;
    assert!(tokio::net::TcpStream::connect(url).await.is_err(), "a process still listens");
}

#[tokio::test]
async fn a_process_outlives_the_runtime_that_started_it() {
    // The kernel's death signal follows the thread that forked, and a test's threads end with the test.
    let run = std::sync::Arc::new(RunDir::create("busbar-test-").unwrap());
    let spec = ProcessSpec {
        name: "sleeper".into(),
        program: "sleep".into(),
        args: vec!["60".into()],
        env: Vec::new(),
        log: run.path().join("log"),
    };
    let held = std::sync::Arc::clone(&run);
    let mut process =
        std::thread::spawn(move || Process::spawn(&held, &spec).unwrap()).join().expect("the thread ends");
    let ended = process.wait(Duration::from_millis(300)).await;
    assert!(ended.is_none(), "it ended with its thread: {ended:?}");
}

#[tokio::test]
async fn operator_and_simulator_binaries_are_built() {
    shared_plane().await;
    for binary in [env!("CARGO_BIN_EXE_busbar"), env!("CARGO_BIN_EXE_busbar-sim")] {
        assert!(std::path::Path::new(binary).is_file(), "{binary}");
    }
}
