//! Manifests as users keep them: several documents a file, other people's objects between ours, lists from kubectl.

use std::fmt::Debug;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use crate::domain::key::{Kind, ObjectKey};
use crate::explain::World;

/// A manifest that cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not YAML.
    #[error("{file}: not YAML: {source}")]
    Syntax {
        /// Which file.
        file: String,
        /// Where and why.
        source: serde_yaml::Error,
    },
    /// Not the fields of its kind.
    #[error("{file}: {kind} {name}: {problem}")]
    Fields {
        /// Which file.
        file: String,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What does not fit.
        problem: String,
    },
    /// Of our group, but no kind of ours.
    #[error("{file}: {kind:?} is no kind of busbar.dev/v1alpha1")]
    Kind {
        /// Which file.
        file: String,
        /// What it says.
        kind: String,
    },
}

/// One of our objects in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Where it is, or would be.
    pub key: ObjectKey,
    /// Fields of its spec that its kind does not have.
    pub unknown: Vec<String>,
}

/// The kind that a word of kubectl's means: `pconn`, `providerconnection`, `providerconnections.busbar.dev`.
pub fn kind(word: &str) -> Option<Kind> {
    let word = word.to_ascii_lowercase();
    Some(match word.strip_suffix(".busbar.dev").unwrap_or(&word) {
        "pconn" | "providerconnection" | "providerconnections" => Kind::ProviderConnection,
        "sjob" | "syncjob" | "syncjobs" => Kind::SyncJob,
        "broute" | "bankroute" | "bankroutes" => Kind::BankRoute,
        "brkp" | "breakerpolicy" | "breakerpolicies" => Kind::BreakerPolicy,
        _ => return None,
    })
}

impl World {
    /// Reads `text` of `file`; objects without a namespace are taken to be in `namespace`.
    pub fn read(file: &str, text: &str, namespace: &str) -> Result<(Self, Vec<Target>), ReadError> {
        let (mut world, mut targets) = (Self::default(), Vec::new());
        for document in serde_yaml::Deserializer::from_str(text) {
            let value =
                Value::deserialize(document).map_err(|source| ReadError::Syntax { file: file.to_owned(), source })?;
            let listed = value.get("kind").and_then(Value::as_str) == Some("List");
            let items = if listed { value.get("items").and_then(Value::as_array).cloned() } else { None };
            for value in items.unwrap_or_else(|| vec![value]) {
                world.take(file, &value, namespace, &mut targets)?;
            }
        }
        Ok((world, targets))
    }

    fn take(&mut self, file: &str, value: &Value, ns: &str, targets: &mut Vec<Target>) -> Result<(), ReadError> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        if !text("/apiVersion").starts_with("busbar.dev/") {
            return Ok(());
        }
        let kind = text("/kind");
        let found = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
        let error = |kind| ReadError::Kind { file: file.to_owned(), kind };
        let target = match found {
            Some(known @ Kind::ProviderConnection) => add(file, known, value, ns, &mut self.connections)?,
            Some(known @ Kind::BreakerPolicy) => add(file, known, value, ns, &mut self.policies)?,
            Some(known @ Kind::SyncJob) => add(file, known, value, ns, &mut self.jobs)?,
            Some(known @ Kind::BankRoute) => add(file, known, value, ns, &mut self.routes)?,
            None => return Err(error(kind)),
        };
        targets.push(target);
        Ok(())
    }
}

fn add<K>(file: &str, kind: Kind, value: &Value, ns: &str, list: &mut Vec<Arc<K>>) -> Result<Target, ReadError>
where
    K: kube::Resource + DeserializeOwned + Serialize + Debug,
{
    let named = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let bad = |problem: String| ReadError::Fields {
        file: file.to_owned(),
        kind: kind.to_string(),
        name: named.to_owned(),
        problem,
    };
    if named.is_empty() {
        return Err(bad("metadata.name is missing".to_owned()));
    }
    let mut object: K = serde_json::from_value(value.clone()).map_err(|error| bad(error.to_string()))?;
    let namespace = object.meta_mut().namespace.get_or_insert_with(|| ns.to_owned()).clone();
    let printed = serde_json::to_value(&object).map_err(|error| bad(error.to_string()))?;
    let mut unknown = Vec::new();
    lost("spec", &value["spec"], &printed["spec"], &mut unknown);
    list.push(Arc::new(object));
    Ok(Target { kind, key: ObjectKey::new(namespace, named), unknown })
}

/// The paths in `before` that `after` has not.
fn lost(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Null, _) => {}
        (_, Value::Null) => found.push(path.to_owned()),
        (Value::Object(before), after) => {
            for (key, value) in before {
                lost(&format!("{path}.{key}"), value, &after[key.as_str()], found);
            }
        }
        (Value::Array(before), after) => {
            for (index, value) in before.iter().enumerate() {
                lost(&format!("{path}[{index}]"), value, &after[index], found);
            }
        }
        _ => {}
    }
}
