//! What one call costs at the breaker: admit and record on a closed circuit, ours and two peers', in the same run.
//!
//! One thread, which never waits. A batch of calls lasts around a tenth of a millisecond, far less than a time slice, so
//! nearly every batch runs undisturbed and its wall time is its CPU time (the kernel's own counters tick too coarsely,
//! and sandboxes do not have them). A round's value is its median batch, the figure the median round, the spread that
//! of the rounds. Rounds of the subjects alternate, so that a noisy neighbour hits all of them alike. The work is the
//! same for all: one call in a hundred fails, evenly spread, so that no circuit opens.
//!
//! Not quite the same game, and told as such: the peers take a lock (failsafe) or pin an epoch (recloser) and read the
//! clock themselves; ours is told the time and sits behind its owner's mutex. So ours behind a mutex with a clock read
//! per call is printed too, for comparison; it is no figure.
#![allow(clippy::disallowed_methods, reason = "the cost of reading the clock is one of the figures")]

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use busbar::domain::breaker::{Breaker, CallClass, CallOutcome, Policy, Preset};
use busbar::domain::time::Mono;

use crate::Figures;

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(150);
/// Calls that are timed together.
const BATCH: u32 = 4096;

/// A subject plays `BATCH` calls.
type Subject<'a> = (&'a str, Box<dyn FnMut() + 'a>);

pub(crate) fn run(figures: &mut Figures) {
    let policy = Policy { failure_percent: 50, slow_call_percent: 80, ..Policy::preset(Preset::Bank) };
    let fast = Duration::from_millis(20);

    let mut ours = Breaker::new(policy, Mono::ZERO);
    // A call per millisecond: a bucket of the window ends every 5 000 calls, as under a heavy but real load.
    let mut nanos = 0;
    let behind_mutex = Mutex::new(Breaker::new(policy, Mono::ZERO));
    let start = Instant::now();

    let ewma = failsafe::failure_policy::success_rate_over_time_window(
        0.5,
        20,
        Duration::from_mins(1),
        failsafe::backoff::constant(Duration::from_mins(5)),
    );
    let failsafe = failsafe::Config::new().failure_policy(ewma).build();
    let recloser = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();

    let mut subjects: Vec<Subject<'_>> = vec![
        (
            "breaker.admit_record_ns",
            Box::new(|| {
                for n in 0..BATCH {
                    nanos += 1_000_000;
                    let now = Mono::from_nanos(black_box(nanos));
                    if let Ok(permit) = ours.admit(black_box(CallClass::Read), now) {
                        black_box(ours.record(permit, outcome(n), black_box(fast), now));
                    }
                }
            }),
        ),
        (
            "breaker.failsafe_ns",
            Box::new(|| {
                use failsafe::CircuitBreaker as _;
                for n in 0..BATCH {
                    let _ = black_box(failsafe.call(|| result(n)));
                }
            }),
        ),
        (
            "breaker.recloser_ns",
            Box::new(|| {
                for n in 0..BATCH {
                    let _ = black_box(recloser.call(|| result(n)));
                }
            }),
        ),
        (
            "breaker.floor_clock_ns",
            Box::new(|| {
                for _ in 0..BATCH {
                    black_box(Instant::now());
                }
            }),
        ),
        (
            "ours behind a mutex, reading the clock twice",
            Box::new(|| {
                let now = || Mono::ZERO + start.elapsed();
                for n in 0..BATCH {
                    let permit = behind_mutex.lock().map(|mut b| b.admit(CallClass::Read, now()));
                    if let Ok(Ok(permit)) = permit {
                        let _ = black_box(behind_mutex.lock().map(|mut b| b.record(permit, outcome(n), fast, now())));
                    }
                }
            }),
        ),
    ];

    let mut rounds: Vec<Vec<f64>> = vec![vec![]; subjects.len()];
    for round in 0..=ROUNDS {
        for ((_, subject), costs) in subjects.iter_mut().zip(&mut rounds) {
            let cost = measure(subject.as_mut());
            // The first round warms caches and predictors.
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    for ((id, _), mut costs) in subjects.iter().zip(rounds) {
        costs.sort_by(f64::total_cmp);
        let (low, median, high) = (costs[0], costs[ROUNDS / 2], costs[ROUNDS - 1]);
        println!("{id}: median {median:.1} ns, {low:.1} to {high:.1} over {ROUNDS} rounds");
        if id.contains('.') {
            figures.figure(id, format_args!("{median:.1}"), "ns");
        }
    }
}

/// Nanoseconds per call in one round: the median of its batches.
fn measure(subject: &mut dyn FnMut()) -> f64 {
    let end = Instant::now() + ROUND;
    let mut batches = vec![];
    loop {
        let start = Instant::now();
        subject();
        let stop = Instant::now();
        batches.push((stop - start).as_secs_f64() * 1e9 / f64::from(BATCH));
        if stop >= end {
            break;
        }
    }
    batches.sort_by(f64::total_cmp);
    batches[batches.len() / 2]
}

fn fails(n: u32) -> bool {
    n % 100 == 99
}

fn outcome(n: u32) -> CallOutcome {
    black_box(if fails(n) { CallOutcome::Failure } else { CallOutcome::Success })
}

fn result(n: u32) -> Result<(), ()> {
    black_box(if fails(n) { Err(()) } else { Ok(()) })
}
