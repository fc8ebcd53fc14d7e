//! What providers do wrong, over real sockets: bodies that are cut, stall or never end (sync.md §17, 14 to 16). Each
//! variant, and what the call path makes of it: another try, or an end in our own words. For limits see `call_waits`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::{CallClass, EffectiveState, OnUnhealthy};
use busbar::domain::time::Mono;
use busbar::profile::ResponseClass;
use busbar::provider::call::{CacheMode, CallError, ConnectError, Request, Response};
use busbar::provider::connection::Connection;
use busbar::settings::{CachePolicy, Draft};
use busbar::testbed::sim::{BankConfig, Behaviour, Garbage, Script, ScriptStep};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::call_path::{apply, bank, draft, eventually, registry};

/// What a peer does next on a connection; at the end it closes.
#[derive(Clone)]
pub(crate) enum Do {
    Say(Vec<u8>),
    Pause(Duration),
    /// Says nothing more, and stays.
    Hang,
    Reset,
    /// Sends zeros until nobody takes them.
    Flood,
}

fn say(text: impl Into<String>) -> Do {
    Do::Say(text.into().into_bytes())
}

/// A whole answer.
pub(crate) fn answers(status: &str, headers: &str, body: &str) -> Vec<Do> {
    let length = body.len();
    vec![say(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"))]
}

pub(crate) fn well() -> Vec<Do> {
    answers("200 OK", "content-type: application/json\r\n", r#"{"ok":true}"#)
}

/// A provider of few words: each connection is one request and the next of its turns, the last one for ever.
pub(crate) struct Peer {
    pub(crate) url: String,
    came: Arc<Mutex<Vec<Mono>>>,
    sent: Arc<Mutex<u64>>,
}

impl Peer {
    pub(crate) async fn new(turns: Vec<Vec<Do>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (clock, came, sent) = (Clock::system(), Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let peer = Self { url, came: Arc::clone(&came), sent: Arc::clone(&sent) };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let turn = {
                    let mut came = came.lock().unwrap();
                    came.push(clock.mono());
                    turns.get(came.len() - 1).or(turns.last()).cloned().unwrap()
                };
                tokio::spawn(play(socket, turn, Arc::clone(&sent)));
            }
        });
        peer
    }

    pub(crate) fn asked(&self) -> usize {
        self.came.lock().unwrap().len()
    }

    /// Between the first two requests.
    pub(crate) fn gap(&self) -> Duration {
        let came = self.came.lock().unwrap();
        came[1].since(came[0])
    }

    /// A connection to it that is quick to try again and whose breaker stays out of the way.
    pub(crate) fn live(&self, change: impl FnOnce(&mut Draft)) -> Arc<Connection> {
        let mut draft = quick(draft(self.url.clone()));
        change(&mut draft);
        apply(&registry().0, draft)
    }
}

pub(crate) fn quick(mut draft: Draft) -> Draft {
    draft.retry.retries = 3;
    draft.retry.base = Duration::from_millis(20);
    draft.retry.min_pacing = Duration::ZERO;
    draft.breaker.consecutive_failures = 0;
    draft.breaker.unhealthy = OnUnhealthy::Ignore;
    draft.timeouts.read = Some(Duration::from_millis(150));
    draft
}

async fn play(mut socket: TcpStream, turn: Vec<Do>, sent: Arc<Mutex<u64>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    for one in turn {
        match one {
            Do::Say(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Do::Pause(time) => tokio::time::sleep(time).await,
            Do::Hang => {
                let _until_the_client_goes = socket.read_u8().await;
                return;
            }
            Do::Reset => {
                let _ = socket.set_zero_linger();
                return;
            }
            Do::Flood => {
                while let Ok(n) = socket.write(&[b'0'; 16 * 1024]).await {
                    *sent.lock().unwrap() += n as u64;
                }
                return;
            }
        }
    }
}

pub(crate) async fn get(live: &Connection) -> Result<Response, CallError> {
    live.call(Request { expect_json: true, ..Request::get("test", "/accounts") }).await
}

const RESET: CallError = CallError::Connect(ConnectError::Reset);

// 14: 503 with a page of HTML.

#[tokio::test]
async fn a_503_with_a_page_is_tried_again_and_its_text_goes_to_the_caller_only() {
    let page = "<html><body>canary: we are down for maintenance</body></html>";
    let down = || answers("503 Service Unavailable", "content-type: text/html\r\n", page);
    let peer = Peer::new(vec![down(), down(), well()]).await;
    let answer = get(&peer.live(|_| {})).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 3));
    let peer = Peer::new(vec![down()]).await;
    let live = peer.live(|draft| draft.breaker.consecutive_failures = 1);
    let answer = get(&live).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.classification.class, answer.meta.tries),
        (503, ResponseClass::Retry, 4)
    );
    assert_eq!(answer.body, page);
    let printed = format!("{answer:?} {:?}", live.snapshot());
    assert!(!printed.contains("canary"), "{printed}");
    assert_eq!(live.snapshot().effective, EffectiveState::Open, "one outcome, after four tries");
}

