//! The `busbar` binary: calls the library.

use std::process::ExitCode;

/// Many threads allocate and free small values for each other: answers, rows, spans. The C library's allocator takes a
/// quarter of a decision's CPU there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before the first TLS connection: kube and reqwest must use the same crypto provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    busbar::app::main()
}
