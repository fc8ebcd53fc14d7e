//! What a breaker is told: thresholds, window, open time, half-open rules; and the three presets.
//!
//! All values are resolved here (a preset plus the fields that were set): the machine never asks where they came from.

use std::time::Duration;

use crate::domain::spread;

/// Whether the breaker blocks or only counts.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// Refuses calls while open.
    #[default]
    Enforce,
    /// Counts as if it did, and never blocks.
    Shadow,
}

/// What the breaker does when health turns critical or down.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnUnhealthy {
    /// Nothing.
    #[default]
    Ignore,
    /// Opens, reason `Health`.
    Open,
}

/// Over what the ratios are taken.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum WindowSpec {
    /// The calls of the last so long, in twelve buckets.
    Time(Duration),
    /// The last so many calls, 1 to 1000.
    Calls(u16),
}

/// The named sets of defaults.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Preset {
    /// 5 failures, 30 s, 1 trial: an API that recovers quickly.
    Api,
    /// 3 failures, 60 s, 1 trial: a data provider.
    Data,
    /// 5 failures, 300 s, 1 trial, and opens when unhealthy: a bank.
    #[default]
    Bank,
}

impl Preset {
    /// The preset's name, as in `spec.preset`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "Api",
            Self::Data => "Data",
            Self::Bank => "Bank",
        }
    }
}

/// How long the circuit stays open.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct OpenPolicy {
    /// The first opening's length.
    pub base: Duration,
    /// No opening is longer.
    pub max: Duration,
    /// Each further opening is this many thousandths of the one before; 1000 = constant. Below 1000 counts as 1000.
    pub factor_milli: u32,
    /// Each opening is longer or shorter by up to this many percent.
    pub jitter_percent: u8,
}

/// How the circuit finds out whether the provider is back.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct HalfOpenPolicy {
    /// Trials in flight at once, 1 to [`super::MAX_TRIALS`].
    pub trials: u8,
    /// Successful trials that close the circuit, at least 1; may exceed `trials`, which are given again.
    pub required_successes: u32,
    /// A trial that has not reported by then is lost.
    pub lease: Duration,
    /// Half-open for so long without a verdict opens the circuit again.
    pub max_dwell: Duration,
}

/// Everything a breaker is told.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Policy {
    /// Blocks, or only counts.
    pub mode: Mode,
    /// So many failures in a row trip; 0 = off.
    pub consecutive_failures: u32,
    /// This share of failures in the window trips, in percent; 0 = off.
    pub failure_percent: u8,
    /// This share of slow calls in the window trips, in percent; 0 = off.
    pub slow_call_percent: u8,
    /// A call that took so long or longer is slow.
    pub slow_call_duration: Duration,
    /// Ratios are not looked at below so many calls in the window.
    pub minimum_calls: u32,
    /// What critical or down health does.
    pub unhealthy: OnUnhealthy,
    /// Over what the ratios are taken.
    pub window: WindowSpec,
    /// How long the circuit stays open.
    pub open: OpenPolicy,
    /// How it finds its way back.
    pub half_open: HalfOpenPolicy,
    /// Seeds the open time's jitter, so that many circuits that open together do not come back together. Any stable
    /// number of the connection will do.
    pub jitter_seed: u64,
}

impl Policy {
    /// The values of a preset, every other field at its documented default.
    pub const fn preset(preset: Preset) -> Self {
        let (consecutive_failures, base, unhealthy) = match preset {
            Preset::Api => (5, Duration::from_secs(30), OnUnhealthy::Ignore),
            Preset::Data => (3, Duration::from_mins(1), OnUnhealthy::Ignore),
            Preset::Bank => (5, Duration::from_mins(5), OnUnhealthy::Open),
        };
        Self {
            mode: Mode::Enforce,
            consecutive_failures,
            failure_percent: 0,
            slow_call_percent: 0,
            slow_call_duration: Duration::from_secs(5),
            minimum_calls: 20,
            unhealthy,
            window: WindowSpec::Time(Duration::from_mins(1)),
            open: OpenPolicy { base, max: Duration::from_hours(1), factor_milli: 1000, jitter_percent: 0 },
            half_open: HalfOpenPolicy {
                trials: 1,
                required_successes: 1,
                lease: Duration::from_mins(1),
                max_dwell: Duration::from_mins(10),
            },
            jitter_seed: 0,
        }
    }

    /// Whether opening times grow: the opt-in that also makes a flapping bank prove itself twice.
    pub const fn grows(&self) -> bool {
        self.open.factor_milli > 1000
    }

    /// The length of the `k`-th opening in a row (1 = first): base · factor^(k−1), jittered, never above `max`.
    ///
    /// The jitter is a function of seed and epoch ([`spread::mix`]), so that a replay opens for exactly
    /// as long.
    pub(super) fn open_time(&self, k: u32, epoch: i64) -> Duration {
        let max = self.open.max.max(MIN_OPEN).as_nanos();
        let mut nanos = self.open.base.max(MIN_OPEN).as_nanos().min(max);
        if self.grows() {
            // A factor of 1.001 needs 8 300 steps from a millisecond to an hour; the bound only guards the loop.
            for _ in 1..k.min(16_384) {
                nanos = (nanos * u128::from(self.open.factor_milli) / 1000).min(max);
                if nanos == max {
                    break;
                }
            }
        }
        let percent = u128::from(self.open.jitter_percent.min(100));
        if percent > 0 {
            let width = nanos * percent / 100;
            let random = u128::from(spread::mix(self.jitter_seed ^ epoch.cast_unsigned()));
            nanos = (nanos - width + ((2 * width * random) >> 64)).clamp(MIN_OPEN.as_nanos(), max);
        }
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::preset(Preset::default())
    }
}

/// An open circuit refuses at least one call even if a policy says zero.
const MIN_OPEN: Duration = Duration::from_millis(1);
