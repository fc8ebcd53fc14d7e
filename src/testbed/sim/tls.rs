//! The simulator's own certificate authority, made at start and forgotten at the end.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

use crate::testbed::sim::config::BankConfig;

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
    /// The authority cannot be trusted by its own banks.
    #[error("cannot use the authority")]
    Pem,
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

    /// A client's certificate and key, PEM.
    pub(crate) fn client(&self, name: &str, (year, month, day): (i32, u8, u8)) -> Result<(String, String), TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// What serves TLS under these names with a certificate of this kind.
    pub(crate) fn acceptor(&self, names: Vec<String>, bank: &BankConfig) -> Result<TlsAcceptor, TlsError> {
        let kind = bank.certificate;
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
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = if bank.only_tls12 {
            builder.with_protocol_versions(&[&rustls::version::TLS12])?
        } else {
            builder.with_safe_default_protocol_versions()?
        };
        let builder = if bank.demands_certificate {
            let mut roots = RootCertStore::empty();
            for root in CertificateDer::pem_slice_iter(self.pem.as_bytes()) {
                roots.add(root.map_err(|_| TlsError::Pem)?)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|_| TlsError::Pem)?)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(vec![cert.der().clone()], secret)?;
        // HTTP/1.1 only: a reset or a truncation then means the connection, as the script says.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Resumption without memory per client, so that ten thousand of them can come back cheaply.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
