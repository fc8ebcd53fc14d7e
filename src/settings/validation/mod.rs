//! Validation rules of a job: CEL expressions over a record, in which money is a decimal and never a double.
//!
//! The crate `cel` parses; the tree that it returns is checked and evaluated here (docs/adr/0022): every step counts,
//! so a rule ends however it is written, and a number is an integer or a decimal. Pure.

mod compile;
mod decimals;
mod error;
mod evaluate;
mod fields;
mod functions;
mod node;
mod rules;
#[cfg(test)]
mod tests;
mod value;

pub use error::{RuleError, RuleProblem};
pub use fields::{field_name, record_fields};
pub use rules::{FailedRule, RuleSource, Validations};
pub use value::RuleValue;
