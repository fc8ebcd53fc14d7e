//! The content of a Secret as a plain value, and the result of reading one. Values are zeroized when dropped; `Debug`
//! prints none.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretSlice;

/// The content of a Secret at one version.
pub struct SecretData {
    /// UID of the Secret: another Secret of the same name has another one.
    pub uid: String,
    /// Resource version at the time of the read: changes with every change, reveals nothing of the content.
    pub resource_version: String,
    values: BTreeMap<String, SecretSlice<u8>>,
}

impl SecretData {
    /// The content of the Secret `uid` at `resource_version`.
    pub fn new(uid: String, resource_version: String, values: BTreeMap<String, SecretSlice<u8>>) -> Self {
        Self { uid, resource_version, values }
    }

    /// A placeholder that reads no Secret: the value of each of `keys` is the text `Secret <name> key <key>`. For
    /// showing which key is used where.
    pub fn placeholder<'a>(name: &str, keys: impl IntoIterator<Item = &'a str>) -> Self {
        let value = |key: &str| SecretSlice::from(format!("Secret {name} key {key}").into_bytes());
        let values = keys.into_iter().map(|key| (key.to_owned(), value(key))).collect();
        Self { uid: String::new(), resource_version: String::new(), values }
    }

    /// The bytes under `key`.
    pub fn get(&self, key: &str) -> Option<&SecretSlice<u8>> {
        self.values.get(key)
    }
}

impl std::fmt::Debug for SecretData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretData({}@{}, {} keys)", self.uid, self.resource_version, self.values.len())
    }
}

/// The result of reading a Secret.
#[derive(Clone, Debug)]
pub enum SecretState {
    /// It exists.
    Found(Arc<SecretData>),
    /// It does not exist.
    NotFound,
    /// RBAC does not permit the operator to read it; whether it exists is unknown. With the command that permits it.
    Forbidden(Arc<str>),
}

impl SecretState {
    /// The content, if the Secret was read.
    pub fn data(&self) -> Option<&Arc<SecretData>> {
        match self {
            Self::Found(data) => Some(data),
            Self::NotFound | Self::Forbidden(_) => None,
        }
    }
}
