//! Puts the commit into the binary, so that `--version` and `busbar_build_info` can tell which source it is.
#![allow(
    clippy::disallowed_methods,
    reason = "a build script is told by the environment; no setting of the operator is read here"
)]

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=BUSBAR_COMMIT");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs/heads");
    let commit = std::env::var("BUSBAR_COMMIT").ok().filter(|c| !c.is_empty()).or_else(|| {
        let out = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    });
    println!("cargo::rustc-env=BUSBAR_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    // A changed migration must be compiled in again.
    println!("cargo::rerun-if-changed=migrations");
}
