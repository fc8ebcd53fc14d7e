//! Keys and certificates of one run: a CA valid for a week, the API server's serving certificate, three client
//! certificates, and the key that signs service account tokens. All keys are P-256: generating an RSA key takes longer
//! than starting etcd.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::testbed::control_plane::error::ControlPlaneError;

/// Names under which clients may reach the API server; 10.0.0.1 is the first address of its service range.
const SERVING_NAMES: [&str; 6] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "10.0.0.1"];

/// Days until everything expires: longer than any run, and short enough that keys in a leftover directory are useless.
const VALID_DAYS: i32 = 7;

/// A certificate and its private key, as PEM.
#[derive(Clone)]
pub(crate) struct CertifiedKey {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The keys and certificates, and the directory of the servers' files.
pub(crate) struct Pki {
    /// The CA's certificate, as PEM.
    pub(crate) ca_pem: String,
    /// `O=system:masters, CN=admin`.
    pub(crate) admin: CertifiedKey,
    /// `CN=system:kube-controller-manager`.
    pub(crate) controller_manager: CertifiedKey,
    directory: PathBuf,
}

impl Pki {
    /// Generates everything, and writes the files that the servers read into `directory`.
    pub(crate) fn create(directory: &Path, now: Timestamp) -> Result<Self, ControlPlaneError> {
        fs::create_dir_all(directory).map_err(ControlPlaneError::file("create", directory))?;
        let ca_key = KeyPair::generate()?;
        let mut ca_params = params("busbar-testbed-ca", None, now)?;
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca_params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = ca_params.self_signed(&ca_key)?.pem();
        let issuer = Issuer::new(ca_params, ca_key);

        let mut serving = params("kube-apiserver", None, now)?;
        serving.subject_alt_names = CertificateParams::new(SERVING_NAMES.map(String::from).to_vec())?.subject_alt_names;
        let serving = sign(serving, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
        let admin = sign(params("admin", Some("system:masters"), now)?, ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
        let controller_manager =
            sign(params("system:kube-controller-manager", None, now)?, ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
        let kubelet_client =
            sign(params("kube-apiserver-kubelet-client", None, now)?, ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
        let tokens = KeyPair::generate()?;

        let pki = Self { ca_pem, admin, controller_manager, directory: directory.into() };
        write_private(&pki.ca_file(), &pki.ca_pem)?;
        write_private(&pki.serving_certificate(), &serving.certificate)?;
        write_private(&pki.serving_key(), &serving.key)?;
        write_private(&pki.kubelet_client_certificate(), &kubelet_client.certificate)?;
        write_private(&pki.kubelet_client_key(), &kubelet_client.key)?;
        write_private(&pki.token_key(), &tokens.serialize_pem())?;
        write_private(&pki.token_public_key(), &tokens.public_key_pem())?;
        Ok(pki)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    pub(crate) fn serving_certificate(&self) -> PathBuf {
        self.directory.join("serving.crt")
    }

    pub(crate) fn serving_key(&self) -> PathBuf {
        self.directory.join("serving.key")
    }

    /// The certificate with which the API server opens the endpoint of a node.
    pub(crate) fn kubelet_client_certificate(&self) -> PathBuf {
        self.directory.join("kubelet-client.crt")
    }

    pub(crate) fn kubelet_client_key(&self) -> PathBuf {
        self.directory.join("kubelet-client.key")
    }

    /// The key that signs service account tokens.
    pub(crate) fn token_key(&self) -> PathBuf {
        self.directory.join("tokens.key")
    }

    /// The key that verifies service account tokens.
    pub(crate) fn token_public_key(&self) -> PathBuf {
        self.directory.join("tokens.pub")
    }
}

/// Subject and validity; valid from yesterday, to tolerate clock skew.
fn params(
    common_name: &str,
    organization: Option<&str>,
    now: Timestamp,
) -> Result<CertificateParams, ControlPlaneError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name = name;
    let today = now.to_zoned(TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| date_time_ymd(date.year().into(), month(date), date.day().unsigned_abs());
    params.not_before = day(today.saturating_sub(1.day()));
    params.not_after = day(today.saturating_add(VALID_DAYS.days()));
    Ok(params)
}

/// The month in rcgen's type.
fn month(date: jiff::civil::Date) -> u8 {
    date.month().unsigned_abs()
}

fn sign(
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<CertifiedKey, ControlPlaneError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    Ok(CertifiedKey { certificate: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}

/// Writes a file with mode 0600.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), ControlPlaneError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(ControlPlaneError::file("write", path))
}
