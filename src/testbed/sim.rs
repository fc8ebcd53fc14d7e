//! Simulated banks. To be written.