#[tokio::test]
async fn a_page_with_200_instead_of_json_is_tried_again_if_json_was_asked_for() {
    let page = || answers("200 OK", "content-type: text/html\r\n", "<html>log in</html>");
    let peer = Peer::new(vec![page(), well()]).await;
    let live = peer.live(|_| {});
    let plain = live.call(Request::get("test", "/")).await.unwrap();
    assert_eq!((plain.classification.class, plain.meta.tries), (ResponseClass::Ok, 1), "whatever comes is an answer");
    let peer = Peer::new(vec![page(), well()]).await;
    let answer = get(&peer.live(|_| {})).await.unwrap();
    assert_eq!((&*answer.body, answer.meta.tries), (&b"{\"ok\":true}"[..], 2));
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let peer = Peer::new(vec![answers("200 OK", "", &deep)]).await;
    let answer = get(&peer.live(|_| {})).await.unwrap();
    assert_eq!((answer.classification.class, answer.meta.tries), (ResponseClass::Retry, 4), "deeper than is sane");
}

// 15: reset mid-body, a body shorter and longer than promised, chunks that end or stall, dribble, gzip cut short.

/// Ways to spoil an answer, and what a call of one try says.
fn spoiled() -> Vec<(&'static str, Vec<Do>, CallError)> {
    let head = |headers: &str| say(format!("HTTP/1.1 200 OK\r\n{headers}connection: close\r\n\r\n"));
    let chunked = || head("transfer-encoding: chunked\r\n");
    let dribble = std::iter::repeat_n([say("x"), Do::Pause(Duration::from_millis(50))], 40).flatten();
    // `{"ok":true}`, and its first bytes as if they were all. No encoding is asked for, and none is undone: a small body
    // could become an endless one.
    let gzip = GZIP.to_vec();
    let cut = gzip[..12].to_vec();
    let encoded = |bytes: Vec<u8>| {
        let length = bytes.len();
        vec![head(&format!("content-encoding: gzip\r\ncontent-length: {length}\r\n")), Do::Say(bytes)]
    };
    vec![
        ("reset before the head", vec![Do::Reset], RESET),
        ("closed before the head", vec![], RESET),
        ("reset in the body", vec![head("content-length: 11\r\n"), say("{\"ok"), Do::Pause(MOMENT), Do::Reset], RESET),
        ("shorter than promised", vec![head("content-length: 11\r\n"), say("{\"ok")], RESET),
        ("chunks without an end", vec![chunked(), say("4\r\n{\"ok\r\n")], RESET),
        ("a chunk that lies", vec![chunked(), say("zz\r\n{\"ok\r\n")], CallError::Malformed),
        ("a chunk that stalls", vec![chunked(), say("4\r\n{\"ok\r\n"), Do::Hang], CallError::Timeout),
        ("a body that stalls", vec![head("content-length: 11\r\n"), say("{\"ok"), Do::Hang], CallError::Timeout),
        ("no head", vec![Do::Hang], CallError::Timeout),
        ("dribble", std::iter::once(head("content-length: 40\r\n")).chain(dribble).collect(), CallError::Timeout),
        ("gzip", encoded(gzip), CallError::Malformed),
        ("gzip cut short", encoded(cut), CallError::Malformed),
        ("not HTTP", vec![say("SSH-2.0-OpenSSH_9.9\r\n\r\n")], CallError::Malformed),
    ]
}

