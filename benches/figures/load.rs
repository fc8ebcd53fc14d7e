//! A load generator: HTTP/1.1 over kept-alive connections, one request at a time on each, on one thread.
//!
//! It writes bytes that were prepared once and finds the end of an answer by its `content-length`, so that little of a
//! machine that it shares with the server is its own. What it uses is printed with the figures.
#![allow(clippy::disallowed_methods, reason = "throughput is counted over real time")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::machine;
use crate::stats::float;

/// Digits of the number that makes a request different from all others.
const DIGITS: usize = 12;
/// Marks where that number is in a request.
pub(crate) const NUMBER: &str = "000000000000";

/// A request whose number is filled in each time.
pub(crate) struct Template {
    bytes: Vec<u8>,
    number: usize,
}

impl Template {
    /// A POST of `body`, which contains [`NUMBER`] once, with a bearer token.
    pub(crate) fn post(path: &str, token: &str, body: &str) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let number = head.len() + body.find(NUMBER).expect("a place for the number");
        Self { bytes: format!("{head}{body}").into_bytes(), number }
    }

    fn fill(&self, number: u64, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.bytes);
        into[self.number..self.number + DIGITS].copy_from_slice(format!("{number:0DIGITS$}").as_bytes());
    }
}

/// What a run of the generator came to.
pub(crate) struct Driven {
    /// Answers with status 200.
    pub(crate) answered: u64,
    /// Answers with another status.
    pub(crate) refused: u64,
    /// How long it took.
    pub(crate) took: Duration,
    /// CPU seconds of the generator.
    pub(crate) cpu: f64,
}

impl Driven {
    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        float(usize::try_from(self.answered).unwrap_or(usize::MAX)) / self.took.as_secs_f64()
    }
}

/// Sends requests over `connections` connections for `time`; each takes the next number of `numbers`.
pub(crate) async fn drive(
    address: SocketAddr,
    connections: usize,
    template: &Template,
    numbers: &AtomicU64,
    time: Duration,
) -> Driven {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.expect("the server accepts");
        stream.set_nodelay(true).expect("no delay");
        streams.push(stream);
    }
    let (began, cpu) = (Instant::now(), machine::own_thread_cpu());
    let until = began + time;
    let ended =
        futures::future::join_all(streams.into_iter().map(|stream| one(stream, template, numbers, until))).await;
    let (answered, refused) = ended.into_iter().fold((0, 0), |(a, r), (answered, refused)| (a + answered, r + refused));
    Driven { answered, refused, took: began.elapsed(), cpu: machine::own_thread_cpu() - cpu }
}

async fn one(mut stream: TcpStream, template: &Template, numbers: &AtomicU64, until: Instant) -> (u64, u64) {
    let (mut request, mut answer) = (Vec::new(), vec![0; 32 << 10]);
    let (mut answered, mut refused) = (0, 0);
    while Instant::now() < until {
        template.fill(numbers.fetch_add(1, Ordering::Relaxed), &mut request);
        stream.write_all(&request).await.expect("the server reads");
        if read_answer(&mut stream, &mut answer).await.starts_with(b"HTTP/1.1 200") {
            answered += 1;
        } else {
            refused += 1;
        }
    }
    (answered, refused)
}

/// Sends the same request `total` times over `connections` connections, and checks that each answer begins with `answer`;
/// how long they took, in milliseconds.
pub(crate) async fn burst(
    address: SocketAddr,
    connections: usize,
    request: &[u8],
    answer: &[u8],
    total: u64,
) -> Vec<f64> {
    let left = AtomicU64::new(total);
    let one = async || {
        let mut stream = TcpStream::connect(address).await.expect("the server accepts");
        stream.set_nodelay(true).expect("no delay");
        let (mut buffer, mut times) = (vec![0; 32 << 10], Vec::new());
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let began = Instant::now();
            stream.write_all(request).await.expect("the server reads");
            let said = read_answer(&mut stream, &mut buffer).await;
            assert!(said.starts_with(answer), "{}", String::from_utf8_lossy(said));
            times.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        times
    };
    futures::future::join_all((0..connections).map(|_| one())).await.concat()
}

/// Sends one request over a connection of its own; the whole answer.
pub(crate) async fn once(address: SocketAddr, template: &Template, number: u64) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the server accepts");
    let (mut request, mut answer) = (Vec::new(), vec![0; 32 << 10]);
    template.fill(number, &mut request);
    stream.write_all(&request).await.expect("the server reads");
    read_answer(&mut stream, &mut answer).await.to_vec()
}

/// Reads one answer into `buffer`, which is large enough for every answer of a bench.
async fn read_answer<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> &'a [u8] {
    let (mut filled, mut whole) = (0, usize::MAX);
    while filled < whole {
        let read = stream.read(&mut buffer[filled..]).await.expect("the server answers");
        assert!(read > 0, "the server closed a kept-alive connection, or the answer is too long for the bench");
        filled += read;
        if whole == usize::MAX
            && let Some(head) = head_len(&buffer[..filled])
        {
            whole = head + content_length(&buffer[..head]);
        }
    }
    &buffer[..filled]
}

/// The length of the head with its empty line.
fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of `content-length`, as hyper writes it.
fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length: ";
    let at = head.windows(NAME.len()).position(|name| name.eq_ignore_ascii_case(NAME)).expect("a content-length");
    let digits = head[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |value, digit| value * 10 + usize::from(digit - b'0'))
}

/// The body of an answer.
pub(crate) fn body(answer: &[u8]) -> &[u8] {
    &answer[head_len(answer).expect("a head")..]
}
