//! The job of a command line: its plan and its connection, from manifests or from the cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use secrecy::SecretSlice;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::SyncError;
use super::process::SyncProcess;
use crate::api::v1alpha1::{BreakerPolicy, ProviderConnection, SyncJob};
use crate::cli::sync::SyncTargetArgs;
use crate::cluster::call;
use crate::cluster::client::Clients;
use crate::cluster::secrets::{Freshness, SecretReader};
use crate::domain::key::{Kind, ObjectKey};
use crate::explain::Manifests;
use crate::explain::manifests::find;
use crate::ledger::{CredentialStore, Ledger};
use crate::profile::Profiles;
use crate::provider::auth::refresh_token_store::RefreshTokenStore;
use crate::provider::connection::Connection;
use crate::provider::memory::MemoryLimits;
use crate::provider::registry::{Registry, RegistryOptions};
use crate::resolve::partitions_from::partitions_from;
use crate::resolve::sync_job::{accept, sync_job};
use crate::resolve::{
    ConnectionSources, JobSupport, OperatorOptions, ReferencedSecret, ReferencedSecrets, SpecError, connection,
    policy_name, referenced_secrets,
};
use crate::settings::Settings;
use crate::settings::addresses::AddressRules;
use crate::settings::secret_data::{SecretData, SecretState};
use crate::settings::sync_plan::SyncPlan;
use crate::sync::Fetch;
use crate::sync::fetch::PlannedConnection;

/// A job that can be run.
pub(super) struct SyncTarget {
    pub(super) plan: SyncPlan,
    /// Keeps the connection.
    _registry: Registry,
    connection: Arc<Connection>,
    settings: Arc<Settings>,
}

/// The objects that a job is run with.
struct Objects {
    job: Arc<SyncJob>,
    connection: Arc<ProviderConnection>,
    policy: Option<Arc<BreakerPolicy>>,
    /// The Secrets that the connection references, by name.
    secrets: BTreeMap<String, SecretState>,
    /// The job whose records become partitions, and those that it refers to.
    others: Vec<Arc<SyncJob>>,
}

impl SyncTarget {
    /// Loads and resolves the job. `ledger` keeps refresh tokens and the quotas of the day.
    pub(super) async fn load(
        process: &SyncProcess,
        args: &SyncTargetArgs,
        job: &ObjectKey,
        ledger: Option<Arc<dyn Ledger>>,
    ) -> Result<Self, SyncError> {
        let profiles = Profiles::load(args.profiles_dir.as_deref())?;
        let objects =
            if args.manifests.is_empty() { from_cluster(process, args, job).await? } else { from_files(args, job)? };
        let addresses = AddressRules::allowing(args.allow_provider_addresses.iter().copied());
        let operator =
            OperatorOptions { has_key: process.keys.has_key(), addresses: &addresses, jobs: JobSupport::Supported };
        let name = &*objects.job.spec.connection_ref.name;
        let key = job.sibling(name);
        let settings = objects.settings(&key, &profiles, operator).map_err(|cause| SyncError::Spec {
            kind: Kind::ProviderConnection,
            key: key.clone(),
            cause,
        })?;
        let plan = objects.plan(job, &settings, operator).map_err(|cause| SyncError::Spec {
            kind: Kind::SyncJob,
            key: job.clone(),
            cause,
        })?;
        if objects.job.spec.suspend {
            return Err(SyncError::Suspended(job.clone()));
        }
        let tokens = |ledger: &Arc<dyn Ledger>| {
            RefreshTokenStore::new(Arc::clone(ledger) as Arc<dyn CredentialStore>, process.keys.clone())
        };
        let options = RegistryOptions {
            refresh_tokens: ledger.as_ref().map(tokens),
            day_quotas: ledger,
            addresses,
            tasks: process.tasks.effects.clone(),
            memory: MemoryLimits::of(args.response_memory),
            ..RegistryOptions::default()
        };
        let registry = Registry::new(process.clock, &process.metrics, options)?;
        let uid = objects.connection.metadata.uid.as_deref().unwrap_or_default();
        let connection = registry.apply(&key, uid, Arc::clone(&settings), None);
        Ok(Self { plan, _registry: registry, connection, settings })
    }

    /// A target of these settings, for a provider without objects.
    pub(super) fn of_settings(registry: Registry, key: &ObjectKey, settings: Arc<Settings>, plan: SyncPlan) -> Self {
        let connection = registry.apply(key, "live", Arc::clone(&settings), None);
        Self { plan, _registry: registry, connection, settings }
    }

    /// Calls the provider.
    pub(super) fn fetch(&self) -> Arc<dyn Fetch> {
        Arc::new(PlannedConnection::new(Arc::clone(&self.connection), Arc::clone(&self.settings)))
    }
}

impl Objects {
    fn settings(
        &self,
        key: &ObjectKey,
        profiles: &Profiles,
        operator: OperatorOptions<'_>,
    ) -> Result<Arc<Settings>, SpecError> {
        let spec = &self.connection.spec;
        let (auth, tls) = referenced_secrets(spec);
        let read = |(field, name)| {
            let state = self.secrets.get(name).cloned().unwrap_or(SecretState::NotFound);
            ReferencedSecret { field, name, state }
        };
        let profile = profiles.get(&spec.provider);
        let sources = ConnectionSources {
            key,
            uid: self.connection.metadata.uid.as_deref().unwrap_or_default(),
            spec,
            profile: profile.as_ref(),
            policy: self.policy.as_deref(),
            secrets: ReferencedSecrets { auth: auth.map(read), tls: tls.map(read) },
            operator,
        };
        connection(&sources).connection.map(|resolved| resolved.settings)
    }

