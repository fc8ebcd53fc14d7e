//! Settings of `busbar check live`. Credentials come from the environment: a command line is seen by every process.

use std::path::PathBuf;

use clap::Args;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use crate::provider::addresses::AllowedRange;
use crate::provider::profile::Environment;

/// Which provider is called, as whom, and what is asked.
#[derive(Debug, Args)]
pub struct LiveArgs {
    /// The provider's profile, one with a `liveCheck`; `profile:<id>` for one of your own.
    #[arg(long, env = "BUSBAR_LIVE_PROVIDER", default_value = "finastra")]
    pub provider: String,
    /// Folder of profiles of your own, for `--provider=profile:<id>`.
    #[arg(long, env = "BUSBAR_PROFILES_DIR", value_name = "FOLDER")]
    pub profiles_dir: Option<PathBuf>,
    /// Which of its worlds: `Sandbox` or `Production`.
    #[arg(long, env = "BUSBAR_LIVE_ENVIRONMENT", default_value = "Sandbox", value_parser = environment)]
    pub environment: Environment,
    /// Where it is; unset: where its profile says.
    #[arg(long, env = "BUSBAR_LIVE_BASE_URL", value_name = "URL")]
    pub base_url: Option<Url>,
    /// Where tokens are fetched; unset: where its profile says.
    #[arg(long, env = "BUSBAR_LIVE_TOKEN_URL", value_name = "URL")]
    pub token_url: Option<Url>,
    /// Parameters of the profile, such as `tenant=acme`, separated by commas.
    #[arg(long = "parameter", env = "BUSBAR_LIVE_PARAMETERS", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = pair)]
    pub parameters: Vec<(String, String)>,
    /// The record asked for by id; unset: the first of the list.
    #[arg(long, env = "BUSBAR_LIVE_ID")]
    pub id: Option<String>,
    /// The record must exist: by default a 404 is good enough.
    #[arg(long, env = "BUSBAR_LIVE_STRICT")]
    pub strict: bool,
    /// Switches the check off.
    #[arg(long, env = "BUSBAR_LIVE_SKIP")]
    pub skip: bool,
    /// File that the scrape of the metrics is left in.
    #[arg(long, env = "BUSBAR_LIVE_METRICS_FILE", value_name = "FILE", default_value = "busbar-live-metrics.txt")]
    pub metrics_file: PathBuf,
    /// Ranges of addresses that the provider may have although they are not public, separated by commas.
    #[arg(long, env = "BUSBAR_LIVE_ALLOW_PROVIDER_ADDRESSES", value_name = "CIDR,…", value_delimiter = ',')]
    pub allow_provider_addresses: Vec<AllowedRange>,
    /// The OAuth2 client's id.
    #[arg(long, env = "BUSBAR_LIVE_CLIENT_ID", hide_env_values = true)]
    pub client_id: Option<Credential>,
    /// The OAuth2 client's secret; better set as `BUSBAR_LIVE_CLIENT_SECRET`.
    #[arg(long, env = "BUSBAR_LIVE_CLIENT_SECRET", hide_env_values = true)]
    pub client_secret: Option<Credential>,
    /// The API key; better set as `BUSBAR_LIVE_API_KEY`.
    #[arg(long, env = "BUSBAR_LIVE_API_KEY", hide_env_values = true)]
    pub api_key: Option<Credential>,
}

impl LiveArgs {
    /// A credential by the name of the key that it has in a Secret. Those without a flag come from [`variable`] alone.
    pub fn credential(&self, key: &str) -> Option<SecretString> {
        let given = match key {
            "client-id" => self.client_id.clone(),
            "client-secret" => self.client_secret.clone(),
            "api-key" => self.api_key.clone(),
            other => super::environment(&variable(other)).map(|text| Credential(text.into())),
        };
        given.map(|credential| credential.0).filter(|secret| !secret.expose_secret().is_empty())
    }
}

/// The environment variable of a credential by the name of its key: `BUSBAR_LIVE_API_KEY` for `api-key`.
pub fn variable(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("BUSBAR_LIVE_{}", key.chars().map(letter).collect::<String>())
}

/// A credential as it was given; empty is as good as unset, which is how CI systems pass a secret that they lack.
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
