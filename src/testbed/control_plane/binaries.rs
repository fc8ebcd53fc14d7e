//! Where the real binaries are. `hack/control-plane/build` is the only one who knows; it builds what is missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::testbed::control_plane::Error;

/// The script, found from where this crate was compiled: the test bench is never run anywhere else.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/control-plane/build");

/// Paths of the binaries of a control plane.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub api_server: PathBuf,
    /// kubectl of the same version.
    pub kubectl: PathBuf,
    /// kube-controller-manager; absent only if `KUBEBUILDER_ASSETS` has none.
    pub controller_manager: Option<PathBuf>,
}

impl Binaries {
    /// Asks the build script, which builds whatever is missing (minutes, once) and reports on our stderr meanwhile.
    pub async fn locate() -> Result<Self, Error> {
        let script = Path::new(SCRIPT);
        let output = Command::new(script)
            .args(["etcd", "kube"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| Error::BuildScript { script: script.into(), source })?;
        if !output.status.success() {
            return Err(Error::Build { script: script.into(), status: output.status.to_string() });
        }
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// Reads the script's `<binary>=<path>` lines.
    fn parse(lines: &str) -> Result<Self, Error> {
        let mut found: BTreeMap<&str, PathBuf> =
            lines.lines().filter_map(|line| line.split_once('=')).map(|(name, path)| (name, path.into())).collect();
        let mut need = |name: &'static str| found.remove(name).ok_or(Error::MissingBinary(name));
        Ok(Self {
            etcd: need("etcd")?,
            api_server: need("kube-apiserver")?,
            kubectl: need("kubectl")?,
            controller_manager: need("kube-controller-manager").ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_controller_manager_is_no_error_and_a_missing_etcd_is() {
        let binaries = Binaries::parse("etcd=/a/etcd\nkube-apiserver=/a/api\nkubectl=/a/kubectl\n").unwrap();
        assert_eq!(binaries.etcd, Path::new("/a/etcd"));
        assert_eq!(binaries.controller_manager, None);
        assert!(matches!(Binaries::parse("kubectl=/a/kubectl\n"), Err(Error::MissingBinary("etcd"))));
    }
}
