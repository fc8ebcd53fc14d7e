//! A volume of the ledger's own, small enough to be filled: a tmpfs over the ledger's folder, until the test ends.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::control_planes::report;

/// Many times what the ledger of the soak test's half hour needs.
const SIZE: &str = "size=64m";

/// The volume; unmounted on drop.
pub(crate) struct LedgerVolume {
    folder: PathBuf,
    ballast: PathBuf,
}

impl LedgerVolume {
    /// Mounts it over the folder of `ledger` and moves the folder's files there; `None` without the right to mount. No
    /// process may have them open.
    pub(crate) fn mount(ledger: &Path) -> Option<Self> {
        let folder = ledger.parent().expect("a folder").to_owned();
        fs::create_dir_all(&folder).expect("the folder");
        let files: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&folder)
            .expect("the folder")
            .map(|entry| entry.expect("a file").path())
            .map(|path| (path.clone(), fs::read(&path).expect("read")))
            .collect();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&folder).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            report("WITHOUT a full ledger: no right to mount a tmpfs");
            return None;
        }
        for (path, content) in files {
            fs::write(path, content).expect("written");
        }
        let ballast = folder.join("ballast");
        Some(Self { folder, ballast })
    }

    /// Fills it.
    pub(crate) fn fill(&self) {
        let mut ballast = fs::File::create(&self.ballast).expect("a file");
        for size in [64 << 10, 4 << 10] {
            // Bounded by the size of the volume.
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Ends that.
    pub(crate) fn free(&self) {
        fs::remove_file(&self.ballast).expect("the ballast");
    }
}

impl Drop for LedgerVolume {
    fn drop(&mut self) {
        // Lazily: a process that is about to end may still have it open.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.folder).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            report(&format!("{} is still mounted", self.folder.display()));
        }
    }
}
