//! The gateway before a real API server: real tokens, real RBAC, an API server that is away, two replicas.

use std::time::Duration;

use busbar::api::v1alpha1::ProviderConnection;
use busbar::clock::Clock;
use busbar::testbed::control_plane::{Component, Options};
use busbar::testbed::sim::{BankConfig, BankHandle};
use serde_json::Value;

use crate::jobs::ledger_file;
use crate::support::plane::{PATIENCE, repository};
use crate::support::world::condition;
use crate::support::{Operator, TestNs, World, eventually, own_plane};

const QUOTE_BODY: &str = r#"[{"symbol":"ACME","price":101.25,"timestamp":1767225600}]"#;

/// A provider that answers quotes, and its connection `fmp`.
async fn fmp(world: &World, fields: &str) -> BankHandle {
    let mut config = BankConfig::new("fmp");
    config.canned.insert("/quote".to_owned(), QUOTE_BODY.to_owned());
    let bank = world.sim.add_bank(config).await.expect("a bank");
    world.ns.secret("fmp-credentials", &[("api-key", world.ns.canary("fmp").as_bytes())]).await;
    world.put(&connection(&bank, fields)).await;
    bank
}

fn connection(bank: &BankHandle, fields: &str) -> String {
    format!(
        "{{apiVersion: busbar.dev/v1alpha1, kind: ProviderConnection, metadata: {{name: fmp}}, spec: {{
          provider: fmp, environment: Sandbox, endpoint: {{baseURL: '{}', insecure: true}},
          auth: {{profile: {{secretRef: {{name: fmp-credentials}}}}}}, {fields}}}}}",
        bank.base_url()
    )
}

/// A service account that holds the cluster role `role` here, if any; a token of it.
pub(crate) async fn account(ns: &TestNs, name: &str, role: Option<&str>) -> String {
    let callers = repository("config/rbac/callers.yaml");
    ns.kubectl(&["apply", "-f", callers.to_str().unwrap()]).await.ok().expect("the callers' roles are applied");
    ns.kubectl(&["create", "serviceaccount", name]).await.ok().expect("an account");
    if let Some(role) = role {
        let account = format!("--serviceaccount={}:{name}", ns.name());
        let role = format!("--clusterrole={role}");
        ns.kubectl(&["create", "rolebinding", name, &role, &account]).await.ok().expect("a binding");
    }
    ns.kubectl(&["create", "token", name]).await.ok().expect("a token").trim().to_owned()
}

/// Status, error code and body of an answer.
pub(crate) async fn get(operator: &Operator, path: &str, token: &str) -> (u16, String, Value) {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
    let mut request = client.get(format!("{}{path}", operator.gateway()));
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.expect("an answer of the gateway");
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).expect("JSON");
    (status, body["data"]["error"].as_str().unwrap_or_default().to_owned(), body)
}

fn quote(ns: &TestNs) -> String {
    format!("/api/providers/{}/fmp/quote?symbol=ACME", ns.name())
}

