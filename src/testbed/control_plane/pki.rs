//! Keys and certificates of one run: a CA for a week, the API server's serving pair, two client pairs, and the pair
//! that signs service account tokens. All are P-256: making an RSA key takes longer than starting etcd.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::testbed::control_plane::Error;

/// Names under which clients may reach the API server; 10.0.0.1 is the first address of its service range.
const SERVING_NAMES: [&str; 6] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "10.0.0.1"];

/// Days until everything expires: longer than any run, short enough to be worthless when a run directory is found.
const VALID_DAYS: i32 = 7;

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Everything that was made, and where the files for the servers are.
pub(crate) struct Pki {
    /// The CA's certificate, as PEM.
    pub(crate) ca_pem: String,
    /// `O=system:masters, CN=admin`.
    pub(crate) admin: Pair,
    /// `CN=system:kube-controller-manager`.
    pub(crate) controller_manager: Pair,
    directory: PathBuf,
}

impl Pki {
    /// Makes all of it, and writes into `directory` what the servers read.
    pub(crate) fn create(directory: &Path, now: Timestamp) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
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
        let tokens = KeyPair::generate()?;

        let made = Self { ca_pem, admin, controller_manager, directory: directory.into() };
        write_private(&made.ca_file(), &made.ca_pem)?;
        write_private(&made.serving_certificate(), &serving.certificate)?;
        write_private(&made.serving_key(), &serving.key)?;
        write_private(&made.token_key(), &tokens.serialize_pem())?;
        write_private(&made.token_public_key(), &tokens.public_key_pem())?;
        Ok(made)
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

    /// Signs service account tokens.
    pub(crate) fn token_key(&self) -> PathBuf {
        self.directory.join("tokens.key")
    }

    /// Verifies service account tokens.
    pub(crate) fn token_public_key(&self) -> PathBuf {
        self.directory.join("tokens.pub")
    }
}

/// Subject and validity; from yesterday, so that a clock that is a little behind does no harm.
fn params(common_name: &str, organization: Option<&str>, now: Timestamp) -> Result<CertificateParams, Error> {
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

/// The month as rcgen wants it.
fn month(date: jiff::civil::Date) -> u8 {
    date.month().unsigned_abs()
}

fn sign(
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<Pair, Error> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    Ok(Pair { certificate: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}

/// Writes a file that only we may read.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(Error::file("write", path))
}
