//! Operations: what a caller can request from a provider, with validated parameters.
//!
//! The gateway calls operations by name; their HTTP form is data. An operation with a canonical mapping returns the
//! same record for every provider, so that one provider can be the fallback of another.

mod definition;
mod request;
mod validate;

pub use definition::Operation;
pub use request::OperationRequest;
