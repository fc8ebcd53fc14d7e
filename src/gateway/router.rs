//! The paths, each mounted where its handler's own description says, so that the document cannot drift from the server.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};
use utoipa::openapi::path::HttpMethod;

use crate::gateway::problem::{ErrorCode, Problem};
use crate::gateway::{Gateway, access, aliases, dead_removal, dead_requests, limit, observe, openapi, providers};

/// The largest body that is read: parameters, not documents.
const MAX_BODY: usize = 1024 * 1024;

/// Whether the process may be sent requests: `/readyz`.
pub type Readiness = Arc<dyn Fn() -> (bool, String) + Send + Sync>;

/// All paths, with everything around them.
pub fn router(gateway: &Arc<Gateway>, ready: Readiness) -> Router {
    let document: Arc<str> = openapi::text().into();
    let mut paths = Paths(Router::new());
    paths.mount::<providers::__path_call, _, _>(providers::call);
    paths.mount::<providers::__path_call_by_post, _, _>(providers::call_by_post);
    paths.mount::<providers::__path_call_item, _, _>(providers::call_item);
    paths.mount::<aliases::__path_collaterals, _, _>(aliases::collaterals);
    paths.mount::<aliases::__path_collateral, _, _>(aliases::collateral);
    paths.mount::<aliases::__path_accounts, _, _>(aliases::accounts);
    paths.mount::<aliases::__path_balances, _, _>(aliases::balances);
    paths.mount::<dead_requests::__path_list, _, _>(dead_requests::list);
    paths.mount::<dead_requests::__path_replay, _, _>(dead_requests::replay);
    paths.mount::<dead_removal::__path_discard, _, _>(dead_removal::discard);
    paths.mount::<dead_removal::__path_purge, _, _>(dead_removal::purge);
    let guarded = paths
        .0
        .route(
            "/openapi.json",
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document.to_string()) }),
        )
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(gateway), observe::trace))
        .layer(from_fn_with_state(Arc::clone(gateway), access::authenticate))
        .layer(from_fn_with_state(Arc::clone(gateway), limit::crowd));
    guarded
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(ready))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::clone(gateway), observe::observe))
        .with_state(Arc::clone(gateway))
}

struct Paths(Router<Arc<Gateway>>);

impl Paths {
    fn mount<P: utoipa::Path, H: Handler<T, Arc<Gateway>>, T: 'static>(&mut self, handler: H) {
        let methods = P::methods().into_iter().map(|method| match method {
            HttpMethod::Post => MethodFilter::POST,
            HttpMethod::Put => MethodFilter::PUT,
            HttpMethod::Delete => MethodFilter::DELETE,
            HttpMethod::Patch => MethodFilter::PATCH,
            _ => MethodFilter::GET,
        });
        if let Some(filter) = methods.reduce(MethodFilter::or) {
            self.0 = std::mem::take(&mut self.0).route(&P::path(), on(filter, handler));
        }
    }
}

async fn readyz(State(ready): State<Readiness>) -> Response {
    let (ready, text) = ready();
    let status = if ready { axum::http::StatusCode::OK } else { axum::http::StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

async fn unknown() -> Problem {
    Problem::new(ErrorCode::NotFound, "there is nothing at this path: see /openapi.json")
}

async fn wrong_method(request: Request) -> Problem {
    Problem::new(ErrorCode::MethodNotAllowed, "this path does not take that method: see /openapi.json")
        .with("method", request.method().as_str())
}

/// A body, or what is wrong with it.
pub(super) fn body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| {
        if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
            Problem::new(ErrorCode::BodyTooLarge, "the body is larger than 1 MiB")
        } else {
            Problem::new(ErrorCode::InvalidRequest, "the body cannot be read")
        }
    })
}
