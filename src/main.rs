//! The operator's binary: parses the command line and hands over to the library.

use std::process::ExitCode;

use busbar::cli::Cli;
use clap::Parser as _;

fn main() -> ExitCode {
    // Before anything opens a TLS connection: kube and reqwest must find one provider, this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    busbar::app::main(Cli::parse())
}
