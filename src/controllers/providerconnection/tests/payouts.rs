//! What Ready says of payouts.

use super::*;
use crate::resolve::{DesiredConnection, PayoutSupport};

#[test]
fn ready_says_that_payouts_are_manual_only_where_some_go_through_the_bank() {
    let says = |payouts, bank_routes| {
        let consumers = ConnectionConsumers { bank_routes, ..ConnectionConsumers::default() };
        let desired = Ok(DesiredConnection { payouts, ..desired() }.into());
        let status = status(&object(), None, &ConnectionInputs { desired, consumers, ..inputs(Some(live())) });
        assert_eq!(ready(&status), (ConditionStatus::True, "Verified"));
        status.conditions.iter().any(|c| c.type_ == "Ready" && c.message.contains("ManualOnly"))
    };
    assert!(says(PayoutSupport::NotStated, 1));
    assert!(says(PayoutSupport::ManualOnly, 0), "spec.payouts cannot be honoured");
    assert!(says(PayoutSupport::ManualOnly, 1));
    assert!(!says(PayoutSupport::NotStated, 0), "a provider of data");
    assert!(!says(PayoutSupport::Followed, 1));
}
