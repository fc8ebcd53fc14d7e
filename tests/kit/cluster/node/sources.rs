//! Reads the Secrets and `ConfigMap`s that a Pod refers to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

/// The entries of a Secret or `ConfigMap`.
pub(super) type Entries = BTreeMap<String, Vec<u8>>;

/// What a Pod can refer to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Source {
    Secret,
    ConfigMap,
}

/// A reference to an object of the Pod's namespace.
#[derive(Copy, Clone, Debug)]
pub(super) struct Reference<'a> {
    pub(super) source: Source,
    pub(super) name: &'a str,
    pub(super) optional: bool,
}

impl<'a> Reference<'a> {
    pub(super) fn secret(name: &'a str, optional: Option<bool>) -> Self {
        Self { source: Source::Secret, name, optional: optional == Some(true) }
    }

    pub(super) fn config_map(name: &'a str, optional: Option<bool>) -> Self {
        Self { source: Source::ConfigMap, name, optional: optional == Some(true) }
    }
}

/// Reads the entries of an object; `None` if it does not exist and is optional.
pub(super) async fn entries(
    client: &Client,
    namespace: &str,
    reference: Reference<'_>,
) -> Result<Option<Entries>, String> {
    let Reference { source, name, optional } = reference;
    let found = match source {
        Source::Secret => Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await.map(|secret| {
            secret
                .map(|secret| secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
        }),
        Source::ConfigMap => Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await.map(|map| {
            map.map(|map| {
                let texts = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
                texts
                    .chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)))
                    .collect()
            })
        }),
    };
    match found {
        Ok(None) if !optional => Err(format!("{source:?} {namespace}/{name} not found")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{source:?} {namespace}/{name}: {error}")),
    }
}
