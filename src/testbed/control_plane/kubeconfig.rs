//! Writes kubeconfig files: one cluster, one user, one context, all data inline, readable by the owner only.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::testbed::control_plane::error::ControlPlaneError;
use crate::testbed::control_plane::pki::{CertifiedKey, write_private};

/// The credentials of a kubeconfig's user.
pub(crate) enum UserCredentials<'a> {
    Certificate(&'a CertifiedKey),
    Token(&'a str),
}

/// Writes a kubeconfig; `namespace` is the default of its context.
pub(crate) fn write(
    path: &Path,
    url: &str,
    ca_pem: &str,
    namespace: &str,
    user: &UserCredentials<'_>,
) -> Result<(), ControlPlaneError> {
    let credentials = match user {
        UserCredentials::Certificate(pair) => format!(
            "client-certificate-data: {}\n    client-key-data: {}",
            STANDARD.encode(&pair.certificate),
            STANDARD.encode(&pair.key)
        ),
        UserCredentials::Token(token) => format!("token: {token}"),
    };
    let text = format!(
        "apiVersion: v1
kind: Config
current-context: local
clusters:
- name: local
  cluster:
    server: {url}
    certificate-authority-data: {ca}
contexts:
- name: local
  context:
    cluster: local
    user: local
    namespace: {namespace}
users:
- name: local
  user:
    {credentials}
",
        ca = STANDARD.encode(ca_pem),
    );
    write_private(path, &text)
}

/// Reads a kubeconfig as a client configuration without proxy: the server is on loopback.
pub(crate) async fn read(path: &Path) -> Result<kube::Config, ControlPlaneError> {
    let mut config =
        kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    Ok(config)
}
