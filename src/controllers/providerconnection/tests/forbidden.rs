//! A Secret that RBAC does not permit the operator to read.

use super::*;

fn forbidden(live: Option<LiveConnection>) -> ConnectionInputs {
    let error = SpecError::waiting(Reason::SecretForbidden, "Secret \"x\" (spec.auth.bearer.secretRef) forbidden");
    ConnectionInputs { desired: Err(error), ..inputs(live) }
}

#[test]
fn a_forbidden_secret_is_reconciling_and_read_again_like_a_missing_one() {
    let decision = decide(&object(), None, &forbidden(None), now());
    assert_eq!((decision.steps, decision.requeue_after), (Vec::new(), Duration::from_mins(1)));
    let s = status(&object(), None, &forbidden(None));
    assert_eq!(ready(&s), (ConditionStatus::False, "SecretForbidden"));
    assert_eq!(reason_of(&s.conditions, ConditionType::Reconciling), Some("SecretForbidden"));
    assert_eq!(status_of(&s.conditions, ConditionType::Stalled), ConditionStatus::Unknown, "absent");
}

#[test]
fn a_forbidden_secret_keeps_the_running_connection() {
    let decision = decide(&object(), None, &forbidden(Some(live())), now());
    assert!(decision.steps.is_empty(), "the credential may be as good as before");
    let s = decision.status.unwrap();
    assert_eq!(ready(&s), (ConditionStatus::False, "SecretForbidden"));
    assert_eq!(status_of(&s.conditions, ConditionType::Healthy), ConditionStatus::True);
}
