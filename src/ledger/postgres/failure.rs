//! What a driver error means: the fault of the server behind it, in a text without data of rows.

use sqlx::Error;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::domain::write_fault::WriteFault;
use crate::ledger::error::{LedgerError, ServerFailure};

/// Name of an operation for error messages, as in "while committing a page".
#[derive(Copy, Clone, Debug)]
pub(super) struct OperationName(pub(super) &'static str);

impl OperationName {
    /// The ledger error for a driver error.
    pub(super) fn failed(self, error: &Error) -> LedgerError {
        LedgerError::server(self.0, failure(error))
    }
}

/// A driver error as a failure of the server.
pub(super) fn failure(error: &Error) -> ServerFailure {
    match error {
        Error::Database(answer) => match answer.try_downcast_ref::<PgDatabaseError>() {
            Some(answer) => answered(answer),
            None => unexplained("the server answered with an error"),
        },
        Error::Io(error) => match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(cause) => untrusted(cause),
            None => unreachable(format!("the connection failed ({})", error.kind())),
        },
        Error::Tls(cause) => untrusted(cause),
        Error::PoolTimedOut => timed_out("no connection was free in time"),
        Error::WorkerCrashed | Error::PoolClosed => unreachable("the connection is closed".to_owned()),
        Error::Protocol(_) => unreachable("the server broke the protocol".to_owned()),
        Error::Configuration(error) => unexplained(&format!("the connection is not configured: {error}")),
        Error::ColumnDecode { index, .. } => unexplained(&format!("column {index} has an unexpected type")),
        Error::ColumnNotFound(name) => unexplained(&format!("column {name} is missing")),
        Error::Encode(_) => unexplained("a value cannot be encoded"),
        _ => unexplained("the driver failed"),
    }
}

/// A failure because of a limit of this process on the time that it waits.
pub(super) fn timed_out(text: &str) -> ServerFailure {
    // The server may still be at it: nothing is known about what was sent.
    let fault = Some(WriteFault::TimedOut);
    ServerFailure { text: text.to_owned(), fault, is_conflict: false, is_connection: true }
}

fn untrusted(cause: &dyn std::fmt::Display) -> ServerFailure {
    let fault = Some(WriteFault::Untrusted);
    ServerFailure { fault, ..unreachable(format!("TLS failed: {cause}")) }
}

fn unreachable(text: String) -> ServerFailure {
    ServerFailure { text, fault: Some(WriteFault::Unreachable), is_conflict: false, is_connection: true }
}

fn unexplained(text: &str) -> ServerFailure {
    ServerFailure { text: text.to_owned(), fault: None, is_conflict: false, is_connection: false }
}

fn answered(answer: &PgDatabaseError) -> ServerFailure {
    let code = answer.code();
    // After one of these the server closes the connection.
    let is_fatal = matches!(answer.severity(), PgSeverity::Fatal | PgSeverity::Panic);
    ServerFailure {
        text: text(answer),
        fault: fault(code),
        is_conflict: matches!(code, "40001" | "40P01"),
        is_connection: is_fatal,
    }
}

/// The answer without what it quotes of values: messages of these classes name objects of the schema and settings only.
fn text(answer: &PgDatabaseError) -> String {
    let code = answer.code();
    let class = code.get(..2).unwrap_or_default();
    if matches!(class, "08" | "25" | "28" | "3D" | "3F" | "40" | "42" | "53" | "54" | "55" | "57" | "58" | "XX") {
        return format!("{} (SQLSTATE {code})", answer.message());
    }
    match (answer.table(), answer.constraint().or(answer.column())) {
        (Some(table), Some(part)) => format!("SQLSTATE {code} on {part} of {table}"),
        (Some(table), None) => format!("SQLSTATE {code} on {table}"),
        _ => format!("SQLSTATE {code}"),
    }
}

/// The fault of the server that an SQLSTATE shows; `None` if the statement is to blame.
fn fault(code: &str) -> Option<WriteFault> {
    Some(match code {
        "53100" => WriteFault::Full,
        "53200" => WriteFault::OutOfMemory,
        "25006" => WriteFault::ServerReadOnly,
        "58030" => WriteFault::Io,
        "XX001" | "XX002" => WriteFault::Damaged,
        "55P03" | "40001" | "40P01" => WriteFault::Locked,
        "57014" | "25P03" => WriteFault::TimedOut,
        // No privilege; the database was dropped, or does not exist.
        "42501" | "3D000" | "57P04" => WriteFault::Unauthorized,
        _ if code.starts_with("28") => WriteFault::Unauthorized,
        // Too many connections, starting up, shutting down, crashed.
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") => WriteFault::Unreachable,
        _ if code.starts_with("58") => WriteFault::Io,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sqlstate_tells_the_fault_of_the_server_from_one_of_the_statement() {
        for (code, expected) in [
            ("53100", Some(WriteFault::Full)),
            ("53300", Some(WriteFault::Unreachable)),
            ("25006", Some(WriteFault::ServerReadOnly)),
            ("57P01", Some(WriteFault::Unreachable)),
            ("57014", Some(WriteFault::TimedOut)),
            ("40P01", Some(WriteFault::Locked)),
            ("28P01", Some(WriteFault::Unauthorized)),
            ("42501", Some(WriteFault::Unauthorized)),
            ("58030", Some(WriteFault::Io)),
            ("XX001", Some(WriteFault::Damaged)),
            ("23505", None),
            ("42P01", None),
        ] {
            assert_eq!(fault(code), expected, "{code}");
        }
    }
}
