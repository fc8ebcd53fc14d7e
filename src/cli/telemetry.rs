//! Flags of traces and of metrics compatible with the systems that Busbar replaces.

use clap::Args;
use reqwest::Url;

use crate::provider::legacy_metrics::LegacyMetricSet;
use crate::telemetry::traces::{TracesError, parse_collector_url};

/// Flags of traces and compatibility metrics.
#[derive(Clone, Debug, Args)]
pub struct TelemetryArgs {
    /// URL of the OTLP/HTTP collector for traces, e.g. `http://collector:4318`. Default: no traces.
    #[arg(long, env = "BUSBAR_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otlp_endpoint: Option<Url>,
    /// Metric sets to export in addition to Busbar's own, under the names that dashboards of older systems use,
    /// comma-separated: `finastra`, `mono`, `providers`, `routing`. Default: none.
    #[arg(long, env = "BUSBAR_COMPAT_METRICS", value_name = "SET,…", value_delimiter = ',', value_parser = compat)]
    pub compat_metrics: Vec<LegacyMetricSet>,
}

fn endpoint(text: &str) -> Result<Url, TracesError> {
    parse_collector_url(text)
}

fn compat(text: &str) -> Result<LegacyMetricSet, String> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Cli, Command};

    fn parse(flag: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["busbar", "run", flag])
    }

    #[test]
    fn only_supported_metric_sets_are_accepted() {
        let all = "--compat-metrics=finastra,mono,providers,routing";
        let Command::Run(args) = parse(all).unwrap().command else { panic!() };
        assert_eq!(args.telemetry.compat_metrics.len(), 4);
        for set in ["stripe", "finastra,Routing"] {
            let error = parse(&format!("--compat-metrics={set}")).unwrap_err().to_string();
            assert!(error.contains("finastra, mono, providers, routing"), "{error}");
        }
    }

    #[test]
    fn a_collector_url_must_be_http_without_credentials() {
        assert!(parse("--otlp-endpoint=http://collector:4318").is_ok());
        for bad in ["collector", "http://user:canary-not-real@collector", "grpc://collector"] {
            let error = parse(&format!("--otlp-endpoint={bad}")).unwrap_err().to_string();
            assert!(error.contains("OTLP/HTTP"), "{error}");
        }
    }
}
