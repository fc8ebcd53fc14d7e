//! What connections that hang cost the probes of others.

use super::*;

#[tokio::test]
async fn connections_that_hang_do_not_delay_the_probes_of_others() {
    let time = ManualTime::start();
    let interval = Duration::from_secs(2);
    let (_sim, hung) = plain_bank().await;
    hung.set_script(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    let (_other, good) = plain_bank().await;
    let env = ProbeEnv::with(|driver| driver.with_concurrency(8));
    for n in 0..24 {
        let name = format!("hung-{n:02}");
        let mut draft = probed_every(hung.labelled_url(&name), interval);
        draft.health_check.timeout = interval;
        env.apply_as(&name, draft);
    }
    let connection = env.apply_as("good", probed_every(good.base_url(), interval));
    // At first it is not known which of them hang.
    for _ in 0..100 {
        time.advance(Duration::from_millis(100)).await;
    }
    let before = good.counters().requests;
    for _ in 0..200 {
        time.advance(Duration::from_millis(100)).await;
    }
    let probes = good.counters().requests - before;
    assert!((9..=11).contains(&probes), "{probes} in twenty seconds, every two seconds");
    assert!(connection.last_probe().unwrap().success);
}
