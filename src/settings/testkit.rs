//! Settings for unit tests.

use super::draft::Draft;
use crate::profile::{Environment, Profiles};

/// A draft for the generic provider.
pub(crate) fn draft() -> Draft {
    let profile = Profiles::builtin().unwrap().get("generic").unwrap();
    let mut draft = Draft::new(profile, Environment::Sandbox);
    draft.base_url = "http://bank.test/v1".to_owned();
    draft
}
