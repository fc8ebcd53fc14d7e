//! Decodes a watched object without failing the whole watch.
//!
//! An object that our types cannot decode (written under a newer or a loosened schema) must not stop the watch of all
//! others: it becomes an [`Undecodable`] with its metadata. kube's own `DeserializeGuard` buffers through a value type
//! that loses numbers of arbitrary precision, which this process uses for money; this one keeps the raw text instead.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object, or the metadata of an object that does not decode.
#[derive(Clone, Debug)]
pub(super) struct DecodeGuard<K>(pub(super) Result<K, Undecodable>);

/// An object that does not decode.
#[derive(Clone, Debug)]
pub(super) struct Undecodable {
    /// Its metadata.
    pub(super) metadata: ObjectMeta,
    /// Where decoding failed. Never contains a value.
    pub(super) error: String,
}

#[derive(Deserialize)]
struct MetadataOnly {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for DecodeGuard<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(match serde_json::from_str::<K>(raw.get()) {
            Ok(object) => Ok(object),
            Err(error) => {
                let only: MetadataOnly = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
                let error = format!("at line {} column {} ({:?})", error.line(), error.column(), error.classify());
                Err(Undecodable { metadata: only.metadata, error })
            }
        }))
    }
}

impl<K: Resource> Resource for DecodeGuard<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(bad) => &bad.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(bad) => &mut bad.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[test]
    fn an_undecodable_object_keeps_its_metadata_and_leaks_no_value() {
        let text = r#"{"metadata":{"name":"n","namespace":"ns","generation":3},"spec":{"containers":"hunter2"}}"#;
        let DecodeGuard(Err(bad)) = serde_json::from_str::<DecodeGuard<Pod>>(text).unwrap() else { panic!("decoded") };
        assert_eq!(bad.metadata.name.as_deref(), Some("n"));
        assert!(!bad.error.contains("hunter2"));
    }

    #[test]
    fn large_integers_keep_their_precision() {
        let text = r#"{"metadata":{"name":"n","generation":9007199254740993}}"#;
        let DecodeGuard(Ok(pod)) = serde_json::from_str::<DecodeGuard<Pod>>(text).unwrap() else {
            panic!("did not decode")
        };
        assert_eq!(pod.metadata.generation, Some(9_007_199_254_740_993));
    }
}
