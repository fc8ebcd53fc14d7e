//! A database on a volume that fills up.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::Command;

use super::store::open_url;
use crate::domain::write_fault::WriteFault;
use crate::ledger::contract::{at, commit, count, cursor_key, row, state, take};
use crate::ledger::store::OpenMode;
use crate::testbed::postgres::PostgresServer;

const SCRIPT: &str =
    "mount -t tmpfs -o size=48m tmpfs \"$1\" && cd \"$1\" && touch small-volume && shift && exec \"$@\"";

#[test]
fn a_full_volume_of_the_server_is_named_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // The server's user has to reach it.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for namespaces in [["--mount"].as_slice(), &["--map-root-user", "--mount"]] {
        let possible = Command::new("unshare").args(namespaces).arg("true").output();
        if !possible.is_ok_and(|output| output.status.success()) {
            continue;
        }
        let child = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(folder.path())
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--test-threads=1", "on_a_small_volume_of_the_server"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    panic!("no mount namespace can be created (unshare --mount); run as root, or allow user namespaces");
}

#[tokio::test]
#[ignore = "fills the volume of its working directory; started by the test above"]
async fn on_a_small_volume_of_the_server() {
    assert!(Path::new("small-volume").exists(), "this test fills the volume that it runs on");
    let server = PostgresServer::start().await.unwrap();
    let space = std::env::current_dir().unwrap().join("space");
    fs::create_dir(&space).unwrap();
    // The user that the server runs as.
    let owner = fs::metadata(server.socket()).unwrap();
    chown(&space, Some(owner.uid()), Some(owner.gid())).unwrap();
    chown(".", Some(owner.uid()), Some(owner.gid())).unwrap();
    server.execute("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", space.display())).await.unwrap();
    let url = server.create_database_with("TABLESPACE small").await.unwrap();
    let ledger = open_url(&url, OpenMode::Migrate).await.unwrap();
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();

    let mut ballast = File::create("ballast").unwrap();
    for size in [64 << 10, 4 << 10] {
        for _ in 0..1_000 {
            if ballast.write_all(&vec![0; size]).is_err() {
                break;
            }
        }
    }
    let many: Vec<_> = (0..5_000).map(|n| row(&format!("k{n}"), n)).collect();
    let error = commit(&*ledger, &held, &state(1, "3"), &many).await.unwrap_err();
    assert_eq!(error.write_fault(), Some(WriteFault::Full), "{error}");
    let cursor = ledger.load_cursor(&cursor_key("books", "")).await.unwrap().unwrap();
    assert_eq!((cursor.version, count(&*ledger).await), (1, 1), "no cursor moved");
    // An open file keeps its space.
    drop(ballast);
    fs::remove_file("ballast").unwrap();
    commit(&*ledger, &held, &state(1, "3"), &many).await.unwrap();
    assert_eq!(count(&*ledger).await, 5_001);
}
