//! Events on their way to a real RabbitMQ on the same machine: how many a second are confirmed, how late they come, and
//! the memory of a relay with a million of them pending.
//!
//! The relay of the first and the last figure is a process of its own (this program again, with [`FLAG`]) over a SQLite
//! ledger with `synchronous=FULL`; that of the second shares its process with what stores the events, as in the operator.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use busbar::clock::Clock;
use busbar::domain::event::{EventType, OutboxEvent};
use busbar::ledger::delivery::{NewConsumer, NewKey};
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use busbar::metrics::Metrics;
use busbar::tasks::TaskGroup;
use busbar::testbed::rabbitmq::RabbitBroker;
use busbar::work::outbox::{AmqpBroker, BrokerCredentials, OutboxRelay, QueueType, RelayDeps, TopologyOptions};
use futures::StreamExt as _;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Figures;
use crate::machine::memory_mib;

/// Marks a run of this program as the relay; the ledger's file, and the broker with the number of confirms, follow.
pub(crate) const FLAG: &str = "--outbox-relay";

const CONSUMERS: [&str; 3] = ["ops", "ledger-team", "audit"];
/// Events of one transaction.
const BATCH: u32 = 250;
const AGGREGATES: u32 = 1_000;
/// Events of the first figure; each goes to three consumers.
const THROUGHPUT: u32 = 60_000;
/// Events of the second one, at this rate.
const PACED: u32 = 40_000;
const PACED_BATCH: u32 = 20;
const PACE: Duration = Duration::from_millis(10);
/// Pending events of the third one, and how many of them are published while the memory is measured.
const PENDING: u32 = 1_000_000;
const OF_PENDING: u32 = 100_000;
/// How long a relay may take.
const LIMIT: Duration = Duration::from_mins(5);

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (confirmed, published) = runtime.block_on(throughput());
    println!("{published} confirms of {THROUGHPUT} events for {} consumers", CONSUMERS.len());
    figures.figure("outbox.confirmed_per_s", format_args!("{confirmed:.0}"), "1/s");
    let lag = runtime.block_on(lag_p99());
    figures.figure("outbox.lag_p99_ms", format_args!("{:.1}", lag.as_secs_f64() * 1e3), "ms");
    let rss = runtime.block_on(memory());
    figures.figure("outbox.rss_1m_pending_mib", format_args!("{rss:.0}"), "MiB");
}

fn topology() -> TopologyOptions {
    TopologyOptions {
        domain: "bank".to_owned(),
        message_ttl: Duration::from_hours(24),
        max_length: 2 * PENDING,
        queue_type: QueueType::Quorum,
    }
}

async fn open(file: PathBuf) -> Arc<dyn Ledger> {
    ledger::open(&LedgerUrl::Sqlite(file), OpenMode::Migrate).await.expect("a ledger")
}

async fn add_consumer(ledger: &Arc<dyn Ledger>, name: &str) {
    let consumer = NewConsumer {
        name: name.to_owned(),
        namespaces: None,
        event_types: Vec::new(),
        created_by: "bench".to_owned(),
        key: NewKey { key_id: format!("id{name}"), hash: "not a hash".to_owned() },
        history_from: None,
        events: Vec::new(),
    };
    ledger.create_consumer(&consumer, Clock::system().now().wall).await.expect("a consumer");
}

/// Stores events `from..to` in one transaction. Their size is that of a page's event.
async fn append(ledger: &Arc<dyn Ledger>, from: u32, to: u32) {
    let events: Vec<OutboxEvent> = (from..to)
        .map(|n| OutboxEvent {
            id: Uuid::from_u128(u128::from(n) + 1),
            event_type: EventType::TransactionsIngested,
            namespace: "team".to_owned(),
            aggregate: format!("syncjob/team/job{}", n % AGGREGATES),
            payload: format!("{{\"n\":{n},\"records\":100,\"partition\":\"{:0>200}\"}}", n % AGGREGATES),
            correlation_id: Uuid::from_u128(7),
        })
        .collect();
    ledger.append_events(&events, Clock::system().now().wall).await.expect("a commit");
}

async fn fill(ledger: &Arc<dyn Ledger>, events: u32) {
    for batch in 0..events / BATCH {
        append(ledger, batch * BATCH, (batch + 1) * BATCH).await;
    }
}

fn relay(ledger: &Arc<dyn Ledger>, url: &str) -> (OutboxRelay, Metrics) {
    let metrics = Metrics::new();
    let broker = AmqpBroker::new(url.parse().expect("a URL"), BrokerCredentials::default(), "busbar-bench");
    let deps = RelayDeps {
        broker: Arc::new(broker),
        clock: Clock::system(),
        host: "bench".to_owned(),
        ledger: Arc::clone(ledger),
        tasks: TaskGroup::default(),
        topology: topology(),
    };
    (OutboxRelay::new(deps, "bench", &metrics).expect("a relay"), metrics)
}

