//! TLS beyond the system's roots: a CA of one's own, a client certificate, another server name.
//!
//! A given CA replaces the system's roots: a connection that names its CA trusts nobody else. Everything is parsed
//! here, so that a bad certificate is a condition on the object and not a failing call at noon.

use std::fmt;

use jiff::Timestamp;
use reqwest::{Certificate, Identity, Url};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret as _, SecretString};

use super::SettingsError;
use super::der::not_after;

/// A client certificate with its key.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The chain, PEM.
    pub certificate: Vec<u8>,
    /// The key, PEM.
    pub key: SecretString,
}

/// The oldest version of TLS that is spoken.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// TLS settings of a connection.
#[derive(Clone, Default)]
pub struct Tls {
    /// The only roots that are trusted, PEM (`ca.crt`).
    pub ca: Option<Vec<u8>>,
    /// The certificate shown to the provider (`tls.crt`, `tls.key`).
    pub client: Option<ClientCertificate>,
    /// The name asked for (SNI) and verified, where it is not the base URL's host.
    pub server_name: Option<String>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Name, UID and resourceVersion of the Secret these come from; empty without one.
    pub revision: String,
}

impl Tls {
    /// What may enter a revision.
    pub fn shape(&self) -> String {
        let client = self.client.is_some();
        let Self { ca, client: _, server_name, min_version, revision } = self;
        format!("ca={} client={client} name={server_name:?} {min_version:?} {revision:?}", ca.is_some())
    }

    /// When the client certificate runs out: the first in its chain to do so.
    pub fn expires(&self) -> Option<Timestamp> {
        let chain = CertificateDer::pem_slice_iter(&self.client.as_ref()?.certificate);
        chain.filter_map(|one| not_after(one.ok()?.as_ref())).min()
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if let Some(ca) = &self.ca {
            let field = "tls.certSecretRef";
            if roots(ca).is_none_or(|store| store.is_empty()) || certificates(ca).is_none() {
                return Err(SettingsError::new(field, "ca.crt holds no certificate that can be read: give PEM"));
            }
        }
        if let Some(client) = &self.client
            && (!is_pair(client) || identity(client).is_none())
        {
            let problem = "tls.crt and tls.key are no pair that can be read: give the chain and its own key as PEM";
            return Err(SettingsError::new("tls.certSecretRef", problem));
        }
        if let Some(name) = &self.server_name
            && (DnsName::try_from(name.as_str()).is_err() || !is_name(name))
        {
            return Err(SettingsError::new("tls.serverName", "must be a DNS name"));
        }
        Ok(())
    }
}

/// Whether a URL takes `name` for a name. What it takes for an address (`0x7f000001` is one) would be connected to as it
/// stands, and no longer be looked up where the base URL's host is.
pub(crate) fn is_name(name: &str) -> bool {
    Url::parse(&format!("https://{name}/")).is_ok_and(|url| url.domain().is_some())
}

/// The roots in a PEM bundle; none if one of them cannot be a root.
fn roots(pem: &[u8]) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.ok()?).ok()?;
    }
    Some(store)
}

/// Whether the chain and the key can be read and belong together.
fn is_pair(client: &ClientCertificate) -> bool {
    let Ok(chain) = CertificateDer::pem_slice_iter(&client.certificate).collect::<Result<Vec<_>, _>>() else {
        return false;
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(client.key.expose_secret().as_bytes()) else { return false };
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).is_ok()
}

/// The certificates of a PEM bundle, for the client.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<Certificate>> {
    Certificate::from_pem_bundle(pem).ok()
}

/// The client certificate, for the client.
pub(crate) fn identity(client: &ClientCertificate) -> Option<Identity> {
    let mut pem = zeroize::Zeroizing::new(client.key.expose_secret().as_bytes().to_vec());
    pem.push(b'\n');
    pem.extend_from_slice(&client.certificate);
    Identity::from_pem(&pem).ok()
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shape())
    }
}
