//! Opening a ledger by its URL: the only place that names an engine.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::error::LedgerError;
use super::sqlite::database::SqliteLedger;
use super::store::{Ledger, OpenMode};

/// URL of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerUrl {
    /// `sqlite:PATH`: an embedded SQLite database.
    Sqlite(PathBuf),
}

impl FromStr for LedgerUrl {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            _ => Err("must be sqlite:PATH".into()),
        }
    }
}

/// Opens the ledger at `url`.
pub async fn open(url: &LedgerUrl, mode: OpenMode) -> Result<Arc<dyn Ledger>, LedgerError> {
    match url {
        LedgerUrl::Sqlite(path) => Ok(Arc::new(SqliteLedger::open(path, mode).await?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_known_scheme_and_a_path_is_rejected() {
        assert_eq!("sqlite:/data/busbar.db".parse(), Ok(LedgerUrl::Sqlite("/data/busbar.db".into())));
        for invalid in ["", "sqlite:", "busbar.db", "postgres://ledger"] {
            assert_eq!(invalid.parse::<LedgerUrl>(), Err("must be sqlite:PATH".to_owned()), "{invalid}");
        }
    }
}