/// Runs a relay over the ledger until it has this many confirms; returns its confirms, seconds and memory.
async fn relay_process(file: &Path, broker: &RabbitBroker, confirms: u64) -> [f64; 3] {
    let output = tokio::process::Command::new(std::env::current_exe().expect("the path of this program"))
        .args([FLAG.as_ref(), file.as_os_str(), format!("{}|{confirms}", broker.url()).as_ref()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the relay runs");
    assert!(output.status.success(), "the relay failed: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let values: Vec<f64> = text.split_whitespace().filter_map(|value| value.parse().ok()).collect();
    let [confirmed, seconds, memory] = values[..] else { panic!("three numbers, not {text:?}") };
    [confirmed, seconds, memory]
}

/// A relay whose broker is down, with consumers for whom events are stored.
pub(crate) struct DownRelay {
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl DownRelay {
    pub(crate) async fn start(ledger: &Arc<dyn Ledger>) -> Self {
        for consumer in CONSUMERS {
            add_consumer(ledger, consumer).await;
        }
        // A port that was free a moment ago: connections are refused.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let (relay, _metrics) = relay(ledger, &format!("amqp://guest@{port}/"));
        let stop = CancellationToken::new();
        let running = tokio::spawn(relay.run(stop.clone()));
        Self { stop, running }
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.running.await.expect("the relay ends");
    }
}

async fn throughput() -> (f64, f64) {
    let (broker, folder) = (RabbitBroker::start().await.expect("a broker"), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("ledger.db");
    let ledger = open(file.clone()).await;
    for consumer in CONSUMERS {
        add_consumer(&ledger, consumer).await;
    }
    fill(&ledger, THROUGHPUT).await;
    ledger.close().await;
    let [confirmed, seconds, _] = relay_process(&file, &broker, u64::from(THROUGHPUT) * 3).await;
    (confirmed / seconds, confirmed)
}

async fn memory() -> f64 {
    let (broker, folder) = (RabbitBroker::start().await.expect("a broker"), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("ledger.db");
    let ledger = open(file.clone()).await;
    add_consumer(&ledger, CONSUMERS[0]).await;
    fill(&ledger, PENDING).await;
    ledger.close().await;
    let [_, _, memory] = relay_process(&file, &broker, u64::from(OF_PENDING)).await;
    memory
}

/// The relay's process: prints confirms, seconds since the first one, and the peak memory.
pub(crate) fn serve(file: &Path, argument: &Path) -> ExitCode {
    let argument = argument.to_string_lossy();
    let Some((url, Ok(wanted))) = argument.split_once('|').map(|(url, wanted)| (url, wanted.parse::<u64>())) else {
        eprintln!("{FLAG} FILE URL|CONFIRMS");
        return ExitCode::FAILURE;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (confirmed, seconds) = runtime.block_on(relay_until(file, url, wanted));
    println!("{confirmed} {seconds} {}", memory_mib(std::process::id(), "VmHWM"));
    ExitCode::SUCCESS
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
async fn relay_until(file: &Path, url: &str, wanted: u64) -> (u64, f64) {
    let ledger = open(file.to_owned()).await;
    let (relay, metrics) = relay(&ledger, url);
    let stop = CancellationToken::new();
    let running = tokio::spawn(relay.run(stop.clone()));
    let began = Instant::now();
    let mut first: Option<(Instant, u64)> = None;
    let (confirmed, seconds) = loop {
        let confirmed = published(&metrics);
        if first.is_none() && confirmed > 0 {
            first = Some((Instant::now(), confirmed));
        }
        if confirmed >= wanted || began.elapsed() > LIMIT {
            let (since, before) = first.unwrap_or((began, 0));
            break (confirmed - before, since.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    stop.cancel();
    running.await.expect("the relay ends");
    ledger.close().await;
    (confirmed, seconds)
}

/// How many events were confirmed.
fn published(metrics: &Metrics) -> u64 {
    let text = metrics.render().expect("metrics");
    let counts = text.lines().filter(|line| line.starts_with("busbar_outbox_published_total{"));
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// How late 99 of 100 events reach a consumer, from the start of their commit on.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
async fn lag_p99() -> Duration {
    let (broker, folder) = (RabbitBroker::start().await.expect("a broker"), tempfile::tempdir().expect("a folder"));
    let ledger = open(folder.path().join("ledger.db")).await;
    for consumer in CONSUMERS {
        add_consumer(&ledger, consumer).await;
    }
    let (relay, _metrics) = relay(&ledger, &broker.url());
    let stop = CancellationToken::new();
    let running = tokio::spawn(relay.run(stop.clone()));
    // The first events make the queues, and are not measured.
    append(&ledger, PACED, PACED + 1).await;
    let mut ready = false;
    for _ in 0..600 {
        ready = ledger.delivery_usage().await.expect("the usage").iter().all(|usage| usage.pending == 0);
        if ready {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(ready, "the first event is not published");

    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let queue = topology().queue(CONSUMERS[0]);
    let mut consumer = channel
        .basic_consume(queue.as_str().into(), "bench".into(), options, FieldTable::default())
        .await
        .expect("a consumer");
    let receiving = tokio::spawn(async move {
        let mut arrived = vec![None; PACED as usize];
        let mut left = PACED;
        while left > 0 {
            let next = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await;
            let Ok(Some(Ok(delivery))) = next else { panic!("{left} events did not come") };
            let body: serde_json::Value = serde_json::from_slice(&delivery.data).expect("JSON");
            let n = body["payload"]["n"].as_u64().and_then(|n| usize::try_from(n).ok()).expect("its number");
            if let Some(slot) = arrived.get_mut(n)
                && slot.is_none()
            {
                *slot = Some(Instant::now());
                left -= 1;
            }
        }
        arrived
    });
    let (mut stored, mut next) = (Vec::with_capacity(PACED as usize), Instant::now());
    for batch in 0..PACED / PACED_BATCH {
        stored.extend(std::iter::repeat_n(Instant::now(), PACED_BATCH as usize));
        append(&ledger, batch * PACED_BATCH, (batch + 1) * PACED_BATCH).await;
        next += PACE;
        tokio::time::sleep_until(next.into()).await;
    }
    let arrived = receiving.await.expect("the consumer ends");
    let mut lags: Vec<Duration> =
        arrived.into_iter().zip(stored).filter_map(|(at, since)| Some(at?.saturating_duration_since(since))).collect();
    lags.sort();
    stop.cancel();
    running.await.expect("the relay ends");
    ledger.close().await;
    lags[lags.len() * 99 / 100]
}
