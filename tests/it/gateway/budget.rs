//! The time budget of a call with fallbacks: its shares, and what the wait for a connection takes from it.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::sim::{BankConfig, Behaviour, FailurePoint};

use super::harness::{GatewayHarness, LATE, fallback};

#[tokio::test]
async fn the_wait_for_a_connection_and_all_fallbacks_share_one_budget() {
    let harness = GatewayHarness::new().await;
    let spare = harness.sim.add_bank(BankConfig::new("spare")).await.unwrap();
    harness.connect_as("spare", "polygon", &spare, |_| ());
    let banks = [&harness.fmp, &harness.polygon, &spare];
    for bank in banks {
        bank.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    }
    // The connection runs after 1.5 s of the 4 s.
    let (clock, began) = (Clock::system(), Clock::system().mono());
    let path = format!("/api/providers/treasury/{LATE}/quote?symbol=ACME&deadline_ms=4000");
    let late = async {
        clock.sleep_until(began + Duration::from_millis(1_500)).await;
        harness.connect_as(LATE, "fmp", &harness.fmp, |draft| {
            draft.fallback = vec![fallback("polygon"), fallback("spare")];
        });
    };
    let (said, ()) = tokio::join!(harness.get(&path), late);
    let took = clock.mono().since(began);
    assert_eq!((said.status, said.error()), (502, "provider_failed"), "{said:?}");
    let [first, second, third] = banks.map(|bank| {
        let arrivals = bank.arrivals().entries;
        assert_eq!(arrivals.len(), 1, "each was called once");
        Duration::from_nanos(arrivals[0].at_ns)
    });
    // 1.25 s, half of what was left, and 0.625 s, half of that; the rest is tolerance for a slow machine.
    let (of_first, of_second) = (second.saturating_sub(first), third.saturating_sub(second));
    assert!(of_first < Duration::from_millis(1_900), "{of_first:?}");
    assert!(of_second < Duration::from_millis(1_200), "{of_second:?}");
    assert!(took < Duration::from_millis(4_800), "{took:?}");
}

#[tokio::test]
async fn the_wait_for_a_connection_ends_at_the_callers_deadline() {
    let harness = GatewayHarness::new().await;
    let (clock, began) = (Clock::system(), Clock::system().mono());
    let said = harness.get(&format!("/api/providers/treasury/{LATE}/quote?symbol=ACME&deadline_ms=100")).await;
    assert_eq!((said.status, said.error()), (404, "connection_not_found"), "{said:?}");
    let took = clock.mono().since(began);
    assert!(took < Duration::from_millis(1_500), "not the default of two seconds: {took:?}");
}
