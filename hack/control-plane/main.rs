//! Starts a local control plane and keeps it up until Ctrl-C, for people who want to try something by hand.
//!
//! `cargo run --features testbed --example control-plane` starts one with Busbar's CRDs and cluster roles;
//! `-- --bare` leaves it empty.

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;

use busbar::testbed::control_plane::{ControlPlane, Error, Options};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Start a local Kubernetes control plane and keep it up until Ctrl-C")]
struct Args {
    /// Install neither the CRDs nor the cluster roles.
    #[arg(long)]
    bare: bool,
    /// Stop as soon as it is up; shows that it works and how long it takes.
    #[arg(long)]
    once: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("control plane: {error}"));
            let mut source = error.source();
            while let Some(cause) = source {
                say(&format!("  because: {cause}"));
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), Error> {
    let plane = ControlPlane::start(Options::default()).await?;
    for (component, took) in plane.timings() {
        say(&format!("{component} was ready after {took:.1?}"));
    }
    if !args.bare {
        plane.install().await?;
        say("the CRDs and the cluster roles are installed");
    }
    say(&format!(
        "\nKubernetes API: {url}\nlogs:           {logs}\n\nlook around:\n  export KUBECONFIG={kubeconfig}\n  {kubectl} get namespaces",
        url = plane.url(),
        logs = plane.run_dir().path().display(),
        kubeconfig = plane.admin_kubeconfig().display(),
        kubectl = plane.kubectl_path().display(),
    ));
    if !args.once {
        say("\nstop: Ctrl-C here; nothing is left behind");
        // An error means that Ctrl-C cannot be heard; ending is then the only thing left to do.
        drop(tokio::signal::ctrl_c().await);
    }
    say("stopping");
    plane.stop().await;
    Ok(())
}

/// Tells the person at the terminal; a closed one is no reason to fail.
fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}
