//! Proves the ground that the other tests stand on: if one of these fails, look here first.

use std::fs;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::process::{Process, ProcessSpec};
use busbar::testbed::control_plane::{AuditQuery, AuthorizationDecision, Component, Options, RunDir};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::support::plane::{PATIENCE, forbidden, repository, tell};
use crate::support::{Operator, TestNs, eventually, own_plane, shared_plane};

/// A client that is this service account, as the operator is one.
async fn client_of(ns: &TestNs, account: &str) -> Client {
    let path = ns.plane().service_account_kubeconfig(ns.name(), account).await.unwrap();
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()).unwrap()
}

async fn create_account(ns: &TestNs, name: &str) {
    ns.apply(&format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}}}\n")).await;
}

#[tokio::test]
async fn the_control_plane_is_of_the_pinned_version_and_kubectl_agrees() {
    let ns = TestNs::new("version").await;
    let server = ns.client().apiserver_version().await.unwrap();
    let go_mod = fs::read_to_string(repository("hack/control-plane/kube/go.mod")).unwrap();
    assert!(
        go_mod.contains(&format!("k8s.io/kubernetes {} ", server.git_version)),
        "the server calls itself {}, which hack/control-plane/kube/go.mod does not pin",
        server.git_version
    );
    let version = ns.kubectl(&["version"]).await.ok().unwrap();
    assert_eq!(version.matches(server.git_version.as_str()).count(), 2, "client and server differ:\n{version}");
}

#[tokio::test]
async fn the_crds_are_served_explained_and_the_same_after_a_second_apply() {
    let ns = TestNs::new("crds").await;
    let listed = ns.kubectl(&["get", "busbar"]).await;
    assert!(listed.success, "the category `busbar`: {}", listed.stderr);
    for short in ["pconn", "sjob", "broute", "brkp"] {
        let explained = ns.kubectl(&["explain", &format!("{short}.spec")]).await.ok().unwrap();
        assert!(explained.contains("busbar.dev"), "{explained}");
    }
    let crds = repository("crds");
    let diff = ns.kubectl(&["diff", "--server-side", "-f", &crds.to_string_lossy()]).await;
    assert!(diff.success && diff.stdout.is_empty(), "{}{}", diff.stdout, diff.stderr);
}

