//! Simulated banks as a separate process: configured by flags, writes an announce file, stops on SIGTERM or SIGINT.
//!
//! Everything it does is in [`busbar::testbed::sim`]; see `docs/simulator.md`.

use std::process::ExitCode;

use busbar::testbed::sim::process::{Flags, run};
use clap::Parser;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(Flags::parse()));
    // Connections that stall on purpose must not delay the exit.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "busbar-sim failed; exiting");
            ExitCode::FAILURE
        }
    }
}
