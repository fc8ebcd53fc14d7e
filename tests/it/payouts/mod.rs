//! Payouts that are followed through real connections, at simulated banks whose own books say how often each was
//! executed.

mod calls;
mod env;
mod follow;
mod kill;
