//! How often a connection is resolved: once for each version of what it is resolved from.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use tempfile::TempDir;

use crate::api::REQUESTED_AT;
use crate::api::v1alpha1::provider_connection::{CredentialStatus, ProviderConnectionStatus};
use crate::api::v1alpha1::{BreakerPolicy, BreakerPolicySpec, ProviderConnection};
use crate::cluster::resource::WatchedResource;
use crate::cluster::secrets::SecretReader;
use crate::cluster::stores::KindStore;
use crate::controllers::providerconnection::credentials::resolution;
use crate::controllers::providerconnection::observe::observe;
use crate::controllers::testkit::context;
use crate::controllers::{Ctx, ReconcileError};
use crate::domain::key::{Kind, ObjectKey};
use crate::metrics::Metrics;
use crate::settings::Settings;

/// A context whose API server holds one Secret, and whose stores can be written.
struct Fixture {
    ctx: Ctx,
    connections: Writer<ProviderConnection>,
    policies: Writer<BreakerPolicy>,
    /// What the API server answers.
    server: Arc<Mutex<Server>>,
    /// Settings of each observation, in order.
    seen: Vec<Option<Arc<Settings>>>,
    _directory: TempDir,
}

/// The API server's objects.
struct Server {
    /// Resource version of the Secret; `None`: it may not be read.
    secret: Option<u32>,
    /// UID and generation of the connection.
    connection: (String, i64),
    secret_reads: usize,
    connection_reads: usize,
}

impl Fixture {
    /// Each Secret is read anew.
    async fn new() -> Self {
        Self::with_refresh(Duration::ZERO).await
    }

    /// Copies of Secrets are valid for `refresh`.
    async fn with_refresh(refresh: Duration) -> Self {
        let connection = (String::new(), 0);
        let server = Arc::new(Mutex::new(Server { secret: Some(1), connection, secret_reads: 0, connection_reads: 0 }));
        let answer = {
            let server = Arc::clone(&server);
            move |request: Request<Body>| {
                let response = server.lock().unwrap().respond(request.uri().path());
                async move { Ok::<_, std::convert::Infallible>(response) }
            }
        };
        let client = Client::new(tower::service_fn(answer), "ns");
        let (mut ctx, directory) = context(&client, &Metrics::new()).await;
        ctx.secrets = SecretReader::new(client, ctx.clock, refresh);
        let (connections, policies) = (Writer::default(), Writer::default());
        ctx.stores.connections = KindStore::from_store(connections.as_reader());
        ctx.stores.policies = KindStore::from_store(policies.as_reader());
        Self { ctx, connections, policies, server, seen: Vec::new(), _directory: directory }
    }

    /// Observes the object as stored: what a reconcile does first.
    async fn observe(&mut self) {
        let object = self.ctx.stores.connections.get(&key()).unwrap();
        self.seen.push(observe(&self.ctx, &object).await.unwrap().settings);
    }

