//! The files of a control plane.

use std::path::PathBuf;

/// The directory of one control plane, and the files in it.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) directory: PathBuf,
}

impl Layout {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.file("audit.log")
    }

    pub(crate) fn audit_policy(&self) -> PathBuf {
        self.file("audit-policy.yaml")
    }

    pub(crate) fn controller_manager_kubeconfig(&self) -> PathBuf {
        self.file("controller-manager.kubeconfig")
    }
}
