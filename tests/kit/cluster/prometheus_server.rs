//! A real Prometheus on a free loopback port, with data and rules of its own, ended by its process id.
//!
//! A missing Prometheus is a failure, as a missing control plane is: a test that skips itself shows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use busbar::testbed::control_plane::RunDir;
use busbar::testbed::control_plane::process::{Process, ProcessSpec};
use serde_json::Value;

use super::control_planes::repository;
use crate::kit::http::client;
use crate::kit::wait::eventually;

/// By how much the rules of a test are faster: a minute is a second.
const SPEED: u64 = 60;

/// How often a start is tried: another process may take the port in between.
const STARTS: usize = 5;

/// A running Prometheus that scrapes every second. Dropping it kills it.
pub(crate) struct PrometheusServer {
    url: String,
    http: reqwest::Client,
    _process: Process,
    _run: Arc<RunDir>,
}

impl PrometheusServer {
    /// Starts one that scrapes `target` (`address:port`) as job `busbar`, with the chart's rules, `for` and ranges divided
    /// by [`SPEED`].
    pub(crate) async fn start(target: &str) -> Self {
        let tools = tools().await;
        let run = Arc::new(RunDir::create("busbar-prometheus-").unwrap());
        let rules = run.path().join("rules");
        fs::create_dir(&rules).unwrap();
        for file in fs::read_dir(repository("charts/busbar/rules")).unwrap() {
            let file = file.unwrap().path();
            let text = scaled(&fs::read_to_string(&file).unwrap());
            fs::write(rules.join(file.file_name().unwrap()), text).unwrap();
        }
        let config = run.path().join("prometheus.yaml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: ['{}/*.yaml']\n\
             scrape_configs: [{{job_name: busbar, honor_labels: true, static_configs: [{{targets: ['{target}']}}]}}]\n",
            rules.display()
        );
        fs::write(&config, text).unwrap();
        for start in 0..STARTS {
            let port = free_port();
            let flags = [
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", run.path().join(format!("data-{start}")).display()),
                format!("--web.listen-address=127.0.0.1:{port}"),
                "--log.level=warn".to_owned(),
            ];
            let spec = ProcessSpec {
                name: "prometheus".to_owned(),
                program: tools.join("prometheus"),
                args: flags.into_iter().map(Into::into).collect(),
                env: Vec::new(),
                log: run.path().join("prometheus.log"),
            };
            let mut process = Process::spawn(&run, &spec).unwrap();
            let (http, url) = (client(), format!("http://127.0.0.1:{port}"));
            let ready = eventually("Prometheus is ready", async || {
                if process.exited().is_some() {
                    return Some(false);
                }
                let answer = http.get(format!("{url}/-/ready")).send().await.ok()?;
                answer.status().is_success().then_some(true)
            });
            if ready.await {
                return Self { url, http, _process: process, _run: run };
            }
        }
        panic!("Prometheus exits:\n{}", fs::read_to_string(run.path().join("prometheus.log")).unwrap_or_default());
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The names of the alerts that fire now.
    pub(crate) async fn firing(&self) -> BTreeSet<String> {
        let alerts = self.get("alerts", &[]).await;
        let firing = |alert: &&Value| alert["state"] == "firing";
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned();
        alerts["alerts"].as_array().into_iter().flatten().filter(firing).map(name).collect()
    }

    /// The labels of every series that this expression selects, whenever it existed.
    pub(crate) async fn series(&self, selector: &str) -> Vec<BTreeMap<String, String>> {
        let found = self.get("series", &[("match[]", selector), ("start", "0")]).await;
        serde_json::from_value(found).unwrap()
    }

    /// The errors of the rules' evaluations.
    pub(crate) async fn rule_errors(&self) -> Vec<String> {
        let groups = self.get("rules", &[]).await;
        let rules = groups["groups"].as_array().into_iter().flatten();
        let rules = rules.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        rules.filter(|rule| rule["health"] != "ok").map(ToString::to_string).collect()
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/{path}", self.url)).unwrap();
        url.query_pairs_mut().extend_pairs(query);
        let answer = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let mut answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"].take()
    }
}

/// A free port. Prometheus cannot report one that the system chose.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The folder of `prometheus`, which the script unpacks once if it is missing.
async fn tools() -> PathBuf {
    let mut script = tokio::process::Command::new(repository("hack/prometheus/install"));
    let ended = script.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output().await.unwrap();
    assert!(ended.status.success(), "Prometheus is not available: hack/prometheus/install: {}", ended.status);
    Path::new(String::from_utf8(ended.stdout).unwrap().trim()).to_owned()
}

/// The rules of a file with `for` and ranges divided by [`SPEED`].
fn scaled(text: &str) -> String {
    let mut file: Value = serde_yaml::from_str(text).unwrap();
    for group in file["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            if let Some(wait) = rule.get_mut("for") {
                *wait = faster(wait.as_str().unwrap()).into();
            }
            let expression = rule["expr"].as_str().unwrap();
            let parts: Vec<String> = expression
                .split('[')
                .enumerate()
                .map(|(index, part)| match part.split_once(']') {
                    Some((range, rest)) if index > 0 => format!("[{}]{rest}", faster(range)),
                    _ => part.to_owned(),
                })
                .collect();
            rule["expr"] = parts.concat().into();
        }
    }
    serde_yaml::to_string(&file).unwrap()
}

/// `5m` → `5s`.
fn faster(duration: &str) -> String {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => panic!("{duration} is no duration with one unit"),
    };
    format!("{}s", (number.parse::<u64>().unwrap() * seconds / SPEED).max(1))
}

#[test]
fn rules_of_a_test_are_sixty_times_as_fast() {
    let text = "groups: [{name: g, rules: [{alert: A, expr: 'rate(a[5m]) > b[1h] + c[1d]', for: 10m}, {record: r, expr: 'd'}]}]";
    let fast = scaled(text);
    for part in ["rate(a[5s]) > b[60s] + c[1440s]", "for: 10s", "expr: d"] {
        assert!(fast.contains(part), "{part}: {fast}");
    }
}
