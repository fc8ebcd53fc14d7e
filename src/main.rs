//! The `busbar` binary: parses the command line and calls the library.

use std::process::ExitCode;

use busbar::cli::Cli;
use clap::Parser as _;

fn main() -> ExitCode {
    // Before the first TLS connection: kube and reqwest must use the same crypto provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    busbar::app::main(Cli::parse())
}
