//! The client's address of a request.

use std::net::SocketAddr;

/// The client address of a request: the server adds it to the request's extensions.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Peer(pub SocketAddr);
