//! Reads a body up to a cap, and no further.

use bytes::{Bytes, BytesMut};

use crate::provider::call::CallError;
use crate::provider::exchange::explain;

/// A body of unknown size starts with this much room.
const START: usize = 8 * 1024;

/// Reads the whole body of `response`, or fails once it is longer than `cap`.
pub(crate) async fn read(mut response: reqwest::Response, cap: usize) -> Result<Bytes, CallError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > u64::try_from(cap).unwrap_or(u64::MAX) {
        return Err(CallError::TooLarge { limit: cap });
    }
    let Some(first) = response.chunk().await.map_err(|error| explain(&error))? else { return Ok(Bytes::new()) };
    if first.len() > cap {
        return Err(CallError::TooLarge { limit: cap });
    }
    let Some(second) = response.chunk().await.map_err(|error| explain(&error))? else { return Ok(first) };
    let room = usize::try_from(announced).unwrap_or(0).clamp(START, cap.max(START));
    let mut body = BytesMut::with_capacity(room);
    body.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        if body.len() + chunk.len() > cap {
            return Err(CallError::TooLarge { limit: cap });
        }
        body.extend_from_slice(&chunk);
        next = response.chunk().await.map_err(|error| explain(&error))?;
    }
    Ok(body.freeze())
}
