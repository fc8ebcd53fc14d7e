//! The innermost layer: one try over HTTP; two requests, if a reused connection ended before the answer ([`resend`]).
//!
//! Bodies are read whole, up to the limits of the call and of the profile. Errors are mapped by [`http_error`] at once, so that neither a URL
//! (with a key in its query) nor the provider's text can travel further.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use http::StatusCode;
use tower::Service;

use crate::clock::Clock;
use crate::domain::breaker::CallClass;
use crate::profile::json::{self, Scan};
use crate::profile::json_text;
use crate::profile::{Classification, MAX_ERROR_BODY, ResponseClass, ResponseView};
use crate::provider::body::{BodyMemory, BodyReader, own_headers};
use crate::provider::call::{BodyTolerance, CallError, Response, ResponseMeta};
use crate::provider::call_context::{CallContext, CallFuture};
use crate::provider::call_progress::CallProgress;
use crate::provider::http_error;
use crate::provider::memory::{ConnectionMemory, FREE_BYTES};
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::resend::{self, Repeatable};
use crate::provider::timeout;

/// Sends one request to the provider.
#[derive(Clone)]
pub(crate) struct HttpService {
    monitor: Arc<ConnectionMonitor>,
    memory: ConnectionMemory,
}

impl HttpService {
    pub(crate) fn new(monitor: Arc<ConnectionMonitor>, memory: ConnectionMemory) -> Self {
        Self { monitor, memory }
    }
}

impl Service<CallContext> for HttpService {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: CallContext) -> CallFuture {
        let clock = self.monitor.clock();
        // The authentication layer decides on the destination, together with the credential.
        let Some(outgoing) = ctx.outgoing else {
            return std::future::ready(Err(CallError::InvalidRequest("the request has no destination"))).boxed();
        };
        let settings = Arc::clone(outgoing.settings());
        let (limit, expect_json, tolerance) = (ctx.request.max_body, ctx.request.expect_json, ctx.request.tolerance);
        let limit = limit.min(settings.profile().max_response_bytes);
        let (memory, progress) = (self.memory.reservation(), Arc::clone(&ctx.progress));
        let repeatable = match ctx.request.class {
            CallClass::Probe | CallClass::Read => Repeatable::Yes,
            CallClass::Write | CallClass::Money => Repeatable::OnlyUnprocessed,
        };
        let (client, in_force, monitor) =
            (outgoing.client().clone(), Arc::clone(outgoing.in_force()), Arc::clone(&self.monitor));
        let request = outgoing.into_http();
        async move {
            let (started, waited_before) = (clock.mono(), progress.capacity_wait());
            let timeouts = settings.timeouts();
            let request = request?.build().map_err(|error| http_error::call_error(&error))?;
            let before_resend = || {
                in_force.check()?;
                monitor.metrics().resends(settings.provider()).inc();
                Ok(())
            };
            let sending = resend::send(&client, request, repeatable, before_resend);
            let response = timeout::head(timeouts.first_byte_timeout(), sending).await??;
            let (status, headers) = (response.status(), own_headers(response.headers())?);
            let failed = !status.is_success();
            let reader = BodyReader {
                limit: if failed { limit.min(MAX_ERROR_BODY) } else { limit },
                cut: failed,
                stall: timeouts.read_timeout(),
                scan: (expect_json && !failed).then(|| Scan::new(settings.profile().max_response_values())),
                memory: BodyMemory::Reserved { reservation: &memory, progress: &progress, clock },
            };
            let body = reader.read(response).await?;
            let now = clock.now();
            let (classification, meta) = (Classification::default(), ResponseMeta::default());
            let waited = progress.capacity_wait().saturating_sub(waited_before);
            let elapsed = now.mono.since(started).saturating_sub(waited);
            let mut response = Response { status, headers, body, elapsed, classification, meta, memory };
            let view = ResponseView::new(response.status.as_u16(), &response.headers, &response.body);
            response.classification = settings.profile().classify(&view, now.wall);
            // A proxy's page, or a body cut short without a length: the next try may return the real one.
            if expect_json
                && response.classification.class == ResponseClass::Ok
                && !is_readable(&response, tolerance, &progress, clock).await
            {
                response.classification.class = ResponseClass::Retry;
            }
            Ok(response)
        }
        .boxed()
    }
}

/// Whether the body is JSON, or what the caller reads nevertheless. A large one is parsed elsewhere, and the time of that
/// is not the provider's.
async fn is_readable(response: &Response, tolerance: BodyTolerance, progress: &CallProgress, clock: Clock) -> bool {
    let body = response.body.clone();
    if body.trim_ascii().is_empty() {
        let has_no_content = matches!(response.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
        return if has_no_content { tolerance.no_content } else { tolerance.empty };
    }
    if body.len() <= FREE_BYTES {
        return is_json(&body, tolerance);
    }
    let began = clock.mono();
    progress.on_capacity_wait();
    let parsed = response.memory.run(body.len(), move || is_json(&body, tolerance)).await;
    progress.on_capacity_granted(clock.mono().since(began));
    parsed.unwrap_or(false)
}

fn is_json(body: &[u8], tolerance: BodyTolerance) -> bool {
    if json::check(body).is_ok() {
        return true;
    }
    // The copy of a large body would need memory of its own: its caller finds out.
    let is_repairable = || json_text::is_repairable(body) && !json_text::is_sound(body);
    tolerance.characters && is_repairable() && (body.len() > FREE_BYTES || json::check(&json_text::copy(body)).is_ok())
}
