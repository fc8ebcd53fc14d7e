//! Servers of other projects (hack/peers), each on a free loopback port, ended by its process id.
//!
//! A peer that is not available is a failure, as a missing control plane is: a test that skips itself shows nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use busbar::testbed::control_plane::RunDir;
use busbar::testbed::control_plane::process::{Process, ProcessSpec};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::control_planes::repository;
use crate::kit::http::client;
use crate::kit::wait::eventually;

/// What a launcher prints before its address, and Prism too.
const ADDRESS: &str = "listening on http://";

/// A running peer. Dropping it kills it.
pub(crate) struct PeerServer {
    base: String,
    http: reqwest::Client,
    process: Process,
}

impl PeerServer {
    /// An OAuth2 server: `/token`, `/resource` for holders of a valid token, and [`PeerServer::set`].
    pub(crate) async fn oauth2() -> Self {
        Self::start("oauth2", &[]).await
    }

    /// Prism, which answers with the examples of this OpenAPI file and names in the header `sl-violations` what is wrong
    /// with a request.
    pub(crate) async fn prism(openapi: &Path) -> Self {
        Self::start("prism", &[openapi.as_os_str().to_owned()]).await
    }

    /// A fake Stripe with nothing in it.
    pub(crate) async fn localstripe() -> Self {
        Self::start("localstripe", &[]).await
    }

    /// Mountebank without an imposter: [`PeerServer::imposter`] creates one.
    pub(crate) async fn mountebank() -> Self {
        Self::start("mountebank", &[]).await
    }

    /// Starts a peer that `hack/peers/install` knows and waits until it answers.
    async fn start(name: &str, args: &[OsString]) -> Self {
        let command = &commands().await[name];
        let run = Arc::new(RunDir::create("busbar-peer-").unwrap());
        let spec = ProcessSpec {
            name: name.to_owned(),
            program: command[0].clone().into(),
            args: command[1..].iter().map(OsString::from).chain(args.iter().cloned()).collect(),
            env: Vec::new(),
            log: run.path().join(name).with_extension("log"),
        };
        let mut process = Process::spawn(&run, &spec).unwrap();
        let base = eventually(format!("{name} prints its address"), async || {
            if let Some(status) = process.exited() {
                panic!("{name} exited with {status}:\n{}", process.log_tail(40));
            }
            address(&std::fs::read_to_string(process.log()).unwrap_or_default())
        })
        .await;
        let http = client();
        eventually(format!("{name} answers"), async || http.get(&base).send().await).await;
        Self { base, http, process }
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        self.process.log_tail(60)
    }

    /// Sets fields of the OAuth2 server: see `settings` in `hack/peers/node/oauth2.mjs`. Returns its counts.
    pub(crate) async fn set(&self, settings: Value) -> BTreeMap<String, u64> {
        let answer = self.http.put(format!("{}/_peer", self.base)).body(settings.to_string()).send().await.unwrap();
        read(answer).await
    }

    /// The counters of the OAuth2 server.
    pub(crate) async fn counts(&self) -> BTreeMap<String, u64> {
        read(self.http.get(format!("{}/_peer", self.base)).send().await.unwrap()).await
    }

    /// Its whole log.
    pub(crate) fn whole_log(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap()
    }

    /// Its response to a plain GET.
    pub(crate) async fn get(&self, path: &str) -> Value {
        read(self.http.get(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    /// Its response to a form, sent with a bearer token: how a fake provider gets its data.
    pub(crate) async fn post(&self, path: &str, token: &str, form: &[(&str, &str)]) -> Value {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(token).form(form);
        read(request.send().await.unwrap()).await
    }

    /// Creates a server inside Mountebank, on a free loopback port, and returns `http://127.0.0.1:port`.
    pub(crate) async fn imposter(&self, mut definition: Value) -> String {
        definition["host"] = "127.0.0.1".into();
        let request = self.http.post(format!("{}/imposters", self.base)).header("content-type", "application/json");
        let answer = request.body(definition.to_string()).send().await.unwrap();
        let made: Value = read(answer).await;
        format!("http://127.0.0.1:{}", made["port"])
    }
}

/// The JSON of a response with a status of 2xx.
async fn read<T: serde::de::DeserializeOwned>(answer: reqwest::Response) -> T {
    let status = answer.status();
    let body = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// The address in what a peer has printed so far, once its line is complete.
fn address(log: &str) -> Option<String> {
    let (_, rest) = log.split_once(ADDRESS)?;
    let authority: String = rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
    (authority.len() < rest.len()).then(|| format!("http://{authority}"))
}

/// The command of each peer. The script installs missing ones, once.
async fn commands() -> &'static BTreeMap<String, Vec<String>> {
    static COMMANDS: OnceCell<Result<BTreeMap<String, Vec<String>>, String>> = OnceCell::const_new();
    let outcome = COMMANDS.get_or_init(|| async {
        let mut script = tokio::process::Command::new(repository("hack/peers/install"));
        let ended = script.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output().await;
        let ended = ended.map_err(|error| error.to_string())?;
        if !ended.status.success() {
            return Err(format!("hack/peers/install: {}", ended.status));
        }
        let lines = String::from_utf8_lossy(&ended.stdout).into_owned();
        let arguments = |command: &str| command.split('\t').map(str::to_owned).collect();
        Ok(lines.lines().filter_map(|l| l.split_once('=')).map(|(name, c)| (name.to_owned(), arguments(c))).collect())
    });
    outcome.await.as_ref().unwrap_or_else(|error| panic!("the peers are not available: {error}"))
}
