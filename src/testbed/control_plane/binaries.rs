//! Locates the control plane binaries through `hack/control-plane/build`, which builds those that are missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::testbed::control_plane::error::ControlPlaneError;

/// The build script, relative to the directory in which this crate was compiled: the testbed runs nowhere else.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/control-plane/build");

/// The paths of the control plane's binaries.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub api_server: PathBuf,
    /// kubectl, of the same version.
    pub kubectl: PathBuf,
    /// kube-controller-manager; absent if none is wanted or `KUBEBUILDER_ASSETS` has none.
    pub controller_manager: Option<PathBuf>,
}

impl Binaries {
    /// Runs the build script, which builds missing binaries (minutes, once) and reports progress on stderr.
    pub async fn locate(controllers: bool) -> Result<Self, ControlPlaneError> {
        let script = Path::new(SCRIPT);
        let output = Command::new(script)
            .args(["etcd", "kube"])
            .args(controllers.then_some("controllers"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| ControlPlaneError::BuildScript { script: script.into(), source })?;
        if !output.status.success() {
            return Err(ControlPlaneError::Build { script: script.into(), status: output.status.to_string() });
        }
        let found = Self::parse(&String::from_utf8_lossy(&output.stdout))?;
        Ok(Self { controller_manager: found.controller_manager.filter(|_| controllers), ..found })
    }

    /// Parses the script's `<binary>=<path>` lines.
    fn parse(lines: &str) -> Result<Self, ControlPlaneError> {
        let mut found: BTreeMap<&str, PathBuf> =
            lines.lines().filter_map(|line| line.split_once('=')).map(|(name, path)| (name, path.into())).collect();
        let mut take = |name: &'static str| found.remove(name).ok_or(ControlPlaneError::MissingBinary(name));
        Ok(Self {
            etcd: take("etcd")?,
            api_server: take("kube-apiserver")?,
            kubectl: take("kubectl")?,
            controller_manager: take("kube-controller-manager").ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_etcd_is_an_error_and_a_missing_controller_manager_is_not() {
        let binaries = Binaries::parse("etcd=/a/etcd\nkube-apiserver=/a/api\nkubectl=/a/kubectl\n").unwrap();
        assert_eq!(binaries.etcd, Path::new("/a/etcd"));
        assert_eq!(binaries.controller_manager, None);
        assert!(matches!(Binaries::parse("kubectl=/a/kubectl\n"), Err(ControlPlaneError::MissingBinary("etcd"))));
    }
}
