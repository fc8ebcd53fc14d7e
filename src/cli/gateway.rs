//! Flags of the gateway.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, value_parser};

use crate::cli::parse::{bounded, byte_size, namespace};
use crate::domain::key::ObjectKey;
use crate::domain::token_buckets::BucketLimit;
use crate::gateway::fallback_authorization::FallbackAuthorization;
use crate::gateway::listen_address::ListenAddress;
use crate::gateway::rate_limit::{CONSUMER_LIMIT, Rate};
use crate::provider::bulkhead_limit::DEFAULT_LIMIT;

/// How callers of the gateway are authenticated.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum GatewayAuth {
    /// `TokenReview` and `SubjectAccessReview` by the API server.
    Kubernetes,
    /// No authentication; on loopback only, for demos.
    Off,
}

/// Flags of the gateway.
#[derive(Clone, Debug, Args)]
pub struct GatewayArgs {
    /// Listen address of the gateway: `ADDRESS:PORT`, `:PORT`, `off`, or `loopback` (plain HTTP on 127.0.0.1, port 8080
    /// if free, else any). TLS is required except on loopback.
    #[arg(long, env = "BUSBAR_GATEWAY_ADDRESS", default_value = "loopback")]
    pub gateway_address: ListenAddress,
    /// PEM file of the gateway's certificate chain; reloaded when it changes.
    #[arg(long, env = "BUSBAR_GATEWAY_TLS_CERT", requires = "gateway_tls_key")]
    pub gateway_tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    #[arg(long, env = "BUSBAR_GATEWAY_TLS_KEY", requires = "gateway_tls_cert")]
    pub gateway_tls_key: Option<PathBuf>,
    /// Authentication of the gateway's callers; `off` is allowed on loopback only.
    #[arg(long, env = "BUSBAR_GATEWAY_AUTH", value_enum, default_value_t = GatewayAuth::Kubernetes)]
    pub gateway_auth: GatewayAuth,
    /// Whose right to call a fallback connection is required: `Caller` checks that of each caller at each call; `Author`
    /// relies on the admission policy config/admission/references.yaml, which checks the user who declares the fallback.
    /// Set `Author` only together with that policy.
    #[arg(long, env = "BUSBAR_FALLBACK_AUTHORIZATION", value_name = "Caller|Author", default_value = "Caller")]
    pub fallback_authorization: FallbackAuthorization,
    /// Accepted audiences of callers' tokens, comma-separated; default: the API server's own.
    #[arg(long, env = "BUSBAR_GATEWAY_AUDIENCES", value_delimiter = ',')]
    pub gateway_audiences: Vec<String>,
    /// Rate limit per caller and replica: `500/s`, `100/m`. The burst is of the same size.
    #[arg(long, env = "BUSBAR_GATEWAY_CALLER_RATE", default_value = "500/s")]
    pub gateway_caller_rate: Rate,
    /// Rate limit of requests without a valid token, key or signature, per client address, over all replicas.
    #[arg(long, env = "BUSBAR_GATEWAY_ADDRESS_RATE", default_value = "100/m")]
    pub gateway_address_rate: Rate,
    /// Rate limit per consumer of events, over all replicas: `50/m`.
    #[arg(long, env = "BUSBAR_GATEWAY_CONSUMER_RATE", default_value = "50/m")]
    pub gateway_consumer_rate: Rate,
    /// Requests that a consumer may send at once (1 to 100000), before its rate limit applies.
    #[arg(long, env = "BUSBAR_GATEWAY_CONSUMER_BURST", default_value_t = CONSUMER_LIMIT.burst, value_parser = value_parser!(u32).range(1..=100_000))]
    pub gateway_consumer_burst: u32,
    /// Calls of one connection that may be in flight for the gateway's callers, per replica (1 to 1024); further ones get
    /// 503 `bulkhead_full`. One caller may have seven eighths of them.
    #[arg(long, env = "BUSBAR_GATEWAY_CONNECTION_CALLS", default_value_t = DEFAULT_LIMIT, value_parser = value_parser!(u16).range(1..=1024))]
    pub gateway_connection_calls: u16,
    /// Connection (`namespace/name`) that the paths below /finastra use; default: none, and these paths return 404.
    #[arg(long, env = "BUSBAR_FINASTRA_ALIAS", value_parser = object)]
    pub finastra_alias: Option<ObjectKey>,
    /// Namespace of routing requests that name none; default: none, and such requests are answered with 400.
    #[arg(long, env = "BUSBAR_GATEWAY_DEFAULT_NAMESPACE", value_name = "NAMESPACE", value_parser = default_namespace)]
    pub gateway_default_namespace: Option<String>,
    /// Retention of audit entries (24h to 43800h).
    #[arg(long, env = "BUSBAR_AUDIT_RETENTION", default_value = "2160h", value_parser = audit_retention)]
    pub audit_retention: Duration,
    /// Size of the audit entries of calls and refusals in the ledger (16MiB to 1TiB). Beyond it the oldest of them are
    /// deleted before their retention ends; entries of decisions, payouts and administrative actions are not.
    #[arg(long, env = "BUSBAR_AUDIT_MAX_SIZE", default_value = "1GiB", value_parser = audit_max_size)]
    pub audit_max_size: u64,
    /// Retention of decisions on payouts, their outcomes and the rest of their audit (720h to 87600h). At least as long as
    /// a bank may still execute, return or dispute a payout, and as a client may repeat its request: a payout whose
    /// decisions are deleted is decided anew. Default: 400 days, the 13 months of a recall for fraud.
    #[arg(long, env = "BUSBAR_DECISION_RETENTION", default_value = "9600h", value_parser = decision_retention)]
    pub decision_retention: Duration,
}

impl GatewayArgs {
    /// The rate limit of a consumer.
    pub fn consumer_limit(&self) -> BucketLimit {
        BucketLimit { burst: self.gateway_consumer_burst, ..self.gateway_consumer_rate.into() }
    }
}

fn audit_max_size(text: &str) -> Result<u64, String> {
    byte_size(text, 16 << 20, 1 << 40)
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

fn default_namespace(text: &str) -> Result<String, String> {
    namespace(text).map_err(|_| "must be the name of a namespace: 1 to 63 of a-z, 0-9 and -".to_owned())
}

fn decision_retention(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_hours(720), Duration::from_hours(87_600))
}

fn audit_retention(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_hours(24), Duration::from_hours(43_800))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_kept_for_at_least_thirty_days() {
        for (text, allowed) in [("720h", true), ("9600h", true), ("87600h", true), ("719h", false), ("87601h", false)] {
            assert_eq!(decision_retention(text).is_ok(), allowed, "{text}");
        }
    }
}
