//! The Secrets that a connection's spec references. Pure.

use crate::api::v1alpha1::provider_connection::ProviderConnectionSpec;
use crate::controllers::resolve::ReferencedSecret;

/// The Secrets that a spec references, as they were read.
#[derive(Clone, Debug, Default)]
pub struct ReferencedSecrets {
    /// The Secret of `auth`.
    pub auth: Option<ReferencedSecret>,
    /// The Secret of `tls.certSecretRef`.
    pub tls: Option<ReferencedSecret>,
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
