//! `busbar explain`: finds what is to be explained, in files or in the cluster, and prints it.

use std::path::{Path, PathBuf};

use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::AppError;
use crate::cli::{ExplainArgs, ExplainFormat};
use crate::clock::Clock;
use crate::cluster::client::Clients;
use crate::cluster::{ApiError, call};
use crate::domain::key::{Kind, ObjectKey};
use crate::explain::read::{ReadError, Target, kind};
use crate::explain::{World, print};
use crate::provider::profile::Profiles;

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// Neither a file nor an object.
    #[error("{0:?} is neither a file or folder nor kind/name, for example pconn/my-bank")]
    Target(String),
    /// Nothing of ours in it.
    #[error("{0}: holds no object of busbar.dev")]
    Empty(String),
    /// Not in the cluster.
    #[error("{kind} {key} does not exist")]
    NotFound {
        /// Its kind.
        kind: Kind,
        /// Where it was looked for.
        key: ObjectKey,
    },
    /// A manifest that does not parse.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The API server did not give the object.
    #[error("API server: {0}")]
    Api(#[from] ApiError),
}

/// Where an object is that says nothing of a namespace, as with kubectl.
const NAMESPACE: &str = "default";

/// Explains what `args` name.
#[expect(clippy::print_stdout, reason = "printing is what the command is for")]
pub(super) async fn explain(args: ExplainArgs) -> Result<(), AppError> {
    let path = Path::new(&args.target);
    let named = args.target.split_once('/').and_then(|(word, name)| Some((kind(word)?, name)));
    let (world, targets) = match named {
        _ if args.target == "-" || path.exists() => from_files(&args)?,
        Some((kind, name)) if !name.is_empty() && !name.contains('/') => from_cluster(&args, kind, name).await?,
        _ => return Err(ExplainError::Target(args.target).into()),
    };
    let (profiles, now) = (Profiles::load(args.profiles_dir.as_deref())?, Clock::system().now().wall);
    let mut explanations = Vec::new();
    for Target { kind, key, unknown } in targets {
        let explained = world.explain(kind, &key, &profiles, now);
        let mut explained = explained.ok_or_else(|| ExplainError::NotFound { kind, key })?;
        let unknown = unknown.into_iter().map(|path| format!("{path} is no field of {kind}"));
        explained.problems.extend(unknown);
        explanations.push(explained);
    }
    print!(
        "{}",
        match args.output {
            ExplainFormat::Text => print::text(&explanations),
            ExplainFormat::Json => print::json(&explanations),
            ExplainFormat::Yaml => print::yaml(&explanations),
        }
    );
    Ok(())
}

/// What is in the file or folder; what it refers to may stand in any manifest beside it.
fn from_files(args: &ExplainArgs) -> Result<(World, Vec<Target>), AppError> {
    let namespace = args.namespace.as_deref().unwrap_or(NAMESPACE);
    if args.target == "-" {
        let text = std::io::read_to_string(std::io::stdin())
            .map_err(|source| AppError::Io { what: "reading standard input".into(), source })?;
        return Ok(World::read("-", &text, namespace).map_err(ExplainError::from)?);
    }
    let path = PathBuf::from(&args.target);
    let files = if path.is_dir() { manifests(&path)? } else { vec![path.clone()] };
    let (mut world, mut targets) = (World::default(), Vec::new());
    for file in &files {
        let (more, found) =
            World::read(&file.display().to_string(), &read(file)?, namespace).map_err(ExplainError::from)?;
        world.extend(more);
        targets.extend(found);
    }
    if targets.is_empty() {
        return Err(ExplainError::Empty(args.target.clone()).into());
    }
    let beside = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    for file in beside.filter(|_| !path.is_dir()).map(manifests).transpose()?.unwrap_or_default() {
        // What lies beside it may be anybody's, templates included: only what can be read is used.
        if let Some((more, _)) = read(&file).ok().and_then(|text| World::read("", &text, namespace).ok()) {
            world.extend(more);
        }
    }
    Ok((world, targets))
}

fn read(file: &Path) -> Result<String, AppError> {
    std::fs::read_to_string(file).map_err(|source| AppError::Io { what: format!("reading {}", file.display()), source })
}

/// The YAML and JSON files of a folder, by name.
fn manifests(folder: &Path) -> Result<Vec<PathBuf>, AppError> {
    let error = |source| AppError::Io { what: format!("listing {}", folder.display()), source };
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

/// The object, and what it refers to, as the user may see it. No Secret is read.
async fn from_cluster(args: &ExplainArgs, kind: Kind, name: &str) -> Result<(World, Vec<Target>), AppError> {
    let client = Clients::connect(args.kubeconfig.as_deref(), "explain").await?.calls;
    let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let key = ObjectKey::new(namespace, name);
    let mut world = World::default();
    match kind {
        Kind::ProviderConnection => world.connections.extend(get(&client, &key).await?),
        Kind::BreakerPolicy => world.policies.extend(get(&client, &key).await?),
        Kind::BankRoute => world.routes.extend(get(&client, &key).await?),
        Kind::SyncJob => {
            world.jobs.extend(get(&client, &key).await?);
            if let Some(job) = world.jobs.first() {
                world.connections.extend(get(&client, &key.sibling(&*job.spec.connection_ref.name)).await?);
            }
        }
    }
    if kind == Kind::ProviderConnection {
        let api = Api::namespaced(client, &key.namespace);
        let listed = call(api.list(&ListParams::default())).await.map_err(ExplainError::from)?;
        world.policies.extend(listed.items.into_iter().map(std::sync::Arc::new));
    }
    Ok((world, vec![Target { kind, key, unknown: Vec::new() }]))
}

async fn get<K>(client: &Client, key: &ObjectKey) -> Result<Option<std::sync::Arc<K>>, AppError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    Ok(call(api.get_opt(&key.name)).await.map_err(ExplainError::from)?.map(std::sync::Arc::new))
}
