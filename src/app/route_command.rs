//! `busbar route explain`: which bank takes a payout, and why not the others.

use rust_decimal::Decimal;

use super::explain::{self, ExplainError};
use super::output;
use super::table::{left, right, table};
use crate::cli::route::{RouteCommand, RouteExplainArgs, RouteFormat};
use crate::clock::Clock;
use crate::domain::key::Kind;
use crate::domain::route::{Cost, StandingState};
use crate::explain::manifests::find;
use crate::explain::route_choice::{ConnectionSource, Question, RouteChoice, choose, state_name};
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
    /// Standard output could not be written.
    #[error(transparent)]
    Output(#[from] output::OutputError),
}

/// Runs a subcommand of `busbar route`.
pub(super) async fn run(command: RouteCommand) -> Result<(), RouteError> {
    let RouteCommand::Explain(args) = command;
    let args = *args;
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
            choices.iter().map(|(name, choice)| text(name, choice, source)).collect::<Vec<_>>().join("\n")
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

fn text(name: &str, choice: &RouteChoice, source: ConnectionSource) -> String {
    let columns = [
        left("CANDIDATE"),
        left("STATE"),
        left("REASON"),
        right("FEE"),
        right("FX"),
        right("RETRY"),
        right("HEALTH"),
        right("DELAY"),
        right("WEIGHT"),
        right("TOTAL"),
    ];
    let shown = |amount: Decimal| amount.round_dp(8).normalize().to_string();
    let terms = |cost: Option<Cost>| match cost {
        Some(Cost { fee, fx, retry, health, delay, weight, total }) => {
            [fee, fx, retry, health, delay, weight, total].map(shown)
        }
        None => Default::default(),
    };
    let rows = choice.ranked().into_iter().map(|standing| {
        let [fee, fx, retry, health, delay, weight, total] = terms(standing.cost);
        let (name, state) = (standing.name.clone(), state_name(standing.state).to_owned());
        [name, state, standing.reason.to_string(), fee, fx, retry, health, delay, weight, total]
    });
    let payout = &choice.payout;
    let part = |what: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!(", {what} {value}")).unwrap_or_default()
    };
    let mut out = format!(
        "{name}: {} for a payout of {} {}{}{}{} at {}\n\n{}",
        choice.evaluation.active.as_deref().unwrap_or("no bank"),
        payout.amount,
        payout.currency,
        part("country", &payout.country),
        part("rail", &payout.rail),
        part("merchant", &payout.merchant),
        choice.at,
        table(columns, rows),
    );
    let mut reasons: Vec<_> = choice.evaluation.standings.iter().map(|standing| standing.reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    out.push('\n');
    for reason in reasons {
        out.push_str(&format_reason(reason.as_str(), reason.meaning(), reason.remedy()));
    }
    let is_assumed = choice.evaluation.standings.iter().any(|standing| standing.state != StandingState::Excluded);
    if source == ConnectionSource::Manifests && is_assumed {
        out.push_str(
            "Assumed: all banks are available, and succeed in 95 % of calls unless --success says otherwise.\n",
        );
    }
    for note in &choice.notes {
        out.push_str("Note: ");
        out.push_str(note);
        out.push('\n');
    }
    out
}

fn format_reason(name: &str, meaning: &str, remedy: &str) -> String {
    match remedy {
        "None." => format!("{name}: {meaning}\n"),
        remedy => format!("{name}: {meaning} {remedy}\n"),
    }
}
