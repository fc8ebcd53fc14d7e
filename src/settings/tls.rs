//! TLS settings of a connection: a custom CA, a client certificate, another server name.
//!
//! A custom CA replaces the system's roots: a connection that sets a CA trusts no other. Everything is parsed here, so
//! that an invalid certificate is a condition on the object and not a call that fails later.

use std::fmt;

use jiff::Timestamp;
use reqwest::{Certificate, Identity, Url};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret as _, SecretString};

use super::certificate_expiry::not_after;
use super::error::SettingsError;

/// A client certificate with its key.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The chain, PEM.
    pub certificate: Vec<u8>,
    /// The key, PEM.
    pub key: SecretString,
}

/// The minimum TLS version.
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
    /// The only trusted roots, PEM (`ca.crt`).
    pub ca: Option<Vec<u8>>,
    /// The client certificate (`tls.crt`, `tls.key`).
    pub client: Option<ClientCertificate>,
    /// The name that is sent (SNI) and verified, where it is not the base URL's host.
    pub server_name: Option<String>,
    /// The minimum TLS version.
    pub min_version: MinVersion,
    /// Name, UID and resourceVersion of the Secret that holds the certificates; empty without one.
    pub revision: String,
}

impl Tls {
    /// The settings without key material: safe to print, part of the revisions.
    pub fn shape(&self) -> String {
        let client = self.client.is_some();
        let Self { ca, client: _, server_name, min_version, revision } = self;
        format!("ca={} client={client} name={server_name:?} {min_version:?} {revision:?}", ca.is_some())
    }

    /// When the client certificate expires: the earliest expiry in its chain.
    pub fn expires(&self) -> Option<Timestamp> {
        let chain = CertificateDer::pem_slice_iter(&self.client.as_ref()?.certificate);
        chain.filter_map(|one| not_after(one.ok()?.as_ref())).min()
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if let Some(ca) = &self.ca {
            let field = "tls.certSecretRef";
            if roots(ca).is_none_or(|store| store.is_empty()) || certificates(ca).is_none() {
                return Err(SettingsError::new(field, "ca.crt holds no valid certificate: provide PEM"));
            }
        }
        if let Some(client) = &self.client
            && (!is_pair(client) || identity(client).is_none())
        {
            let problem = "tls.crt and tls.key are not a valid key pair: provide the chain and its private key as PEM";
            return Err(SettingsError::new("tls.certSecretRef", problem));
        }
        if let Some(name) = &self.server_name
            && (DnsName::try_from(name.as_str()).is_err() || !is_domain_name(name))
        {
            return Err(SettingsError::new("tls.serverName", "must be a DNS name"));
        }
        Ok(())
    }
}

/// Whether a URL parses `name` as a domain name. What it parses as an IP address (`0x7f000001` is one) would be
/// connected to directly instead of the address of the base URL's host.
pub(crate) fn is_domain_name(name: &str) -> bool {
    Url::parse(&format!("https://{name}/")).is_ok_and(|url| url.domain().is_some())
}

/// The roots in a PEM bundle; `None` if one of them is not a valid root.
fn roots(pem: &[u8]) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.ok()?).ok()?;
    }
    Some(store)
}

/// Whether the chain and the key are valid and belong together.
fn is_pair(client: &ClientCertificate) -> bool {
    let Ok(chain) = CertificateDer::pem_slice_iter(&client.certificate).collect::<Result<Vec<_>, _>>() else {
        return false;
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(client.key.expose_secret().as_bytes()) else { return false };
    CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider()).is_ok()
}

/// The certificates of a PEM bundle, for the HTTP client.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<Certificate>> {
    Certificate::from_pem_bundle(pem).ok()
}

/// The client certificate, for the HTTP client.
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
