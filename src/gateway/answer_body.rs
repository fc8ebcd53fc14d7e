//! The body of a provider's answer: the response format around a result that is JSON already, without a copy of it.
//!
//! A result can have megabytes, and a caller may read it slowly. It is sent as it is, and its memory stays reserved until
//! it is sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use serde::Serialize;

use crate::gateway::envelope::Detail;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;

/// The response `{"data": {"result": …, "meta": …}, "detail": …}` with status 200.
pub(super) fn respond(result: Bytes, meta: &impl Serialize) -> Result<Response, Problem> {
    let detail = Detail::new(StatusCode::OK, "Success");
    let text = |value: serde_json::Result<String>| value.map_err(|_| internal());
    let (meta, detail) = (text(serde_json::to_string(meta))?, text(serde_json::to_string(&detail))?);
    let end = format!(r#","meta":{meta}}},"detail":{detail}}}"#);
    let frames = [Bytes::from_static(br#"{"data":{"result":"#), result, Bytes::from(end)];
    let mut response = Response::new(Body::new(Frames(frames.into())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn internal() -> Problem {
    Problem::new(ErrorCode::Internal, "internal error; report it with the request ID")
}

/// The parts of a body, in order.
struct Frames(VecDeque<Bytes>);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gateway::envelope::Envelope;
    use crate::gateway::providers::{AnswerMeta, ProviderAnswer};

    #[tokio::test]
    async fn the_body_equals_the_documented_format_with_a_length() {
        let meta = AnswerMeta {
            provider: "fmp".to_owned(),
            provider_used: "fmp".to_owned(),
            endpoint: "quote".to_owned(),
            status_code: 200,
            cached: false,
            stale: false,
            latency_ms: 1,
        };
        let result = json!({"price": "1.50", "text": "a\"b"});
        let response = respond(Bytes::from(result.to_string()), &meta).unwrap();
        let documented = serde_json::to_string(&Envelope::ok(ProviderAnswer { result, meta })).unwrap();
        assert_eq!(response.body().size_hint().exact(), Some(documented.len() as u64));
        let sent = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!(sent, documented.as_bytes());
    }
}
