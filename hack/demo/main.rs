//! `make demo`: the whole loop on this machine, played as a short story that fails if it does not come true.
//!
//! Nothing here is staged but the banks: the API server, etcd, the operator with its own rights, the sockets and the
//! ledger are real, and what is shown is what `kubectl` and `busbar` print. Every step waits for what it tells about,
//! with a deadline; none sleeps for effect.

mod banks;
mod check;
mod failure;
mod screen;
mod story;
mod world;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::screen::Screen;
use crate::world::World;

#[derive(Parser)]
#[command(about = "Play Busbar's main loop on a local control plane")]
struct Args {
    /// Play the story once, end everything, and exit with 0 if it came true.
    #[arg(long)]
    once: bool,
    /// Neither colours nor a line that changes while something is awaited.
    #[arg(long, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new())]
    plain: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let stop = CancellationToken::new();
    let mut screen = Screen::new(args.plain);
    if let Err(source) = listen_for_signals(&stop) {
        screen.failed(&Failure::Signals(source));
        return ExitCode::FAILURE;
    }
    match demo(&args, &mut screen, &stop).await {
        Ok(()) => ExitCode::SUCCESS,
        // As a shell reports a program that Ctrl-C has ended.
        Err(Failure::Interrupted) => ExitCode::from(130),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Starts the world, plays, and ends the world, whatever happened in between. A failure has been told when this returns.
async fn demo(args: &Args, screen: &mut Screen, stop: &CancellationToken) -> Result<(), Failure> {
    screen.title("Busbar", "a payments company, its banks, and one that fails");
    let world = World::start(screen, stop).await.inspect_err(|failure| screen.failed(failure))?;
    let mut played = story::play(&world, screen).await;
    if let Ok(places) = &played
        && !args.once
    {
        story::how_to_look(&world, screen, places);
        if let Err(failure) = world.until_stopped().await {
            played = Err(failure);
        }
    }
    let played = played.map(drop).inspect_err(|failure| screen.failed(failure));
    let wrong = played.as_ref().is_err_and(|failure| !matches!(failure, Failure::Interrupted));
    if wrong {
        world.keep_and_show_logs(screen);
    }
    let ended = world.end(screen, wrong).await.inspect_err(|failure| screen.failed(failure));
    played.and(ended)
}

/// Ctrl-C and SIGTERM both mean: end in order. The children are in process groups of their own and do not hear it.
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
