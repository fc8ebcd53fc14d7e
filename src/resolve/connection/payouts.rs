//! Resolves `payouts` of a spec: what the bank promises, by its profile, narrowed by the connection. Pure.
//!
//! A connection can take away what the profile states, never add to it. Where the profile states nothing, the connection
//! may say how long the bank remembers a key and what its "not found" means; how it is asked only a profile can say.

use std::time::Duration;

use crate::api::v1alpha1::provider_connection::{Inquiry, NotFoundProof, ProviderConnectionSpec, Recall};
use crate::resolve::fields::duration;
use crate::resolve::spec_error::SpecError;
use crate::settings::Draft;

/// Narrows what the draft promises by what the spec says.
pub(super) fn narrow(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), SpecError> {
    let Some(set) = &spec.payouts else { return Ok(()) };
    let stated = draft.profile.payouts.as_ref();
    let promises = &mut draft.promises;
    if let Some(text) = set.idempotency_window.as_deref() {
        let window = duration("payouts.idempotencyWindow", Some(text), Duration::ZERO)?;
        let most = stated.and_then(|stated| stated.idempotency_window).unwrap_or(Duration::MAX);
        promises.idempotency_window = window.min(most);
    }
    promises.inquiry &= set.inquiry != Some(Inquiry::None);
    promises.recall &= set.recall != Some(Recall::None);
    match set.not_found_proof {
        Some(NotFoundProof::Never) => promises.not_found_proof = false,
        Some(NotFoundProof::AfterGrace) => {
            promises.not_found_proof |= stated.and_then(|stated| stated.not_found_proof).is_none();
        }
        None => {}
    }
    if let Some(text) = set.not_found_grace.as_deref() {
        let grace = duration("payouts.notFoundGrace", Some(text), Duration::ZERO)?;
        let least = stated.and_then(|stated| stated.not_found_grace).unwrap_or_default();
        promises.not_found_grace = grace.max(least);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::payout::BankPromises;
    use crate::profile::{Environment, Profile};

    const ASKED: &str = "operations:\n  payout-status:\n    path: /payouts/{endToEndId}\n    parameters: {endToEndId: \
                         {required: true}}\n  payout-cancel:\n    method: POST\n    class: Write\n    path: \
                         /payouts/{endToEndId}/cancel\n    headers: {idempotency-key: '{recallKey}'}\n    parameters: \
                         {endToEndId: {required: true}, recallKey: {required: true}}\n";

    fn promises(profile: &str, spec: &str) -> BankPromises {
        let text = format!("id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{path: /}}\n{ASKED}{profile}\n");
        let profile = Arc::new(Profile::parse("x.yaml", &text).unwrap());
        let spec = format!("{{provider: 'profile:x', environment: Sandbox, {spec}}}");
        let spec: ProviderConnectionSpec = serde_yaml::from_str(&spec).unwrap();
        let mut draft = Draft::new(profile, Environment::Sandbox);
        narrow(&spec, &mut draft).unwrap();
        draft.promises
    }

    const FULL: &str = "payouts: {inquiry: {status: [/s], iso20022: true}, recall: {result: [/r], iso20022: true}, \
                        idempotencyWindow: 72h, notFoundProof: afterGrace, notFoundGrace: 20m}";

    #[test]
    fn the_profile_counts_where_the_spec_says_nothing() {
        let unset = promises(FULL, "");
        assert!(unset.inquiry && unset.recall && unset.not_found_proof);
        assert_eq!(unset.idempotency_window, Duration::from_hours(72));
        assert!(promises("", "").is_manual_only());
    }

    #[test]
    fn a_spec_takes_away() {
        let spec =
            "payouts: {inquiry: None, recall: None, notFoundProof: Never, idempotencyWindow: 24h, notFoundGrace: 1h}";
        let narrowed = promises(FULL, spec);
        assert!(narrowed.is_manual_only() && !narrowed.not_found_proof);
        assert_eq!(narrowed.idempotency_window, Duration::from_hours(24));
        assert_eq!(narrowed.not_found_grace, Duration::from_hours(1));
    }

    #[test]
    fn a_spec_adds_nothing_to_what_the_profile_states() {
        let never = "payouts: {notFoundProof: never, idempotencyWindow: 72h, notFoundGrace: 20m}";
        let spec = "payouts: {inquiry: HttpGet, recall: HttpCancel, notFoundProof: AfterGrace, idempotencyWindow: 2160h, \
                    notFoundGrace: 1m}";
        let same = promises(never, spec);
        assert!(same.is_manual_only() && !same.not_found_proof, "only a profile says how a bank is asked");
        assert_eq!(same.idempotency_window, Duration::from_hours(72));
        assert_eq!(same.not_found_grace, Duration::from_mins(20));
    }

    #[test]
    fn a_spec_may_state_what_the_profile_leaves_open() {
        let open = "payouts: {inquiry: {status: [/s], iso20022: true}}";
        let spec = "payouts: {notFoundProof: AfterGrace, idempotencyWindow: 24h, notFoundGrace: 5m}";
        let stated = promises(open, spec);
        assert!(stated.not_found_proof && stated.inquiry && !stated.recall);
        assert_eq!(stated.idempotency_window, Duration::from_hours(24));
        assert_eq!(stated.not_found_grace, Duration::from_mins(5));
    }
}
