//! Reads manifests: several documents per file, objects of other groups in between, lists from kubectl.

use std::fmt::Debug;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use crate::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};
use crate::domain::key::{Kind, ObjectKey};

/// A manifest that cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Invalid YAML.
    #[error("{file}: invalid YAML: {source}")]
    Syntax {
        /// The file.
        file: String,
        /// Position and cause.
        source: serde_yaml::Error,
    },
    /// The fields do not match the kind's schema.
    #[error("{file}: {kind} {name}: {problem}")]
    Fields {
        /// The file.
        file: String,
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// The mismatch.
        problem: String,
    },
    /// An unknown kind of the group `busbar.dev`.
    #[error("{file}: unknown kind {kind:?} in busbar.dev/v1alpha1")]
    Kind {
        /// The file.
        file: String,
        /// The unknown kind.
        kind: String,
    },
}

/// One Busbar object in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestObject {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace and name.
    pub key: ObjectKey,
    /// Fields of its spec that its kind does not define.
    pub unknown: Vec<String>,
}

/// The loaded objects: those to explain, and those they reference.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// Connections.
    pub connections: Vec<Arc<ProviderConnection>>,
    /// Policies.
    pub policies: Vec<Arc<BreakerPolicy>>,
    /// Jobs.
    pub jobs: Vec<Arc<SyncJob>>,
    /// Routes.
    pub routes: Vec<Arc<BankRoute>>,
}

/// The object at `key`.
pub fn find<K: kube::Resource>(list: &[Arc<K>], key: &ObjectKey) -> Option<Arc<K>> {
    let matches = |o: &&Arc<K>| {
        o.meta().name.as_deref() == Some(&*key.name) && o.meta().namespace.as_deref() == Some(&*key.namespace)
    };
    list.iter().find(matches).cloned()
}

/// Parses a kind as kubectl accepts it: `pconn`, `providerconnection`, `providerconnections.busbar.dev`.
pub fn parse_kind(word: &str) -> Option<Kind> {
    let word = word.to_ascii_lowercase();
    Some(match word.strip_suffix(".busbar.dev").unwrap_or(&word) {
        "pconn" | "providerconnection" | "providerconnections" => Kind::ProviderConnection,
        "sjob" | "syncjob" | "syncjobs" => Kind::SyncJob,
        "broute" | "bankroute" | "bankroutes" => Kind::BankRoute,
        "brkp" | "breakerpolicy" | "breakerpolicies" => Kind::BreakerPolicy,
        _ => return None,
    })
}

impl Manifests {
    /// Adds the objects of `other`; for duplicates, the first one is used.
    pub fn extend(&mut self, other: Self) {
        self.connections.extend(other.connections);
        self.policies.extend(other.policies);
        self.jobs.extend(other.jobs);
        self.routes.extend(other.routes);
    }

    /// Parses `text` of `file`; objects without a namespace get `namespace`.
    pub fn read(file: &str, text: &str, namespace: &str) -> Result<(Self, Vec<ManifestObject>), ManifestError> {
        let (mut manifests, mut objects) = (Self::default(), Vec::new());
        for document in serde_yaml::Deserializer::from_str(text) {
            let value = Value::deserialize(document)
                .map_err(|source| ManifestError::Syntax { file: file.to_owned(), source })?;
            let listed = value.get("kind").and_then(Value::as_str) == Some("List");
            let items = if listed { value.get("items").and_then(Value::as_array).cloned() } else { None };
            for value in items.unwrap_or_else(|| vec![value]) {
                manifests.add_value(file, &value, namespace, &mut objects)?;
            }
        }
        Ok((manifests, objects))
    }

    fn add_value(
        &mut self,
        file: &str,
        value: &Value,
        ns: &str,
        objects: &mut Vec<ManifestObject>,
    ) -> Result<(), ManifestError> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        if !text("/apiVersion").starts_with("busbar.dev/") {
            return Ok(());
        }
        let kind = text("/kind");
        let found = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
        let error = |kind| ManifestError::Kind { file: file.to_owned(), kind };
        let object = match found {
            Some(known @ Kind::ProviderConnection) => add(file, known, value, ns, &mut self.connections)?,
            Some(known @ Kind::BreakerPolicy) => add(file, known, value, ns, &mut self.policies)?,
            Some(known @ Kind::SyncJob) => add(file, known, value, ns, &mut self.jobs)?,
            Some(known @ Kind::BankRoute) => add(file, known, value, ns, &mut self.routes)?,
            None => return Err(error(kind)),
        };
        objects.push(object);
        Ok(())
    }
}

fn add<K>(
    file: &str,
    kind: Kind,
    value: &Value,
    ns: &str,
    list: &mut Vec<Arc<K>>,
) -> Result<ManifestObject, ManifestError>
where
    K: kube::Resource + DeserializeOwned + Serialize + Debug,
{
    let named = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let fields_error = |problem: String| ManifestError::Fields {
        file: file.to_owned(),
        kind: kind.to_string(),
        name: named.to_owned(),
        problem,
    };
    if named.is_empty() {
        return Err(fields_error("metadata.name is missing".to_owned()));
    }
    let mut object: K = serde_json::from_value(value.clone()).map_err(|error| fields_error(error.to_string()))?;
    let namespace = object.meta_mut().namespace.get_or_insert_with(|| ns.to_owned()).clone();
    let printed = serde_json::to_value(&object).map_err(|error| fields_error(error.to_string()))?;
    let mut unknown = Vec::new();
    missing_paths("spec", &value["spec"], &printed["spec"], &mut unknown);
    list.push(Arc::new(object));
    Ok(ManifestObject { kind, key: ObjectKey::new(namespace, named), unknown })
}

/// Collects the paths in `before` that are missing in `after`.
fn missing_paths(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Null, _) => {}
        (_, Value::Null) => found.push(path.to_owned()),
        (Value::Object(before), after) => {
            for (key, value) in before {
                missing_paths(&format!("{path}.{key}"), value, &after[key.as_str()], found);
            }
        }
        (Value::Array(before), after) => {
            for (index, value) in before.iter().enumerate() {
                missing_paths(&format!("{path}[{index}]"), value, &after[index], found);
            }
        }
        _ => {}
    }
}
