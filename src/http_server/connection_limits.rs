//! Limits on client connections, which apply before TLS and before authentication.

use std::time::Duration;

/// Limits on a client's connections.
#[derive(Copy, Clone, Debug)]
pub struct ConnectionLimits {
    /// Time-out of the TLS handshake.
    pub handshake: Duration,
    /// Time-out of reading a request's headers, of reading its body, and of a connection between two requests.
    pub idle: Duration,
    /// Time for a graceful close of an idle connection: the last response may still be in transit.
    pub close_grace: Duration,
    /// Connections in total, some kilobytes each. When there are as many, a further one takes the place of an idle one.
    pub connections: usize,
    /// Connections of one address (of one /64 network of IPv6); further ones are closed at once. Enough for an HTTP/1.1
    /// proxy with many clients, and too few for one address to use up the total.
    pub per_address: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            close_grace: Duration::from_secs(20),
            connections: 2_048,
            per_address: 512,
        }
    }
}
