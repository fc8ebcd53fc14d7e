//! Reads a body up to a cap, and no further, and not for longer than it comes.
//!
//! Bodies come as they are: we ask for no encoding, and one that comes encoded all the same is not taken apart. So what
//! is counted here is what is in memory, and no small body becomes a large one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;

use crate::provider::call::CallError;
use crate::provider::exchange::explain;
use crate::provider::timeout;

/// A body of unknown size starts with this much room.
const START: usize = 8 * 1024;

/// Reads the whole body of `response`, or fails once it is longer than `cap`, or once nothing came for `stall`.
pub(crate) async fn read(mut response: reqwest::Response, cap: usize, stall: Duration) -> Result<Bytes, CallError> {
    if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(CallError::Malformed);
    }
    let announced = response.content_length().unwrap_or(0);
    if announced > u64::try_from(cap).unwrap_or(u64::MAX) {
        return Err(CallError::TooLarge { limit: cap });
    }
    let Some(first) = chunk(&mut response, stall).await? else { return Ok(Bytes::new()) };
    if first.len() > cap {
        return Err(CallError::TooLarge { limit: cap });
    }
    let Some(second) = chunk(&mut response, stall).await? else { return Ok(first) };
    let room = usize::try_from(announced).unwrap_or(0).clamp(START, cap.max(START));
    let mut body = BytesMut::with_capacity(room);
    body.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(piece) = next {
        if body.len() + piece.len() > cap {
            return Err(CallError::TooLarge { limit: cap });
        }
        body.extend_from_slice(&piece);
        next = chunk(&mut response, stall).await?;
    }
    Ok(body.freeze())
}

/// The next piece.
async fn chunk(response: &mut reqwest::Response, stall: Duration) -> Result<Option<Bytes>, CallError> {
    timeout::piece(stall, response.chunk()).await?.map_err(|error| explain(&error))
}