/// `{"ok":true}`, compressed.
const GZIP: [u8; 31] = [
    0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0xab, 0x56, 0xca, 0xcf, 0x56, 0xb2, 0x2a, 0x29, 0x2a, 0x4d, 0xad, 5, 0, 0x90,
    0x5f, 0xd4, 0xa7, 0x0b, 0, 0, 0,
];
const MOMENT: Duration = Duration::from_millis(20);
/// Less than the time of a try that must not be what ends it.
const SOON: Duration = Duration::from_secs(15);

/// The time of a whole try: of use only where nothing else ends it. What stalls in its body ends by the time between two
/// pieces, long before.
fn try_time(what: &str) -> Duration {
    let only_so = matches!(what, "no head" | "dribble");
    if only_so { Duration::from_millis(800) } else { SOON + Duration::from_secs(5) }
}

#[tokio::test]
async fn a_spoiled_answer_is_told_in_our_words_and_soon() {
    for (what, turn, want) in spoiled() {
        let peer = Peer::new(vec![turn]).await;
        let live = peer.live(|draft| {
            draft.retry.retries = 0;
            draft.timeouts.request = try_time(what);
        });
        let end = tokio::time::timeout(SOON, get(&live)).await;
        assert_eq!(
            end.unwrap_or_else(|_| panic!("{what}: only the whole try's time ends it")).unwrap_err(),
            want,
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_spoiled_answer_is_tried_again_and_the_second_one_counts() {
    for (what, turn, _) in spoiled() {
        let peer = Peer::new(vec![turn, well()]).await;
        let live = peer.live(|draft| draft.timeouts.request = try_time(what));
        let answer = get(&live).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2), "{what}");
        // And a payment is not.
        let peer = Peer::new(vec![spoiled_like(what), well()]).await;
        let live = peer.live(|draft| draft.timeouts.request = try_time(what));
        let paid = live.call(Request { class: CallClass::Money, ..Request::get("pay", "/") }).await;
        assert!(paid.is_err(), "{what}");
        assert_eq!(peer.asked(), 1, "{what}");
    }
}

fn spoiled_like(what: &str) -> Vec<Do> {
    spoiled().into_iter().find(|(name, ..)| *name == what).unwrap().1
}

#[tokio::test]
async fn a_body_longer_than_promised_is_cut_where_it_was_promised_to_end() {
    let turn = vec![say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n{\"ok\":true}")];
    let peer = Peer::new(vec![turn, well()]).await;
    let answer = get(&peer.live(|_| {})).await.unwrap();
    assert_eq!((&*answer.body, answer.meta.tries), (&b"{\"ok\":true}"[..], 2), "what is left is no JSON");
}

#[tokio::test]
async fn the_time_of_a_read_is_that_of_a_piece_and_not_of_the_body() {
    let head = say("HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n");
    let pieces =
        ["{", "\"o", "k\"", ":", "tr", "ue", "}"].map(|piece| [Do::Pause(Duration::from_millis(300)), say(piece)]);
    let turn = std::iter::once(head).chain(pieces.into_iter().flatten()).collect();
    let peer = Peer::new(vec![turn]).await;
    // Two seconds in all.
    let live = peer.live(|draft| draft.timeouts.read = Some(Duration::from_millis(1_500)));
    let answer = get(&live).await.unwrap();
    assert_eq!((&*answer.body, answer.meta.tries), (&b"{\"ok\":true}"[..], 1));
}

#[tokio::test]
async fn the_head_has_a_time_of_its_own() {
    let slow = |after| vec![vec![Do::Pause(after)].into_iter().chain(well()).collect::<Vec<_>>()];
    let change = |draft: &mut Draft| {
        draft.retry.retries = 0;
        draft.timeouts.first_byte = Some(Duration::from_millis(200));
    };
    let peer = Peer::new(slow(Duration::from_secs(20))).await;
    assert_eq!(get(&peer.live(change)).await.unwrap_err(), CallError::Timeout);
    let peer = Peer::new(slow(Duration::from_millis(1))).await;
    assert_eq!(get(&peer.live(change)).await.unwrap().status, 200);
}

#[tokio::test]
async fn simulated_banks_that_stall_dribble_and_break_are_got_over() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let live = apply(&registry().0, quick(draft(bank.base_url())));
    for trouble in [
        Behaviour::Stall(busbar::testbed::sim::FailurePoint::AfterHead),
        Behaviour::Reset(busbar::testbed::sim::FailurePoint::BeforeHead),
        Behaviour::Reset(busbar::testbed::sim::FailurePoint::AfterHead),
        Behaviour::Truncate { percent: 50 },
        Behaviour::Garbage(Garbage::Html),
        Behaviour::Garbage(Garbage::InvalidJson),
        Behaviour::status(502),
    ] {
        let label = trouble.label();
        let steps = [ScriptStep::from(trouble).times(1), ScriptStep::from(Behaviour::Healthy)];
        bank.set_script(Script::sequence(steps)).await.unwrap();
        let answer = live.call(Request { expect_json: true, ..Request::get("test", "/health") }).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2), "{label}");
    }
}

