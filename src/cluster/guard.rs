//! A watched object that may not decode.
//!
//! One object that our types cannot read (written under a newer or broken schema) must not stop the watch of all
//! others: it becomes an [`Undecodable`] with its metadata. kube's own guard buffers through a format that cannot hold
//! numbers of arbitrary precision, which this process uses for money; this one keeps the raw text instead.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object, or the metadata of one that does not decode.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Undecodable>);

/// What is known of an object that does not decode.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What the decoder said. Names a field, never a value.
    pub error: String,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(match serde_json::from_str::<K>(raw.get()) {
            Ok(object) => Ok(object),
            Err(error) => {
                let head: Head = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
                let place = format!("at line {} column {} ({:?})", error.line(), error.column(), error.classify());
                Err(Undecodable { metadata: head.metadata, error: place })
            }
        }))
    }
}

impl<K: Resource> Resource for Guarded<K> {
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
    fn an_object_that_does_not_decode_keeps_its_metadata_and_leaks_no_value() {
        let text = r#"{"metadata":{"name":"n","namespace":"ns","generation":3},"spec":{"containers":"hunter2"}}"#;
        let Guarded(Err(bad)) = serde_json::from_str::<Guarded<Pod>>(text).unwrap() else { panic!("decoded") };
        assert_eq!(bad.metadata.name.as_deref(), Some("n"));
        assert!(!bad.error.contains("hunter2"));
    }

    #[test]
    fn whole_numbers_survive_the_guard() {
        let text = r#"{"metadata":{"name":"n","generation":9007199254740993}}"#;
        let Guarded(Ok(pod)) = serde_json::from_str::<Guarded<Pod>>(text).unwrap() else { panic!("did not decode") };
        assert_eq!(pod.metadata.generation, Some(9_007_199_254_740_993));
    }
}
