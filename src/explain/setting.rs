//! The rows of an explanation: a setting and its source.

use std::fmt;

use serde_json::Value;

use crate::resolve::SpecError;

/// Source of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The object's own spec.
    Spec,
    /// A `BreakerPolicy`.
    Policy(String),
    /// The provider's profile.
    Profile(String),
    /// A preset of the breaker.
    Preset(&'static str),
    /// Derived from another setting.
    From(&'static str),
    /// Busbar's default.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec => f.write_str("spec"),
            Self::Policy(name) => write!(f, "BreakerPolicy {name}"),
            Self::Profile(id) => write!(f, "profile {id}"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::From(field) => write!(f, "from {field}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One effective setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Path below `spec`; breaker rules are below `breaker`.
    pub field: String,
    /// Effective value: string, number, boolean, a list of them, or null.
    pub value: Value,
    /// Source of the value.
    pub source: Source,
    /// Whether it is set but not used by this version.
    pub unused: bool,
}

/// Rows and errors of one object.
pub(super) type Explained = (Vec<Setting>, Vec<SpecError>);
