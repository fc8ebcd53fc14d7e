//! Starts a local control plane and keeps it running until Ctrl-C, for manual tests.
//!
//! `cargo run --features testbed --example control-plane` starts one with Busbar's CRDs and cluster roles;
//! `-- --bare` leaves it empty.

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;

use busbar::testbed::control_plane::{ControlPlane, ControlPlaneError, Options};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Start a local Kubernetes control plane and keep it running until Ctrl-C")]
struct Args {
    /// Install neither the CRDs nor the cluster roles.
    #[arg(long)]
    bare: bool,
    /// Stop as soon as it is ready: a smoke test that prints the start-up times.
    #[arg(long)]
    once: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_line(&format!("control plane: {error}"));
            let mut source = error.source();
            while let Some(cause) = source {
                print_line(&format!("  caused by: {cause}"));
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), ControlPlaneError> {
    let plane = ControlPlane::start(Options::default()).await?;
    for (component, took) in plane.startup_times() {
        print_line(&format!("{component} was ready after {took:.1?}"));
    }
    if !args.bare {
        plane.install().await?;
        print_line("the CRDs and the cluster roles are installed");
    }
    print_line(&format!(
        "\nKubernetes API: {url}\nlogs:           {logs}\n\ninspect:\n  export KUBECONFIG={kubeconfig}\n  {kubectl} get namespaces",
        url = plane.url(),
        logs = plane.run_dir().path().display(),
        kubeconfig = plane.admin_kubeconfig().display(),
        kubectl = plane.kubectl_path().display(),
    ));
    if !args.once {
        print_line("\nstop: Ctrl-C here; all files are removed");
        // An error means that Ctrl-C cannot be received; stop right away then.
        drop(tokio::signal::ctrl_c().await);
    }
    print_line("stopping");
    plane.stop().await;
    Ok(())
}

/// Prints a line to stdout; a closed terminal is not an error.
fn print_line(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}
