//! Rights that are revoked while the operator runs, and granted again.

use std::time::Duration;

use busbar::testbed::control_plane::OperatorScope;

use super::{KINDS, fail_bank_a, is_active};
use crate::cluster::chart_release::grant;
use crate::cluster::control_planes::shared_plane;
use crate::cluster::failover_env::FailoverEnv;
use crate::cluster::fault_run::Expected;
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::kit::wait::eventually;

#[tokio::test]
async fn readyz_names_each_list_that_is_forbidden() {
    let ns = TestNs::new("unlisted").await;
    let mut operator = Operator::ready(&ns, &[]).await;
    operator.expect_forbidden();
    assert!(!operator.get("/readyz").await.1.contains("cannot be listed"));
    operator.kill9();
    ns.kubectl(&["delete", "rolebinding", "busbar-operator"]).await.ok();
    let plane = shared_plane().await;
    eventually("the rights are revoked", async || {
        !plane.is_allowed(operator.user(), ns.name(), "list", "busbar.dev", "syncjobs").await.unwrap()
    })
    .await;
    operator.spawn().await;
    operator.wait_listening().await;
    eventually("each kind is named", async || {
        let (status, gates) = operator.get("/readyz").await;
        let named = |kind: &str| gates.contains(&format!("    {kind} cannot be listed: "));
        let all = KINDS.iter().all(|kind| named(kind)) && gates.matches("is forbidden: User").count() == KINDS.len();
        if status == 503 && gates.contains("[-] stores\n") && all { Ok(()) } else { Err(gates) }
    })
    .await;
    assert_eq!(operator.get("/livez").await.0, 200);
    grant(&ns, OperatorScope::Namespace).await;
    operator.wait_ready().await;
    eventually("none is named any more", async || {
        let gates = operator.get("/readyz").await.1;
        if gates.contains("cannot be listed") { Err(gates) } else { Ok(()) }
    })
    .await;
    operator.finish(&ns).await;
}

#[tokio::test]
async fn revoked_rights_are_used_again_when_granted() {
    let plane = shared_plane().await;
    let mut env = FailoverEnv::on(&plane, "revoked").await;
    env.operator.expect_forbidden();
    let mut run = env.fault_run().await;
    // All but those to the lease: it leads, and may neither read nor write.
    env.ns.kubectl(&["delete", "rolebinding", "busbar-operator"]).await.ok();
    // Rights are checked when a watch begins, and a revocation takes effect after a moment.
    eventually("the rights are revoked", async || {
        let may = plane.is_allowed(env.operator.user(), env.ns.name(), "watch", "busbar.dev", "syncjobs").await;
        !may.unwrap()
    })
    .await;
    env.fault_env.proxy.cut_watches();
    fail_bank_a(&env).await;
    run.last_for(&env, Duration::from_secs(40)).await;
    let (livez, readyz) = (env.operator.get("/livez").await.0, env.operator.get("/readyz").await.0);
    assert_eq!((livez, readyz), (200, 200));
    grant(&env.ns, OperatorScope::Namespace).await;
    run.end(&env).await;
    for kind in KINDS {
        let lines = run.log_lines(&env).into_iter().filter(|line| {
            let text = line.to_string();
            line["level"] == "WARN"
                && line["kind"] == kind
                && text.contains("watch failed")
                && text.contains("is forbidden")
        });
        assert_eq!(lines.count(), 1, "why {kind} is not watched is logged once");
    }
    run.outcome(&env, Expected::default(), async |env| is_active(env, "b").await)
        .await
        .assert_recovered(&mut env)
        .await;
    env.finish().await;
}
