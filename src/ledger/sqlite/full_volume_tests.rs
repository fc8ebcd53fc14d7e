//! Every write on a real volume that is full, or whose writes fail.
//!
//! The volume is a small tmpfs in a mount namespace of a child process, and failing writes are a limit on the size of its
//! files: both end with the child.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::fault_tests::{dump, prepared, without_faults};
use super::tests::SqliteStore;
use crate::ledger::contract::writes::Write;
use crate::ledger::contract::{OpenLedger as _, at};
use crate::ledger::contract::{commit, count, row, state, take};
use crate::ledger::error::WriteFault;
use crate::ledger::health::LedgerHealth;
use crate::ledger::store::{Ledger as _, OpenMode};

/// Present only on the child's volume.
const MARK: &str = "small-volume";

/// More than a store with a page of 3 000 rows needs.
const SCRIPT: &str = "mount -t tmpfs -o size=12m tmpfs \"$1\" && cd \"$1\" && touch small-volume && export TMPDIR=\"$PWD\" \
     && trap '' XFSZ && shift && exec \"$@\"";

#[test]
fn every_write_survives_a_full_volume_and_failing_writes() {
    let folder = tempfile::tempdir().unwrap();
    // Without root, in a user namespace.
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
            .args(["--ignored", "--nocapture", "full_volume_tests::on_a_small_volume"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    println!("SKIPPED: no mount namespace can be created here (unshare --mount)");
}

#[tokio::test]
#[ignore = "runs on a volume of its own, in a child of the test above"]
async fn on_a_small_volume() {
    assert!(Path::new(MARK).exists(), "this test fills the volume that it runs on");
    for write in Write::ALL {
        let (_, after) = without_faults(write).await;
        for fault in [WriteFault::Full, WriteFault::Io] {
            survives(write, fault, &after).await;
        }
    }
    a_page_that_does_not_fit().await;
}

async fn survives(write: Write, fault: WriteFault, after: &[String]) {
    let (store, ledger, prepared) = prepared().await;
    let health = ledger.health();
    let before = dump(&store);
    let cause = Cause::begin(fault);
    for _ in 0..2 {
        let outcome = prepared.make(&ledger, write).await;
        assert!(write.is_optional() || outcome.is_err(), "{write:?} with {fault:?}");
        let seen = health.borrow().fault();
        assert!(seen == Some(fault) || (fault == WriteFault::Io && seen.is_some()), "{write:?}: {seen:?}");
    }
    cause.end();
    assert_eq!(dump(&store), before, "{write:?} with {fault:?}");
    prepared.make(&ledger, write).await.unwrap();
    assert_eq!(dump(&store), after, "{write:?} after {fault:?}");
    assert_eq!(*health.borrow(), LedgerHealth::Writable);
    ledger.close().await;
}

/// Larger than the space that is left, so that it fails in the middle or at COMMIT.
async fn a_page_that_does_not_fit() {
    let store = SqliteStore::create().await;
    let ledger = store.ledger(OpenMode::Migrate).await.unwrap();
    let held = take(&ledger, "me", at(0)).await;
    commit(&ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    let many: Vec<_> = (0..3_000).map(|n| row(&format!("k{n}"), n)).collect();
    for spare in [4 << 10, 64 << 10, 256 << 10] {
        let cause = Cause::begin(WriteFault::Full);
        cause.leave(spare);
        let error = commit(&ledger, &held, &state(1, "3"), &many).await.unwrap_err();
        assert_eq!(error.write_fault(), Some(WriteFault::Full), "{error}");
        assert_eq!(count(&ledger).await, 1);
        cause.end();
    }
    commit(&ledger, &held, &state(1, "3"), &many).await.unwrap();
    assert_eq!(count(&ledger).await, 3_001);
    ledger.close().await;
}

/// A fault of the volume while it lasts.
struct Cause {
    ballast: Option<File>,
}

const BALLAST: &str = "ballast";

impl Cause {
    fn begin(fault: WriteFault) -> Self {
        if fault == WriteFault::Io {
            limit_file_size("0");
            return Self { ballast: None };
        }
        let mut ballast = File::create(BALLAST).unwrap();
        // Bounded, in case that the volume is not the small one.
        for size in [64 << 10, 4 << 10] {
            for _ in 0..1_000 {
                if ballast.write_all(&vec![0; size]).is_err() {
                    break;
                }
            }
        }
        assert!(ballast.write_all(&[0; 8 << 10]).is_err(), "the volume is full");
        Self { ballast: Some(ballast) }
    }

    /// Frees some bytes.
    fn leave(&self, bytes: u64) {
        let ballast = self.ballast.as_ref().unwrap();
        ballast.set_len(ballast.metadata().unwrap().len() - bytes).unwrap();
    }

    fn end(self) {
        if self.ballast.is_some() {
            std::fs::remove_file(BALLAST).unwrap();
        } else {
            limit_file_size("unlimited");
        }
    }
}

/// Writes beyond the limit fail: the parent ignores the signal.
fn limit_file_size(soft: &str) {
    let (limit, process) = (format!("--fsize={soft}:unlimited"), std::process::id().to_string());
    assert!(Command::new("prlimit").args([&limit, "--pid", &process]).status().unwrap().success());
}
