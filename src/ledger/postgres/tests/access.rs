//! Passwords and certificates.

use std::fs;

use super::store::open_url;
use crate::domain::write_fault::WriteFault;
use crate::ledger::contract::{at, count, take};
use crate::ledger::error::LedgerError;
use crate::ledger::open::{LedgerUrl, open};
use crate::ledger::store::OpenMode;
use crate::testbed::postgres::{PostgresServer, ServerCertificate, USER};

fn certificate(host: &str) -> ServerCertificate {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    ServerCertificate { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

#[tokio::test]
async fn the_server_is_verified_and_the_password_read_again_after_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let (made, other) = (certificate("localhost"), certificate("localhost"));
    let path = |name: &str| folder.path().join(name);
    fs::write(path("ca.pem"), &made.certificate).unwrap();
    fs::write(path("other.pem"), &other.certificate).unwrap();
    let server = PostgresServer::start_with_tls(&made).await.unwrap();
    server.create_database().await.unwrap();
    let set_password = async |password: &str| {
        server.execute("postgres", &format!("ALTER USER {USER} PASSWORD '{password}'")).await.unwrap();
    };
    set_password("s3cret-one").await;
    fs::write(path("password"), "s3cret-one\n").unwrap();
    let url = |host: &str, ca: &str| -> LedgerUrl {
        let (port, ca) = (server.tcp_port(), path(ca));
        let text = format!(
            "postgres://{USER}@{host}:{port}/ledger_0?sslmode=verify-full&sslrootcert={}&max_connections=2",
            ca.display()
        );
        text.parse::<LedgerUrl>().unwrap().with_password_file(Some(&path("password")))
    };
    // Another authority, and the right one for another name.
    for wrong in [url("localhost", "other.pem"), url("127.0.0.1", "ca.pem")] {
        let error = open(&wrong, OpenMode::Existing).await.err().expect("not verified");
        assert!(matches!(error, LedgerError::Connect { .. }), "{error}");
        assert_eq!(error.write_fault(), Some(WriteFault::Untrusted), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let ledger = open(&url("localhost", "ca.pem"), OpenMode::Migrate).await.unwrap();
    take(&*ledger, "me", at(0)).await;

    // Rotated: connections that exist go on, and the next one reads the file again.
    set_password("s3cret-two").await;
    fs::write(path("password"), "s3cret-two").unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ledger_0'".to_string();
    server.execute("postgres", &end).await.unwrap();
    assert_eq!(count(&*ledger).await, 0);

    fs::write(path("password"), "s3cret-wrong").unwrap();
    for (prepare, reason) in [(true, "password authentication failed"), (false, "cannot be read")] {
        if !prepare {
            fs::remove_file(path("password")).unwrap();
        }
        let error = open(&url("localhost", "ca.pem"), OpenMode::Migrate).await.err().expect("refused");
        assert_eq!(error.write_fault(), Some(WriteFault::Unauthorized), "{error}");
        assert!(error.to_string().contains(reason) && !error.to_string().contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let server = PostgresServer::shared().await.unwrap();
    let missing = server.url("no_such_database");
    let error = open_url(&missing, OpenMode::ReadOnly).await.err().expect("there is none").to_string();
    assert!(error.contains("no_such_database") && error.contains("does not exist"), "{error}");
    let empty = server.create_database().await.unwrap();
    let error = open_url(&empty, OpenMode::Existing).await.err().expect("it has no schema");
    assert!(matches!(error, LedgerError::SchemaOutdated), "{error}");
    let nowhere = format!("postgres://{USER}@127.0.0.1:1/ledger?sslmode=disable");
    let error = open_url(&nowhere, OpenMode::ReadOnly).await.err().expect("nothing listens");
    assert_eq!(error.write_fault(), Some(WriteFault::Unreachable), "{error}");
    assert!(error.to_string().contains("postgres://127.0.0.1:1/ledger"), "{error}");
}
