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
    /// Connections of one address (of one /64 network of IPv6). Enough for an HTTP/1.1 proxy with many clients, and too few
    /// for one address to use up the total.
    pub per_address: usize,
    /// What happens to a further connection of such an address.
    pub when_address_full: WhenAddressFull,
}

/// What happens to a new connection of an address that has as many as it may have.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum WhenAddressFull {
    /// It is closed at once: connections that are kept for later requests are not disturbed.
    Close,
    /// It takes the place of the address's connection that has been idle longest, and is closed if there is none: clients
    /// that connect for each request are answered although others hold connections from behind the same address.
    EvictIdle,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            close_grace: Duration::from_secs(20),
            connections: 2_048,
            per_address: 512,
            when_address_full: WhenAddressFull::Close,
        }
    }
}
