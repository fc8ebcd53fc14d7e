//! Comparing two settings: whether they lead to the same endpoint, with the same credentials.

use secrecy::{ExposeSecret as _, SecretString};

use super::auth::{Auth, TokenClient};
use super::resolved::Settings;

impl Settings {
    /// Whether a credential of `other` may be sent to the endpoint of these settings: the same provider at the same
    /// URLs, verified by the same TLS settings, with the same kind of authentication.
    pub(crate) fn same_endpoint(&self, other: &Self) -> bool {
        let (tls, others) = (self.tls(), other.tls());
        self.provider() == other.provider()
            && self.environment() == other.environment()
            && self.base_url() == other.base_url()
            && self.parameters() == other.parameters()
            && self.auth().shape() == other.auth().shape()
            && (&tls.ca, &tls.server_name, tls.min_version) == (&others.ca, &others.server_name, others.min_version)
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
            Self::Profile { headers, query } => headers.iter().chain(query).map(|(_, value)| value).collect(),
        }
    }
}

fn equal(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
