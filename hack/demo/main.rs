//! `make demo`: failover and recovery on this machine, as a scenario that fails if a step does not happen in time.
//!
//! Only the banks are simulated: the API server, etcd, the operator with its own RBAC rights, the sockets and the
//! ledger are real, and the output shown is that of `kubectl` and `busbar`. Each step waits for its condition with a
//! deadline; no step sleeps for effect.

mod archive;
mod endpoints;
mod environment;
mod error;
mod install;
mod leaks;
mod payouts;
mod scenario;
mod screen;
mod sim_client;
mod stuck;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::environment::Environment;
use crate::error::Error;
use crate::screen::Screen;

#[derive(Parser)]
#[command(about = "Run Busbar's failover demo on a local control plane")]
struct Args {
    /// Run the scenario once, stop everything, and exit with 0 if every step succeeded.
    #[arg(long)]
    once: bool,
    /// Print without colours and without the progress line.
    #[arg(long, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new())]
    plain: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let stop = CancellationToken::new();
    let mut screen = Screen::new(args.plain);
    if let Err(source) = listen_for_signals(&stop) {
        screen.error(&Error::Signals(source));
        return ExitCode::FAILURE;
    }
    match demo(&args, &mut screen, &stop).await {
        Ok(()) => ExitCode::SUCCESS,
        // As a shell reports a program that Ctrl-C has ended.
        Err(Error::Interrupted) => ExitCode::from(130),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Starts the environment, runs the scenario, and stops the environment in any case. An error has been printed when
/// this returns.
async fn demo(args: &Args, screen: &mut Screen, stop: &CancellationToken) -> Result<(), Error> {
    screen.title("Busbar", "failover between three simulated banks");
    let environment = Environment::start(screen, stop).await.inspect_err(|error| screen.error(error))?;
    let mut result = scenario::run(&environment, screen).await;
    if let Ok(endpoints) = &result
        && !args.once
    {
        scenario::print_hints(&environment, screen, endpoints);
        if let Err(error) = environment.run_until_stopped().await {
            result = Err(error);
        }
    }
    let result = result.map(drop).inspect_err(|error| screen.error(error));
    let failed = result.as_ref().is_err_and(|error| !matches!(error, Error::Interrupted));
    if failed {
        environment.keep_and_show_logs(screen);
    }
    let stopped = environment.stop(screen, failed).await.inspect_err(|error| screen.error(error));
    if args.once && result.is_ok() && stopped.is_ok() {
        screen.text("Keep everything running, to try it: make demo. On a cluster: docs/guide/install.md.");
    }
    result.and(stopped)
}

/// Ctrl-C and SIGTERM both mean an orderly shutdown. The children have process groups of their own and get neither.
fn listen_for_signals(stop: &CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
