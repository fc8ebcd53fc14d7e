//! What requests look like on the wire, and the series that they leave.

use std::time::Duration;

use busbar::testbed::sim::Behaviour;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::kit::banks::plain_bank;
use crate::kit::connections::{apply, connect, draft, get, key, probe, registry, token_bank};
use crate::kit::time::ManualTime;
use crate::kit::wait::PATIENCE;

#[tokio::test]
async fn the_series_of_a_connection_are_removed_with_it() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    let (registry, metrics) = registry();
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_millis(1);
    let connection = apply(&registry, draft);
    for code in 400..430 {
        bank.set_script(Behaviour::status(code)).await.unwrap();
        assert_eq!(get(&connection, "/health").await, Ok(code));
        bank.set_script(Behaviour::status(code + 100)).await.unwrap();
        let _ = probe(&connection).await;
        time.advance(Duration::from_millis(2)).await;
        bank.recover().await;
        let _ = probe(&connection).await;
    }
    let text = metrics.render().unwrap();
    let own = text.lines().filter(|line| line.contains(r#"connection="bank""#)).count();
    assert!(own <= 17, "{own} series:\n{text}");
    for series in [
        r#"busbar_breaker_state{connection="bank",namespace="treasury",state="Closed"} 1"#,
        r#"busbar_breaker_state{connection="bank",namespace="treasury",state="Open"} 0"#,
        r#"busbar_probe_success{connection="bank",namespace="treasury"} 1"#,
        r#"busbar_breaker_transitions_total{connection="bank",from="Closed",namespace="treasury","#,
        r#"busbar_provider_requests_total{code="other",connection="bank",namespace="treasury","#,
        r#"busbar_provider_request_duration_seconds_count{operation="probe",provider="generic"}"#,
        r#"busbar_probe_duration_seconds_count{provider="generic"}"#,
    ] {
        assert!(text.contains(series), "{series} is missing:\n{text}");
    }
    registry.remove(&key("bank"));
    assert!(!metrics.render().unwrap().contains(r#"connection="bank""#));
}

#[tokio::test]
async fn requests_name_the_operator_and_extend_the_base_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8(head).unwrap().to_lowercase()
    });
    let connection = connect(draft(format!("http://{address}/v1/")));
    assert_eq!(probe(&connection).await, Ok(204));
    let head = seen.await.unwrap();
    assert!(head.starts_with("get /v1/health http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
    assert!(head.contains(concat!("user-agent: busbar/", env!("CARGO_PKG_VERSION"), "\r\n")), "{head}");
}

#[tokio::test]
async fn a_call_goes_directly_to_the_bank() {
    let (_sim, _bank, draft) = token_bank(3600).await;
    assert_eq!(probe(&connect(draft)).await, Ok(200));
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "call::requests::a_call_goes_directly_to_the_bank"]).kill_on_drop(true);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &url);
    }
    for name in ["NO_PROXY", "no_proxy"] {
        child.env_remove(name);
    }
    let output = tokio::time::timeout(PATIENCE, child.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    let accepted = tokio::time::timeout(Duration::from_millis(10), proxy.accept()).await;
    assert!(accepted.is_err(), "the proxy was called");
}
