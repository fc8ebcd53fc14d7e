//! The simulator's own certificate authority, made at start and forgotten at the end.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

/// What is wrong with a bank's certificate.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Certificate {
    /// Nothing.
    #[default]
    Valid,
    /// It ran out in 2001.
    Expired,
    /// It is for `elsewhere.sim.test` only.
    WrongName,
    /// Signed by an authority that nobody has.
    Untrusted,
}

/// Making or loading a certificate failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key or the certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// The server would not take it.
    #[error("cannot use the certificate")]
    Use(#[from] rustls::Error),
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new one with a new key.
    pub(crate) fn new(name: &str) -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its certificate: what a client must trust.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// What serves TLS under these names with a certificate of this kind.
    pub(crate) fn acceptor(&self, names: Vec<String>, kind: Certificate) -> Result<TlsAcceptor, TlsError> {
        let names = if kind == Certificate::WrongName { vec!["elsewhere.sim.test".to_owned()] } else { names };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Busbar simulated bank");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if kind == Certificate::Expired {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate()?;
        let cert = if kind == Certificate::Untrusted {
            params.signed_by(&key, &Self::new("Nobody's authority")?.issuer)?
        } else {
            params.signed_by(&key, &self.issuer)?
        };
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // Named, not the process's default: a test may run before anybody has installed one.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], secret)?;
        // HTTP/1.1 only: a reset or a truncation then means the connection, as the script says.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Resumption without memory per client, so that ten thousand of them can come back cheaply.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