    fn store(&mut self, uid: &str, generation: i64) {
        self.server().connection = (uid.to_owned(), generation);
        self.connections.apply_watcher_event(&Event::Apply(connection(uid, generation)));
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    /// How often the Secret and the connections' metadata were read.
    fn reads(&self) -> (usize, usize) {
        let server = self.server();
        (server.secret_reads, server.connection_reads)
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
    named("bank", uid, generation)
}

fn named(name: &str, uid: &str, generation: i64) -> ProviderConnection {
    let spec = "{provider: generic, environment: Sandbox, endpoint: {baseURL: 'https://bank.example'}, \
                healthCheck: {path: /}, auth: {bearer: {secretRef: {name: s}}}}";
    let mut object = ProviderConnection::new(name, serde_yaml::from_str(spec).unwrap());
    object.metadata.namespace = Some("ns".into());
    (object.metadata.uid, object.metadata.generation) = (Some(uid.into()), Some(generation));
    object
}

impl Server {
    /// The response to a read of the Secret or to a list of the connection's metadata.
    fn respond(&mut self, path: &str) -> Response<Body> {
        let (status, body) = if path.contains("providerconnections") {
            self.connection_reads += 1;
            let (uid, generation) = &self.connection;
            let item = format!(r#"{{"metadata": {{"name": "bank", "uid": "{uid}", "generation": {generation}}}}}"#);
            (200, format!(r#"{{"metadata": {{"resourceVersion": "1"}}, "items": [{item}]}}"#))
        } else if let Some(version) = self.secret {
            self.secret_reads += 1;
            let metadata = format!(r#"{{"name": "s", "uid": "u", "resourceVersion": "{version}"}}"#);
            (200, format!(r#"{{"metadata": {metadata}, "data": {{"token": "dA=="}}}}"#))
        } else {
            (403, r#"{"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403}"#.to_owned())
        };
        Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap()
    }
}

#[tokio::test]
async fn reconciles_without_a_change_share_one_resolution() {
    let mut fixture = Fixture::new().await;
    fixture.store("1", 1);
    for _ in 0..5 {
        fixture.observe().await;
    }
    assert_eq!((fixture.seen.len(), fixture.resolutions()), (5, 1));
    let reloaded = resolution(&fixture.ctx, &connection("1", 1), None).await.unwrap().0;
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
        |fixture| fixture.server().secret = Some(2),
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
    fixture.server().secret = None;
    fixture.observe().await;
    fixture.server().secret = Some(1);
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
    let end = observe(&fixture.ctx, &object).await;
    assert!(matches!(end, Err(ReconcileError::Deferred(_))), "its Secret is not used");
    assert!(fixture.ctx.resolutions.connections.is_empty());
    assert_eq!(object.key(), key());
}

#[tokio::test]
async fn a_secret_read_for_a_version_that_has_changed_since_is_not_used() {
    let mut fixture = Fixture::new().await;
    fixture.store("1", 1);
    // The watch lags behind: the API server has the next generation, or another object of the name.
    for newer in [("1".to_owned(), 2), ("2".to_owned(), 1)] {
        fixture.server().connection = newer;
        let end = observe(&fixture.ctx, &connection("1", 1)).await;
        assert!(matches!(end, Err(ReconcileError::Deferred(_))));
    }
    fixture.server().connection = ("1".to_owned(), 1);
    assert!(observe(&fixture.ctx, &connection("1", 1)).await.unwrap().settings.is_some());
}

#[tokio::test]
async fn connections_that_are_there_at_the_start_share_the_read_of_their_secret() {
    let mut fixture = Fixture::with_refresh(Duration::from_mins(1)).await;
    let all: Vec<_> = (0..50).map(|number| named(&format!("bank-{number}"), "1", 1)).collect();
    for object in &all {
        fixture.connections.apply_watcher_event(&Event::Apply(object.clone()));
    }
    fixture.server().connection = ("1".to_owned(), 1);
    for object in all.iter().chain(&all) {
        assert!(observe(&fixture.ctx, object).await.unwrap().settings.is_some());
    }
    assert_eq!(fixture.reads(), (1, 50));
    // One new generation is one read, which is again for all.
    fixture.connections.apply_watcher_event(&Event::Apply(named("bank-7", "1", 2)));
    fixture.server().connection = ("1".to_owned(), 2);
    assert!(observe(&fixture.ctx, &named("bank-7", "1", 2)).await.unwrap().settings.is_some());
    for object in all.iter().filter(|object| object.metadata.name.as_deref() != Some("bank-7")) {
        assert!(observe(&fixture.ctx, object).await.unwrap().settings.is_some());
    }
    assert_eq!(fixture.reads(), (2, 51));
}

#[tokio::test]
async fn a_version_is_confirmed_once_and_each_new_secret_once_more() {
    let mut fixture = Fixture::new().await;
    fixture.store("1", 1);
    for _ in 0..5 {
        fixture.observe().await;
    }
    assert_eq!(fixture.server().connection_reads, 1);
    fixture.server().secret = Some(2);
    for _ in 0..5 {
        fixture.observe().await;
    }
    assert_eq!(fixture.server().connection_reads, 2);
}

#[tokio::test]
async fn after_a_start_too_an_unchanged_credential_is_held_back_from_another_host() {
    let mut fixture = Fixture::new().await;
    fixture.store("1", 2);
    let mut object = connection("1", 2);
    for (host, version, held) in [("old.example", "1", true), ("old.example", "0", false), ("bank.example", "1", false)]
    {
        let credential =
            CredentialStatus { secret_resource_version: Some(version.into()), ..CredentialStatus::default() };
        object.status = Some(ProviderConnectionStatus {
            host: Some(host.into()),
            credential: Some(credential),
            ..ProviderConnectionStatus::default()
        });
        let end = observe(&fixture.ctx, &object).await;
        assert_eq!(matches!(end, Err(ReconcileError::Deferred(_))), held, "{host}, version {version}");
    }
}

#[tokio::test]
async fn a_request_reads_the_secret_anew_once_however_fresh_the_copy_is() {
    let mut fixture = Fixture::with_refresh(Duration::from_mins(1)).await;
    fixture.store("1", 1);
    let mut object = connection("1", 1);
    for (request, reads) in [(None, 1), (None, 1), (Some("r1"), 2), (Some("r1"), 2), (Some("r2"), 3), (None, 3)] {
        let annotations = request.map(|request| [(REQUESTED_AT.to_owned(), request.to_owned())].into());
        object.metadata.annotations = annotations;
        assert!(observe(&fixture.ctx, &object).await.unwrap().settings.is_some());
        assert_eq!(fixture.reads().0, reads, "{request:?}");
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_is_looked_for_again_soon() {
    let mut fixture = Fixture::with_refresh(Duration::from_mins(1)).await;
    fixture.store("1", 1);
    let object = connection("1", 1);
    let valid_for = async |fixture: &Fixture| observe(&fixture.ctx, &object).await.unwrap().inputs.secrets_valid_for;
    fixture.server().secret = None;
    let soon = valid_for(&fixture).await;
    assert!(soon >= Duration::from_secs(1) && soon <= Duration::from_secs(15), "{soon:?}");
    fixture.server().secret = Some(1);
    assert!(valid_for(&fixture).await > Duration::from_secs(15), "usable: read again after the refresh interval");
}
