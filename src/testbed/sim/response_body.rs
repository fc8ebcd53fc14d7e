//! A response body that follows the script: complete, in small pieces, or truncated and then stalled, closed or reset.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::testbed::sim::abortable_stream::AbortSwitch;

/// Delay between the last sent part of a body and the abort, so that the client has read the head before the reset
/// can overtake it.
const ABORT_DELAY: Duration = Duration::from_millis(20);

/// The script aborted the response. Makes hyper drop the connection; it is not reported.
#[derive(Debug, thiserror::Error)]
#[error("aborted by the script")]
pub(crate) struct AbortedByScript;

impl From<Infallible> for AbortedByScript {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// How a truncated body ends.
#[derive(Debug)]
pub(crate) enum Truncation {
    /// It stalls.
    Stall,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
}

/// The body of a response.
pub(crate) struct ScriptedBody {
    rest: Bytes,
    /// Remaining bytes according to `Content-Length`.
    announced: u64,
    delivery: Delivery,
}

enum Delivery {
    Complete,
    Dribble { bytes: usize, every: Duration, timer: Option<Pin<Box<Sleep>>> },
    Truncated { truncation: Truncation, abort: Arc<AbortSwitch>, timer: Option<Pin<Box<Sleep>>> },
}

impl ScriptedBody {
    /// The complete body at once.
    pub(crate) fn complete(data: Bytes) -> Self {
        Self { announced: data.len() as u64, rest: data, delivery: Delivery::Complete }
    }

    /// `bytes` at once and then every `every`.
    pub(crate) fn dribble(data: Bytes, bytes: usize, every: Duration) -> Self {
        Self {
            announced: data.len() as u64,
            rest: data,
            delivery: Delivery::Dribble { bytes: bytes.max(1), every, timer: None },
        }
    }

    /// The first `send` bytes, then `truncation`. At least one announced byte is withheld, so that the body is
    /// incomplete.
    pub(crate) fn truncated(data: &Bytes, send: usize, truncation: Truncation, abort: Arc<AbortSwitch>) -> Self {
        let announced = data.len().max(1);
        let rest = data.slice(..send.min(announced - 1).min(data.len()));
        Self { rest, announced: announced as u64, delivery: Delivery::Truncated { truncation, abort, timer: None } }
    }

    fn take(&mut self, bytes: usize) -> Poll<Option<Result<Frame<Bytes>, AbortedByScript>>> {
        let piece = self.rest.split_to(bytes.min(self.rest.len()));
        self.announced = self.announced.saturating_sub(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl fmt::Debug for ScriptedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedBody").field("announced", &self.announced).finish_non_exhaustive()
    }
}

fn elapsed(timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    match timer {
        Some(sleep) => sleep.as_mut().poll(cx).is_ready(),
        None => true,
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = AbortedByScript;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortedByScript>>> {
        let left = self.rest.len();
        match &mut self.delivery {
            Delivery::Complete | Delivery::Dribble { .. } if left == 0 => Poll::Ready(None),
            Delivery::Complete => self.take(left),
            Delivery::Dribble { bytes, every, timer } => {
                if !elapsed(timer, cx) {
                    return Poll::Pending;
                }
                let bytes = *bytes;
                *timer = Some(Box::pin(tokio::time::sleep(*every)));
                self.take(bytes)
            }
            Delivery::Truncated { .. } if left > 0 => self.take(left),
            Delivery::Truncated { truncation: Truncation::Stall, .. } => Poll::Pending,
            Delivery::Truncated { truncation, abort, timer } => {
                let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(ABORT_DELAY)));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if matches!(truncation, Truncation::Reset) {
                    abort.reset();
                } else {
                    abort.close();
                }
                Poll::Ready(Some(Err(AbortedByScript)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.announced == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
