//! What time alone does, and what is said of a circuit that comes and goes.

use std::io::Write;
use std::sync::Mutex;

use jiff::SignedDuration;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::clock::Clock;

#[tokio::test(start_paused = true)]
async fn an_override_ends_by_the_wall_clock_also_when_that_is_set_or_the_machine_slept() {
    // The clock starts at midnight.
    let settings = forced(OverrideMode::ForcedOpen, "2026-01-01T00:10:00Z");
    let (clock, step) = Clock::steppable("2026-01-01T00:00:00Z".parse().unwrap());
    let (listeners, told) = counting();
    let core = core_on(&settings, clock, listeners);
    let money = || core.admit(CallClass::Money, core.clock().mono());
    assert!(money().is_err());
    let soon = core.clock().mono() + Duration::from_secs(10);
    assert!(core.next_tick().is_some_and(|at| at <= soon), "the wall clock is looked at again soon");

    step(SignedDuration::from_mins(-5));
    tokio::time::advance(Duration::from_mins(11)).await;
    core.tick();
    assert!(money().is_err(), "six minutes past midnight");
    assert_eq!(core.observed(&settings).effective, Effective::ForcedOpen);
    let before = told.load(Ordering::Relaxed);

    step(SignedDuration::from_mins(4));
    assert_eq!(core.observed(&settings).effective, Effective::Closed, "at once, ticked or not");
    assert!(money().is_ok());
    core.tick();
    assert_eq!(told.load(Ordering::Relaxed), before + 1, "the next tick tells of it");
    assert_eq!(core.next_tick(), None, "and that was it");
}

#[tokio::test(start_paused = true)]
async fn the_band_of_a_connection_that_nobody_calls_falls_with_its_risk_and_is_told_once_each() {
    let settings = checked(CheckMode::Passive, OnUnhealthy::Ignore);
    let (listeners, told) = counting();
    let core = core_with(&settings, listeners);
    core.recall(RiskTier::Critical);
    call(&core, &settings, CallClass::Money, 200);
    assert_eq!(
        (core.observed(&settings).tier, core.observed(&settings).health),
        (RiskTier::Critical, Health::Degraded)
    );
    let before = told.load(Ordering::Relaxed);
    let mut walk = Vec::new();
    // As the driver does.
    while let Some(at) = core.next_tick() {
        tokio::time::advance(at.since(core.clock().mono())).await;
        core.tick();
        walk.push(core.observed(&settings).tier);
    }
    assert_eq!(walk, [RiskTier::High, RiskTier::Elevated, RiskTier::Low]);
    assert_eq!(core.observed(&settings).health, Health::Healthy);
    assert_eq!(told.load(Ordering::Relaxed), before + 3);
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// The lines that warn of a circuit that opens again and again.
    fn warnings(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains("again and again")).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_flaps_is_told_of_in_one_line_and_in_another_when_it_begins_anew() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let _here = tracing::subscriber::set_default(subscriber);
    let settings = settings(|draft| {
        draft.breaker.consecutive_failures = 1;
        draft.breaker.unhealthy = OnUnhealthy::Ignore;
        draft.breaker.open.base = Duration::from_mins(1);
    });
    let core = core(&settings);
    let opens_and_closes = async || {
        call(&core, &settings, CallClass::Money, 503);
        assert_eq!(core.observed(&settings).effective, Effective::Open);
        tokio::time::advance(Duration::from_mins(1)).await;
        call(&core, &settings, CallClass::Probe, 200);
        assert_eq!(core.observed(&settings).effective, Effective::Closed);
    };
    for (opening, said) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1)] {
        opens_and_closes().await;
        assert_eq!(log.warnings().len(), said, "opening {opening}");
    }
    tokio::time::advance(Duration::from_hours(2)).await;
    for (opening, said) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        opens_and_closes().await;
        assert_eq!(log.warnings().len(), said, "opening {opening} after two quiet hours");
    }
    let line = &log.warnings()[0];
    assert!(line.contains("WARN") && line.contains("namespace=ns") && line.contains("name=bank"), "{line}");
}
