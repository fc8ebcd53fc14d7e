//! Ten thousand webhooks at once over HTTP, on a new SQLite ledger with `synchronous=FULL`: how long each takes to be
//! answered, and the memory that the burst leaves.
//!
//! The gateway is a process of its own, as for decisions ([`route_http`](crate::route_http)); this program sends.

use std::sync::Arc;

use busbar::clock::Clock;
use busbar::domain::key::ObjectKey;
use busbar::gateway::webhooks::inbox::WebhookInbox;
use busbar::gateway::webhooks::rule::{RuleUnavailable, WebhookRule, WebhookRules};
use busbar::gateway::webhooks::webhook_inbox;
use busbar::ledger::Ledger;
use busbar::profile::WebhookScheme;
use busbar::tasks::TaskGroup;
use busbar::testbed::control_plane::RunDir;
use futures::future::BoxFuture;
use hmac::{Hmac, Mac as _};
use secrecy::SecretSlice;
use sha2::Sha512;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Figures;
use crate::load;
use crate::machine::{self, memory_mib};
use crate::route_http::{GATEWAY, Subject};
use crate::stats::Sample;

const ROUNDS: usize = 5;
const WEBHOOKS: u64 = 10_000;
/// Webhooks in flight, each on a connection of its own.
const CALLERS: usize = 256;
const SECRET: &[u8] = b"bench";
const HEADER: &str = "x-signature";
const BODY: &str = r#"{"event":"account.updated","data":{"account":"0123456789"}}"#;

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let run = Arc::new(RunDir::create("busbar-bench-").expect("a folder"));
    println!("machine: {}", machine::describe());
    runtime.block_on(measure(figures, &run));
}

async fn measure(figures: &mut Figures, run: &Arc<RunDir>) {
    let mut gateway = Subject::start(run, "webhook-gateway", GATEWAY, &run.path().join("webhooks.db")).await;
    let mut hmac = Hmac::<Sha512>::new_from_slice(SECRET).expect("a key");
    hmac.update(BODY.as_bytes());
    let signature = hex::encode(hmac.finalize().into_bytes());
    let request = format!(
        "POST /webhooks/bench/mono HTTP/1.1\r\nhost: bench\r\n{HEADER}: {signature}\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let burst = async || load::burst(gateway.address, CALLERS, request.as_bytes(), b"HTTP/1.1 202", WEBHOOKS).await;
    let resident = || memory_mib(gateway.process.pid(), "VmRSS");
    let (mut tails, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        tails.push(Sample::new(burst().await).percentile(99));
        memory.push(resident());
    }
    // The first burst is a warm-up: threads and buffers are made in it.
    println!(
        "{WEBHOOKS} webhooks, {CALLERS} at a time; p99 in ms: {tails:.1?}; resident memory after each, MiB: {memory:.0?}"
    );
    figures.figure("webhook.accept_p99_ms", format_args!("{:.1}", Sample::new(tails.split_off(1)).median()), "ms");
    let growth = memory[ROUNDS] / memory[0];
    figures.figure("webhook.rss_growth", format_args!("{growth:.2}"), "ratio");
    gateway.process.kill();
}

/// An inbox over `ledger` that accepts the webhooks of this program.
pub(crate) fn inbox(ledger: &Arc<dyn Ledger>, clock: Clock, tasks: &TaskGroup) -> Arc<WebhookInbox> {
    let (inbox, writer) = webhook_inbox(Arc::clone(ledger), clock, Arc::new(OneRule), Arc::new(Notify::new()));
    tasks.spawn("webhook inbox", writer.run(CancellationToken::new()));
    Arc::new(inbox)
}

struct OneRule;

impl WebhookRules for OneRule {
    fn rule<'a>(&'a self, _: &'a ObjectKey, _: bool) -> BoxFuture<'a, Result<Option<WebhookRule>, RuleUnavailable>> {
        Box::pin(async {
            Ok(Some(WebhookRule {
                header: HEADER.to_owned(),
                scheme: WebhookScheme::HmacSha512,
                secrets: vec![SecretSlice::from(SECRET.to_vec())],
                event: None,
                pokes: Vec::new(),
                time: None,
            }))
        })
    }

    fn verified(&self, _: &ObjectKey) {}
}