// 16: a page of 100 MB.

#[tokio::test]
async fn a_page_of_a_hundred_megabytes_is_not_read_and_not_asked_for_again() {
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n";
    let endless = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    // The second is read up to the cap of 16 MiB; what the sockets and their buffers hold comes on top.
    for (head, most) in [(announced, 24), (endless, 48)] {
        let peer = Peer::new(vec![vec![say(head), Do::Flood]]).await;
        let live = peer.live(|draft| draft.timeouts.read = None);
        let limit = busbar::provider::call::MAX_BODY;
        assert_eq!(get(&live).await.unwrap_err(), CallError::TooLarge { limit });
        assert_eq!(peer.asked(), 1, "it would be as large again");
        assert!(*peer.sent.lock().unwrap() <= most * 1024 * 1024, "{}", peer.sent.lock().unwrap());
    }
}

// The cache, end to end.

#[tokio::test]
async fn while_the_circuit_is_open_a_stale_answer_is_given_within_its_time_and_then_the_error() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let mut draft = quick(draft(bank.base_url()));
    draft.retry.retries = 0;
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_mins(5);
    draft.cache = Some(CachePolicy { ttl: Duration::from_millis(50), max_stale: Duration::from_millis(1500) });
    let live = apply(&registry().0, draft);
    let quote = || Request { cache: CacheMode::FreshOrStale, ..Request::get("quote", "/health") };
    let first = live.call(quote()).await.unwrap();
    assert!(!first.meta.cached);
    let fresh = live.call(quote()).await.unwrap();
    assert!(fresh.meta.cached && !fresh.meta.stale && fresh.body == first.body);
    bank.set_script(Behaviour::status(503)).await.unwrap();
    eventually("the circuit opens", async || {
        let _ = live.call(Request::get("other", "/health")).await;
        live.snapshot().effective == EffectiveState::Open
    })
    .await;
    let before = bank.counters().requests;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let stale = live.call(quote()).await.unwrap();
    assert!(stale.meta.cached && stale.meta.stale && stale.body == first.body, "{:?}", stale.meta);
    assert!(stale.meta.age <= Duration::from_millis(1500), "{:?}", stale.meta);
    eventually("its time is over", async || matches!(live.call(quote()).await, Err(CallError::CircuitOpen { .. })))
        .await;
    assert_eq!(bank.counters().requests, before, "no request was built");
}
