//! `busbar check ledger`: what a production ledger needs and Busbar cannot see.
//!
//! Account numbers are masked in rows, and raw payloads are encrypted; amounts, narrations and dates are not. So the volume
//! of a SQLite ledger, or the storage of the database server, must be encrypted. A process cannot see whether it is: the
//! operator's administrator declares it, and without that the check warns.

use crate::app::output::{OutputError, print_line};
use crate::cli::CheckLedgerArgs;
use crate::ledger::LedgerUrl;

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LedgerCheckError {
    /// There are warnings, and `--strict` is set.
    #[error("ledger check failed: {0} warnings (--strict); follow docs/guide/production.md")]
    Warnings(usize),
    /// Standard output could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Prints what was found.
pub(super) fn check(args: &CheckLedgerArgs) -> Result<(), LedgerCheckError> {
    let warnings = warnings(args);
    for warning in &warnings {
        print_line(&format!("ledger: warning: {warning}"))?;
    }
    if warnings.is_empty() {
        return Ok(print_line("ledger: ok (encryption at rest is declared)")?);
    }
    if args.strict { Err(LedgerCheckError::Warnings(warnings.len())) } else { Ok(()) }
}

fn warnings(args: &CheckLedgerArgs) -> Vec<String> {
    let remedy = "then declare it with --encrypted-at-rest; see docs/guide/production.md";
    let undeclared = match &args.ledger {
        _ if args.encrypted_at_rest => None,
        LedgerUrl::Sqlite(path) => Some(format!(
            "encryption at rest not declared: {} is a file that holds bookings; put it on an encrypted volume, {remedy}",
            path.display()
        )),
        LedgerUrl::Postgres(_) | LedgerUrl::WithPassword => Some(format!(
            "encryption at rest not declared: the database holds bookings; encrypt the storage of its server and of its \
             backups, {remedy}"
        )),
    };
    let password = matches!(args.ledger, LedgerUrl::WithPassword)
        .then(|| "password in the URL: other processes can read it; use --ledger-password-file".to_owned());
    undeclared.into_iter().chain(password).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ledger: &str, encrypted_at_rest: bool) -> Vec<String> {
        warnings(&CheckLedgerArgs { ledger: ledger.parse().unwrap(), encrypted_at_rest, strict: false })
    }

    #[test]
    fn an_undeclared_encryption_is_a_warning_for_either_engine() {
        for (ledger, said) in [
            ("sqlite:/data/busbar.db", "/data/busbar.db is a file that holds bookings"),
            ("postgres://busbar@db.test/ledger", "encrypt the storage of its server"),
        ] {
            let warnings = found(ledger, false);
            assert!(warnings.len() == 1 && warnings[0].contains(said), "{warnings:?}");
            assert!(found(ledger, true).is_empty(), "{ledger}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_a_warning_whatever_is_declared_and_is_not_shown() {
        let warnings = found("postgres://busbar:canary-not-real@db.test/ledger", true);
        assert!(warnings.len() == 1 && warnings[0].contains("--ledger-password-file"), "{warnings:?}");
        assert!(!warnings[0].contains("canary"));
    }
}
