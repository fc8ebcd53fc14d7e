//! Configuration of a breaker: thresholds, window, open time, half-open rules, and the three presets.
//!
//! All values are resolved (a preset plus overrides); the state machine does not know their origin.

use std::time::Duration;

use crate::domain::hash;

/// Whether the breaker blocks or only counts.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// Rejects calls while open.
    #[default]
    Enforce,
    /// Counts outcomes and changes state, but never blocks.
    Shadow,
}

/// Reaction to critical health.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnUnhealthy {
    /// No reaction.
    #[default]
    Ignore,
    /// The circuit opens with reason `Health`.
    Open,
}

/// Window over which ratios are computed.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum WindowSpec {
    /// The calls within this time, in twelve buckets.
    Time(Duration),
    /// The last calls by count, 1 to 1000.
    Calls(u16),
}

/// Named sets of defaults.
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

/// Open time of the circuit.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct OpenPolicy {
    /// Open time of the first opening.
    pub base: Duration,
    /// Upper bound of the open time.
    pub max: Duration,
    /// Growth factor per further opening in thousandths; 1000 = constant. Values below 1000 are treated as 1000.
    pub factor_milli: u32,
    /// Each open time is longer or shorter by up to this many percent.
    pub jitter_percent: u8,
}

/// Half-open rules: how the circuit tests whether the provider has recovered.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct HalfOpenPolicy {
    /// Concurrent trials, 1 to [`super::MAX_TRIALS`].
    pub trials: u8,
    /// Successful trials that close the circuit, at least 1; may exceed `trials`, whose permits are reissued.
    pub required_successes: u32,
    /// Time after which a trial without a result is lost.
    pub lease: Duration,
    /// Longest half-open period; after it the circuit opens again.
    pub max_dwell: Duration,
}

/// Complete configuration of a breaker.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Policy {
    /// Whether the breaker blocks calls.
    pub mode: Mode,
    /// Consecutive failures that trip; 0 = off.
    pub consecutive_failures: u32,
    /// Share of failures in the window that trips, in percent; 0 = off.
    pub failure_percent: u8,
    /// Share of slow calls in the window that trips, in percent; 0 = off.
    pub slow_call_percent: u8,
    /// Duration from which a call counts as slow.
    pub slow_call_duration: Duration,
    /// Calls in the window below which ratios are not evaluated.
    pub minimum_calls: u32,
    /// Reaction to critical health.
    pub unhealthy: OnUnhealthy,
    /// Window over which ratios are computed.
    pub window: WindowSpec,
    /// Open time.
    pub open: OpenPolicy,
    /// Half-open rules.
    pub half_open: HalfOpenPolicy,
    /// Seed of the open time's jitter, so that circuits that open together do not retry together. Any number that is
    /// stable per connection.
    pub jitter_seed: u64,
}

impl Policy {
    /// The values of a preset; all other fields have their documented defaults.
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

    /// Whether the open time grows; if so, a flapping circuit also needs twice the successes to close.
    pub const fn grows(&self) -> bool {
        self.open.factor_milli > 1000
    }

    /// Open time of the `k`-th consecutive opening (1 = first): base · factor^(k−1), jittered, at most `max`.
    ///
    /// The jitter is a function of seed and epoch ([`hash::mix`]), so that a replay has the same open
    /// time.
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
            let random = u128::from(hash::mix(self.jitter_seed ^ epoch.cast_unsigned()));
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

/// Lower bound of the open time, so that a policy of zero still rejects calls.
const MIN_OPEN: Duration = Duration::from_millis(1);
