//! Responses that are generated from a seed: status line, headers, framing and body, each valid or not, sent in pieces.
//!
//! Each part says whether a client may use it, so that a response has a verdict of its own, from what was generated and not
//! from what a parser makes of it.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a client must make of a response.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verdict {
    /// It is valid, with an expected status and the whole body.
    Usable,
    /// Clients differ, and may.
    Either,
    /// It must not be used.
    Unusable,
}

use Verdict::{Either, Unusable, Usable};

/// A generated response.
#[derive(Clone, Debug)]
pub(crate) struct GeneratedResponse {
    /// The bytes, in the pieces in which they are sent.
    pub(crate) pieces: Vec<Vec<u8>>,
    /// What a client must make of it.
    pub(crate) verdict: Verdict,
    /// What it consists of.
    pub(crate) label: String,
}

/// A generator of numbers (splitmix64): the same seed, the same responses.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    /// One of `all`; the first half of the time the first of them, so that whole responses are often usable.
    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        if self.below(2) == 0 { &all[0] } else { &all[self.below(all.len())] }
    }
}

const STATUS_LINES: &[(&str, Verdict)] = &[
    ("HTTP/1.1 200 OK", Usable),
    ("HTTP/1.1 201 Created", Usable),
    ("HTTP/1.1 200", Usable),
    ("HTTP/1.0 200 OK", Usable),
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", Usable),
    ("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK", Usable),
    ("HTTP/1.1 301 Moved", Unusable),
    ("HTTP/1.1 401 Unauthorized", Unusable),
    ("HTTP/1.1 404 Not Found", Unusable),
    ("HTTP/1.1 418 Teapot", Unusable),
    ("HTTP/1.1 500 Broken", Unusable),
    ("HTTP/1.1 599 Odd", Unusable),
    ("HTTP/1.1 99 Short", Unusable),
    ("HTTP/1.1 2000 Long", Unusable),
    ("HTTP/1.1 20x OK", Unusable),
    ("HTTP/9.9 200 OK", Unusable),
    ("SSH-2.0-OpenSSH_9.6", Unusable),
    ("220 mail.example ESMTP", Unusable),
    ("\0\u{1}\u{2}", Unusable),
    ("", Unusable),
];

fn header_sets(random: &mut Random) -> (String, Verdict, &'static str) {
    let json = "content-type: application/json\r\n";
    let many = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<Vec<_>>().concat();
    let sets = [
        (json.to_owned(), Usable, "json"),
        (String::new(), Usable, "no headers"),
        ("content-type: text/html\r\n".to_owned(), Usable, "html type"),
        (format!("{json}content-encoding: identity\r\n"), Usable, "identity"),
        (format!("{json}{}", many(40)), Usable, "40 headers"),
        (format!("{json}x-long: {}\r\n", "h".repeat(8_000)), Usable, "a long header"),
        (format!("{json}content-encoding: gzip\r\n"), Unusable, "gzip"),
        (format!("{json}content-encoding: br\r\n"), Unusable, "br"),
        (many(120), Unusable, "120 headers"),
        (format!("x-huge: {}\r\n", "h".repeat(70_000)), Unusable, "a header of 70 kB"),
        ("x bad: y\r\n".to_owned(), Unusable, "a space in a name"),
        ("x-\0: y\r\n".to_owned(), Unusable, "a null in a name"),
        ("no colon\r\n".to_owned(), Unusable, "no colon"),
        (format!("{json} folded\r\n"), Either, "a folded line"),
    ];
    random.pick(&sets).clone()
}

/// How a body ends.
#[derive(Copy, Clone, Debug)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
    LongerLength,
    TwoLengths,
    NoLength,
    BadChunk,
    NoLastChunk,
    Reset,
}

