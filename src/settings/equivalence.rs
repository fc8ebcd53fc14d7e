//! Comparing two settings: whether they lead to the same endpoint, with the same credentials.

use secrecy::{ExposeSecret as _, SecretString};

use super::auth::{Auth, TokenClient};
use super::resolved::Settings;

impl Settings {
    /// Whether a credential of `other` may be sent to the endpoint of these settings: of the same object, for the same
    /// provider at the same URLs, verified by the same TLS settings, with the same kind of authentication.
    pub(crate) fn same_endpoint(&self, other: &Self) -> bool {
        let (tls, others) = (self.tls(), other.tls());
        self.owner() == other.owner()
            && self.provider() == other.provider()
            && self.environment() == other.environment()
            && self.base_url() == other.base_url()
            && self.parameters() == other.parameters()
            && self.auth().shape() == other.auth().shape()
            && (&tls.ca, &tls.server_name, tls.min_version) == (&others.ca, &others.server_name, others.min_version)
    }

    /// Whether calls and token requests of both go to the same hosts, as far as TLS can tell.
    pub(crate) fn same_hosts(&self, other: &Self) -> bool {
        let token_origin = |settings: &Self| settings.auth().token_url().map(|url| url.origin());
        self.base_url().origin() == other.base_url().origin()
            && token_origin(self) == token_origin(other)
            && self.tls().server_name == other.tls().server_name
    }

    /// Whether both were made from the same version of the same Secrets.
    pub(crate) fn same_secrets(&self, other: &Self) -> bool {
        self.credential_revision() == other.credential_revision() && self.tls().revision == other.tls().revision
    }

    /// Whether calls would carry what calls of `other` carry, in the same version: the credential, or the client
    /// certificate if there is no credential. A CA, which may be rotated with it, is not sent.
    pub(crate) fn carries_over(&self, other: &Self) -> bool {
        if matches!(self.auth(), Auth::None) {
            self.tls().client.is_some() && self.tls().revision == other.tls().revision
        } else {
            self.credential_revision() == other.credential_revision()
        }
    }

    /// Whether calls prove an identity, with a credential or with a client certificate.
    pub(crate) fn has_credential(&self) -> bool {
        !matches!(self.auth(), Auth::None) || self.tls().client.is_some()
    }

    /// Whether both send the same credentials, client certificate included, to the same endpoint: what was obtained
    /// with one, such as an access token, is valid for the other. The version of the Secret is compared too: equal
    /// values under another version may have been replaced in between.
    pub(crate) fn same_authentication(&self, other: &Self) -> bool {
        self.same_endpoint(other)
            && self.same_secrets(other)
            && self.same_credentials(other)
            && self.same_certificate(other)
    }

    /// Whether both use the same client certificate, or none.
    pub(crate) fn same_certificate(&self, other: &Self) -> bool {
        match (&self.tls().client, &other.tls().client) {
            (None, None) => true,
            (Some(one), Some(other)) => one.certificate == other.certificate && equal(&one.key, &other.key),
            _ => false,
        }
    }

    /// Whether both hold the same values of `auth`.
    pub(crate) fn same_credentials(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.auth().values(), other.auth().values());
        ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(one, other)| equal(one, other))
    }
}

impl Auth {
    /// All values that come from the Secret, in a fixed order.
    fn values(&self) -> Vec<&SecretString> {
        fn client(of: &TokenClient) -> [&SecretString; 2] {
            [&of.client_id, &of.client_secret]
        }
        match self {
            Self::None => Vec::new(),
            Self::Bearer { token } => vec![token],
            Self::Basic { username, password } => vec![username, password],
            Self::ApiKey { key, .. } => vec![key],
            Self::ClientCredentials(of) => client(of).to_vec(),
            Self::RefreshToken { client: of, refresh_token } => client(of).into_iter().chain([refresh_token]).collect(),
            Self::ProfileToken { fields, .. } => fields.iter().map(|(_, value)| value).collect(),
            Self::Profile { headers, query, body } => {
                let in_body = body.iter().filter_map(|(_, value)| value.as_ref());
                headers.iter().chain(query).map(|(_, value)| value).chain(in_body).collect()
            }
        }
    }
}

fn equal(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
