//! Health of a provider, from the results of probes and calls. It does not decide whether calls are admitted; the
//! breaker does. The two are connected only by the policy that opens the circuit when health becomes critical.
//!
//! [`HealthTracker`] counts consecutive checks; [`SuccessEstimate`], [`LatencyWindow`] and the counts of the last hour
//! have a longer memory;
//! [`RiskMeter`] derives the risk score and tier from them and from the [`forecast`](crate::domain::forecast): silence,
//! changes and predicted outages; [`HealthMonitor`] combines all of it. Failures are
//! classified as for the breaker; ignored outcomes are not reported to health.
//!
//! Floats are internal: public values are whole millionths ([`Ppm`]), so that decisions replay exactly.

mod estimate;
mod latency;
mod monitor;
mod observation;
mod outcomes;
pub mod risk;
mod state;
mod tracker;

pub use self::estimate::{HALF_LIFE, SuccessEstimate};
pub use self::latency::{LATENCY_SAMPLES, LatencyWindow};
pub use self::monitor::{Assessment, HealthMonitor, HealthUpdate};
pub use self::observation::Observation;
pub use self::risk::{RiskMeter, RiskTier};
pub use self::state::Health;
pub use self::tracker::{HealthTracker, Thresholds};
pub use crate::domain::ppm::Ppm;
