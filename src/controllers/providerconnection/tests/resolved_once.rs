//! How often a connection is resolved: once for each version of what it is resolved from.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use tempfile::TempDir;

use crate::api::v1alpha1::{BreakerPolicy, BreakerPolicySpec, ProviderConnection};
use crate::cluster::resource::WatchedResource;
use crate::cluster::stores::KindStore;
use crate::controllers::Ctx;
use crate::controllers::providerconnection::observe::{self, observe};
use crate::controllers::testkit::context;
use crate::domain::key::{Kind, ObjectKey};
use crate::metrics::Metrics;
use crate::settings::Settings;

/// A context whose API server holds one Secret, and whose stores can be written.
struct Fixture {
    ctx: Ctx,
    connections: Writer<ProviderConnection>,
    policies: Writer<BreakerPolicy>,
    /// Resource version of the Secret; `None`: it may not be read.
    secret: Arc<Mutex<Option<u32>>>,
    /// Settings of each observation, in order.
    seen: Vec<Option<Arc<Settings>>>,
    _directory: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let secret = Arc::new(Mutex::new(Some(1)));
        let answer = {
            let secret = Arc::clone(&secret);
            move |_: Request<Body>| {
                let version = *secret.lock().unwrap();
                async move { Ok::<_, std::convert::Infallible>(response(version)) }
            }
        };
        let client = Client::new(tower::service_fn(answer), "ns");
        let (mut ctx, directory) = context(&client, &Metrics::new()).await;
        let (connections, policies) = (Writer::default(), Writer::default());
        ctx.stores.connections = KindStore::from_store(connections.as_reader());
        ctx.stores.policies = KindStore::from_store(policies.as_reader());
        Self { ctx, connections, policies, secret, seen: Vec::new(), _directory: directory }
    }

    /// Observes the object as stored: what a reconcile does first.
    async fn observe(&mut self) {
        let object = self.ctx.stores.connections.get(&key()).unwrap();
        self.seen.push(observe(&self.ctx, &object).await.unwrap().settings);
    }

    fn store(&mut self, uid: &str, generation: i64) {
        self.connections.apply_watcher_event(&Event::Apply(connection(uid, generation)));
    }

    fn store_policy(&mut self, generation: i64) {
        let mut policy = BreakerPolicy::new("default", BreakerPolicySpec::default());
        policy.metadata.namespace = Some("ns".into());
        (policy.metadata.uid, policy.metadata.generation) = (Some("p".into()), Some(generation));
        self.policies.apply_watcher_event(&Event::Apply(policy));
    }

    /// How many different settings the observations returned.
    fn resolutions(&self) -> usize {
        let different = |(i, one): (usize, &Option<Arc<Settings>>)| {
            let earlier = &self.seen[..i];
            let same = |other: &Option<Arc<Settings>>| match (one, other) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                _ => false,
            };
            !earlier.iter().any(same)
        };
        self.seen.iter().enumerate().filter(|entry| different(*entry)).count()
    }
}

fn key() -> ObjectKey {
    ObjectKey::new("ns", "bank")
}

fn connection(uid: &str, generation: i64) -> ProviderConnection {
    let spec = "{provider: generic, environment: Sandbox, endpoint: {baseURL: 'https://bank.example'}, \
                healthCheck: {path: /}, auth: {bearer: {secretRef: {name: s}}}}";
    let mut object = ProviderConnection::new("bank", serde_yaml::from_str(spec).unwrap());
    object.metadata.namespace = Some("ns".into());
    (object.metadata.uid, object.metadata.generation) = (Some(uid.into()), Some(generation));
    object
}

/// The API server's response to a read of the Secret.
fn response(version: Option<u32>) -> Response<Body> {
    let (status, body) = match version {
        Some(version) => (
            200,
            format!(r#"{{"metadata": {{"name": "s", "resourceVersion": "{version}"}}, "data": {{"token": "dA=="}}}}"#),
        ),
        None => (403, r#"{"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403}"#.to_owned()),
    };
    Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap()
}

#[tokio::test]
async fn reconciles_without_a_change_share_one_resolution() {
    let mut fixture = Fixture::new().await;
    fixture.store("1", 1);
    for _ in 0..5 {
        fixture.observe().await;
    }
    assert_eq!((fixture.seen.len(), fixture.resolutions()), (5, 1));
    let reloaded = observe::resolution(&fixture.ctx, &connection("1", 1), &key(), None).await.unwrap().0;
    fixture.seen.push(reloaded.connection.as_ref().ok().map(|resolved| Arc::clone(&resolved.settings)));
    assert_eq!(fixture.resolutions(), 1, "the reload of Secrets shares it too");
}

#[tokio::test]
async fn every_change_of_a_source_is_resolved_anew_and_once() {
    let mut fixture = Fixture::new().await;
    let changes: [fn(&mut Fixture); 6] = [
        |fixture| fixture.store("1", 1),
        |fixture| fixture.store("1", 2),
        |fixture| fixture.store_policy(1),
        |fixture| fixture.store_policy(2),
        |fixture| *fixture.secret.lock().unwrap() = Some(2),
        |fixture| fixture.store("2", 2),
    ];
    for (done, change) in changes.into_iter().enumerate() {
        change(&mut fixture);
        fixture.observe().await;
        fixture.observe().await;
        assert_eq!(fixture.resolutions(), done + 1, "after change {done}");
    }
    assert_eq!(fixture.ctx.resolutions.connections.len(), 1);
}

#[tokio::test]
async fn a_secret_that_becomes_readable_is_resolved_anew() {
    let mut fixture = Fixture::new().await;
    fixture.store("1", 1);
    *fixture.secret.lock().unwrap() = None;
    fixture.observe().await;
    *fixture.secret.lock().unwrap() = Some(1);
    fixture.observe().await;
    assert_eq!((fixture.seen[0].is_none(), fixture.seen[1].is_some()), (true, true));
}

#[tokio::test]
async fn an_entry_ends_with_its_object() {
    let mut fixture = Fixture::new().await;
    fixture.store("1", 1);
    fixture.observe().await;
    fixture.ctx.resolutions.forget(Kind::ProviderConnection, &key());
    assert!(fixture.ctx.resolutions.connections.is_empty());
    // Deleted while the reconcile reads its sources: its delete event came before the entry.
    let object = connection("1", 1);
    fixture.connections.apply_watcher_event(&Event::Delete(object.clone()));
    observe(&fixture.ctx, &object).await.unwrap();
    assert!(fixture.ctx.resolutions.connections.is_empty());
    assert_eq!(object.key(), key());
}
