//! `busbar route explain`: which bank takes a payout, and why not the others.

use super::explain::{self, ExplainError};
use super::output;
use super::route_gateway::{self, GatewayError};
use super::route_table::RouteTable;
use crate::cli::route::{RouteCommand, RouteExplainArgs, RouteFormat};
use crate::clock::Clock;
use crate::domain::key::Kind;
use crate::explain::manifests::find;
use crate::explain::route_choice::{ConnectionSource, Question, choose};
use crate::resolve::SpecError;

/// Why `busbar route` failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RouteError {
    /// The objects could not be read.
    #[error(transparent)]
    Objects(#[from] ExplainError),
    /// The files contain no route.
    #[error("{0}: contains no BankRoute")]
    NoRoute(String),
    /// The route cannot be evaluated.
    #[error("{name}: {}", error.message)]
    Spec {
        /// The route.
        name: String,
        /// What is wrong with it.
        error: SpecError,
    },
    /// The gateway could not be asked, or did not answer with an evaluation.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// Standard output could not be written.
    #[error(transparent)]
    Output(#[from] output::OutputError),
}

/// Runs a subcommand of `busbar route`.
pub(super) async fn run(command: RouteCommand) -> Result<(), RouteError> {
    let RouteCommand::Explain(args) = command;
    let args = *args;
    if let Some(gateway) = &args.gateway.gateway {
        return Ok(output::print(&route_gateway::explain(&args, gateway).await?)?);
    }
    let (manifests, targets, source) = explain::route_objects(&args).await?;
    let question = question(&args);
    let mut choices = Vec::new();
    for target in targets.iter().filter(|target| target.kind == Kind::BankRoute) {
        let Some(route) = find(&manifests.routes, &target.key) else { continue };
        let chosen = choose(&route, &manifests.connections, source, &question);
        let chosen = chosen.map_err(|error| RouteError::Spec { name: target.key.to_string(), error })?;
        choices.push((target.key.to_string(), chosen));
    }
    if choices.is_empty() {
        return Err(RouteError::NoRoute(args.target));
    }
    let text = match args.output {
        RouteFormat::Text => {
            let assumes = source == ConnectionSource::Manifests;
            let texts = choices.iter().map(|(name, choice)| RouteTable::of(name, choice, assumes).text());
            texts.collect::<Vec<_>>().join("\n")
        }
        RouteFormat::Json => {
            let list: Vec<_> = choices.iter().map(|(name, choice)| (name.clone(), choice.json())).collect();
            let object: serde_json::Map<_, _> = list.into_iter().collect();
            format!("{:#}\n", serde_json::Value::Object(object))
        }
    };
    Ok(output::print(&text)?)
}

fn question(args: &RouteExplainArgs) -> Question {
    Question {
        amount: args.amount,
        currency: args.currency,
        country: args.country.clone(),
        rail: args.rail.clone(),
        merchant: args.merchant.clone(),
        down: args.assume_down.clone(),
        success: args.success.iter().cloned().collect(),
        at: args.at.unwrap_or_else(|| Clock::system().now().wall),
    }
}
