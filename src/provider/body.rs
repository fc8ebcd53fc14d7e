//! Reads a response body up to a size limit and a stall time-out.
//!
//! No content encoding is requested, and an encoded body is rejected. So the bytes counted here are the bytes in
//! memory: no decompression bomb.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;

use crate::provider::call::CallError;
use crate::provider::http_error;
use crate::provider::timeout;

/// Initial capacity for a body of unknown size.
const INITIAL_CAPACITY: usize = 8 * 1024;

/// Reads the whole body of `response`; fails if it is longer than `limit` bytes, or if no chunk arrives within `stall`.
pub(crate) async fn read(mut response: reqwest::Response, limit: usize, stall: Duration) -> Result<Bytes, CallError> {
    if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(CallError::Malformed);
    }
    let announced = response.content_length().unwrap_or(0);
    if announced > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(CallError::TooLarge { limit });
    }
    let Some(first) = next_chunk(&mut response, stall).await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(CallError::TooLarge { limit });
    }
    let Some(second) = next_chunk(&mut response, stall).await? else { return Ok(first) };
    let capacity = usize::try_from(announced).unwrap_or(0).clamp(INITIAL_CAPACITY, limit.max(INITIAL_CAPACITY));
    let mut body = BytesMut::with_capacity(capacity);
    body.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        if body.len() + chunk.len() > limit {
            return Err(CallError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
        next = next_chunk(&mut response, stall).await?;
    }
    Ok(body.freeze())
}

/// The next chunk.
async fn next_chunk(response: &mut reqwest::Response, stall: Duration) -> Result<Option<Bytes>, CallError> {
    timeout::chunk(stall, response.chunk()).await?.map_err(|error| http_error::call_error(&error))
}
