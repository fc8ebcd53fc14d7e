//! The `busbar` binary: calls the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before the first TLS connection: kube and reqwest must use the same crypto provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    busbar::app::main()
}
