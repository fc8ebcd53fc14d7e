//! The provider's environments.

use schemars::JsonSchema;
use serde::Deserialize;

/// Which environment of the provider a connection uses.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
pub enum Environment {
    /// Test data, no money.
    Sandbox,
    /// Live data.
    Production,
}

impl Environment {
    /// The name used in specs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "Sandbox",
            Self::Production => "Production",
        }
    }
}
