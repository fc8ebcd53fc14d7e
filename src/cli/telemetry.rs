//! What is told of calls beside our own metrics: traces, and the series of the systems that Busbar replaces.

use clap::Args;
use reqwest::Url;

use crate::provider::compat::CompatSet;
use crate::telemetry::traces::{TracesError, collector};

/// Settings of traces and of compatibility series.
#[derive(Clone, Debug, Args)]
pub struct TelemetryArgs {
    /// Collector of traces, OTLP over HTTP, e.g. `http://collector:4318`. Unset: no traces.
    #[arg(long, env = "BUSBAR_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otlp_endpoint: Option<Url>,
    /// Series under the names that dashboards of older systems use, beside our own, separated by commas: `finastra`,
    /// `providers`. Unset: none.
    #[arg(long, env = "BUSBAR_COMPAT_METRICS", value_name = "SET,…", value_delimiter = ',', value_parser = compat)]
    pub compat_metrics: Vec<CompatSet>,
}

fn endpoint(text: &str) -> Result<Url, TracesError> {
    collector(text)
}

fn compat(text: &str) -> Result<CompatSet, String> {
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
    fn sets_that_are_served_are_taken_and_those_that_are_not_yet_are_refused_at_the_start() {
        let Command::Run(args) = parse("--compat-metrics=finastra,providers").unwrap().command else { panic!() };
        assert_eq!(args.telemetry.compat_metrics.len(), 2);
        for set in ["mono", "routing", "finastra,mono"] {
            let error = parse(&format!("--compat-metrics={set}")).unwrap_err().to_string();
            assert!(error.contains("not served yet") && error.contains("finastra, providers"), "{error}");
        }
        let error = parse("--compat-metrics=stripe").unwrap_err().to_string();
        assert!(error.contains("finastra, providers"), "{error}");
    }

    #[test]
    fn a_collector_must_have_an_address_without_credentials() {
        assert!(parse("--otlp-endpoint=http://collector:4318").is_ok());
        for bad in ["collector", "http://user:canary-not-real@collector", "grpc://collector"] {
            let error = parse(&format!("--otlp-endpoint={bad}")).unwrap_err().to_string();
            assert!(error.contains("OTLP/HTTP"), "{error}");
        }
    }
}
