//! `busbar explain`: loads objects from files or the cluster and prints their effective settings.

use std::path::{Path, PathBuf};

use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::api::v1alpha1::ProviderConnection;
use crate::app::output::{self, OutputError};
use crate::cli::route::RouteExplainArgs;
use crate::cli::{ExplainArgs, ExplainFormat};
use crate::clock::Clock;
use crate::cluster::client::{ClientError, Clients};
use crate::cluster::{ApiError, call};
use crate::domain::key::{Kind, ObjectKey};
use crate::explain::manifests::{ManifestError, ManifestObject, parse_kind};
use crate::explain::route_choice::ConnectionSource;
use crate::explain::{Manifests, print};
use crate::metrics::Metrics;
use crate::profile::{ProfileError, Profiles};

/// Why `busbar explain` failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExplainError {
    /// Neither a file nor an object.
    #[error("{0:?} is neither a file or folder nor kind/name, for example pconn/my-bank")]
    Target(String),
    /// The files contain no object of this API group.
    #[error("{0}: contains no object of busbar.dev")]
    Empty(String),
    /// Not in the cluster.
    #[error("{kind} {key} does not exist")]
    NotFound {
        /// Its kind.
        kind: Kind,
        /// Its namespace and name.
        key: ObjectKey,
    },
    /// A file could not be read.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The API server client could not be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A profile is invalid.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A manifest that does not parse.
    #[error(transparent)]
    Read(#[from] ManifestError),
    /// Standard output could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Reading from the API server failed.
    #[error("API server: {0}")]
    Api(#[from] ApiError),
}

/// The namespace of manifests without one, as with kubectl.
const DEFAULT_NAMESPACE: &str = "default";

/// Prints the explanation of the objects that `args` name.
pub(super) async fn explain(args: ExplainArgs) -> Result<(), ExplainError> {
    let path = Path::new(&args.target);
    let named = args.target.split_once('/').and_then(|(word, name)| Some((parse_kind(word)?, name)));
    let (manifests, targets) = match named {
        _ if args.target == "-" || path.exists() => from_files(&args)?,
        Some((kind, name)) if !name.is_empty() && !name.contains('/') => from_cluster(&args, kind, name).await?,
        _ => return Err(ExplainError::Target(args.target)),
    };
    let (profiles, now) = (Profiles::load(args.profiles_dir.as_deref())?, Clock::system().now().wall);
    let mut explanations = Vec::new();
    for ManifestObject { kind, key, unknown } in targets {
        let explained = manifests.explain(kind, &key, &profiles, now);
        let mut explained = explained.ok_or_else(|| ExplainError::NotFound { kind, key })?;
        let unknown = unknown.into_iter().map(|path| format!("unknown field {path} in {kind}"));
        explained.problems.extend(unknown);
        explanations.push(explained);
    }
    let text = match args.output {
        ExplainFormat::Text => print::text(&explanations),
        ExplainFormat::Json => print::json(&explanations),
        ExplainFormat::Yaml => print::yaml(&explanations),
    };
    Ok(output::print(&text)?)
}

/// The routes that `args` name, with their connections, and where those come from.
pub(super) async fn route_objects(
    args: &RouteExplainArgs,
) -> Result<(Manifests, Vec<ManifestObject>, ConnectionSource), ExplainError> {
    let as_explained = ExplainArgs {
        target: args.target.clone(),
        namespace: args.namespace.clone(),
        output: ExplainFormat::Text,
        kubeconfig: args.kubeconfig.clone(),
        profiles_dir: None,
    };
    let named = args.target.split_once('/').filter(|(word, _)| parse_kind(word) == Some(Kind::BankRoute));
    match named {
        _ if args.target == "-" || Path::new(&args.target).exists() => {
            let (manifests, targets) = from_files(&as_explained)?;
            Ok((manifests, targets, ConnectionSource::Manifests))
        }
        Some((_, name)) if !name.is_empty() && !name.contains('/') => {
            let (mut manifests, targets) = from_cluster(&as_explained, Kind::BankRoute, name).await?;
            let Some(target) = targets.first().filter(|_| !manifests.routes.is_empty()) else {
                let namespace = args.namespace.clone().unwrap_or_default();
                return Err(ExplainError::NotFound { kind: Kind::BankRoute, key: ObjectKey::new(namespace, name) });
            };
            let client = Clients::connect(args.kubeconfig.as_deref(), "explain", &Metrics::new()).await?.calls;
            let api: Api<ProviderConnection> = Api::namespaced(client, &target.key.namespace);
            let listed = call(api.list(&ListParams::default())).await?;
            manifests.connections.extend(listed.items.into_iter().map(std::sync::Arc::new));
            Ok((manifests, targets, ConnectionSource::Cluster))
        }
        _ => Err(ExplainError::Target(args.target.clone())),
    }
}

/// The objects in the file or folder; objects they refer to may be in any manifest of the same folder.
fn from_files(args: &ExplainArgs) -> Result<(Manifests, Vec<ManifestObject>), ExplainError> {
    let namespace = args.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    if args.target == "-" {
        let text = std::io::read_to_string(std::io::stdin())
            .map_err(|source| ExplainError::Io { what: "reading standard input".into(), source })?;
        return Ok(Manifests::read("-", &text, namespace)?);
    }
    let path = PathBuf::from(&args.target);
    let files = if path.is_dir() { manifest_files(&path)? } else { vec![path.clone()] };
    let (mut manifests, mut targets) = (Manifests::default(), Vec::new());
    for file in &files {
        let (more, found) = Manifests::read(&file.display().to_string(), &read(file)?, namespace)?;
        manifests.extend(more);
        targets.extend(found);
    }
    if targets.is_empty() {
        return Err(ExplainError::Empty(args.target.clone()));
    }
    let folder = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    for file in folder.filter(|_| !path.is_dir()).map(manifest_files).transpose()?.unwrap_or_default() {
        // Other files of the folder may be anything, such as templates: only readable manifests are used.
        if let Some((more, _)) = read(&file).ok().and_then(|text| Manifests::read("", &text, namespace).ok()) {
            manifests.extend(more);
        }
    }
    Ok((manifests, targets))
}

fn read(file: &Path) -> Result<String, ExplainError> {
    std::fs::read_to_string(file)
        .map_err(|source| ExplainError::Io { what: format!("reading {}", file.display()), source })
}

/// The YAML and JSON files of a folder, by name.
fn manifest_files(folder: &Path) -> Result<Vec<PathBuf>, ExplainError> {
    let error = |source| ExplainError::Io { what: format!("listing {}", folder.display()), source };
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

/// The object and the objects it refers to, read with the user's permissions. No Secret is read.
async fn from_cluster(
    args: &ExplainArgs,
    kind: Kind,
    name: &str,
) -> Result<(Manifests, Vec<ManifestObject>), ExplainError> {
    let client = Clients::connect(args.kubeconfig.as_deref(), "explain", &Metrics::new()).await?.calls;
    let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let key = ObjectKey::new(namespace, name);
    let mut manifests = Manifests::default();
    match kind {
        Kind::ProviderConnection => manifests.connections.extend(get(&client, &key).await?),
        Kind::BreakerPolicy => manifests.policies.extend(get(&client, &key).await?),
        Kind::BankRoute => manifests.routes.extend(get(&client, &key).await?),
        Kind::SyncJob => {
            manifests.jobs.extend(get(&client, &key).await?);
            if let Some(job) = manifests.jobs.first() {
                manifests.connections.extend(get(&client, &key.sibling(&*job.spec.connection_ref.name)).await?);
            }
        }
    }
    if kind == Kind::ProviderConnection {
        let api = Api::namespaced(client, &key.namespace);
        let listed = call(api.list(&ListParams::default())).await?;
        manifests.policies.extend(listed.items.into_iter().map(std::sync::Arc::new));
    }
    Ok((manifests, vec![ManifestObject { kind, key, unknown: Vec::new() }]))
}

async fn get<K>(client: &Client, key: &ObjectKey) -> Result<Option<std::sync::Arc<K>>, ExplainError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    Ok(call(api.get_opt(&key.name)).await?.map(std::sync::Arc::new))
}
