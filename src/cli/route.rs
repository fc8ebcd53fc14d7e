//! Flags of `busbar route`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use reqwest::Url;
use rust_decimal::Decimal;

use crate::domain::money::{Currency, parse_unsigned};

/// The subcommands of `busbar route`.
#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Show which bank of a route takes a payout, what each would cost, and why the others are not chosen.
    Explain(Box<RouteExplainArgs>),
}

/// Arguments of `busbar route explain`.
#[derive(Debug, Args)]
pub struct RouteExplainArgs {
    /// Manifest file, folder of manifests, or `-` for standard input (all read without a cluster: banks are assumed to be
    /// available), or broute/NAME of a route in the cluster or, with --gateway, of a running operator.
    #[arg(value_name = "FILE|broute/NAME")]
    pub target: String,
    /// Namespace of the route; default: the manifest's, or that of the current kubeconfig context.
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// Amount of the payout; default: that of spec.reference.
    #[arg(long, value_parser = amount)]
    pub amount: Option<Decimal>,
    /// Currency of the payout; default: that of spec.reference.
    #[arg(long, value_parser = currency)]
    pub currency: Option<Currency>,
    /// Country of the beneficiary, such as SN; default: that of spec.reference.
    #[arg(long)]
    pub country: Option<String>,
    /// Payment rail, such as SEPA; default: that of spec.reference.
    #[arg(long)]
    pub rail: Option<String>,
    /// Merchant, for adjustments of one merchant.
    #[arg(long)]
    pub merchant: Option<String>,
    /// Bank whose circuit is assumed to be open; may be repeated.
    #[arg(long, value_name = "CANDIDATE")]
    pub assume_down: Vec<String>,
    /// Success rate of a bank, as CANDIDATE=RATE with a rate from 0 to 1; may be repeated. Default: 0.95, that of a bank that
    /// nothing is known of.
    #[arg(long, value_name = "CANDIDATE=RATE", value_parser = success)]
    pub success: Vec<(String, u32)>,
    /// Time of the decision, RFC 3339; default: now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
    /// Output format.
    #[arg(long, short, value_enum, default_value_t = RouteFormat::Text)]
    pub output: RouteFormat,
    /// Kubeconfig file; default: `$KUBECONFIG` or `~/.kube/config`.
    #[arg(long, env = "BUSBAR_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Flags for a question to a gateway.
    #[command(flatten)]
    pub gateway: RouteGatewayArgs,
}

/// Flags of `busbar route explain` for a question to a running operator. It evaluates with what it knows of its banks now,
/// so nothing can be assumed.
#[derive(Debug, Args)]
pub struct RouteGatewayArgs {
    /// URL of a gateway, whose operator is asked in place of the API server; plain HTTP on loopback only. Requires
    /// --amount, --currency and --country.
    #[arg(
        long,
        value_name = "URL",
        requires_all = ["amount", "currency", "country"],
        conflicts_with_all = ["assume_down", "success", "at"]
    )]
    pub gateway: Option<Url>,
    /// File with a bearer token for the gateway, as `kubectl create token` prints it; its user needs the verb
    /// `get` on `bankroutes/decisions`.
    #[arg(long, value_name = "FILE", requires = "gateway")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the authority of the gateway's certificate; default: the authorities of this machine.
    #[arg(long, value_name = "FILE", requires = "gateway")]
    pub gateway_ca: Option<PathBuf>,
}

/// Output format of `busbar route explain`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum RouteFormat {
    /// Table.
    Text,
    /// JSON.
    Json,
}

fn amount(text: &str) -> Result<Decimal, String> {
    let amount = parse_unsigned(text).map_err(|error| error.to_string())?;
    if amount.is_zero() { Err("must be greater than 0".into()) } else { Ok(amount) }
}

fn currency(text: &str) -> Result<Currency, String> {
    Currency::parse(text).map_err(|error| error.to_string())
}

/// A candidate and its success rate in parts per million.
fn success(text: &str) -> Result<(String, u32), String> {
    let wrong = || "must be CANDIDATE=RATE with a rate from 0 to 1, for example bank-a=0.98".to_owned();
    let (name, rate) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let rate = parse_unsigned(rate).ok().filter(|rate| *rate <= Decimal::ONE).ok_or_else(wrong)?;
    let millionths = (rate * Decimal::from(1_000_000)).round();
    u32::try_from(millionths).map(|millionths| (name.to_owned(), millionths)).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_rate_is_a_name_and_a_share() {
        assert_eq!(success("bank-a=0.985"), Ok(("bank-a".to_owned(), 985_000)));
        assert_eq!(success("a=1"), Ok(("a".to_owned(), 1_000_000)));
        for invalid in ["a", "=0.5", "a=1.01", "a=-1", "a=half", "a="] {
            assert!(success(invalid).unwrap_err().starts_with("must be CANDIDATE=RATE"), "{invalid}");
        }
        assert!(amount("0").is_err() && amount("-1").is_err() && amount("12.50").is_ok());
    }
}
