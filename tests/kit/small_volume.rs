//! Tests on a volume that they may fill: a small tmpfs in a mount namespace of a child process, which ends with it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// Present only on such a volume.
const MARK: &str = "small-volume";
const BALLAST: &str = "ballast";
/// The temporary files of the tests are on the volume too.
const SCRIPT: &str = "mount -t tmpfs -o size=24m tmpfs \"$1\" && cd \"$1\" && touch small-volume && export TMPDIR=\"$PWD\" \
     && shift && exec \"$@\"";

/// Runs the ignored tests of `module` of this binary in a child, one after another, on a volume of their own. Fails where no
/// mount namespace can be created.
pub(crate) fn run_ignored_tests(module: &str) {
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
            .args(["--ignored", "--nocapture", "--test-threads=1", module])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && !said.contains("running 0 tests"), "{said}");
        return;
    }
    panic!("no mount namespace can be created (unshare --mount); run as root, or allow user namespaces");
}

/// The volume is full while this lives.
pub(crate) struct FullVolume;

impl FullVolume {
    /// Fills the volume of the working directory.
    pub(crate) fn begin() -> Self {
        assert!(Path::new(MARK).exists(), "this test fills the volume that it runs on");
        let mut ballast = File::create(BALLAST).unwrap();
        for size in [64 << 10, 4 << 10] {
            // Bounded, in case that the volume is not the small one.
            for _ in 0..1_000 {
                if ballast.write_all(&vec![0; size]).is_err() {
                    break;
                }
            }
        }
        Self
    }
}

impl Drop for FullVolume {
    fn drop(&mut self) {
        std::fs::remove_file(BALLAST).unwrap();
    }
}
