//! The effective retention of a job's raw payloads, and where it comes from. Pure.

use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::sync_job::{RetentionMode, SyncJobSpec};
use crate::resolve::spec_error::SpecError;

/// Where a retention mode comes from.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum RetentionSource {
    /// `spec.retention.mode`.
    #[default]
    Spec,
    /// It is unset, and the operator has no encryption key.
    NoKey,
    /// It is unset and the operator has a key, but this version does not store raw payloads.
    NotSupported,
}

/// What happens to raw payloads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The effective mode.
    pub mode: RetentionMode,
    /// Where it comes from.
    pub source: RetentionSource,
}

impl Retention {
    /// What the message of Ready says about a mode that is not in the spec; empty for one that is.
    pub fn note(self) -> &'static str {
        match self.source {
            RetentionSource::Spec => "",
            RetentionSource::NoKey => {
                "; raw payloads are not stored: spec.retention.mode defaults to Off without an encryption key \
                 (--key-secret)"
            }
            RetentionSource::NotSupported => {
                "; raw payloads are not stored: spec.retention.mode defaults to Encrypted, which this version treats \
                 as Off"
            }
        }
    }
}

/// The effective retention. Unset: `Encrypted` where the operator has a key, else `Off`; until raw payloads are
/// supported `Off` in both cases. An explicit `Encrypted` without a key is `KeyMissing`: silently storing nothing, or
/// storing in the clear, is not what the spec asks for.
pub(super) fn retention(spec: &SyncJobSpec, has_key: bool) -> Result<Retention, SpecError> {
    match spec.retention.as_ref().and_then(|retention| retention.mode) {
        Some(RetentionMode::Encrypted) if !has_key => {
            let message = "spec.retention.mode: Encrypted requires an encryption key: start the operator with \
                           --key-secret, or set spec.retention.mode to \"Off\"";
            Err(SpecError::stalled(Reason::KeyMissing, message))
        }
        Some(mode) => Ok(Retention { mode, source: RetentionSource::Spec }),
        None => {
            let source = if has_key { RetentionSource::NotSupported } else { RetentionSource::NoKey };
            Ok(Retention { mode: RetentionMode::Off, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::sync_job::Retention as Wire;

    fn of(mode: Option<RetentionMode>, has_key: bool) -> Result<Retention, SpecError> {
        retention(&SyncJobSpec { retention: Some(Wire { raw: None, mode }), ..SyncJobSpec::default() }, has_key)
    }

    #[test]
    fn unset_is_off_and_the_note_says_why() {
        for (has_key, source, words) in [
            (false, RetentionSource::NoKey, "defaults to Off without an encryption key (--key-secret)"),
            (true, RetentionSource::NotSupported, "defaults to Encrypted, which this version treats as Off"),
        ] {
            let unset = of(None, has_key).unwrap();
            assert_eq!(unset, Retention { mode: RetentionMode::Off, source });
            assert!(unset.note().contains(words), "{}", unset.note());
            assert_eq!(retention(&SyncJobSpec::default(), has_key), Ok(unset), "without spec.retention likewise");
        }
    }

    #[test]
    fn encrypted_without_a_key_is_stalled_and_both_remedies_are_named() {
        let error = of(Some(RetentionMode::Encrypted), false).unwrap_err();
        assert_eq!((error.reason, error.waiting), (Reason::KeyMissing, false));
        assert!(error.message.contains("--key-secret") && error.message.contains("spec.retention.mode to \"Off\""));
        assert_eq!(of(Some(RetentionMode::Encrypted), true).unwrap().mode, RetentionMode::Encrypted);
    }

    #[test]
    fn a_set_mode_needs_no_note() {
        let off = of(Some(RetentionMode::Off), false).unwrap();
        assert_eq!((off.source, off.note()), (RetentionSource::Spec, ""));
    }
}
