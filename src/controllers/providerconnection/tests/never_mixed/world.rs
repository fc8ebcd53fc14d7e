//! The API server's objects, the operator that follows them, and what is meant to go where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::hosts::{Hosts, Sighting};
use crate::api::v1alpha1::ProviderConnection;
use crate::cluster::secrets::{ReadMark, SecretReader};
use crate::cluster::stores::KindStore;
use crate::controllers::Ctx;
use crate::controllers::providerconnection::first_seen::Seen;
use crate::controllers::providerconnection::secret_reload::SecretReloader;
use crate::controllers::providerconnection::{act, decide, observe, standby};
use crate::controllers::testkit::context;
use crate::domain::key::{Kind, ObjectKey};
use crate::metrics::Metrics;
use crate::provider::call::{CacheMode, CallError, Request as ProviderRequest, Response as ProviderResponse};
use crate::provider::connection::Connection;
use crate::settings::Settings;
use crate::sync::Fetch as _;
use crate::sync::fetch::PlannedConnection;

type CallEnd = Result<ProviderResponse, CallError>;

/// A minute, as by default.
const REFRESH: Duration = Duration::from_mins(1);

pub(super) fn key() -> ObjectKey {
    ObjectKey::new("ns", "bank")
}

/// How the connection authenticates.
#[derive(Copy, Clone, Debug)]
pub(super) enum AuthKind {
    Bearer,
    OAuth2,
}

/// What follows the objects.
#[derive(Copy, Clone, Debug)]
pub(super) enum Replica {
    Leader,
    Standby,
    /// A leader that uses copies of Secrets whatever they were read for, as it once did: to show that the test notices it.
    CachingByName,
}

/// The connection as the API server has it.
#[derive(Clone, Debug, PartialEq)]
struct ApiConnection {
    uid: String,
    generation: i64,
    host: usize,
}

/// The API server's objects.
#[derive(Default)]
struct Api {
    connection: Option<ApiConnection>,
    /// UID, version and value.
    secret: Option<(String, u32, String)>,
    counter: u32,
}

