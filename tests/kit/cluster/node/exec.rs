//! The kubelet's server for commands in containers: `kubectl exec`, and `kubectl cp`, which is built on it.
//!
//! The API server passes a client's WebSocket on to a node that declares the feature `ExtendWebSocketsToKubelet` (Kubernetes
//! 1.36 or newer). The first byte of each message is the number of its stream. Only a client certificate of
//! the control plane's authority opens the endpoint. A terminal (`--tty`) and `kubectl port-forward`, which has SPDY in its WebSocket, are not supported.

use std::collections::HashMap;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;
use reqwest::Url;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};
use tokio_util::task::AbortOnDropHandle;

use super::container::exec_in;

/// The feature by which a node says that it takes a client's `WebSocket`.
pub(super) const FEATURE: &str = "ExtendWebSocketsToKubelet";

/// The protocol of the streams in a WebSocket.
const PROTOCOL: &str = "v5.channel.k8s.io";

/// Numbers of the streams; `CLOSE` is followed by the number of the stream that ends.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const CLOSE: u8 = 255;

/// Time for the client to close the WebSocket after the outcome was sent.
const CLOSING: Duration = Duration::from_secs(10);

/// Size of what is read from a command at once.
const BUFFER: usize = 32 * 1024;

/// A container that runs: its process, and what the Pod says about it.
struct Running {
    pid: u32,
    pod: Pod,
    container: Container,
}

/// The running containers, by namespace, Pod and name.
#[derive(Default)]
pub(super) struct RunningContainers(Mutex<HashMap<[String; 3], Running>>);

impl RunningContainers {
    /// Records the process of a container, or that it has none.
    pub(super) fn set(&self, pod: &Pod, container: &Container, pid: Option<u32>) {
        let key = [pod.namespace().unwrap_or_default(), pod.name_any(), container.name.clone()];
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = pid {
            all.insert(key, Running { pid, pod: pod.clone(), container: container.clone() });
        } else if all.get(&key).is_some_and(|running| running.pod.uid() == pod.uid()) {
            all.remove(&key);
        }
    }

    /// The command of a request: `/exec/NAMESPACE/POD/CONTAINER?command=…`, if the container runs.
    fn command(&self, request: &http::Uri) -> Option<Command> {
        let url = Url::parse("https://node").and_then(|base| base.join(&request.to_string())).ok()?;
        let segments: Vec<&str> = url.path().trim_start_matches('/').split('/').collect();
        let ["exec", namespace, pod, container] = segments[..] else { return None };
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = all.get(&[namespace, pod, container].map(str::to_owned))?;
        let values = |name: &'static str| url.query_pairs().filter(move |(key, _)| key == name);
        let words: Vec<String> = values("command").map(|(_, word)| word.into_owned()).collect();
        let mut command = exec_in(running.pid, &running.pod, &running.container, &words);
        let input = values("input").any(|(_, value)| value == "1" || value == "true");
        command.stdin(if input { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
        Some(command)
    }
}

/// A running server.
pub(super) struct ExecServer {
    pub(super) port: u16,
    _task: AbortOnDropHandle<()>,
}

impl ExecServer {
    /// Starts a server on a port of its own. `authority` has signed the certificates of its clients, as PEM.
    pub(super) async fn start(containers: Arc<RunningContainers>, authority: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let tls = TlsAcceptor::from(Arc::new(tls(authority)));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away ends its command; nothing else depends on it.
                connections.spawn(serve(Arc::clone(&containers), tls.clone(), stream));
            }
        });
        Self { port, _task: AbortOnDropHandle::new(task) }
    }
}

fn tls(authority: &str) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("a certificate")).expect("an authority");
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    // The API server verifies no certificate of a node unless it is given an authority for them.
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("a key");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_client_cert_verifier(clients.build().expect("a verifier"))
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate with its key")
}

