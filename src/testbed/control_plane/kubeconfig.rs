//! Writes kubeconfig files: one cluster, one user, one context, all data inside, readable by us alone.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::testbed::control_plane::Error;
use crate::testbed::control_plane::pki::{Pair, write_private};

/// How the user of a kubeconfig proves who it is.
pub(crate) enum User<'a> {
    Certificate(&'a Pair),
    Token(&'a str),
}

/// Writes a kubeconfig; `namespace` is the context's default.
pub(crate) fn write(path: &Path, url: &str, ca_pem: &str, namespace: &str, user: &User<'_>) -> Result<(), Error> {
    let credentials = match user {
        User::Certificate(pair) => format!(
            "client-certificate-data: {}\n    client-key-data: {}",
            STANDARD.encode(&pair.certificate),
            STANDARD.encode(&pair.key)
        ),
        User::Token(token) => format!("token: {token}"),
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

/// Reads one back as a client configuration that never goes through a proxy: the server is on loopback.
pub(crate) async fn read(path: &Path) -> Result<kube::Config, Error> {
    let mut config =
        kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    Ok(config)
}