    fn plan(&self, job: &ObjectKey, settings: &Settings, operator: OperatorOptions<'_>) -> Result<SyncPlan, SpecError> {
        let spec = &self.job.spec;
        accept(spec, operator)?;
        let from = partitions_from(job, spec, settings, |key| find(&self.others, key))?;
        Ok(SyncPlan { partitions_from: from, ..sync_job(job, spec, settings)? })
    }
}

fn from_files(args: &SyncTargetArgs, job: &ObjectKey) -> Result<Objects, SyncError> {
    let (mut manifests, mut secrets) = (Manifests::default(), BTreeMap::new());
    for path in &args.manifests {
        let files = if path.is_dir() { manifest_files(path)? } else { vec![path.clone()] };
        for file in files {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file)
                .map_err(|source| SyncError::Io { what: format!("reading {name}"), source })?;
            let (more, _) = Manifests::read(&name, &text, &job.namespace)?;
            manifests.extend(more);
            secrets.extend(secrets_of(&name, &text, &job.namespace)?);
        }
    }
    let missing = |kind, key: &ObjectKey| SyncError::NotFound { kind, key: key.clone() };
    let found = find(&manifests.jobs, job).ok_or_else(|| missing(Kind::SyncJob, job))?;
    let key = job.sibling(&*found.spec.connection_ref.name);
    let connection = find(&manifests.connections, &key).ok_or_else(|| missing(Kind::ProviderConnection, &key))?;
    let policy = find(&manifests.policies, &job.sibling(policy_name(&connection.spec)));
    Ok(Objects { job: found, connection, policy, secrets, others: manifests.jobs })
}

/// The YAML and JSON files of a folder, by name.
fn manifest_files(folder: &Path) -> Result<Vec<PathBuf>, SyncError> {
    let error = |source| SyncError::Io { what: format!("listing {}", folder.display()), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The Secrets of a manifest in this namespace, by name.
fn secrets_of(file: &str, text: &str, namespace: &str) -> Result<BTreeMap<String, SecretState>, SyncError> {
    let mut secrets = BTreeMap::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        // Read before without a problem.
        let Ok(value) = Value::deserialize(document) else { continue };
        let listed = value.get("kind").and_then(Value::as_str) == Some("List");
        let items = if listed { value.get("items").and_then(Value::as_array).cloned() } else { None };
        for value in items.unwrap_or_else(|| vec![value]) {
            if value.get("kind").and_then(Value::as_str) != Some("Secret") {
                continue;
            }
            let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let secret: Secret = serde_json::from_value(value).map_err(|_| SyncError::Secret {
                file: file.to_owned(),
                name: name.clone(),
                // Not the parser's own text, which may quote a value.
                problem: "data must be a map of base64 values, stringData one of texts".to_owned(),
            })?;
            if secret.metadata.namespace.as_deref().is_none_or(|own| own == namespace) {
                secrets.insert(name, SecretState::Found(Arc::new(secret_data(secret))));
            }
        }
    }
    Ok(secrets)
}

fn secret_data(secret: Secret) -> SecretData {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0));
    let texts = secret.string_data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
    let values = data.chain(texts).map(|(key, bytes)| (key, SecretSlice::from(bytes))).collect();
    SecretData::new("file".to_owned(), String::new(), values)
}

async fn from_cluster(process: &SyncProcess, args: &SyncTargetArgs, job: &ObjectKey) -> Result<Objects, SyncError> {
    let client = Clients::connect(args.kubeconfig.as_deref(), &process.identity, &process.metrics).await?.calls;
    let found = get::<SyncJob>(&client, Kind::SyncJob, job).await?;
    let key = job.sibling(&*found.spec.connection_ref.name);
    let connection = get::<ProviderConnection>(&client, Kind::ProviderConnection, &key).await?;
    let policy: Api<BreakerPolicy> = Api::namespaced(client.clone(), &job.namespace);
    let policy = call(policy.get_opt(policy_name(&connection.spec))).await?.map(Arc::new);
    // The references of partitionsFrom, to its end or around a cycle.
    let mut others: Vec<Arc<SyncJob>> = vec![Arc::clone(&found)];
    let mut next = found.spec.partitions_from.as_ref().map(|from| job.sibling(&*from.sync_job_ref.name));
    while let Some(key) = next.take().filter(|key| find(&others, key).is_none()) {
        let api: Api<SyncJob> = Api::namespaced(client.clone(), &key.namespace);
        let Some(other) = call(api.get_opt(&key.name)).await? else { break };
        next = other.spec.partitions_from.as_ref().map(|from| job.sibling(&*from.sync_job_ref.name));
        others.push(Arc::new(other));
    }
    let reader = SecretReader::new(client, process.clock, Duration::from_mins(1));
    let mut secrets = BTreeMap::new();
    let (auth, tls) = referenced_secrets(&connection.spec);
    for (_, name) in [auth, tls].into_iter().flatten() {
        let required = Freshness { after: reader.mark(), rejected: None, unusable: None };
        let read = reader.get(&job.sibling(name), required).await?;
        secrets.insert(name.to_owned(), read.state);
    }
    Ok(Objects { job: found, connection, policy, secrets, others })
}

async fn get<K>(client: &Client, kind: Kind, key: &ObjectKey) -> Result<Arc<K>, SyncError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let found = call(api.get_opt(&key.name)).await?;
    found.map(Arc::new).ok_or_else(|| SyncError::NotFound { kind, key: key.clone() })
}
