//! The gateway's settings.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::bounded;
use crate::domain::key::ObjectKey;
use crate::gateway::address::Place;
use crate::gateway::limit::Rate;

/// How callers of the gateway are known.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum GatewayAuth {
    /// By the API server: `TokenReview` and `SubjectAccessReview`.
    Kubernetes,
    /// Not at all; on loopback only, for demonstrations.
    Off,
}

/// Settings of the gateway.
#[derive(Clone, Debug, Args)]
pub struct GatewayArgs {
    /// Address of the gateway: `ADDRESS:PORT`, `:PORT`, `off`, or `loopback` (plain on 127.0.0.1, port 8080 if it is free,
    /// else any). Anything but loopback needs TLS.
    #[arg(long, env = "BUSBAR_GATEWAY_ADDRESS", default_value = "loopback")]
    pub gateway_address: Place,
    /// File of the gateway's certificate chain, PEM; read again when it changes.
    #[arg(long, env = "BUSBAR_GATEWAY_TLS_CERT", requires = "gateway_tls_key")]
    pub gateway_tls_cert: Option<PathBuf>,
    /// File of the certificate's private key, PEM.
    #[arg(long, env = "BUSBAR_GATEWAY_TLS_KEY", requires = "gateway_tls_cert")]
    pub gateway_tls_key: Option<PathBuf>,
    /// How callers of the gateway are known; `off` is for loopback only.
    #[arg(long, env = "BUSBAR_GATEWAY_AUTH", value_enum, default_value_t = GatewayAuth::Kubernetes)]
    pub gateway_auth: GatewayAuth,
    /// Audiences that callers' tokens must be for, separated by commas; unset: the API server's own.
    #[arg(long, env = "BUSBAR_GATEWAY_AUDIENCES", value_delimiter = ',')]
    pub gateway_audiences: Vec<String>,
    /// Requests of one caller, per replica: `500/s`, `100/m`. As many may come at once.
    #[arg(long, env = "BUSBAR_GATEWAY_CALLER_RATE", default_value = "500/s")]
    pub gateway_caller_rate: Rate,
    /// Requests of one address without a valid token, per replica.
    #[arg(long, env = "BUSBAR_GATEWAY_ADDRESS_RATE", default_value = "100/m")]
    pub gateway_address_rate: Rate,
    /// The connection, `namespace/name`, that the paths below /finastra speak of; unset: they answer 404.
    #[arg(long, env = "BUSBAR_FINASTRA_ALIAS", value_parser = object)]
    pub finastra_alias: Option<ObjectKey>,
    /// How long entries of the audit are kept (24h to 43800h).
    #[arg(long, env = "BUSBAR_AUDIT_RETENTION", default_value = "2160h", value_parser = audit_retention)]
    pub audit_retention: Duration,
}

fn object(text: &str) -> Result<ObjectKey, String> {
    let label = |s: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !s.is_empty() && s.len() <= 63 && s.bytes().all(plain)
    };
    match text.split_once('/') {
        Some((namespace, name)) if label(namespace) && label(name) => Ok(ObjectKey::new(namespace, name)),
        _ => Err("must be namespace/name of a ProviderConnection".to_owned()),
    }
}

fn audit_retention(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_hours(24), Duration::from_hours(43_800))
}
