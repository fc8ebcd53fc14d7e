//! The binary of the previous version, which `hack/releases` builds once.

use std::path::PathBuf;
use std::process::Command;

/// The previous version's binary. `None`, said aloud, if it is not built; in CI that is a failure.
#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
#[expect(clippy::disallowed_methods, reason = "whether tests may be left out is decided by the environment")]
pub(crate) fn previous_binary() -> Option<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/releases");
    let output = Command::new(script).arg("--print-only").output().expect("hack/releases runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let binary = text.lines().find_map(|line| line.strip_prefix("binary=")).filter(|_| output.status.success());
    if binary.is_none() {
        let message = "the previous version is not built: run `make releases`";
        assert!(std::env::var_os("CI").is_none(), "{message}: {}", String::from_utf8_lossy(&output.stderr));
        eprintln!("skipped: {message}");
    }
    binary.map(PathBuf::from)
}
