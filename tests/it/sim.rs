//! Every behaviour of the simulated banks, seen by a plain HTTP client over real sockets.
