//! A request body that has to arrive in time.
//!
//! A client that sends a body byte by byte would hold its request, and what the request holds, for as long as the handler
//! waits.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::Sleep;

/// The body of a request, which fails `limit` after its first read.
struct BodyDeadline {
    body: Incoming,
    limit: Duration,
    /// `None` before the first read.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// `body`, which fails unless all of it arrives within `limit` of the first read.
pub(super) fn with_deadline(body: Incoming, limit: Duration) -> Body {
    if body.is_end_stream() { Body::new(body) } else { Body::new(BodyDeadline { body, limit, deadline: None }) }
}

impl HttpBody for BodyDeadline {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        deadline.as_mut().poll(cx).map(|()| Some(Err(io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