const FRAMINGS: &[(Framing, Verdict)] = &[
    (Framing::Length, Usable),
    (Framing::Chunked, Usable),
    (Framing::UntilClose, Usable),
    (Framing::LongerLength, Unusable),
    (Framing::TwoLengths, Unusable),
    (Framing::NoLength, Unusable),
    (Framing::BadChunk, Unusable),
    (Framing::NoLastChunk, Unusable),
    (Framing::Reset, Unusable),
];

/// Generates a response with one of `bodies`.
pub(crate) fn generate(random: &mut Random, bodies: &[(Vec<u8>, Verdict, &'static str)]) -> GeneratedResponse {
    let (line, line_verdict) = *random.pick(STATUS_LINES);
    let (headers, headers_verdict, header_label) = header_sets(random);
    let (framing, framing_verdict) = *random.pick(FRAMINGS);
    let (body, body_verdict, body_label) = random.pick(bodies).clone();
    let length = body.len();
    let mut head = format!("{line}\r\nconnection: close\r\n{headers}");
    let length_header = match framing {
        Framing::Length | Framing::Reset => format!("content-length: {length}\r\n"),
        Framing::LongerLength => format!("content-length: {}\r\n", length + 1 + random.below(1_000)),
        Framing::TwoLengths => format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 1),
        Framing::NoLength => "content-length: many\r\n".to_owned(),
        Framing::Chunked | Framing::BadChunk | Framing::NoLastChunk => "transfer-encoding: chunked\r\n".to_owned(),
        Framing::UntilClose => String::new(),
    };
    head.push_str(&length_header);
    let mut bytes = format!("{head}\r\n").into_bytes();
    match framing {
        Framing::Chunked | Framing::BadChunk | Framing::NoLastChunk => {
            for part in body.chunks(1 + random.below(64)) {
                let size =
                    if matches!(framing, Framing::BadChunk) { "zz".to_owned() } else { format!("{:x}", part.len()) };
                bytes.extend_from_slice(format!("{size}\r\n").as_bytes());
                bytes.extend_from_slice(part);
                bytes.extend_from_slice(b"\r\n");
            }
            if matches!(framing, Framing::Chunked | Framing::BadChunk) {
                let size = if matches!(framing, Framing::BadChunk) { "zz" } else { "0" };
                bytes.extend_from_slice(format!("{size}\r\n\r\n").as_bytes());
            }
        }
        Framing::Reset => {}
        _ => bytes.extend_from_slice(&body),
    }
    // A body that was announced and not sent, of no bytes, is whole; HTTP/1.0 has no chunks.
    let mut verdict = line_verdict.max(headers_verdict).max(framing_verdict).max(body_verdict);
    let old = line.starts_with("HTTP/1.0") && bytes.windows(9).any(|window| window == b": chunked");
    if verdict != Unusable && old {
        verdict = Either;
    }
    if verdict == Unusable && length == 0 && matches!(framing, Framing::Reset) {
        verdict = Either;
    }
    let size = 1 + random.below(bytes.len());
    GeneratedResponse {
        pieces: bytes.chunks(size).map(<[u8]>::to_vec).collect(),
        verdict,
        label: format!("{line:?}, {header_label}, {framing:?}, {body_label}"),
    }
}

/// A server that answers each request with the response that is set.
pub(crate) struct GeneratedServer {
    pub(crate) url: String,
    next: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl GeneratedServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let next = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let shared = Arc::clone(&next);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let pieces = shared.lock().expect("no panic").clone();
                tokio::spawn(async move {
                    // The client closes in the middle of most unusable responses.
                    let _closed = answer(socket, &pieces).await;
                });
            }
        });
        Self { url, next }
    }

    /// Sets the response to the requests from now on.
    pub(crate) fn set(&self, response: &GeneratedResponse) {
        self.next.lock().expect("no panic").clone_from(&response.pieces);
    }
}

async fn answer(mut socket: TcpStream, pieces: &[Vec<u8>]) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    for piece in pieces {
        socket.write_all(piece).await?;
        // Each piece may arrive by itself.
        tokio::task::yield_now().await;
    }
    socket.shutdown().await
}
