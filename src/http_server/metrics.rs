//! Metrics of client connections.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use crate::metrics::{Metrics, MetricsError};

const OPEN: (&str, &str) = ("busbar_http_connections", "Open client connections, by port (gateway, admin).");
const CLOSED: (&str, &str) = (
    "busbar_http_connections_closed_total",
    "Client connections closed by a limit, by port and cause: address (too many of one address), evicted (idle, when \
     all places were taken), full (all places were taken by requests), handshake (TLS failed or took too long).",
);

/// Why the server closed a connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Closed {
    /// Its address has as many connections as it may have.
    Address,
    /// It was idle and its place was needed.
    Evicted,
    /// All places were taken, and none was idle.
    Full,
    /// The TLS handshake failed, or took too long.
    Handshake,
}

impl Closed {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Evicted => "evicted",
            Self::Full => "full",
            Self::Handshake => "handshake",
        }
    }
}

/// The metrics of one port.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    port: &'static str,
    open: IntGaugeVec,
    closed: IntCounterVec,
}

/// The metrics of all ports, registered once.
#[derive(Clone, Debug)]
pub struct PortMetrics {
    open: IntGaugeVec,
    closed: IntCounterVec,
}

impl PortMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            open: metrics.int_gauge(OPEN.0, OPEN.1, &["port"])?,
            closed: metrics.counter(CLOSED.0, CLOSED.1, &["port", "cause"])?,
        })
    }

    /// Those of `port`.
    pub fn of(&self, port: &'static str) -> ConnectionMetrics {
        for cause in [Closed::Address, Closed::Evicted, Closed::Full, Closed::Handshake] {
            self.closed.with_label_values(&[port, cause.as_str()]);
        }
        ConnectionMetrics { port, open: self.open.clone(), closed: self.closed.clone() }
    }
}

impl ConnectionMetrics {
    pub(super) fn open(&self) -> IntGauge {
        self.open.with_label_values(&[self.port])
    }

    pub(super) fn closed(&self, cause: Closed) {
        self.closed.with_label_values(&[self.port, cause.as_str()]).inc();
    }
}
