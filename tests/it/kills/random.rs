//! One process that is killed at random points and started again, until all pages are read.

use std::time::Duration;

use busbar::testbed::shown::show;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::env::{Engine, KillEnv};
use super::oracle::{assert_delivered, assert_exact};

const PAGES: u64 = 1_000;
/// Pages requested again after a kill: the one in flight.
const REPEATED: u64 = 1;
/// Kills in `make ci`.
const KILLS: u64 = 25;

#[expect(clippy::disallowed_methods, reason = "number and seed of a soak test are set by environment variables")]
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Kills `busbar sync` at seeded points of a sync of [`PAGES`] pages, always with the same holder identity.
async fn survives_kills(engine: Engine) {
    let kills = variable("KILLS").unwrap_or(KILLS);
    let seed = variable("KILLS_SEED").unwrap_or_else(rand::random);
    show(format_args!("{engine:?}: {kills} kills, seed {seed}; to reproduce: KILLS={kills} KILLS_SEED={seed}"));
    let mut rng = StdRng::seed_from_u64(seed);
    let env = KillEnv::new(engine, PAGES).await;
    env.add_consumer("ops").await;
    let mut requests = 0_u64;
    for killed in 0..kills {
        let mut worker = env.start("worker");
        // Leaves pages for the kills to come, also where requests are repeated.
        let committed = requests.saturating_sub(env.repeated_pages());
        let share = (PAGES.saturating_sub(committed) / (kills - killed + 1)).max(1);
        let target = requests + rng.random_range(0..=2 * share).min(PAGES.saturating_sub(committed + kills - killed));
        // Also before the first request, and anywhere between the response of one page and the request of the next.
        let delay = Duration::from_micros(rng.random_range(0..20_000));
        let runs = worker.until(|| env.page_requests() >= target).await;
        assert!(runs, "seed {seed}: a run ended by itself after {killed} kills: {}", worker.stderr());
        tokio::time::sleep(delay).await;
        worker.kill().await;
        requests = env.page_requests();
    }
    env.run_to_the_end("worker", 1).await;
    let repeated = env.repeated_pages();
    show(format_args!("{engine:?}: {} requests for pages, {repeated} of them repeated", env.page_requests()));
    assert!(repeated <= kills * REPEATED, "seed {seed}: {repeated} pages were requested again");
    assert_exact(&env).await;
    assert_delivered(&env);
}

#[tokio::test]
async fn a_sync_into_sqlite_that_is_killed_at_random_points_loses_and_doubles_nothing() {
    survives_kills(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_sync_into_postgresql_that_is_killed_at_random_points_loses_and_doubles_nothing() {
    survives_kills(Engine::Postgres).await;
}
