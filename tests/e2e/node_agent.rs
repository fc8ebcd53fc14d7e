//! The node agent itself, with Pods that know nothing of Busbar.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::cluster::namespace::TestNs;
use crate::cluster::node::agent::{NodeAgent, claim_dir};
use crate::cluster::node::control::Restarts;
use crate::kit::wait::eventually;

/// A namespace whose Pods run; the image `shell` is a shell.
async fn node(topic: &str) -> (TestNs, NodeAgent) {
    node_with(topic, Restarts::ByPolicy).await
}

async fn node_with(topic: &str, restarts: Restarts) -> (TestNs, NodeAgent) {
    let ns = TestNs::new(topic).await;
    let images = [("shell".to_owned(), PathBuf::from("/bin/sh"))].into();
    let agent = NodeAgent::start_with(ns.plane(), Some(ns.name()), images, restarts).await;
    (ns, agent)
}

/// A Pod of one container that runs `script`.
fn pod(name: &str, script: &str, container: &Value, spec: &Value) -> Value {
    let mut all = json!({"name": "main", "image": "shell:1", "command": ["sh", "-c", script]});
    let mut whole = json!({"restartPolicy": "Never"});
    for (target, more) in [(&mut all, container), (&mut whole, spec)] {
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    whole["containers"] = json!([all]);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": whole})
}

/// The Pod when `look` finds what it looks for.
async fn until<T>(ns: &TestNs, name: &str, what: &str, look: impl Fn(&Value) -> Option<T>) -> (Pod, T) {
    eventually(format!("Pod {name}: {what}"), async || {
        let pod = ns.api::<Pod>().get(name).await.map_err(|error| error.to_string())?;
        let status = json!(pod.status);
        let found = look(&status).ok_or_else(|| format!("{status:#}"))?;
        Ok::<_, String>((pod, found))
    })
    .await
}

fn in_phase(phase: &str) -> impl Fn(&Value) -> Option<()> {
    move |status| (status["phase"] == phase).then_some(())
}

fn condition<'a>(status: &'a Value, name: &str) -> &'a str {
    let all = status["conditions"].as_array().into_iter().flatten();
    all.filter(|c| c["type"] == name).find_map(|c| c["status"].as_str()).unwrap_or_default()
}

#[tokio::test]
async fn a_container_sees_its_environment_and_mounts_and_nothing_else() {
    let (ns, agent) = node("node-view").await;
    ns.secret("keys", &[("a", b"secret-a")]).await;
    ns.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {b: from-map, c: other}}\n---\n\
         {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: disk}, spec: {accessModes: [ReadWriteOnce], \
         resources: {requests: {storage: 1Gi}}}}",
    )
    .await;
    let env = json!([
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}},
        {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "b"}}},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "b", "optional": true}}},
        {"name": "BOTH", "value": "$(A)-$(B)-$(ABSENT)-$$(A)"},
    ]);
    let mounts = json!([
        {"name": "keys", "mountPath": "/etc/app/keys", "readOnly": true},
        {"name": "settings", "mountPath": "/etc/app/settings"},
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "disk", "mountPath": "/var/lib/app"},
    ]);
    let volumes = json!([
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 288}},
        {"name": "settings", "configMap": {"name": "settings", "items": [{"key": "b", "path": "in/b"}]}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}},
    ]);
    let script = "echo env $NAME $LABEL $A $BOTH [$NONE] [$CARGO_MANIFEST_DIR]; echo arg $0 $1\n\
        echo ip $ADDRESS; echo id $(id -u) $(id -g) $(id -G); echo pwd $(pwd)\n\
        echo files $(cat /etc/app/keys/a) $(cat /etc/app/settings/in/b) $(ls /etc/app/settings)\n\
        echo account $(ls /var/run/secrets/kubernetes.io/serviceaccount) in \
        $(cat /var/run/secrets/kubernetes.io/serviceaccount/namespace)\n\
        echo x >/scratch/x && echo x >/var/lib/app/x && echo written; echo x >/x || echo root read-only\n\
        echo x >/etc/app/keys/x || echo mount read-only; ls /work /root || echo host hidden\n\
        grep -q 'CapEff:.0000000000000000' /proc/self/status && echo no capabilities";
    let container = json!({
        "env": env, "volumeMounts": mounts, "workingDir": "/scratch",
        "args": ["--listen=0.0.0.0:8081", "$(NAME):$(MISSING)"],
        "securityContext": {"readOnlyRootFilesystem": true},
    });
    let context = json!({"runAsUser": 65532, "runAsGroup": 65531, "fsGroup": 65530, "runAsNonRoot": true});
    let spec = json!({"volumes": volumes, "securityContext": context});
    ns.apply(&pod("view", script, &container, &spec).to_string()).await;
    let (object, ip) = until(&ns, "view", "it succeeds", |status| {
        (status["phase"] == "Succeeded").then(|| status["podIP"].as_str().unwrap().to_owned())
    })
    .await;
    let log = agent.log(&object.uid().unwrap(), "main");
    let ip_line = format!("ip {ip}");
    let argument = format!("arg --listen={ip}:8081 view:$(MISSING)");
    let account = format!("account ca.crt namespace token in {}", ns.name());
    for line in [
        "env view view secret-a secret-a-from-map-$(ABSENT)-$(A) [] []",
        &argument,
        &ip_line,
        "id 65532 65531 65531 65530",
        "pwd /scratch",
        "files secret-a from-map in",
        &account,
        "written",
        "root read-only",
        "mount read-only",
        "host hidden",
        "no capabilities",
    ] {
        assert!(log.lines().any(|found| found == line), "{line:?} in:\n{log}");
    }
    assert!(ip.starts_with("127.") && object.spec.unwrap().node_name.as_deref() == Some(agent.node()));
    let claim = ns.json("pvc", "disk").await.unwrap();
    assert_eq!(claim["status"]["phase"], "Bound");
}

