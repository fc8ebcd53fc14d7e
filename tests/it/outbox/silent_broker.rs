//! A broker that answers nothing.

use busbar::testbed::rabbitmq::RabbitBroker;

use super::env::RunningRelay;
use crate::kit::events::{add_consumer, append, drain, faults, ledger, pending, topology};
use crate::kit::wait::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_for_no_broker_that_answers_nothing() {
    let broker = RabbitBroker::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&format!("sqlite:{}", folder.path().join("ledger.db").display())).await;
    add_consumer(&ledger, "ops").await;
    let running = RunningRelay::start(&ledger, &broker);
    append(&ledger, 0, 10, 2).await;
    eventually("the first events are published", async || pending(&ledger).await == 0).await;
    broker.pause().unwrap();
    append(&ledger, 10, 60, 2).await;
    assert_eq!(pending(&ledger).await, 50, "a broker that answers nothing delays no write, and loses nothing");
    broker.resume().unwrap();
    eventually("all are published", async || pending(&ledger).await == 0).await;
    running.end().await;
    let messages = drain(&broker, &topology().queue("ops")).await;
    assert_eq!(faults(&messages, 60, 2), Vec::<String>::new());
}