#[tokio::test]
async fn the_controller_manager_makes_the_service_account_of_a_new_namespace_and_removes_the_namespace() {
    let ns = TestNs::new("gone").await;
    if !ns.plane().has_controller_manager() {
        // Under CI=true the build script has refused to go on without one.
        tell("LEFT OUT, for there is no kube-controller-manager: removal of namespaces");
        return;
    }
    let accounts: Api<ServiceAccount> = ns.api();
    eventually(PATIENCE, "ServiceAccount `default`", async || accounts.get_opt("default").await.unwrap()).await;
    ns.kubectl(&["delete", "namespace", ns.name(), "--wait=false"]).await.ok().unwrap();
    eventually(PATIENCE, "the namespace is gone", async || {
        ns.kubectl(&["get", "namespace", ns.name(), "--ignore-not-found", "-o", "name"])
            .await
            .ok()
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_service_account_without_rights_is_refused_and_the_audit_log_says_so() {
    let ns = TestNs::new("forbid").await;
    create_account(&ns, "nobody").await;
    let audit = ns.plane().audit();
    let since = audit.position().unwrap();
    let secrets: Api<Secret> = Api::namespaced(client_of(&ns, "nobody").await, ns.name());
    let refused = secrets.list(&ListParams::default()).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.is_forbidden()), "{refused:?}");

    let user = format!("system:serviceaccount:{}:nobody", ns.name());
    let query =
        AuditQuery { user: Some(&user), decision: Some(AuthorizationDecision::Forbid), ..AuditQuery::default() };
    let found = eventually(PATIENCE, "the refusal in the audit log", async || {
        audit.requests_since(since, &query).unwrap().into_iter().next()
    })
    .await;
    assert_eq!((found.verb.as_str(), found.resource.as_str(), found.code), ("list", "secrets", 403));
    assert_eq!(found.namespace, ns.name());
    // And the check that every operator's end makes would have failed.
    assert_eq!(forbidden(&audit, &user).len(), 1);
}

#[tokio::test]
async fn the_shipped_roles_let_the_operator_do_its_work_and_nothing_else() {
    let ns = TestNs::new("rights").await;
    let operator = Operator::start(&ns, &["--help"]).await;
    let user = operator.user().to_owned();
    let mut wrong = Vec::new();
    let mut check = async |want: bool, verb: &str, group: &str, resource: &str| {
        if ns.plane().is_allowed(&user, ns.name(), verb, group, resource).await.unwrap() != want {
            wrong.push(format!("{verb} {resource}: expected {want}"));
        }
    };
    for kind in ["providerconnections", "syncjobs", "bankroutes", "breakerpolicies"] {
        for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
            // A job's finalizer is metadata, which no subresource takes.
            let marks = kind == "syncjobs" && verb == "patch";
            check(["get", "list", "watch"].contains(&verb) || marks, verb, "busbar.dev", kind).await;
            check(verb == "patch", verb, "busbar.dev", &format!("{kind}/status")).await;
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
    operator.finish(&ns).await;
}

#[tokio::test]
async fn an_operator_that_ends_at_once_is_reported_with_its_log() {
    let ns = TestNs::new("ends").await;
    let mut operator = Operator::start(&ns, &["--no-such-flag"]).await;
    let why = operator.try_wait_ready(PATIENCE).await.unwrap_err();
    assert!(why.contains("ended"), "{why}");
    operator.finish(&ns).await;
}

#[tokio::test]
async fn an_operator_becomes_ready_survives_sigkill_and_ends_in_order() {
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
async fn a_paused_api_server_answers_nothing_and_goes_on_when_resumed() {
    let plane = own_plane(Options::default()).await;
    let ns = TestNs::on(&plane, "pause").await;
    let maps: Api<ConfigMap> = ns.api();
    plane.pause(Component::ApiServer).await.unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(500), maps.list(&ListParams::default())).await;
    assert!(silent.is_err(), "a stopped process answered: {silent:?}");
    plane.resume(Component::ApiServer).await.unwrap();
    let listed = tokio::time::timeout(PATIENCE, maps.list(&ListParams::default())).await;
    assert!(listed.expect("an answer after SIGCONT").is_ok());
}

#[tokio::test]
async fn restarts_keep_address_and_objects_and_a_compaction_forgets_old_revisions() {
    let plane = own_plane(Options::default()).await;
    let clock = Clock::system();
    let ns = TestNs::on(&plane, "restart").await;
    let maps: Api<ConfigMap> = ns.api();
    let mut map = ConfigMap::default();
    map.metadata.name = Some("kept".into());
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let old = made.metadata.resource_version.unwrap();
    // Something newer, and before the restart: the API server answers for the revisions since its start from memory.
    map.metadata.name = Some("newer".into());
    maps.create(&PostParams::default(), &map).await.unwrap();
    for component in Component::ALL {
        let began = clock.mono();
        plane.restart(component).await.unwrap();
        tell(&format!("{component} restarted in {:.1?}", clock.mono().since(began)));
    }
    // A client of its own: the old one may still hold a connection that the restart has cut.
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().unwrap(), ns.name());
    assert!(maps.get_opt("kept").await.unwrap().is_some());

    assert!(plane.compact().await.unwrap() > old.parse().unwrap());
    let past = ListParams::default().at(&old).matching(kube::api::VersionMatch::Exact);
    let gone = maps.list(&past).await;
    assert!(matches!(&gone, Err(kube::Error::Api(status)) if status.code == 410), "{gone:?}");

    plane.kill_component(Component::Etcd).await.unwrap();
    assert!(plane.stop_component(Component::Etcd).await.is_err(), "it was killed already");
    plane.start_component(Component::Etcd).await.unwrap();
    eventually(PATIENCE, "the API server finds etcd again", async || maps.get_opt("kept").await.ok().flatten()).await;
}

#[tokio::test]
async fn stopping_a_control_plane_leaves_nothing_behind() {
    let plane = own_plane(Options::default()).await;
    let directory = plane.run_dir().path().to_path_buf();
    let url = plane.url().trim_start_matches("https://").to_owned();
    // On the way, for it needs a control plane of its own: the bindings for the whole cluster reach other namespaces.
    let ns = TestNs::on(&plane, "wide").await;
    let operator = Operator::start_cluster_wide(&ns, &["--help"]).await;
    assert!(plane.is_allowed(operator.user(), "default", "watch", "busbar.dev", "syncjobs").await.unwrap());
    assert!(plane.is_allowed(operator.user(), ns.name(), "get", "", "secrets").await.unwrap());
    assert!(!plane.is_allowed(operator.user(), "default", "get", "", "secrets").await.unwrap(), "no binding there");
    assert!(!plane.is_allowed(operator.user(), "default", "create", "coordination.k8s.io", "leases").await.unwrap());
    operator.finish(&ns).await;
    drop(ns);
    drop(plane);
    assert!(!directory.exists());
    assert!(tokio::net::TcpStream::connect(url).await.is_err(), "somebody still listens");
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
    assert!(ended.is_none(), "it died with its thread: {ended:?}");
}

#[tokio::test]
async fn the_simulated_bank_is_built_beside_the_operator() {
    shared_plane().await;
    for binary in [env!("CARGO_BIN_EXE_busbar"), env!("CARGO_BIN_EXE_busbar-sim")] {
        assert!(std::path::Path::new(binary).is_file(), "{binary}");
    }
}