/// Serves one command; `None` if the client went away, or asked for something else.
#[expect(clippy::result_large_err, reason = "the type of the library's callback")]
async fn serve(containers: Arc<RunningContainers>, tls: TlsAcceptor, stream: TcpStream) -> Option<()> {
    let stream = tls.accept(stream).await.ok()?;
    let mut command = None;
    let answer = |request: &Request, response: Response| {
        command = containers.command(request.uri());
        accepted(request, response, command.is_some())
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, answer).await.ok()?;
    let (mut sink, mut source) = socket.split();
    let outcome = match command?.spawn() {
        Err(error) => json!({"status": "Failure", "reason": "InternalError", "message": error.to_string()}),
        Ok(mut child) => {
            let (input, received) = unbounded_channel::<Bytes>();
            let mut input = Some(input);
            let _writer = child.stdin.take().map(|stdin| AbortOnDropHandle::new(tokio::spawn(write(stdin, received))));
            let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
            while stdout.is_some() || stderr.is_some() {
                tokio::select! {
                    read = read(&mut stdout, STDOUT), if stdout.is_some() => match read {
                        Some(message) => sink.send(message).await.ok()?,
                        None => stdout = None,
                    },
                    read = read(&mut stderr, STDERR), if stderr.is_some() => match read {
                        Some(message) => sink.send(message).await.ok()?,
                        None => stderr = None,
                    },
                    message = source.next() => match message {
                        Some(Ok(Message::Binary(bytes))) => match bytes[..] {
                            [STDIN, ..] => drop(input.as_ref().map(|input| input.send(bytes.slice(1..)))),
                            [CLOSE, STDIN] => input = None,
                            _ => {}
                        },
                        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Frame(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    },
                }
            }
            outcome_of(child.wait().await.ok()?)
        }
    };
    sink.send(message(ERROR, outcome.to_string().as_bytes())).await.ok()?;
    let end = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    sink.send(Message::Close(Some(end))).await.ok()?;
    let closed = async { while source.next().await.is_some_and(|message| message.is_ok()) {} };
    tokio::time::timeout(CLOSING, closed).await.ok()
}

/// The answer to a request for a WebSocket.
#[expect(clippy::result_large_err, reason = "the type of the library's callback")]
fn accepted(request: &Request, mut response: Response, runs: bool) -> Result<Response, ErrorResponse> {
    let refused = |status: http::StatusCode, text: &str| {
        let mut refused = ErrorResponse::new(Some(text.to_owned()));
        *refused.status_mut() = status;
        refused
    };
    let offered = request.headers().get_all(http::header::SEC_WEBSOCKET_PROTOCOL);
    let mut offered = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if !offered.any(|name| name.trim() == PROTOCOL) {
        return Err(refused(http::StatusCode::BAD_REQUEST, "protocol not supported by the node agent"));
    }
    if !runs {
        return Err(refused(http::StatusCode::NOT_FOUND, "container not found or not running"));
    }
    response.headers_mut().insert(http::header::SEC_WEBSOCKET_PROTOCOL, http::HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

/// Writes what the client sends to the command's stdin, and closes it at the end.
async fn write(mut stdin: ChildStdin, mut received: UnboundedReceiver<Bytes>) {
    while let Some(bytes) = received.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The next message with output of a command; `None` at its end.
async fn read(output: &mut Option<impl AsyncRead + Unpin>, stream: u8) -> Option<Message> {
    let mut buffer = vec![0; BUFFER];
    let count = output.as_mut()?.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
    Some(message(stream, &buffer[..count]))
}

fn message(stream: u8, content: &[u8]) -> Message {
    Message::Binary([&[stream], content].concat().into())
}

/// The `Status` for the end of a command, as a kubelet writes it.
fn outcome_of(status: ExitStatus) -> serde_json::Value {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255);
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    let causes = json!([{"reason": "ExitCode", "message": code.to_string()}]);
    json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes},
        "message": format!("command terminated with non-zero exit code: exit status {code}")})
}
