//! The consumer of the guide, as it is printed there, in the language of most consumers.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use busbar::testbed::rabbitmq::RabbitBroker;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

/// The consumer whose queue the program of the guide reads.
pub(crate) const CONSUMER: &str = "ops";

/// The program of the page.
pub(crate) fn program() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide/events.md");
    let page = std::fs::read_to_string(page).expect("the page of the guide");
    let (_, after) = page.split_once("```python\n").expect("the page has a program");
    after.split_once("```").expect("the program ends").0.to_owned()
}

/// The interpreter that has pika; installed once.
fn interpreter() -> String {
    let found = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/hack/pika/install")).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

/// The program of the guide at work.
pub(crate) struct PikaConsumer {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl PikaConsumer {
    /// Starts it in `folder`.
    pub(crate) fn start(broker: &RabbitBroker, folder: &Path) -> Self {
        let file = folder.join("consumer.py");
        std::fs::write(&file, program()).unwrap();
        let mut process = tokio::process::Command::new(interpreter())
            .arg(&file)
            .env("AMQP_URL", broker.url())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Reads until it has printed this many events: each once, and in the order of its aggregate.
    pub(crate) async fn expect_all(mut self, events: u32, aggregates: u32) {
        let (mut seen, mut last) = (BTreeSet::new(), vec![None::<u64>; usize::try_from(aggregates).unwrap()]);
        while seen.len() < usize::try_from(events).unwrap() {
            let line = tokio::time::timeout(Duration::from_mins(1), self.lines.next_line()).await;
            let Ok(Ok(Some(line))) = line else { panic!("{} of {events} events came", seen.len()) };
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            let n = event["payload"]["n"].as_u64().unwrap();
            assert!(seen.insert(n), "event {n} came twice");
            let slot = usize::try_from(n % u64::from(aggregates)).unwrap();
            assert!(last[slot].is_none_or(|before| before < n), "event {n} of {} came late", event["aggregate"]);
            last[slot] = Some(n);
        }
        self.process.kill().await.unwrap();
    }
}
