//! Flags of `busbar check live`. Credentials should come from the environment: other processes can read a command line.

use std::path::PathBuf;

use clap::Args;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use crate::ledger::LedgerUrl;
use crate::profile::Environment;
use crate::settings::addresses::AllowedRange;

/// Arguments of `busbar check live`.
#[derive(Debug, Args)]
pub struct LiveArgs {
    /// Provider to call; its profile must have a `liveCheck`. `profile:<id>` for a custom profile.
    #[arg(long, env = "BUSBAR_LIVE_PROVIDER", default_value = "finastra")]
    pub provider: String,
    /// Folder of custom provider profiles, for `--provider=profile:<id>`.
    #[arg(long, env = "BUSBAR_PROFILES_DIR", value_name = "FOLDER")]
    pub profiles_dir: Option<PathBuf>,
    /// Environment of the provider: `Sandbox` or `Production`.
    #[arg(long, env = "BUSBAR_LIVE_ENVIRONMENT", default_value = "Sandbox", value_parser = environment)]
    pub environment: Environment,
    /// Base URL of the provider; default: from the profile.
    #[arg(long, env = "BUSBAR_LIVE_BASE_URL", value_name = "URL")]
    pub base_url: Option<Url>,
    /// Token URL of the provider; default: from the profile.
    #[arg(long, env = "BUSBAR_LIVE_TOKEN_URL", value_name = "URL")]
    pub token_url: Option<Url>,
    /// Profile parameters such as `tenant=acme`, comma-separated.
    #[arg(long = "parameter", env = "BUSBAR_LIVE_PARAMETERS", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = pair)]
    pub parameters: Vec<(String, String)>,
    /// Id of the record to get; default: the first one listed.
    #[arg(long, env = "BUSBAR_LIVE_ID")]
    pub id: Option<String>,
    /// Fail if the record does not exist; by default a 404 passes.
    #[arg(long, env = "BUSBAR_LIVE_STRICT")]
    pub strict: bool,
    /// Skip the check.
    #[arg(long, env = "BUSBAR_LIVE_SKIP")]
    pub skip: bool,
    /// File to which the metrics are written.
    #[arg(long, env = "BUSBAR_LIVE_METRICS_FILE", value_name = "FILE", default_value = "busbar-live-metrics.txt")]
    pub metrics_file: PathBuf,
    /// Also sync a stream and print what is stored: counts, duplicates, masking.
    #[arg(long, env = "BUSBAR_LIVE_SYNC")]
    pub sync: bool,
    /// Stream to sync; default: `transactions`, or the first of the profile.
    #[arg(long, env = "BUSBAR_LIVE_STREAM")]
    pub stream: Option<String>,
    /// Parameters of the stream such as `accountId=acc-1`, comma-separated.
    #[arg(long = "stream-parameter", env = "BUSBAR_LIVE_STREAM_PARAMETERS", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = pair)]
    pub stream_parameters: Vec<(String, String)>,
    /// Ledger to sync into; default: one that is deleted afterwards.
    #[arg(long, env = "BUSBAR_LIVE_LEDGER", value_name = "URL")]
    pub ledger: Option<LedgerUrl>,
    /// Non-public address ranges that the connection to the provider may use, comma-separated.
    #[arg(long, env = "BUSBAR_LIVE_ALLOW_PROVIDER_ADDRESSES", value_name = "CIDR,…", value_delimiter = ',')]
    pub allow_provider_addresses: Vec<AllowedRange>,
    /// OAuth2 client id.
    #[arg(long, env = "BUSBAR_LIVE_CLIENT_ID", hide_env_values = true)]
    pub client_id: Option<Credential>,
    /// OAuth2 client secret; set `BUSBAR_LIVE_CLIENT_SECRET` instead of the flag, which other processes can read.
    #[arg(long, env = "BUSBAR_LIVE_CLIENT_SECRET", hide_env_values = true)]
    pub client_secret: Option<Credential>,
    /// API key; set `BUSBAR_LIVE_API_KEY` instead of the flag, which other processes can read.
    #[arg(long, env = "BUSBAR_LIVE_API_KEY", hide_env_values = true)]
    pub api_key: Option<Credential>,
}

impl LiveArgs {
    /// The credential for the Secret key `key`; `None` if unset or empty. Keys without a flag are looked up in
    /// `environment` under the name [`variable`].
    pub fn credential(&self, key: &str, environment: impl Fn(&str) -> Option<String>) -> Option<SecretString> {
        let given = match key {
            "client-id" => self.client_id.clone(),
            "client-secret" => self.client_secret.clone(),
            "api-key" => self.api_key.clone(),
            other => environment(&variable(other)).map(|text| Credential(text.into())),
        };
        given.map(|credential| credential.0).filter(|secret| !secret.expose_secret().is_empty())
    }
}

/// The environment variable of a credential: `BUSBAR_LIVE_API_KEY` for the Secret key `api-key`.
pub fn variable(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("BUSBAR_LIVE_{}", key.chars().map(letter).collect::<String>())
}

/// A credential as given; an empty one counts as unset, because CI systems pass a missing secret as an empty variable.
#[derive(Clone)]
pub struct Credential(pub SecretString);

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

impl std::str::FromStr for Credential {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(SecretString::from(text)))
    }
}

fn environment(text: &str) -> Result<Environment, String> {
    match text {
        "Sandbox" => Ok(Environment::Sandbox),
        "Production" => Ok(Environment::Production),
        _ => Err("must be Sandbox or Production".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}
