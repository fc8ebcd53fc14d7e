//! The simulator's certificate authority, created at start and never stored.

use std::sync::Arc;

use jiff::civil::Date;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::testbed::sim::certificate::CertificateKind;
use crate::testbed::sim::config::BankConfig;

/// Why a certificate could not be generated or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key or the certificate could not be generated.
    #[error("cannot generate a certificate")]
    Generate(#[from] rcgen::Error),
    /// rustls rejected the certificate or the key.
    #[error("cannot use the certificate")]
    Use(#[from] rustls::Error),
    /// The CA cannot be used to verify client certificates.
    #[error("cannot use the CA certificate")]
    Authority,
}

/// A certificate authority.
pub(crate) struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl CertificateAuthority {
    /// A new authority with a new key.
    pub(crate) fn new(name: &str) -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// The CA certificate that clients must trust, PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A client certificate and its key, PEM; expires at the start of `not_after`.
    pub(crate) fn client(&self, name: &str, not_after: Date) -> Result<(String, String), TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(
            not_after.year().into(),
            not_after.month().unsigned_abs(),
            not_after.day().unsigned_abs(),
        );
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// A TLS acceptor for these names, with the certificate kind and options of `bank`.
    pub(crate) fn acceptor(&self, names: Vec<String>, bank: &BankConfig) -> Result<TlsAcceptor, TlsError> {
        let kind = bank.certificate;
        let names = if kind == CertificateKind::WrongName { vec!["elsewhere.sim.test".to_owned()] } else { names };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Busbar simulated bank");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if kind == CertificateKind::Expired {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate()?;
        let cert = if kind == CertificateKind::Untrusted {
            params.signed_by(&key, &Self::new("Untrusted CA")?.issuer)?
        } else {
            params.signed_by(&key, &self.issuer)?
        };
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // Explicit, because a test may run before a process default is installed.
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
                roots.add(root.map_err(|_| TlsError::Authority)?)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|_| TlsError::Authority)?)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(vec![cert.der().clone()], secret)?;
        // HTTP/1.1 only, so that a reset or a truncation affects the connection, as the script intends.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Stateless session resumption, so that ten thousand clients can reconnect cheaply.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
