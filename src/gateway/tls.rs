//! The gateway's certificate, read again when its files change.
//!
//! Certificates are renewed under a running process. A pair that cannot be used is told and leaves the last good one in
//! force: a half-written file must not take the gateway down.

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

/// How often the files are looked at: a renewal comes weeks before the end.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{path}: {problem}")]
    Content {
        /// Which.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// They do not fit together, or the key is of an unknown kind.
    #[error("the certificate and key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// A certificate that follows its files.
#[derive(Debug)]
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
    /// The files' bytes as they were last looked at, good or bad.
    seen: RwLock<u64>,
}

impl Certificate {
    /// Reads the pair.
    pub fn open(cert: PathBuf, key: PathBuf) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (pair, digest) = read(&cert, &key, &provider)?;
        Ok(Arc::new(Self { cert, key, provider, current: RwLock::new(pair?), seen: RwLock::new(digest) }))
    }

    /// The server's side of TLS 1.2 and 1.3 with this certificate.
    pub fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Follows the files until `stop`.
    pub async fn follow(self: Arc<Self>, clock: Clock, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep_until(clock.mono() + LOOK_EVERY) => {}
            }
            let this = Arc::clone(&self);
            // Files are read on a thread that may wait.
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || this.look()).await {
                tracing::error!(%error, "the gateway's new certificate cannot be used; the last good one stays");
            }
        }
    }

    /// Looks once; `true` if a new pair is in force.
    pub fn look(&self) -> Result<bool, TlsError> {
        let (pair, digest) = read(&self.cert, &self.key, &self.provider)?;
        {
            let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
            if *seen == digest {
                return Ok(false);
            }
            *seen = digest;
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = pair?;
        tracing::info!("the gateway serves a new certificate");
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

type Pair = Result<Arc<CertifiedKey>, TlsError>;

/// The pair that the files hold, or why it is none, and a fingerprint of the files.
fn read(cert: &PathBuf, key: &PathBuf, provider: &CryptoProvider) -> Result<(Pair, u64), TlsError> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let file = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| TlsError::Read { path: path.display().to_string(), source })
    };
    let (cert_pem, key_pem) = (file(cert)?, Zeroizing::new(file(key)?));
    let mut hasher = DefaultHasher::new();
    (&cert_pem, &*key_pem).hash(&mut hasher);
    let content = |path: &PathBuf, problem: &str| TlsError::Content {
        path: path.display().to_string(),
        problem: problem.to_owned(),
    };
    let pair = || {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&cert_pem)
            .collect::<Result<_, _>>()
            .map_err(|_| content(cert, "is no PEM certificate"))?;
        if chain.is_empty() {
            return Err(content(cert, "holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| content(key, "holds no PEM private key"))?;
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
    fn a_renewed_pair_is_taken_up_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let put = |(c, k): &(String, String)| {
            std::fs::write(&cert, c).unwrap();
            std::fs::write(&key, k).unwrap();
        };
        let (first, second) = (pair("a.test"), pair("b.test"));
        put(&first);
        let served = Certificate::open(cert.clone(), key.clone()).unwrap();
        let now = || served.current.read().unwrap().cert[0].clone();
        let before = now();
        assert!(!served.look().unwrap());
        // Half of a renewal: the new certificate, the old key.
        std::fs::write(&cert, &second.0).unwrap();
        assert!(served.look().is_err());
        assert_eq!(now(), before);
        put(&second);
        assert!(served.look().unwrap());
        assert_ne!(now(), before);
        std::fs::write(&key, "nothing").unwrap();
        let error = served.look().unwrap_err().to_string();
        assert!(error.contains("tls.key") && error.contains("no PEM private key"), "{error}");
    }
}
