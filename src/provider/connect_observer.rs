//! Tells whether a request was sent on a connection that was there before.
//!
//! The HTTP client does not say so. It does connect in the task that sends the request, though: a layer of its connector
//! notes each connection that is established while a request is being sent, and a request without one was sent on a
//! kept-alive connection.

use std::cell::Cell;
use std::future::Future;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tower::{Layer, Service};

tokio::task_local! {
    /// Whether a connection was established for the request that is being sent.
    static ESTABLISHED: Cell<bool>;
}

/// Runs `sending`; returns its result, and whether it used a connection that was there before.
pub(crate) async fn observed<T>(sending: impl Future<Output = T>) -> (T, bool) {
    let sending = async {
        let end = sending.await;
        (end, !ESTABLISHED.with(Cell::get))
    };
    ESTABLISHED.scope(Cell::new(false), sending).await
}

/// Layer of a client's connector: notes that a connection was established.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ObserveConnects;

impl<S> Layer<S> for ObserveConnects {
    type Service = ObservedConnector<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ObservedConnector(inner)
    }
}

/// See [`ObserveConnects`].
#[derive(Clone, Debug)]
pub(crate) struct ObservedConnector<S>(S);

impl<S, R> Service<R> for ObservedConnector<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let connecting = self.0.call(target);
        async move {
            let end = connecting.await;
            if end.is_ok() {
                // Outside of a request the client connects ahead, for a later one.
                let _no_request = ESTABLISHED.try_with(|established| established.set(true));
            }
            end
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_request_that_connects_uses_no_old_connection() {
        let connect = |works: bool| {
            let connector = service_fn(move |()| async move { if works { Ok(()) } else { Err(()) } });
            ObserveConnects.layer(connector).oneshot(())
        };
        assert_eq!(observed(connect(true)).await, (Ok(()), false));
        assert_eq!(observed(connect(false)).await, (Err(()), true));
        assert_eq!(observed(async {}).await, ((), true));
        // A connection that is made ahead belongs to no request.
        assert_eq!(connect(true).await, Ok(()));
    }
}