#[tokio::test]
async fn what_a_pod_refers_to_is_waited_for_and_changes_reach_its_files() {
    let (ns, agent) = node("node-files").await;
    let volumes = json!([{"name": "settings", "configMap": {"name": "settings"}}]);
    let container = json!({"volumeMounts": [{"name": "settings", "mountPath": "/settings"}]});
    let script = "until [ \"$(cat /settings/a)\" = new ]; do sleep 0.1; done; echo seen; ls /settings";
    ns.apply(&pod("files", script, &container, &json!({ "volumes": volumes })).to_string()).await;
    until(&ns, "files", "it waits for its ConfigMap", |status| {
        let waiting = &status["containerStatuses"][0]["state"]["waiting"];
        let text = waiting["message"].as_str().unwrap_or_default();
        (status["phase"] == "Pending" && text.contains("settings not found")).then_some(())
    })
    .await;
    for data in ["a: old, b: old", "a: new"] {
        ns.apply(&format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings}}, data: {{{data}}}}}")).await;
        if data.contains("old") {
            until(&ns, "files", "it runs", in_phase("Running")).await;
        }
    }
    let (object, ()) = until(&ns, "files", "it has seen the change", in_phase("Succeeded")).await;
    assert_eq!(agent.log(&object.uid().unwrap(), "main"), "seen\na\n", "and that b is gone");
}