/// Waits until a call is answered so: bindings and specs arrive by watches.
pub(crate) async fn until(operator: &Operator, path: &str, token: &str, wanted: (u16, &str)) {
    let what = format!("{path} is answered {wanted:?}");
    eventually(PATIENCE, &what, async || {
        let (status, error, _) = get(operator, path, token).await;
        ((status, error.as_str()) == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_service_account_calls_what_rbac_lets_it_and_a_revoked_right_is_gone_within_ten_seconds() {
    let world = World::new("gateway").await;
    let bank = fmp(&world, "").await;
    let (desk, guest) =
        (account(&world.ns, "desk", Some("busbar-caller")).await, account(&world.ns, "guest", None).await);
    let operator = Operator::ready(&world.ns, &[]).await;
    let path = quote(&world.ns);
    until(&operator, &path, &desk, (200, "")).await;
    let (_, _, body) = get(&operator, &path, &desk).await;
    assert_eq!(body["data"]["result"]["price"], "101.25", "{body}");
    assert!(bank.arrivals().entries.iter().all(|a| a.path.starts_with("/quote")));
    for (token, wanted) in
        [("", (401, "unauthenticated")), ("forged", (401, "unauthenticated")), (&guest, (403, "forbidden"))]
    {
        let (status, error, body) = get(&operator, &path, token).await;
        assert_eq!((status, error.as_str()), wanted, "{body}");
    }
    let list = format!("/api/dead-requests?namespace={}", world.ns.name());
    assert_eq!(get(&operator, &list, &desk).await.0, 403, "calling is not looking");
    let ops = account(&world.ns, "ops", Some("busbar-dead-requests")).await;
    until(&operator, &list, &ops, (200, "")).await;
    assert_eq!(get(&operator, "/api/dead-requests", &ops).await.0, 403, "not in all namespaces");

    let clock = Clock::system();
    world.ns.kubectl(&["delete", "rolebinding", "desk"]).await.ok().unwrap();
    let began = clock.mono();
    until(&operator, &path, &desk, (403, "forbidden")).await;
    let took = clock.mono().since(began);
    assert!(took < Duration::from_secs(12), "ten seconds, and what the API server takes: {took:?}");
    let scrape = operator.metrics().await;
    assert!(scrape.contains("busbar_gateway_requests_total{method=\"GET\",route=\"/api/providers/{namespace}/{connection}/{operation}\",status=\"200\"}"), "{scrape}");
    assert!(!operator.logs().contains("ACME"), "the query is in no log");
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn licence_profiles_are_bound_to_accounts_and_one_for_consumers_is_said_to_be_unknown() {
    let world = World::new("rights").await;
    let rights =
        |subject: &str| format!("rights: {{profiles: [{{name: desk, subjects: [{subject}], actions: [quote]}}]}}");
    let of_desk = format!("{{name: desk, kind: ServiceAccount, value: '{}:desk'}}", world.ns.name());
    let bank = fmp(&world, &rights(&of_desk)).await;
    let desk = account(&world.ns, "desk", Some("busbar-caller")).await;
    let other = account(&world.ns, "other", Some("busbar-caller")).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    until(&operator, &quote(&world.ns), &desk, (200, "")).await;
    until(&operator, &quote(&world.ns), &other, (403, "rights_denied")).await;
    let earnings = quote(&world.ns).replace("/quote", "/earnings");
    assert_eq!(get(&operator, &earnings, &desk).await.1, "rights_denied");
    world.put(&connection(&bank, &rights("{name: shop, kind: Consumer, value: shop}"))).await;
    let message = world
        .until::<ProviderConnection, _>("fmp", "it is Stalled", |object| {
            let conditions = &object.status.as_ref()?.conditions;
            let stalled = condition(conditions, "Stalled")?;
            (stalled == ("True".to_owned(), "NotImplemented".to_owned()))
                .then(|| conditions.iter().find(|c| c.type_ == "Stalled").unwrap().message.clone())
        })
        .await;
    assert!(message.contains("Consumer"), "{message}");
    until(&operator, &quote(&world.ns), &desk, (404, "connection_not_found")).await;
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn while_the_api_server_is_away_nobody_new_is_let_in_and_afterwards_everybody_is() {
    let plane = own_plane(Options::default()).await;
    let world = World::on(&plane, "away").await;
    fmp(&world, "").await;
    let desk = account(&world.ns, "desk", Some("busbar-caller")).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    until(&operator, &quote(&world.ns), &desk, (200, "")).await;
    plane.pause(Component::ApiServer).await.expect("it is paused");
    until(&operator, &quote(&world.ns), &desk, (503, "authorization_unavailable")).await;
    plane.resume(Component::ApiServer).await.expect("it goes on");
    until(&operator, &quote(&world.ns), &desk, (200, "")).await;
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn a_standby_answers_calls_and_goes_on_when_it_takes_over() {
    let world = World::new("standby").await;
    let bank = fmp(&world, "").await;
    let desk = account(&world.ns, "desk", Some("busbar-caller")).await;
    let ledger = format!("--ledger=sqlite:{}", ledger_file(&world.ns, "a").display());
    let mut replicas = Vec::new();
    for name in ["a", "b"] {
        let mut operator = Operator::start_replica(&world.ns, name, &[&ledger]).await;
        operator.wait_ready().await;
        if replicas.is_empty() {
            eventually(PATIENCE, "the first leads", async || operator.leads().await.then_some(())).await;
        }
        replicas.push(operator);
    }
    let path = quote(&world.ns);
    for operator in &replicas {
        until(operator, &path, &desk, (200, "")).await;
    }
    assert!(!replicas[1].leads().await, "it answers as a standby");
    // What changes in the spec reaches it too.
    world.put(&connection(&bank, "suspend: true")).await;
    until(&replicas[1], &path, &desk, (503, "suspended")).await;
    world.put(&connection(&bank, "suspend: false")).await;
    until(&replicas[1], &path, &desk, (200, "")).await;

    let ended = replicas[0].sigterm().await;
    assert!(ended.success(), "{ended}");
    let clock = Clock::system();
    let until_mono = clock.mono() + PATIENCE;
    while !replicas[1].leads().await {
        assert!(clock.mono() < until_mono, "the standby does not take over");
        let (status, error, body) = get(&replicas[1], &path, &desk).await;
        assert_eq!((status, error.as_str()), (200, ""), "while it takes over: {body}");
    }
    until(&replicas[1], &path, &desk, (200, "")).await;
    for operator in replicas {
        operator.finish(&world.ns).await;
    }
}