impl Api {
    fn next(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    fn respond(&self, path: &str) -> Response<Body> {
        let body = if path.contains("providerconnections") {
            let item = self.connection.as_ref().map(|it| {
                format!(r#"{{"metadata": {{"name": "bank", "uid": "{}", "generation": {}}}}}"#, it.uid, it.generation)
            });
            let items = item.unwrap_or_default();
            Some(format!(r#"{{"metadata": {{"resourceVersion": "1"}}, "items": [{items}]}}"#))
        } else {
            self.secret.as_ref().map(|(uid, version, value)| {
                let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
                let data = format!(
                    r#"{{"token": "{0}", "client-id": "{1}", "client-secret": "{0}"}}"#,
                    encoded(value),
                    encoded("client")
                );
                let metadata = format!(r#"{{"name": "s", "uid": "{uid}", "resourceVersion": "{version}"}}"#);
                format!(r#"{{"metadata": {metadata}, "data": {data}}}"#)
            })
        };
        let missing = r#"{"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}"#.to_owned();
        let (status, body) = body.map_or((404, missing), |body| (200, body));
        Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap()
    }
}

/// The API server, the operator and the hosts.
pub(super) struct World {
    kind: AuthKind,
    api: Arc<Mutex<Api>>,
    ctx: Arc<Ctx>,
    store: Writer<ProviderConnection>,
    /// Objects whose end was not handled yet.
    ended: Vec<String>,
    pub(super) hosts: Hosts,
    /// What a user ever wanted to go where, by the UID of the connection.
    meant: BTreeMap<String, BTreeSet<Sighting>>,
    /// A connection that a caller resolved a while ago.
    resolved: Option<(Arc<Connection>, Arc<Settings>)>,
    pending: Vec<JoinHandle<(String, CallEnd)>>,
    replica: Replica,
    _ledger: TempDir,
}

impl World {
    pub(super) async fn new(kind: AuthKind, replica: Replica) -> Self {
        let api = Arc::new(Mutex::new(Api::default()));
        let answering = Arc::clone(&api);
        let client = Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let response = answering.lock().unwrap().respond(request.uri().path());
                async move { Ok::<_, std::convert::Infallible>(response) }
            }),
            "ns",
        );
        let (mut ctx, ledger) = context(&client, &Metrics::new()).await;
        let store = Writer::default();
        ctx.stores.connections = KindStore::from_store(store.as_reader());
        ctx.secrets = SecretReader::new(client, ctx.clock, REFRESH);
        let ctx = Arc::new(ctx);
        ctx.registry.set_secret_source(Arc::new(SecretReloader::new(&ctx)));
        let mut world = Self {
            kind,
            api,
            ctx,
            store,
            ended: Vec::new(),
            hosts: Hosts::start().await,
            meant: BTreeMap::new(),
            resolved: None,
            pending: Vec::new(),
            replica,
            _ledger: ledger,
        };
        world.create_secret();
        world.create_connection(0);
        world
    }

    fn update<T>(&mut self, change: impl FnOnce(&mut Api) -> T) -> T {
        change(&mut self.api.lock().unwrap())
    }

    /// Records that what the API server has now is what the user wants.
    pub(super) fn mean_it(&mut self) {
        let Some(current) = self.current() else { return };
        let uid = self.update(|api| api.connection.as_ref().map(|it| it.uid.clone()));
        self.meant.entry(uid.unwrap_or_default()).or_default().insert(current);
    }

    /// Whether the running connection would send its unchanged credential to another host now. Nothing is sent there for
    /// a moment, because the Secret may be about to follow.
    pub(super) fn is_held_back(&mut self) -> bool {
        let Some(running) = self.ctx.registry.get(&key()) else { return false };
        let (settings, uid) = (running.settings(), running.uid().to_string());
        let host = self.hosts.number(settings.base_url().as_str());
        self.update(|api| {
            let (Some(connection), Some((secret, version, _))) = (&api.connection, &api.secret) else { return false };
            let same_secret = settings.credential_revision() == format!("s@{secret}@{version}");
            connection.uid == uid && connection.host != host && same_secret
        })
    }

    pub(super) fn create_secret(&mut self) {
        self.update(|api| {
            let version = api.next();
            let uid = api.secret.as_ref().map_or_else(|| format!("secret-{version}"), |(uid, ..)| uid.clone());
            api.secret = Some((uid, version, format!("canary-key-{version}")));
        });
    }

    pub(super) fn delete_secret(&mut self) {
        self.update(|api| api.secret = None);
    }

    /// Creates the connection, unless it exists.
    pub(super) fn create_connection(&mut self, host: usize) {
        self.update(|api| {
            let number = api.next();
            let new = ApiConnection { uid: format!("connection-{number}"), generation: 1, host };
            api.connection.get_or_insert(new);
        });
    }

    pub(super) fn delete_connection(&mut self) {
        self.update(|api| api.connection = None);
    }

    /// Moves the connection to the other host.
    pub(super) fn move_connection(&mut self) {
        self.update(|api| {
            if let Some(connection) = &mut api.connection {
                connection.host = 1 - connection.host;
                connection.generation += 1;
            }
        });
    }

    /// The watch delivers what the API server has; the end of an object is handled later.
    pub(super) fn watch(&mut self) {
        let now = self.update(|api| api.connection.clone());
        let stored = self.ctx.stores.connections.get(&key());
        if let Some(stored) = stored
            && now.as_ref().is_none_or(|now| stored.metadata.uid.as_deref() != Some(&now.uid))
        {
            self.ended.push(stored.metadata.uid.clone().unwrap());
            self.store.apply_watcher_event(&Event::Delete((*stored).clone()));
        }
        if let Some(now) = now {
            self.store.apply_watcher_event(&Event::Apply(self.object(&now)));
        }
    }

    /// Handles the end of objects, as the router of changes does.
    pub(super) fn route(&mut self) {
        for uid in std::mem::take(&mut self.ended) {
            self.ctx.resolutions.forget(Kind::ProviderConnection, &key());
            drop(self.ctx.registry.remove_object(&key(), &uid));
        }
    }

    fn object(&self, connection: &ApiConnection) -> ProviderConnection {
        let url = self.hosts.url(connection.host);
        let auth = match self.kind {
            AuthKind::Bearer => "{bearer: {secretRef: {name: s}}}".to_owned(),
            AuthKind::OAuth2 => {
                format!("{{oauth2ClientCredentials: {{tokenURL: '{url}/token', secretRef: {{name: s}}}}}}")
            }
        };
        let spec = format!(
            "{{provider: generic, environment: Sandbox, endpoint: {{baseURL: '{url}', insecure: true}}, \
             healthCheck: {{path: /health}}, cache: {{ttl: 30s, maxStale: 1h}}, auth: {auth}}}"
        );
        let mut object = ProviderConnection::new("bank", serde_yaml::from_str(&spec).unwrap());
        object.metadata.namespace = Some("ns".to_owned());
        object.metadata.uid = Some(connection.uid.clone());
        object.metadata.generation = Some(connection.generation);
        object
    }

    /// One reconcile of the object as the store has it.
    pub(super) async fn reconcile(&mut self) {
        let Some(object) = self.ctx.stores.connections.get(&key()) else { return };
        if let Replica::Standby = self.replica {
            drop(standby::update(&self.ctx, object).await);
            return;
        }
        if let Replica::CachingByName = self.replica {
            let any = Seen { mark: ReadMark::default(), at: self.ctx.clock.mono(), settled: true, unusable: None };
            let profile = self.ctx.profiles.get(&object.spec.provider);
            self.ctx.resolutions.first_seen.of(&object, profile.as_ref(), || any);
        }
        if let Ok(observation) = observe::observe(&self.ctx, &object).await {
            let decision = decide::decide(&object, None, &observation.inputs, self.ctx.clock.now());
            act::act(&self.ctx, &object, observation, decision.steps);
        }
    }

    /// A caller resolves the connection, for a later call.
    pub(super) fn resolve(&mut self) {
        let connection = self.ctx.registry.get(&key());
        self.resolved = connection.map(|connection| (Arc::clone(&connection), connection.settings()));
    }

    /// A health check of the running connection.
    pub(super) async fn probe(&mut self) {
        let Some(connection) = self.ctx.registry.get(&key()) else { return };
        let uid = connection.uid().to_string();
        self.start(async move { (uid, connection.probe().await.unwrap().result) }).await;
    }

    /// A page of a sync that was planned with the settings that a caller resolved, or now.
    pub(super) async fn sync(&mut self) {
        let Some((connection, settings)) = self.caller() else { return };
        let uid = connection.uid().to_string();
        let planned = PlannedConnection::new(connection, settings);
        self.start(async move { (uid, planned.fetch(ProviderRequest::get("page", "/page")).await) }).await;
    }

    /// A caller's call through what it resolved, or now; it may be answered from the cache.
    pub(super) async fn call(&mut self) {
        let Some((connection, settings)) = self.caller() else { return };
        let uid = connection.uid().to_string();
        let request = ProviderRequest { cache: CacheMode::FreshOrStale, ..ProviderRequest::get("quote", "/quote") };
        self.start(async move { (uid, connection.call_with(&settings, request).await) }).await;
    }

    fn caller(&mut self) -> Option<(Arc<Connection>, Arc<Settings>)> {
        self.resolved.take().or_else(|| {
            let connection = self.ctx.registry.get(&key())?;
            let settings = connection.settings();
            Some((connection, settings))
        })
    }

    /// Makes a call, and waits for its end unless token requests wait.
    async fn start(&mut self, call: impl Future<Output = (String, CallEnd)> + Send + 'static) {
        self.pending.push(tokio::spawn(call));
        if !self.hosts.are_tokens_held() {
            self.finish_calls().await;
        }
        self.check();
    }

    /// Waits for all calls. Time moves on while they sleep, for a retry.
    pub(super) async fn finish_calls(&mut self) {
        for call in std::mem::take(&mut self.pending) {
            let mut looks = 0;
            while !call.is_finished() {
                looks += 1;
                assert!(looks < 1_000_000, "a call does not end");
                // Operator and hosts run on this thread: it lets them go on, and looks at the sockets from time to time.
                tokio::task::yield_now().await;
                if looks % 20_000 == 0 {
                    tokio::time::advance(Duration::from_secs(1)).await;
                }
            }
            let (uid, end) = call.await.unwrap();
            self.check();
            if let Ok(response) = end
                && response.status == 200
            {
                let answered = self.hosts.answered(&response.body);
                let own = self.meant.get(&uid).is_some_and(|meant| meant.contains(&answered));
                assert!(own, "{uid} got an answer for {answered:?}: {:?}", self.meant);
            }
        }
    }

    /// No host has ever got a credential that was not meant for it.
    pub(super) fn check(&self) {
        let meant: BTreeSet<_> = self.meant.values().flatten().cloned().collect();
        let seen = self.hosts.seen();
        let wrong: Vec<_> = seen.difference(&meant).collect();
        assert!(wrong.is_empty(), "{wrong:?} was never meant: {:?}", self.meant);
        assert_eq!(self.hosts.foreign_tokens(), Vec::<String>::new());
    }

    /// What is meant now, once everything has settled.
    pub(super) fn current(&mut self) -> Option<Sighting> {
        self.update(|api| {
            let credential = api.secret.as_ref()?.2.clone();
            Some(Sighting { host: api.connection.as_ref()?.host, credential })
        })
    }

    /// Whether a connection runs.
    pub(super) fn is_running(&self) -> bool {
        self.ctx.registry.get(&key()).is_some()
    }

    /// A call that no cache answers, and the host that got it.
    pub(super) async fn call_uncached(&mut self) {
        let connection = self.ctx.registry.get(&key()).expect("a running connection");
        let uid = connection.uid().to_string();
        self.start(async move { (uid, connection.call(ProviderRequest::get("quote", "/quote")).await) }).await;
    }
}
