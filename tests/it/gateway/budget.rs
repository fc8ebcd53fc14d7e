//! Whose time it is: the shares of a call with stand-ins, and what a wait takes from them.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::sim::{BankConfig, Behaviour, FailurePoint};

use super::world::{LATE, World, stand_in};

#[tokio::test]
async fn the_wait_for_a_connection_and_all_stand_ins_share_one_budget() {
    let world = World::new().await;
    let spare = world.sim.add_bank(BankConfig::new("spare")).await.unwrap();
    world.connect_as("spare", "polygon", &spare, |_| ());
    let banks = [&world.fmp, &world.polygon, &spare];
    for bank in banks {
        bank.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    }
    // Of four seconds one and a half are gone before the connection runs.
    let (clock, began) = (Clock::system(), Clock::system().mono());
    let path = format!("/api/providers/treasury/{LATE}/quote?symbol=ACME&deadline_ms=4000");
    let late = async {
        clock.sleep_until(began + Duration::from_millis(1_500)).await;
        world.connect_as(LATE, "fmp", &world.fmp, |draft| {
            draft.fallback = vec![stand_in("polygon"), stand_in("spare")];
        });
    };
    let (said, ()) = tokio::join!(world.get(&path), late);
    let took = clock.mono().since(began);
    assert_eq!((said.status, said.error()), (502, "provider_failed"), "{said:?}");
    let [first, second, third] = banks.map(|bank| {
        let arrivals = bank.arrivals().entries;
        assert_eq!(arrivals.len(), 1, "each was asked once");
        Duration::from_nanos(arrivals[0].at_ns)
    });
    // 1.25 s, half of what was left, and 0.625 s, half of that; what is beyond is the machine's.
    let (of_first, of_second) = (second.saturating_sub(first), third.saturating_sub(second));
    assert!(of_first < Duration::from_millis(1_900), "{of_first:?}");
    assert!(of_second < Duration::from_millis(1_200), "{of_second:?}");
    assert!(took < Duration::from_millis(4_800), "{took:?}");
}

#[tokio::test]
async fn a_connection_that_does_not_run_is_waited_for_no_longer_than_the_caller_would() {
    let world = World::new().await;
    let (clock, began) = (Clock::system(), Clock::system().mono());
    let said = world.get(&format!("/api/providers/treasury/{LATE}/quote?symbol=ACME&deadline_ms=100")).await;
    assert_eq!((said.status, said.error()), (404, "connection_not_found"), "{said:?}");
    let took = clock.mono().since(began);
    assert!(took < Duration::from_millis(1_500), "not the two seconds that others wait: {took:?}");
}
