//! An answer's body as the script wants it: whole, in drops, or only a part and then silence, an end or a reset.

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

use crate::testbed::sim::wire::Cut;

/// Between the part of a body that is sent and the cut, so that the peer's HTTP library has read the head before the
/// reset can overtake it.
const BEFORE_CUT: Duration = Duration::from_millis(20);

/// The body was cut on purpose. Ends the connection; nobody reads it.
#[derive(Debug, thiserror::Error)]
#[error("cut by the script")]
pub(crate) struct CutByScript;

impl From<Infallible> for CutByScript {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// How a partial body ends.
#[derive(Debug)]
pub(crate) enum End {
    /// It does not: the peer waits.
    Never,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
}

/// The body.
pub(crate) struct SimBody {
    rest: Bytes,
    /// What `Content-Length` promises of what is still to come.
    promised: u64,
    plan: Plan,
}

enum Plan {
    Whole,
    Dribble { bytes: usize, every: Duration, pause: Option<Pin<Box<Sleep>>> },
    Part { end: End, cut: Arc<Cut>, pause: Option<Pin<Box<Sleep>>> },
}

impl SimBody {
    /// All of it at once.
    pub(crate) fn whole(data: Bytes) -> Self {
        Self { promised: data.len() as u64, rest: data, plan: Plan::Whole }
    }

    /// `bytes` now and every `every`.
    pub(crate) fn dribble(data: Bytes, bytes: usize, every: Duration) -> Self {
        Self {
            promised: data.len() as u64,
            rest: data,
            plan: Plan::Dribble { bytes: bytes.max(1), every, pause: None },
        }
    }

    /// The first `send` bytes, then `end`. At least one promised byte is withheld, or nothing would be missing.
    pub(crate) fn part(data: &Bytes, send: usize, end: End, cut: Arc<Cut>) -> Self {
        let promised = data.len().max(1);
        let rest = data.slice(..send.min(promised - 1).min(data.len()));
        Self { rest, promised: promised as u64, plan: Plan::Part { end, cut, pause: None } }
    }

    fn take(&mut self, bytes: usize) -> Poll<Option<Result<Frame<Bytes>, CutByScript>>> {
        let piece = self.rest.split_to(bytes.min(self.rest.len()));
        self.promised = self.promised.saturating_sub(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl fmt::Debug for SimBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimBody").field("promised", &self.promised).finish_non_exhaustive()
    }
}

fn passed(pause: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    match pause {
        Some(sleep) => sleep.as_mut().poll(cx).is_ready(),
        None => true,
    }
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = CutByScript;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutByScript>>> {
        let left = self.rest.len();
        match &mut self.plan {
            Plan::Whole | Plan::Dribble { .. } if left == 0 => Poll::Ready(None),
            Plan::Whole => self.take(left),
            Plan::Dribble { bytes, every, pause } => {
                if !passed(pause, cx) {
                    return Poll::Pending;
                }
                let bytes = *bytes;
                *pause = Some(Box::pin(tokio::time::sleep(*every)));
                self.take(bytes)
            }
            Plan::Part { .. } if left > 0 => self.take(left),
            Plan::Part { end: End::Never, .. } => Poll::Pending,
            Plan::Part { end, cut, pause } => {
                let pause = pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(BEFORE_CUT)));
                if pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if matches!(end, End::Reset) {
                    cut.reset();
                } else {
                    cut.close();
                }
                Poll::Ready(Some(Err(CutByScript)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.promised == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}
