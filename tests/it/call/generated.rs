//! Generated responses to health checks: no panic, and no check passes but by a usable response.
//!
//! `FUZZ_CASES` and `FUZZ_SEED` make it longer, and repeat a failure; see docs/soak.md.

use busbar::domain::health::Health;

use crate::kit::connections::{connect, draft, with_quick_retries};
use crate::kit::generated_response::{GeneratedServer, Random, Verdict, generate};

/// What a health check that expects JSON may get as a body.
fn bodies() -> Vec<(Vec<u8>, Verdict, &'static str)> {
    use Verdict::{Unusable, Usable};
    vec![
        (b"{}".to_vec(), Usable, "an object"),
        (br#"[{"id":"1"},{"id":"2"}]"#.to_vec(), Usable, "a list"),
        (br#""up""#.to_vec(), Usable, "a text"),
        (b"{\"name\":\"Caf\xe9\"}".to_vec(), Usable, "a text in Latin-1"),
        (format!("[\"{}\"]", "x".repeat(60_000)).into_bytes(), Usable, "60 kB"),
        (format!("[\"{}\"]", "x".repeat(66_000)).into_bytes(), Unusable, "66 kB"),
        (b"<!doctype html><html></html>".to_vec(), Unusable, "a page"),
        (br#"{"id":"1","#.to_vec(), Unusable, "half an object"),
        (b"{} {}".to_vec(), Unusable, "two objects"),
        (b"".to_vec(), Unusable, "nothing"),
        (vec![0x1f, 0x8b, 8, 0, 0, 0], Unusable, "gzip without its name"),
        ("[".repeat(1_000).into_bytes(), Unusable, "a deep list"),
    ]
}

/// A number that the environment sets.
#[expect(clippy::disallowed_methods, reason = "settings of this test, not of the operator")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The number of cases: about a second, and a minute in CI.
#[expect(clippy::disallowed_methods, reason = "settings of this test, not of the operator")]
fn cases() -> u64 {
    let default = if std::env::var_os("CI").is_some() { 40_000 } else { 1_500 };
    number("FUZZ_CASES").unwrap_or(default)
}

#[tokio::test]
async fn no_generated_response_passes_a_check_unless_it_is_usable() {
    let (cases, seed) = (cases(), number("FUZZ_SEED").unwrap_or(20_261_129));
    let server = GeneratedServer::start().await;
    let mut draft = with_quick_retries(draft(server.url.clone()));
    draft.health_check.expected_content.pointer = Some(String::new());
    let connection = connect(draft);
    let (bodies, mut random) = (bodies(), Random::new(seed));
    let (mut passed, mut failing) = (0, 0);
    for case in 0..cases {
        let response = generate(&mut random, &bodies);
        server.set(&response);
        let record = connection.probe().await.unwrap().record.unwrap();
        let label = format!("case {case} of seed {seed}: {}: {record:?}", response.label);
        match response.verdict {
            Verdict::Usable => assert!(record.success, "{label}"),
            Verdict::Unusable => assert!(!record.success, "{label}"),
            Verdict::Either => {}
        }
        passed += u64::from(record.success);
        failing = if record.success { 0 } else { failing + 1 };
        let health = connection.snapshot().health;
        assert!(failing < 3 || health == Health::Unhealthy, "{failing} checks failed: {health:?}: {label}");
    }
    assert!(passed > cases / 50 && passed < cases, "{passed} of {cases} passed: the generator shows nothing");
}
