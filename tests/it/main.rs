//! The one integration binary: each module is a subject.

mod call_path;
mod probes;
mod sim;