#[tokio::test]
async fn probes_decide_about_readiness_and_restarts() {
    let (ns, agent) = node("node-probes").await;
    // The first process never passes its startup probe. The second one is ready while a file exists, and alive likewise.
    let script = "if [ ! -e /state/first ]; then touch /state/first; trap 'echo stopped; exit 3' TERM\n\
        while :; do sleep 0.1; done; fi\n\
        cd /state; touch started ready alive; sleep 2; rm ready; sleep 2; rm alive; exec sleep 600";
    let file = |name: &str| json!({"exec": {"command": ["test", "-e", format!("/state/{name}")]}, "periodSeconds": 1});
    let mut startup = file("started");
    startup["failureThreshold"] = json!(2);
    let (mut readiness, mut liveness) = (file("ready"), file("alive"));
    (readiness["failureThreshold"], liveness["failureThreshold"]) = (json!(1), json!(1));
    let container = json!({
        "startupProbe": startup, "readinessProbe": readiness, "livenessProbe": liveness,
        "volumeMounts": [{"name": "state", "mountPath": "/state"}],
    });
    let spec = json!({
        "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "state", "emptyDir": {}}],
    });
    ns.apply(&pod("probes", script, &container, &spec).to_string()).await;
    let restarts = |status: &Value| status["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default();
    until(&ns, "probes", "ready after a restart", |s| {
        (condition(s, "Ready") == "True" && restarts(s) == 1).then_some(())
    })
    .await;
    until(&ns, "probes", "not ready and running", |s| {
        (condition(s, "Ready") == "False" && restarts(s) == 1 && s["phase"] == "Running").then_some(())
    })
    .await;
    // A shell's `sleep` is killed by SIGTERM, which is a failure; the next restart waits.
    let (object, ()) = until(&ns, "probes", "killed by its liveness probe", |s| {
        let waiting = s["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        (waiting && restarts(s) == 1).then_some(())
    })
    .await;
    assert!(agent.log(&object.uid().unwrap(), "main").contains("stopped"));
    assert_eq!(agent.exit_codes(ns.name(), "probes"), [3, 128 + 15]);
}

#[tokio::test]
async fn a_deleted_pod_has_its_grace_period_and_a_forced_deletion_kills() {
    let (ns, agent) = node("node-end").await;
    let hook = json!({"preStop": {"exec": {"command": ["sh", "-c", "touch /tmp/hook"]}}});
    let script =
        "trap 'ls /tmp; echo draining; sleep 1; echo drained; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    for name in ["graceful", "forced"] {
        ns.apply(&pod(name, script, &json!({ "lifecycle": hook }), &json!({})).to_string()).await;
    }
    let (graceful, ()) = until(&ns, "graceful", "it runs", in_phase("Running")).await;
    let (forced, ()) = until(&ns, "forced", "it runs", in_phase("Running")).await;
    for pod in [&graceful, &forced] {
        let up = async || agent.log(&pod.uid().unwrap(), "main") == "up\n";
        eventually("its trap is set", up).await;
    }
    let immediate = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for (name, parameters) in [("graceful", DeleteParams::default()), ("forced", immediate)] {
        ns.api::<Pod>().delete(name, &parameters).await.unwrap();
        eventually(format!("Pod {name} is gone"), async || ns.api::<Pod>().get_opt(name).await.unwrap().is_none())
            .await;
    }
    let code = async |name: &str| {
        let exit_code = async || agent.exit_codes(ns.name(), name).first().copied();
        eventually(format!("{name} ended"), exit_code).await
    };
    assert_eq!((code("graceful").await, code("forced").await), (0, 128 + 9));
    assert_eq!(agent.log(&graceful.uid().unwrap(), "main"), "up\nhook\ndraining\ndrained\n");
    assert_eq!(agent.log(&forced.uid().unwrap(), "main"), "up\n");
}

#[tokio::test]
async fn a_job_completes_after_a_failed_container() {
    let (ns, agent) = node("node-job").await;
    let template = pod(
        "unused",
        "if [ -e /state/once ]; then echo second; exit 0; fi; touch /state/once; echo first; exit 7",
        &json!({"volumeMounts": [{"name": "state", "mountPath": "/state"}]}),
        &json!({"restartPolicy": "OnFailure", "volumes": [{"name": "state", "emptyDir": {}}]}),
    );
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"},
        "spec": {"template": {"spec": template["spec"]}}});
    ns.apply(&job.to_string()).await;
    let wait = ["wait", "job/once", "--for=condition=Complete", "--timeout=60s"];
    ns.kubectl(&wait).await.ok();
    let pods = ns.api::<Pod>().list(&kube::api::ListParams::default()).await.unwrap();
    let [pod] = &pods.items[..] else { panic!("{} Pods", pods.items.len()) };
    assert_eq!(agent.log(&pod.uid().unwrap(), "main"), "first\nsecond\n");
    assert_eq!(json!(pod.status)["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 7);
}

#[tokio::test]
async fn an_unknown_image_and_a_missing_key_are_reported_in_the_status() {
    let (ns, _agent) = node("node-wrong").await;
    ns.secret("keys", &[("a", b"x")]).await;
    let from = json!({"secretKeyRef": {"name": "keys", "key": "b"}});
    let root = json!({"securityContext": {"runAsNonRoot": true}});
    for (name, container, spec, reason, message) in [
        ("image", json!({"image": "other:1"}), json!({}), "ErrImagePull", "image other:1"),
        (
            "key",
            json!({"env": [{"name": "B", "valueFrom": from}]}),
            json!({}),
            "CreateContainerConfigError",
            "key b of Secret keys not found",
        ),
        ("root", json!({}), root, "CreateContainerConfigError", "will run as root"),
    ] {
        ns.apply(&pod(name, "exit 0", &container, &spec).to_string()).await;
        until(&ns, name, reason, |status| {
            let waiting = &status["containerStatuses"][0]["state"]["waiting"];
            (waiting["reason"] == reason && waiting["message"].as_str()?.contains(message)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn kubectl_runs_a_command_in_a_container_and_copies_files() {
    let (ns, _agent) = node("node-exec").await;
    let context = json!({"runAsUser": 65532, "runAsGroup": 65532});
    let container = json!({"env": [{"name": "OWN", "value": "of the Pod"}], "workingDir": "/tmp"});
    ns.apply(&pod("shell", "exec sleep 1000", &container, &json!({ "securityContext": context })).to_string()).await;
    until(&ns, "shell", "it runs", in_phase("Running")).await;
    let exec = async |args: &[&str], input: &str| ns.kubectl_with(&[&["exec"], args].concat(), input).await;

    let script = "id -u; pwd; echo $OWN; cat /proc/1/comm >/dev/null; ls /work || echo host hidden";
    let seen = exec(&["shell", "--", "sh", "-c", script], "").await.ok();
    assert_eq!(seen, "65532\n/tmp\nof the Pod\nhost hidden\n");
    let counted = exec(&["-i", "shell", "--", "wc", "-c"], "four").await.ok();
    assert_eq!(counted.trim(), "4", "stdin ends with that of the client");
    let long = exec(&["shell", "--", "head", "-c", "300000", "/dev/zero"], "").await.ok();
    assert_eq!(long.len(), 300_000);
    let failed = exec(&["shell", "--", "sh", "-c", "echo why >&2; exit 3"], "").await;
    assert!(!failed.success && failed.stderr.contains("why\n"), "{}", failed.stderr);
    assert!(failed.stderr.contains("exit code 3"), "{}", failed.stderr);
    let absent = exec(&["shell", "--", "/no/such/program"], "").await;
    assert!(!absent.success, "{}", absent.stdout);

    let folder = tempfile::tempdir().unwrap();
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    std::fs::write(&there, "content").unwrap();
    for [from, to] in [[&*there.to_string_lossy(), "shell:/tmp/file"], ["shell:/tmp/file", &back.to_string_lossy()]] {
        ns.kubectl(&["cp", from, to]).await.ok();
    }
    assert_eq!(std::fs::read_to_string(back).unwrap(), "content");
}

#[tokio::test]
async fn a_test_decides_when_a_container_that_has_ended_starts_again() {
    let (ns, agent) = node_with("node-held", Restarts::ByTest).await;
    ns.apply(&pod("held", "exec sleep 600", &json!({}), &json!({"restartPolicy": "Always"})).to_string()).await;
    let first = eventually("it runs", async || agent.newest(ns.name(), "held")).await;
    first.process.kill();
    until(&ns, "held", "it is held", |status| {
        let container = &status["containerStatuses"][0];
        let held = container["state"]["waiting"]["reason"] == "CrashLoopBackOff" && container["restartCount"] == 0;
        held.then_some(())
    })
    .await;
    let newest = agent.newest(ns.name(), "held").unwrap();
    assert_eq!((newest.process.pid(), agent.exit_codes(ns.name(), "held")), (first.process.pid(), vec![128 + 9]));
    agent.restart(&first.uid);
    until(&ns, "held", "it runs again", |status| {
        let container = &status["containerStatuses"][0];
        (container["state"]["running"].is_object() && container["restartCount"] == 1).then_some(())
    })
    .await;
    let second = agent.newest(ns.name(), "held").unwrap();
    assert_eq!((&second.uid, &second.ip), (&first.uid, &first.ip), "the same Pod");
    assert_ne!(second.process.pid(), first.process.pid());
}

#[tokio::test]
async fn what_a_claim_holds_already_is_given_to_the_group_of_the_pod() {
    let (ns, agent) = node("node-group").await;
    let folder = claim_dir(ns.plane(), ns.name(), "disk");
    fs::create_dir_all(folder.join("in")).unwrap();
    fs::write(folder.join("in/file"), "old\n").unwrap();
    fs::set_permissions(folder.join("in/file"), Permissions::from_mode(0o600)).unwrap();
    ns.apply(
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: disk}, spec: {accessModes: [ReadWriteOnce], \
         resources: {requests: {storage: 1Gi}}}}",
    )
    .await;
    let container = json!({"volumeMounts": [{"name": "disk", "mountPath": "/disk"}]});
    let spec = json!({
        "securityContext": {"runAsUser": 65532, "runAsGroup": 65531, "fsGroup": 65530, "runAsNonRoot": true},
        "volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}],
    });
    let script =
        "cat /disk/in/file; echo new >>/disk/in/file && touch /disk/in/other && stat -c '%u %g' /disk/in/other";
    ns.apply(&pod("group", script, &container, &spec).to_string()).await;
    let (object, ()) = until(&ns, "group", "it has ended", in_phase("Succeeded")).await;
    assert_eq!(agent.log(&object.uid().unwrap(), "main"), "old\n65532 65530\n");
    assert_eq!(fs::read_to_string(folder.join("in/file")).unwrap(), "old\nnew\n");
}
