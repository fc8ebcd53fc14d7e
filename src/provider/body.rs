//! Reads a response body within limits: bytes, values and depth of JSON, memory, and the time between two chunks.
//!
//! No content encoding is requested, and an encoded body is rejected, also where its transfer is what is encoded. So the bytes counted here are the bytes in
//! memory: no decompression bomb. Values and depth are counted as the chunks arrive, so that a body that would be too
//! expensive to parse, or cannot be parsed, is not even read to its end. What exceeds [`FREE_BYTES`] is reserved before it is kept.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::Clock;
use crate::profile::json::{JsonError, Scan};
use crate::provider::call::CallError;
use crate::provider::call_progress::CallProgress;
use crate::provider::http_error;
use crate::provider::memory::{FREE_BYTES, Reservation};
use crate::provider::timeout;

/// Initial capacity for a body of unknown size.
const INITIAL_CAPACITY: usize = 8 * 1024;
/// A body of unknown size reserves this many times what it has, up to its limit: few waits, little of it unused.
const GROWTH: usize = 4;
/// Most bytes of a response's headers: those of known providers have three kilobytes.
const MAX_HEADERS: usize = 64 * 1024;

/// How a body is read.
pub(crate) struct BodyReader<'a> {
    /// Most bytes.
    pub(crate) limit: usize,
    /// Whether a longer body is cut at the limit instead of being an error: nothing reads the rest of an error page.
    pub(crate) cut: bool,
    /// Longest time without a chunk.
    pub(crate) stall: Duration,
    /// Counts the values of a body that must be JSON.
    pub(crate) scan: Option<Scan>,
    /// What the body takes from the budget.
    pub(crate) memory: BodyMemory<'a>,
}

/// The memory of a body.
pub(crate) enum BodyMemory<'a> {
    /// The limit is at most [`FREE_BYTES`].
    Free,
    /// Reserved as it is read. While it waits, the call's progress says so.
    Reserved { reservation: &'a Reservation, progress: &'a CallProgress, clock: Clock },
}

/// Reads the whole body of a small `response`, such as a token; fails if it is longer than `limit` bytes, or if no chunk
/// arrives within `stall`.
pub(crate) async fn read(response: reqwest::Response, limit: usize, stall: Duration) -> Result<Bytes, CallError> {
    let limit = limit.min(FREE_BYTES);
    BodyReader { limit, cut: false, stall, scan: None, memory: BodyMemory::Free }.read(response).await
}

impl BodyReader<'_> {
    /// Reads the whole body of `response`.
    pub(crate) async fn read(mut self, mut response: reqwest::Response) -> Result<Bytes, CallError> {
        if is_encoded(response.headers()) {
            return Err(CallError::Malformed);
        }
        let announced = response.content_length();
        let announced = announced.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if !self.cut && announced.is_some_and(|length| length > self.limit) {
            return Err(CallError::TooLarge { limit: self.limit });
        }
        let capacity = announced.unwrap_or(INITIAL_CAPACITY).min(self.limit).min(FREE_BYTES);
        let mut body = BytesMut::with_capacity(capacity);
        while let Some(mut chunk) = self.next_chunk(&mut response).await? {
            let cut = body.len() + chunk.len() > self.limit;
            if cut && !self.cut {
                return Err(CallError::TooLarge { limit: self.limit });
            }
            chunk.truncate(self.limit - body.len());
            let scanned = self.scan.as_mut().map_or(Ok(()), |scan| scan.push(&chunk));
            if scanned == Err(JsonError::TooManyValues) {
                return Err(CallError::TooComplex);
            }
            self.memory.hold(body.len() + chunk.len(), announced, self.limit).await?;
            body.extend_from_slice(&chunk);
            // What is nested too deeply is not the JSON that is expected, whatever follows.
            if cut || scanned.is_err() {
                break;
            }
        }
        self.memory.settle(body.len());
        // A small body may be cached for long: not with the whole of an allocation that it does not fill.
        Ok(if body.len() < body.capacity() / 2 { Bytes::copy_from_slice(&body) } else { body.freeze() })
    }

    async fn next_chunk(&self, response: &mut reqwest::Response) -> Result<Option<Bytes>, CallError> {
        timeout::chunk(self.stall, response.chunk()).await?.map_err(|error| http_error::call_error(&error))
    }
}

impl BodyMemory<'_> {
    /// Reserves memory for `bytes`, and for what will probably follow.
    async fn hold(&self, bytes: usize, announced: Option<usize>, limit: usize) -> Result<(), CallError> {
        let Self::Reserved { reservation, progress, clock } = self else { return Ok(()) };
        if bytes <= FREE_BYTES || bytes <= reservation.bytes() {
            return Ok(());
        }
        let wanted = announced.unwrap_or(bytes.saturating_mul(GROWTH)).min(limit).max(bytes);
        if reservation.try_grow_to(wanted) {
            return Ok(());
        }
        let began = clock.mono();
        progress.on_capacity_wait();
        reservation.grow_to(wanted).await.map_err(|_| CallError::Overloaded)?;
        progress.on_capacity_granted(clock.mono().since(began));
        Ok(())
    }

    /// Releases what was reserved and is not needed.
    fn settle(&self, bytes: usize) {
        if let Self::Reserved { reservation, .. } = self {
            reservation.shrink_to(if bytes <= FREE_BYTES { 0 } else { bytes });
        }
    }
}

/// Whether the body is in an encoding that was not requested: of its content, or of its transfer other than in chunks.
fn is_encoded(headers: &HeaderMap) -> bool {
    let other_than = |name: HeaderName, plain: &str| {
        let values = headers.get_all(name).into_iter();
        let mut codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        codings.any(|coding| {
            let coding = coding.trim_ascii();
            let is_plain = coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
            !is_plain && !coding.eq_ignore_ascii_case(plain.as_bytes())
        })
    };
    other_than(CONTENT_ENCODING, "identity") || other_than(TRANSFER_ENCODING, "chunked")
}

/// The headers of a response, without the buffer of the connection that they were read into.
pub(crate) fn own_headers(headers: &HeaderMap) -> Result<HeaderMap, CallError> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MAX_HEADERS {
        return Err(CallError::TooLarge { limit: MAX_HEADERS });
    }
    let mut own = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let mut copy = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| CallError::Malformed)?;
        copy.set_sensitive(value.is_sensitive());
        own.append(name, copy);
    }
    Ok(own)
}
