//! The effective retention of a job's raw payloads, and where it comes from. Pure.

use std::time::Duration;

use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::sync_job::{RetentionMode, SyncJobSpec};
use crate::resolve::fields::duration;
use crate::resolve::spec_error::SpecError;
use crate::settings::sync_plan::{RawRetention, RawStorage};

/// How long raw payloads are stored by default: 30 days.
const DEFAULT_TTL: Duration = Duration::from_hours(720);

/// Where a retention mode comes from.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum RetentionSource {
    /// `spec.retention.mode`.
    #[default]
    Spec,
    /// It is unset, and the operator has no encryption key.
    NoKey,
    /// It is unset, and the operator has an encryption key.
    Key,
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
            RetentionSource::Key => {
                "; raw payloads are stored encrypted: spec.retention.mode defaults to Encrypted with an encryption key \
                 (--key-secret)"
            }
        }
    }
}

/// The effective retention. Unset: `Encrypted` where the operator has a key, else `Off`. An explicit `Encrypted` without a
/// key is `KeyMissing`: silently storing nothing, or storing in the clear, is not what the spec asks for.
pub(super) fn retention(spec: &SyncJobSpec, has_key: bool) -> Result<Retention, SpecError> {
    match spec.retention.as_ref().and_then(|retention| retention.mode) {
        Some(RetentionMode::Encrypted) if !has_key => {
            let message = "spec.retention.mode: Encrypted requires an encryption key: start the operator with \
                           --key-secret, or set spec.retention.mode to \"Off\"";
            Err(SpecError::stalled(Reason::KeyMissing, message))
        }
        Some(mode) => Ok(Retention { mode, source: RetentionSource::Spec }),
        None if has_key => Ok(Retention { mode: RetentionMode::Encrypted, source: RetentionSource::Key }),
        None => Ok(Retention { mode: RetentionMode::Off, source: RetentionSource::NoKey }),
    }
}

/// The retention as a run applies it: whether the operator has a key is known to the run.
pub(super) fn raw_retention(spec: &SyncJobSpec) -> Result<RawRetention, SpecError> {
    let set = spec.retention.as_ref();
    let mode = match set.and_then(|retention| retention.mode) {
        None => RawStorage::IfKey,
        Some(RetentionMode::Off) => RawStorage::Off,
        Some(RetentionMode::Masked) => RawStorage::Masked,
        Some(RetentionMode::Encrypted) => RawStorage::Encrypted,
    };
    let ttl = duration("retention.raw", set.and_then(|retention| retention.raw.as_deref()), DEFAULT_TTL)?;
    Ok(RawRetention { mode, ttl })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::sync_job::Retention as Wire;

    fn spec(mode: Option<RetentionMode>, raw: Option<&str>) -> SyncJobSpec {
        SyncJobSpec { retention: Some(Wire { raw: raw.map(Into::into), mode }), ..SyncJobSpec::default() }
    }

    fn of(mode: Option<RetentionMode>, has_key: bool) -> Result<Retention, SpecError> {
        retention(&spec(mode, None), has_key)
    }

    #[test]
    fn unset_is_encrypted_with_a_key_and_off_without_and_the_note_says_which() {
        for (has_key, mode, source, words) in [
            (false, RetentionMode::Off, RetentionSource::NoKey, "not stored: spec.retention.mode defaults to Off"),
            (true, RetentionMode::Encrypted, RetentionSource::Key, "stored encrypted: spec.retention.mode defaults"),
        ] {
            let unset = of(None, has_key).unwrap();
            assert_eq!(unset, Retention { mode, source });
            assert!(unset.note().contains(words) && unset.note().contains("--key-secret"), "{}", unset.note());
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
    fn a_set_mode_needs_no_note_and_no_key_unless_it_encrypts() {
        for mode in [RetentionMode::Off, RetentionMode::Masked] {
            let set = of(Some(mode), false).unwrap();
            assert_eq!((set.mode, set.source, set.note()), (mode, RetentionSource::Spec, ""));
        }
    }

    #[test]
    fn a_run_applies_mode_and_time_of_the_spec() {
        let hour = Duration::from_hours(1);
        for (mode, raw, storage, ttl) in [
            (None, None, RawStorage::IfKey, DEFAULT_TTL),
            (Some(RetentionMode::Off), Some("1h"), RawStorage::Off, hour),
            (Some(RetentionMode::Masked), Some("60m"), RawStorage::Masked, hour),
            (Some(RetentionMode::Encrypted), None, RawStorage::Encrypted, DEFAULT_TTL),
        ] {
            assert_eq!(raw_retention(&spec(mode, raw)), Ok(RawRetention { mode: storage, ttl }));
        }
        assert_eq!(raw_retention(&SyncJobSpec::default()).unwrap().ttl, DEFAULT_TTL);
    }
}
