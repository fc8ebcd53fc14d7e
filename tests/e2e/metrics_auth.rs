//! `--metrics-auth=kubernetes`: scrapes with real tokens, before a real authorizer.

use std::time::Duration;

use busbar::testbed::control_plane::{Component, Options};

use crate::cluster::control_planes::{own_plane, repository};
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::kit::http::client_with_timeout;
use crate::kit::wait::eventually;

/// A token of a new service account.
async fn token(ns: &TestNs, name: &str) -> String {
    ns.kubectl(&["create", "serviceaccount", name]).await.ok();
    ns.kubectl(&["create", "token", name]).await.ok().trim().to_owned()
}

/// Lets the account scrape.
async fn allow(ns: &TestNs, name: &str) {
    let binding = format!("{}-{name}", ns.name());
    let account = format!("--serviceaccount={}:{name}", ns.name());
    let args = ["create", "clusterrolebinding", &binding, "--clusterrole=busbar-metrics-reader", &account];
    ns.kubectl(&args).await.ok();
}

/// Status and text of a scrape with this token; none if it is empty.
async fn scrape(operator: &Operator, token: &str) -> (u16, String) {
    let client = client_with_timeout(Duration::from_secs(20));
    let mut request = client.get(format!("http://{}/metrics", operator.admin()));
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.expect("an answer of the admin port");
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn until(operator: &Operator, token: &str, status: u16) -> String {
    eventually(format!("a scrape is answered {status}"), async || {
        let (found, text) = scrape(operator, token).await;
        if found == status { Ok(text) } else { Err(format!("{found}: {text}")) }
    })
    .await
}

#[tokio::test]
async fn metrics_are_scraped_only_by_users_whom_rbac_allows_the_path() {
    let plane = own_plane(Options::default()).await;
    let ns = TestNs::on(&plane, "scrape").await;
    plane.apply_path(&repository("config/rbac/metrics.yaml")).await.unwrap();
    let (prometheus, guest) = (token(&ns, "prometheus").await, token(&ns, "guest").await);
    allow(&ns, "prometheus").await;
    let operator = Operator::ready(&ns, &["--metrics-auth=kubernetes"]).await;

    let text = until(&operator, &prometheus, 200).await;
    assert!(text.contains("busbar_build_info") && text.contains("busbar_metrics_reviews_total"), "{text}");
    for (token, status, says) in [
        ("", 401, "no bearer token"),
        ("forged", 401, "invalid token"),
        (guest.as_str(), 403, "bind ClusterRole busbar-metrics-reader"),
    ] {
        let (found, text) = scrape(&operator, token).await;
        assert_eq!(found, status, "{text}");
        assert!(text.contains(says) && !text.contains("busbar_build_info"), "{text}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(operator.get(path).await.0, 200, "probes need no token");
    }

    plane.pause(Component::ApiServer).await.unwrap();
    until(&operator, &prometheus, 503).await;
    plane.resume(Component::ApiServer).await.unwrap();
    until(&operator, &prometheus, 200).await;

    // A revoked right ends with the cached review.
    let binding = format!("{}-prometheus", ns.name());
    ns.kubectl(&["delete", "clusterrolebinding", &binding]).await.ok();
    until(&operator, &prometheus, 403).await;
    allow(&ns, "guest").await;
    until(&operator, &guest, 200).await;
    operator.finish(&ns).await;
}

#[tokio::test]
async fn metrics_need_no_token_by_default() {
    let ns = TestNs::new("open").await;
    let operator = Operator::ready(&ns, &[]).await;
    let (status, text) = scrape(&operator, "").await;
    assert_eq!(status, 200, "{text}");
    assert!(!text.contains("busbar_metrics_reviews_total"), "nothing is reviewed: {text}");
    operator.finish(&ns).await;
}
