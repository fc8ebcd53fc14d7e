//! The gateway's certificate, reloaded when its files change.
//!
//! Certificates are renewed while the process runs. An invalid pair is logged and the last valid one stays in use: a
//! half-written file must not stop the gateway.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::tasks::TaskGroup;

/// Interval at which the files are checked: a renewal comes weeks before the expiry.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Why the certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A file has the wrong content.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The key does not match the certificate, or its kind is not supported.
    #[error("certificate and key cannot be used together: {0}")]
    LoadedPair(#[from] rustls::Error),
}

/// A certificate that is reloaded when its files change.
#[derive(Debug)]
pub struct ServerCertificate {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
    /// Hash of the files' content at the last check, valid or not.
    last_hash: RwLock<u64>,
}

impl ServerCertificate {
    /// Reads the pair.
    pub fn open(cert: PathBuf, key: PathBuf) -> Result<Arc<Self>, CertificateError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (pair, digest) = read(&cert, &key, &provider)?;
        Ok(Arc::new(Self { cert, key, provider, current: RwLock::new(pair?), last_hash: RwLock::new(digest) }))
    }

    /// The server configuration for TLS 1.2 and 1.3 with this certificate.
    pub fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Reloads the certificate when its files change, until `stop` is cancelled; reads files as tasks of `tasks`.
    pub async fn watch(self: Arc<Self>, clock: Clock, tasks: TaskGroup, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep_until(clock.mono() + POLL_INTERVAL) => {}
            }
            let this = Arc::clone(&self);
            // Files are read on a blocking thread.
            if let Ok(Err(error)) = tasks.spawn_blocking("certificate", move || this.reload()).await {
                tracing::error!(%error, "loading the new gateway certificate failed; the last valid one stays in use");
            }
        }
    }

    /// Checks the files once; `true` if a new pair is now in use.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let (pair, digest) = read(&self.cert, &self.key, &self.provider)?;
        {
            let mut last_hash = self.last_hash.write().unwrap_or_else(PoisonError::into_inner);
            if *last_hash == digest {
                return Ok(false);
            }
            *last_hash = digest;
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = pair?;
        tracing::info!("gateway certificate reloaded");
        Ok(true)
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

type LoadedPair = Result<Arc<CertifiedKey>, CertificateError>;

/// The pair in the files, or why it is invalid, and a hash of the files' content.
fn read(cert: &PathBuf, key: &PathBuf, provider: &CryptoProvider) -> Result<(LoadedPair, u64), CertificateError> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let file = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| CertificateError::Read { path: path.display().to_string(), source })
    };
    let (cert_pem, key_pem) = (file(cert)?, Zeroizing::new(file(key)?));
    let mut hasher = DefaultHasher::new();
    (&cert_pem, &*key_pem).hash(&mut hasher);
    let content = |path: &PathBuf, problem: &str| CertificateError::Content {
        path: path.display().to_string(),
        problem: problem.to_owned(),
    };
    let pair = || {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&cert_pem)
            .collect::<Result<_, _>>()
            .map_err(|_| content(cert, "is not a PEM certificate"))?;
        if chain.is_empty() {
            return Err(content(cert, "contains no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| content(key, "contains no PEM private key"))?;
        Ok(Arc::new(CertifiedKey::from_der(chain, key, provider)?))
    };
    Ok((pair(), hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    #[test]
    fn a_renewed_pair_is_loaded_and_an_invalid_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let put = |(c, k): &(String, String)| {
            std::fs::write(&cert, c).unwrap();
            std::fs::write(&key, k).unwrap();
        };
        let (first, second) = (pair("a.test"), pair("b.test"));
        put(&first);
        let served = ServerCertificate::open(cert.clone(), key.clone()).unwrap();
        let now = || served.current.read().unwrap().cert[0].clone();
        let before = now();
        assert!(!served.reload().unwrap());
        // Half of a renewal: the new certificate, the old key.
        std::fs::write(&cert, &second.0).unwrap();
        assert!(served.reload().is_err());
        assert_eq!(now(), before);
        put(&second);
        assert!(served.reload().unwrap());
        assert_ne!(now(), before);
        std::fs::write(&key, "nothing").unwrap();
        let error = served.reload().unwrap_err().to_string();
        assert!(error.contains("tls.key") && error.contains("no PEM private key"), "{error}");
    }
}
