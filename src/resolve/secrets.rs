//! The Secrets that a connection's spec references, and the values read from them. Pure.

use secrecy::{ExposeSecret as _, SecretString};

use crate::api::v1alpha1::provider_connection::ProviderConnectionSpec;
use crate::api::v1alpha1::reasons::Reason;
use crate::resolve::spec_error::SpecError;
use crate::settings::secret_data::{SecretData, SecretState};

/// A Secret that a spec field references, as it was read.
#[derive(Clone, Debug)]
pub struct ReferencedSecret<'a> {
    /// The referencing field, below `spec`.
    pub field: &'static str,
    /// Name of the Secret.
    pub name: &'a str,
    /// Its content, or why there is none.
    pub state: SecretState,
}

impl ReferencedSecret<'_> {
    /// The content, or `SecretNotFound` or `SecretForbidden`.
    pub fn data(&self) -> Result<&SecretData, SpecError> {
        let Self { field, name, .. } = self;
        match &self.state {
            SecretState::Found(data) => Ok(data),
            SecretState::NotFound => Err(SpecError::waiting(
                Reason::SecretNotFound,
                format!("Secret {name:?} (spec.{field}) not found: create it in this namespace"),
            )),
            SecretState::Forbidden(command) => Err(SpecError::waiting(
                Reason::SecretForbidden,
                format!(
                    "Secret {name:?} (spec.{field}) forbidden: RBAC does not permit the operator to get it; create the \
                     RoleBinding of config/rbac/secrets.yaml: {command}"
                ),
            )),
        }
    }

    /// The UTF-8 text under `key`.
    pub fn text(&self, key: &str) -> Result<SecretString, SpecError> {
        let bytes = self.bytes(key)?;
        let text = std::str::from_utf8(bytes.expose_secret()).map_err(|_| {
            SpecError::waiting(
                Reason::SecretKeyInvalid,
                format!(
                    "key {key:?} of Secret {:?} (spec.{}) is not UTF-8 text: store the plain text",
                    self.name, self.field
                ),
            )
        })?;
        Ok(SecretString::from(text.to_owned()))
    }

    /// The bytes under `key`.
    pub fn bytes(&self, key: &str) -> Result<&secrecy::SecretSlice<u8>, SpecError> {
        self.data()?.get(key).ok_or_else(|| {
            SpecError::waiting(
                Reason::SecretKeyMissing,
                format!("Secret {:?} (spec.{}) has no key {key:?}: add it", self.name, self.field),
            )
        })
    }

    /// A copy of the bytes under `key`; for certificates, which are not secret.
    pub fn copy(&self, key: &str) -> Result<Vec<u8>, SpecError> {
        Ok(self.bytes(key)?.expose_secret().to_vec())
    }

    /// Whether the Secret exists and has `key`.
    pub fn has(&self, key: &str) -> bool {
        self.state.data().is_some_and(|data| data.get(key).is_some())
    }

    /// Name, UID and resource version: changes with the Secret and reveals nothing of its content.
    pub fn revision(&self) -> String {
        let revision = |data: &SecretData| format!("{}@{}@{}", self.name, data.uid, data.resource_version);
        self.state.data().map(|data| revision(data)).unwrap_or_default()
    }
}

/// The Secrets that a spec references, as they were read.
#[derive(Clone, Debug, Default)]
pub struct ReferencedSecrets<'a> {
    /// The Secret of `auth`.
    pub auth: Option<ReferencedSecret<'a>>,
    /// The Secret of `tls.certSecretRef`.
    pub tls: Option<ReferencedSecret<'a>>,
}

impl ReferencedSecrets<'_> {
    /// Whether the content of at least one was read.
    pub fn any_found(&self) -> bool {
        [&self.auth, &self.tls].into_iter().flatten().any(|secret| secret.state.data().is_some())
    }
}

/// A field below `spec`, and the name of the Secret that it references.
pub type SecretReference<'a> = (&'static str, &'a str);

/// The references in `auth` and in `tls`.
pub fn referenced_secrets(spec: &ProviderConnectionSpec) -> (Option<SecretReference<'_>>, Option<SecretReference<'_>>) {
    let auth = spec.auth.as_ref().and_then(|auth| {
        auth.profile
            .as_ref()
            .map(|a| ("auth.profile.secretRef", &*a.secret_ref.name))
            .or(auth.bearer.as_ref().map(|a| ("auth.bearer.secretRef", &*a.secret_ref.name)))
            .or(auth.basic.as_ref().map(|a| ("auth.basic.secretRef", &*a.secret_ref.name)))
            .or(auth.api_key.as_ref().map(|a| ("auth.apiKey.secretRef", &*a.secret_ref.name)))
            .or(auth
                .oauth2_client_credentials
                .as_ref()
                .map(|a| ("auth.oauth2ClientCredentials.secretRef", &*a.secret_ref.name)))
            .or(auth.oauth2_refresh_token.as_ref().map(|a| ("auth.oauth2RefreshToken.secretRef", &*a.secret_ref.name)))
    });
    let tls = spec.tls.as_ref().and_then(|tls| tls.cert_secret_ref.as_ref()).map(|r| ("tls.certSecretRef", &*r.name));
    (auth, tls)
}
