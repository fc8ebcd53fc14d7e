//! The HTTP server of the gateway and of the admin port: accepts connections and bounds what a client can hold.
//!
//! [`server`] accepts and serves, [`connection_limits`] has the limits, `activity` knows when a connection is idle,
//! `connection_table` decides which connections are accepted and which are closed for others, `body_deadline` ends slow
//! request bodies, [`metrics`] counts.

mod activity;
mod body_deadline;
pub mod connection_limits;
mod connection_table;
pub mod metrics;
pub mod peer;
pub mod server;

pub use metrics::ConnectionMetrics;
pub use peer::Peer;
