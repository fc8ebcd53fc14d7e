//! Which bank takes a payout.
