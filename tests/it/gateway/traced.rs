//! Traces of a request: its span, the spans of the call and its tries below it, and no secret in any of them.

use std::time::Duration;

use busbar::metrics::Metrics;
use busbar::settings::Auth;
use busbar::tasks::TaskGroup;
use busbar::telemetry::traces::{Traces, parse_collector_url};
use busbar::testbed::sim::otlp::TraceCollector;
use busbar::testbed::sim::{Behaviour, Script, ScriptStep};
use secrecy::SecretString;

use super::harness::{GatewayHarness, Plan};

const KEY: &str = "canary-api-key-not-real";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[tokio::test]
async fn a_request_is_traced_to_each_try_and_no_span_holds_a_secret() {
    let spans = TraceCollector::start().await.unwrap();
    let endpoint = parse_collector_url(&spans.endpoint()).unwrap();
    let traces = Traces::export_to(&endpoint, "0.0.0", "replica-1", &Metrics::new(), &TaskGroup::default()).unwrap();
    let harness = GatewayHarness::with(Plan { traces: traces.clone(), ..Plan::default() }).await;
    harness.connect("fmp", &harness.fmp, |draft| {
        draft.retry.retries = 1;
        draft.retry.base = Duration::from_millis(1);
        draft.retry.min_pacing = Duration::ZERO;
        draft.auth = Auth::Profile {
            headers: vec![],
            query: vec![("apikey".to_owned(), SecretString::from(KEY))],
            body: Vec::new(),
        };
    });
    harness.fmp.set_script(Script::from(ScriptStep::from(Behaviour::status(503)).times(1))).await.unwrap();
    let path = "/api/providers/treasury/fmp/quote?symbol=ACME";
    let parent = |sampled: &str| format!("00-{TRACE}-{PARENT}-{sampled}");
    let said = harness.ask("GET", path, "token-ann", &[("traceparent", &parent("01"))]).await;
    assert_eq!(said.status, 200, "{said:?}");
    assert!(harness.fmp.arrivals().entries.iter().all(|a| a.query.iter().any(|q| q == "apikey")), "the key was sent");
    // An unauthenticated client can neither start a trace nor join one.
    for token in ["forged", ""] {
        for sampled in ["01", "00"] {
            let said = harness.ask("GET", path, token, &[("traceparent", &parent(sampled))]).await;
            assert_eq!(said.status, 401);
        }
    }
    // An authenticated caller can turn sampling off.
    let quiet = harness.ask("GET", path, "token-ann", &[("traceparent", &parent("00"))]).await;
    assert_eq!(quiet.status, 200);
    traces.close(Duration::from_secs(10)).await;

    let door = spans.spans_named("gateway.request");
    let [door] = door.as_slice() else { panic!("{door:#?}") };
    assert_eq!((&*door.trace_id, &*door.parent_id, &*door.kind), (TRACE, PARENT, "SERVER"));
    assert_eq!(door.attributes["http.route"], "/api/providers/{namespace}/{connection}/{operation}");
    assert_eq!(
        (&*door.attributes["status"], said.header("x-request-id")),
        ("200", Some(&*door.attributes["request_id"]))
    );
    let call = spans.spans_named("provider.call");
    let [call] = call.as_slice() else { panic!("{call:#?}") };
    assert_eq!((&call.trace_id, &call.parent_id), (&door.trace_id, &door.span_id));
    assert_eq!((&*call.attributes["symbol"], &*call.attributes["tries"]), ("ACME", "2"));
    let tries = spans.spans_named("provider.try");
    let told: Vec<_> = tries.iter().map(|one| (&*one.parent_id, &*one.attributes["status"])).collect();
    assert_eq!(told, [(&*call.span_id, "503"), (&*call.span_id, "200")]);

    let bytes: Vec<u8> = spans.bytes().concat();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("provider.call"), "the search finds what is there");
    for never in [KEY, "apikey", "token-ann", "forged", "Bearer", &harness.fmp.base_url()] {
        assert!(!holds(never), "{never}");
    }
}
