//! Opening a ledger by its URL: the only place that names an engine.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::error::LedgerError;
use super::postgres::database::PostgresLedger;
use super::postgres::transfer::PostgresEndpoint;
use super::postgres::url::{PostgresUrl, has_password};
use super::sqlite::database::SqliteLedger;
use super::sqlite::transfer::{FileAccess, SqliteEndpoint};
use super::store::{Ledger, OpenMode};
use super::transfer::endpoint::Endpoint;

const FORMS: &str = "must be sqlite:PATH or postgres://USER@HOST:PORT/DATABASE";

/// URL of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerUrl {
    /// `sqlite:PATH`: an embedded SQLite database.
    Sqlite(PathBuf),
    /// `postgres://USER@HOST:PORT/DATABASE`: a database on a PostgreSQL server.
    Postgres(Box<PostgresUrl>),
    /// A URL with a password, which is refused when it is opened and not where it is parsed: the parser of arguments
    /// would print it. The text says what to do; the URL is not kept.
    WithPassword,
}

impl FromStr for LedgerUrl {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if has_password(s) {
            return Ok(Self::WithPassword);
        }
        if let Some(rest) = s.strip_prefix("postgres://").or_else(|| s.strip_prefix("postgresql://")) {
            return Ok(Self::Postgres(Box::new(PostgresUrl::parse(rest)?)));
        }
        match s.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            _ => Err(FORMS.into()),
        }
    }
}

/// Opens the ledger at `url`.
pub async fn open(url: &LedgerUrl, mode: OpenMode) -> Result<Arc<dyn Ledger>, LedgerError> {
    match url {
        LedgerUrl::Sqlite(path) => Ok(Arc::new(SqliteLedger::open(path, mode).await?)),
        LedgerUrl::Postgres(url) => Ok(Arc::new(PostgresLedger::open(url, mode).await?)),
        LedgerUrl::WithPassword => Err(LedgerError::PasswordInUrl),
    }
}

impl LedgerUrl {
    /// Whether it is a file that does not exist yet.
    pub fn is_missing(&self) -> bool {
        self.file().is_some_and(|path| !path.exists())
    }

    /// The file of an embedded ledger.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) | Self::WithPassword => None,
        }
    }

    /// The same, with the file of the password for a server. An embedded ledger has none.
    #[must_use]
    pub fn with_password_file(self, file: Option<&Path>) -> Self {
        match (self, file) {
            (Self::Postgres(url), Some(file)) => Self::Postgres(Box::new(url.with_password_file(file))),
            (url, _) => url,
        }
    }

    /// Whether several replicas may use the ledger at once.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

/// What a ledger is opened for by a copy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum EndpointRole {
    /// To be read.
    Source,
    /// To be written.
    Target,
    /// A new file to be written, which no process knows yet.
    NewFile,
}

/// Opens one end of a copy; its schema is that of this version.
pub(super) async fn open_endpoint(url: &LedgerUrl, role: EndpointRole) -> Result<Box<dyn Endpoint>, LedgerError> {
    match url {
        LedgerUrl::Sqlite(path) => {
            let access = match role {
                EndpointRole::Source => FileAccess::Read,
                EndpointRole::Target => FileAccess::Write,
                EndpointRole::NewFile => FileAccess::New,
            };
            Ok(Box::new(SqliteEndpoint::open(path, access)?))
        }
        LedgerUrl::Postgres(url) => Ok(Box::new(PostgresEndpoint::open(url).await?)),
        LedgerUrl::WithPassword => Err(LedgerError::PasswordInUrl),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_known_scheme_and_a_path_is_rejected() {
        assert_eq!("sqlite:/data/busbar.db".parse(), Ok(LedgerUrl::Sqlite("/data/busbar.db".into())));
        assert!(matches!("postgres://u@db/ledger".parse(), Ok(LedgerUrl::Postgres(_))));
        assert!(matches!("postgresql://u@db/ledger".parse(), Ok(LedgerUrl::Postgres(_))));
        for invalid in ["", "sqlite:", "busbar.db", "mysql://u@db/ledger"] {
            assert_eq!(invalid.parse::<LedgerUrl>(), Err(FORMS.to_owned()), "{invalid}");
        }
    }

    #[tokio::test]
    async fn a_password_is_refused_and_printed_nowhere() {
        for url in [
            "postgres://u:s3cret@db/ledger",
            "postgresql://u:s3cret@db:5432/ledger?sslmode=nonsense",
            "postgres://u@db/ledger?password=s3cret",
            "mysql://u:s3cret@db/ledger",
        ] {
            let parsed: LedgerUrl = url.parse().unwrap();
            let error = open(&parsed, OpenMode::Migrate).await.err().expect("refused").to_string();
            assert!(error.contains("--ledger-password-file"), "{error}");
            assert!(!format!("{parsed:?} {error}").contains("s3cret"), "{url}");
        }
    }
}
